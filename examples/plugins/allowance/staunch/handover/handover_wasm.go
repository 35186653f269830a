// Package handover carries what a plugin has learned to the version that replaces it.
package handover

import (
	"unsafe"

	"allowance/staunch"
)

var (
	saver    func() []byte
	restorer func(state []byte)
)

// Serve says how. What `restore` is given is valid until it returns.
func Serve(save func() []byte, restore func(state []byte)) { saver, restorer = save, restore }

var saved staunch.Bytes

//go:wasmexport staunch:plugin/handover@0.1.0#save
func save() unsafe.Pointer {
	saved = staunch.List(saver())
	return unsafe.Pointer(&saved)
}

//go:wasmexport cabi_post_staunch:plugin/handover@0.1.0#save
func savePost(unsafe.Pointer) { staunch.Release() }

//go:wasmexport staunch:plugin/handover@0.1.0#restore
func restore(state, length uint32) {
	restorer(staunch.Slice[byte](staunch.Bytes{Ptr: state, Len: length}))
	staunch.Release()
}
