// Package balancer serves a plugin that chooses the endpoint of each attempt.
package balancer

import (
	"errors"
	"structs"
	"unsafe"

	"allowance/staunch"
)

// Balancer is what such a plugin does; wit/plugin.wit says more of each.
type Balancer interface {
	Configure() []staunch.Issue
	Update(version uint64, endpoints []Endpoint)
	Change(changes []Change)
	// Pick answers the ID of an endpoint, or staunch.ErrUnavailable or staunch.ErrOverloaded.
	Pick(cx Context) (uint32, error)
}

// Endpoint is one of an upstream. Zone is empty when none is configured.
type Endpoint struct {
	ID       uint32
	Address  string
	Weight   uint32
	Priority uint32
	Zone     string
	Ready    bool
	Labels   []staunch.Field
}

// Change is what changed of an endpoint.
type Change struct {
	_      structs.HostLayout
	ID     uint32
	Weight uint32
	Ready  bool
}

// Context is what Pick is told.
type Context struct {
	HasKey      bool
	Key         uint64
	Random      uint64
	Now         uint64
	Attempt     uint32
	HasPrevious bool
	Previous    uint32
}

var served Balancer

// Serve makes this the plugin.
func Serve(balancer Balancer) {
	served = balancer
	staunch.Configure(balancer.Configure)
}

type rawEndpoint struct {
	_        structs.HostLayout
	id       uint32
	address  staunch.Bytes
	weight   uint32
	priority uint32
	zone     staunch.MaybeBytes
	ready    bool
	labels   staunch.Bytes
}

//go:wasmexport staunch:plugin/balancer@0.1.0#update
func update(version uint64, list, count uint32) {
	endpoints := make([]Endpoint, count)
	for i, raw := range staunch.Slice[rawEndpoint](staunch.Bytes{Ptr: list, Len: count}) {
		zone, _ := raw.zone.Get()
		endpoints[i] = Endpoint{
			raw.id, raw.address.String(), raw.weight, raw.priority, zone, raw.ready, staunch.Fields(raw.labels),
		}
	}
	staunch.Release()
	served.Update(version, endpoints)
	staunch.Release()
}

//go:wasmexport staunch:plugin/balancer@0.1.0#change
func change(list, count uint32) {
	served.Change(staunch.Slice[Change](staunch.Bytes{Ptr: list, Len: count}))
	staunch.Release()
}

var picked staunch.PickResult

//go:wasmexport staunch:plugin/balancer@0.1.0#pick
func pick(hasKey bool, key, random, now uint64, attempt uint32, hasPrevious bool, previous uint32) unsafe.Pointer {
	id, err := served.Pick(Context{hasKey, key, random, now, attempt, hasPrevious, previous})
	picked.Refused, picked.Value = err != nil, id
	if err != nil {
		picked.Value = 0
		if errors.Is(err, staunch.ErrOverloaded) {
			picked.Value = 1
		}
	}
	return unsafe.Pointer(&picked)
}

//go:wasmexport cabi_post_staunch:plugin/balancer@0.1.0#pick
func pickPost(unsafe.Pointer) { staunch.Release() }
