// Package staunch is the contract staunch:plugin@0.1.0 for plugins in Go: what wit/ says, in Go's words.
//
// Copy the folder beside your source. This package has what the proxy does for a plugin; the packages under it have
// what a plugin does for the proxy, one for each thing that it can be: balancer, feedback, retry, rewriter, body,
// handover. Call their Serve in an init function, and leave main empty.
//
// Text and the bytes of headers are strings, which in Go may hold any bytes. Times are nanoseconds, as in
// time.Duration. A plugin imports the functions that it calls and no others.
//
// The files end in _wasm.go, so that `go test` on your own machine leaves them out.
package staunch

import (
	"structs"
	"unsafe"
)

// Field is a header, or a label of an endpoint.
type Field struct{ Name, Value string }

// Issue is a mistake in the settings: where, as in Config, and what is wrong.
type Issue struct{ Path, Message string }

// ---- the canonical ABI: for the packages under this one ----

// Bytes is a list of bytes or a string where the proxy reads or writes it.
type Bytes struct {
	_   structs.HostLayout
	Ptr uint32
	Len uint32
}

// MaybeBytes is an option of Bytes.
type MaybeBytes struct {
	_      structs.HostLayout
	IsSome bool
	Value  Bytes
}

// RawField is a Field where the proxy reads or writes it.
type RawField struct {
	_           structs.HostLayout
	Name, Value Bytes
}

// What the proxy was given room for, and what results point to: kept from the collector until the call ends.
var (
	given = map[uintptr][]uint64{}
	kept  []any
)

//go:wasmexport cabi_realloc
func realloc(old unsafe.Pointer, oldSize, align, size uint32) unsafe.Pointer {
	if size == 0 {
		return unsafe.Pointer(uintptr(align))
	}
	block := make([]uint64, (uint64(size)+7)/8)
	memory := unsafe.Pointer(&block[0])
	if old != nil {
		copy(unsafe.Slice((*byte)(memory), size), unsafe.Slice((*byte)(old), oldSize))
		delete(given, uintptr(old))
	}
	given[uintptr(memory)] = block
	return memory
}

// Release ends a call.
func Release() {
	clear(given)
	clear(kept)
	kept = kept[:0]
}

// Slice has the items of a list.
func Slice[T any](list Bytes) []T {
	if list.Len == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(uintptr(list.Ptr))), list.Len)
}

// String copies text out.
func (b Bytes) String() string { return string(Slice[byte](b)) }

// Get copies text out, if there is any.
func (b MaybeBytes) Get() (string, bool) { return b.Value.String(), b.IsSome }

// Fields copies headers or labels out.
func Fields(list Bytes) []Field {
	fields := make([]Field, list.Len)
	for i, field := range Slice[RawField](list) {
		fields[i] = Field{field.Name.String(), field.Value.String()}
	}
	return fields
}

// Text is a string for the proxy to read until the call ends.
func Text(text string) Bytes {
	if len(text) == 0 {
		return Bytes{Ptr: 1}
	}
	data := unsafe.StringData(text)
	kept = append(kept, data)
	return Bytes{Ptr: uint32(uintptr(unsafe.Pointer(data))), Len: uint32(len(text))}
}

// List is a list for the proxy to read until the call ends.
func List[T any](items []T) Bytes {
	if len(items) == 0 {
		return Bytes{Ptr: 8}
	}
	kept = append(kept, &items[0])
	return Bytes{Ptr: uint32(uintptr(unsafe.Pointer(&items[0]))), Len: uint32(len(items))}
}

// RawFields are headers for the proxy to read until the call ends.
func RawFields(fields []Field) Bytes {
	raw := make([]RawField, len(fields))
	for i, field := range fields {
		raw[i] = RawField{Name: Text(field.Name), Value: Text(field.Value)}
	}
	return List(raw)
}

// ---- lifecycle ----

var configure = func() []Issue { return nil }

// Configure says what reads the settings. Serve of the packages under this one calls it.
func Configure(read func() []Issue) { configure = read }

var configured struct {
	_      structs.HostLayout
	failed bool
	issues Bytes
}

//go:wasmexport staunch:plugin/lifecycle@0.1.0#configure
func lifecycleConfigure() unsafe.Pointer {
	issues := configure()
	fields := make([]Field, len(issues))
	for i, issue := range issues {
		fields[i] = Field{issue.Path, issue.Message}
	}
	configured.failed, configured.issues = len(issues) > 0, RawFields(fields)
	return unsafe.Pointer(&configured)
}

//go:wasmexport cabi_post_staunch:plugin/lifecycle@0.1.0#configure
func lifecycleConfigurePost(unsafe.Pointer) { Release() }
