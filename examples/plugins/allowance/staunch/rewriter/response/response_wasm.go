// Package response serves a plugin that rewrites responses.
package response

import (
	"unsafe"

	"allowance/staunch"
	"allowance/staunch/rewriter"
)

// Rewriter is what such a plugin does; wit/plugin.wit says more of each.
type Rewriter interface {
	Configure() []staunch.Issue
	OnResponse(wanted []*string) rewriter.Action
}

var served Rewriter

// Serve makes this the plugin.
func Serve(rewriter Rewriter) {
	served = rewriter
	staunch.Configure(rewriter.Configure)
}

//go:wasmexport staunch:plugin/response-rewriter@0.1.0#on-response
func onResponse(list, count uint32) unsafe.Pointer {
	return rewriter.Lower(served.OnResponse(rewriter.Wanted(list, count)), true)
}

//go:wasmexport cabi_post_staunch:plugin/response-rewriter@0.1.0#on-response
func onResponsePost(unsafe.Pointer) { staunch.Release() }
