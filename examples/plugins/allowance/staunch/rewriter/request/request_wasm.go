// Package request serves a plugin that rewrites requests.
package request

import (
	"unsafe"

	"allowance/staunch"
	"allowance/staunch/rewriter"
)

// Rewriter is what such a plugin does; wit/plugin.wit says more of each.
type Rewriter interface {
	Configure() []staunch.Issue
	OnRequest(wanted []*string) rewriter.Action
}

var served Rewriter

// Serve makes this the plugin.
func Serve(rewriter Rewriter) {
	served = rewriter
	staunch.Configure(rewriter.Configure)
}

//go:wasmexport staunch:plugin/request-rewriter@0.1.0#on-request
func onRequest(list, count uint32) unsafe.Pointer {
	return rewriter.Lower(served.OnRequest(rewriter.Wanted(list, count)), false)
}

//go:wasmexport cabi_post_staunch:plugin/request-rewriter@0.1.0#on-request
func onRequestPost(unsafe.Pointer) { staunch.Release() }
