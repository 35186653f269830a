// Package rewriter has what rewriters of requests and of responses share; the packages request and response under it
// serve them.
package rewriter

import (
	"structs"
	"unsafe"

	"allowance/staunch"
)

// Action is what becomes of a message. The zero Action lets it pass as it is.
type Action struct {
	// PathAndQuery, Authority and Method change a request's, unless they are empty.
	PathAndQuery, Authority, Method string
	// Status changes a response's, unless it is 0.
	Status uint16
	// Fields are changes of the headers, in order.
	Fields []Edit
	// Respond is sent in place of the endpoint's answer; all else is void then.
	Respond *Response
}

// Response is one that the plugin makes itself.
type Response struct {
	Status uint16
	Fields []staunch.Field
	Body   string
}

// Edit is one change of a header: Set, Append or Remove.
type Edit struct {
	kind        uint8
	name, value string
}

// Set replaces every value of a header with one.
func Set(name, value string) Edit { return Edit{0, name, value} }

// Append adds a value.
func Append(name, value string) Edit { return Edit{1, name, value} }

// Remove removes a header.
func Remove(name string) Edit { return Edit{2, name, ""} }

// ---- the canonical ABI ----

type rawEdit struct {
	_           structs.HostLayout
	kind        uint8
	name, value staunch.Bytes
}

type rawTarget struct {
	_     structs.HostLayout
	kind  uint8
	value staunch.Bytes
}

var action struct {
	_    structs.HostLayout
	tag  uint8
	does [5]uint32
}

// Lower puts an action where the proxy reads it. Response says which of the two it is for.
func Lower(from Action, response bool) unsafe.Pointer {
	edits := make([]rawEdit, len(from.Fields))
	for i, edit := range from.Fields {
		edits[i] = rawEdit{kind: edit.kind, name: staunch.Text(edit.name), value: staunch.Text(edit.value)}
	}
	list := staunch.List(edits)
	var targets []rawTarget
	for kind, value := range []string{from.PathAndQuery, from.Authority, from.Method} {
		if value != "" && !response {
			targets = append(targets, rawTarget{kind: uint8(kind), value: staunch.Text(value)})
		}
	}
	switch {
	case from.Respond != nil:
		fields, body := staunch.RawFields(from.Respond.Fields), staunch.Text(from.Respond.Body)
		action.tag = 3
		action.does = [5]uint32{uint32(from.Respond.Status), fields.Ptr, fields.Len, body.Ptr, body.Len}
	case len(targets) > 0:
		target := staunch.List(targets)
		action.tag, action.does = 2, [5]uint32{target.Ptr, target.Len, list.Ptr, list.Len}
	case response && from.Status != 0:
		action.tag, action.does = 2, [5]uint32{uint32(from.Status), list.Ptr, list.Len}
	case len(edits) > 0:
		action.tag, action.does = 1, [5]uint32{list.Ptr, list.Len}
	default:
		action.tag = 0
	}
	return unsafe.Pointer(&action)
}

// Wanted has the headers that were asked for; nil: absent.
func Wanted(list, count uint32) []*string {
	wanted := make([]*string, count)
	for i, raw := range staunch.Slice[staunch.MaybeBytes](staunch.Bytes{Ptr: list, Len: count}) {
		if text, ok := raw.Get(); ok {
			wanted[i] = &text
		}
	}
	return wanted
}
