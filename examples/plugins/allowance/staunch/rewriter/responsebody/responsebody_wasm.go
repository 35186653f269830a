// Package responsebody serves a rewriter of responses that rewrites their bodies too.
package responsebody

import (
	"unsafe"

	"allowance/staunch"
)

// Rewriter is what such a plugin does; wit/plugin.wit says more of each.
type Rewriter interface {
	Begin(body uint32) bool
	Rewrite(body uint32, piece []byte, last bool) []byte
	Abandon(body uint32)
}

var served Rewriter

// Serve makes this the plugin, beside what the package response serves.
func Serve(rewriter Rewriter) { served = rewriter }

//go:wasmexport staunch:plugin/response-body-rewriter@0.1.0#begin
func begin(body uint32) bool {
	defer staunch.Release()
	return served.Begin(body)
}

var rewritten staunch.Bytes

//go:wasmexport staunch:plugin/response-body-rewriter@0.1.0#rewrite
func rewrite(body, piece, length uint32, last bool) unsafe.Pointer {
	rewritten = staunch.List(served.Rewrite(body, staunch.Slice[byte](staunch.Bytes{Ptr: piece, Len: length}), last))
	return unsafe.Pointer(&rewritten)
}

//go:wasmexport cabi_post_staunch:plugin/response-body-rewriter@0.1.0#rewrite
func rewritePost(unsafe.Pointer) { staunch.Release() }

//go:wasmexport staunch:plugin/response-body-rewriter@0.1.0#abandon
func abandon(body uint32) {
	served.Abandon(body)
	staunch.Release()
}
