// Package feedback tells a balancer how attempts ended.
package feedback

import (
	"structs"
	"time"

	"allowance/staunch"
)

// Sample is a finished attempt. Status is 0 when it brought no response.
type Sample struct {
	_        structs.HostLayout
	Latency  time.Duration
	Endpoint uint32
	Status   uint32
	Penalty  uint32
	_        uint32
}

var observed func([]Sample)

// Serve has the attempts finished since the last call passed to this function.
func Serve(observe func([]Sample)) { observed = observe }

//go:wasmexport staunch:plugin/feedback@0.1.0#observe
func observe(list, count uint32) {
	observed(staunch.Slice[Sample](staunch.Bytes{Ptr: list, Len: count}))
	staunch.Release()
}
