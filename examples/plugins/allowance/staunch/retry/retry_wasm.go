// Package retry serves a plugin that decides whether an attempt is followed by another.
package retry

import (
	"structs"
	"time"
	"unsafe"

	"allowance/staunch"
)

// Policy is what such a plugin does; wit/plugin.wit says more of each.
type Policy interface {
	Configure() []staunch.Issue
	// Decide answers nil to give up.
	Decide(cx Attempt) *Plan
}

// What the method promises.
const (
	Safe = iota
	Idempotent
	Other
)

// Why an attempt brought no response.
const (
	Connect = iota
	ConnectTimeout
	TLS
	Reset
	ResponseTimeout
	Protocol
	Overload
)

// Attempt is what Decide is told.
type Attempt struct {
	// Failed: no response head came, and Failure says why. Else Status is that of the response.
	Failed        bool
	Failure       uint32
	Status        uint16
	Endpoint      uint32
	Attempt       uint32
	Method        uint32
	Sent          bool
	Elapsed       time.Duration
	HasRemaining  bool
	Remaining     time.Duration
	Budget        uint32
	HasRetryAfter bool
	RetryAfter    time.Duration
	Random        uint64
}

// Plan is a further attempt.
type Plan struct {
	_         structs.HostLayout
	Delay     time.Duration
	Elsewhere bool
}

var served Policy

// Serve makes this the plugin.
func Serve(policy Policy) {
	served = policy
	staunch.Configure(policy.Configure)
}

var decision struct {
	_     structs.HostLayout
	again bool
	_     [7]byte
	plan  Plan
}

//go:wasmexport staunch:plugin/retry@0.1.0#decide
func decide(failed bool, detail, endpoint, attempt, method uint32, sent bool, elapsed uint64, hasRemaining bool,
	remaining uint64, budget uint32, hasRetryAfter bool, retryAfter, random uint64) unsafe.Pointer {
	cx := Attempt{
		Failed: failed, Endpoint: endpoint, Attempt: attempt, Method: method, Sent: sent,
		Elapsed: time.Duration(elapsed), HasRemaining: hasRemaining, Remaining: time.Duration(remaining),
		Budget: budget, HasRetryAfter: hasRetryAfter, RetryAfter: time.Duration(retryAfter), Random: random,
	}
	if failed {
		cx.Failure = detail
	} else {
		cx.Status = uint16(detail)
	}
	plan := served.Decide(cx)
	decision.again = plan != nil
	if plan != nil {
		decision.plan = *plan
	}
	return unsafe.Pointer(&decision)
}

//go:wasmexport cabi_post_staunch:plugin/retry@0.1.0#decide
func decidePost(unsafe.Pointer) { staunch.Release() }
