// Which retries a tenant may still have: so many a second, over all workers of the proxy.
package main

import "time"

// A window packs a second and the retries taken in it into one 64-bit cell that all workers share, so that one
// compare-exchange is enough.
type window uint64

func packed(second, taken uint32) window { return window(uint64(second)<<32 | uint64(taken)) }

func (w window) second() uint32 { return uint32(w >> 32) }

func (w window) taken() uint32 { return uint32(w) }

// take answers the window after one more retry; false when the allowance of this second is used up.
func (w window) take(now time.Duration, allowance uint32) (window, bool) {
	second := uint32(now / time.Second)
	if w.second() != second {
		w = packed(second, 0)
	}
	if w.taken() >= allowance {
		return w, false
	}
	return packed(second, w.taken()+1), true
}
