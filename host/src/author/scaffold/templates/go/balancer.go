// A balancer that picks the ready endpoint with the fewest requests in flight for its weight, and among equals by
// chance.
package main

import (
	"slices"

	"{{name}}/staunch"
	"{{name}}/staunch/balancer"
)

func init() { balancer.Serve(&plugin{}) }

func main() {}

type plugin struct{ endpoints []balancer.Endpoint }

func (p *plugin) Configure() (issues []staunch.Issue) {
	for _, name := range staunch.ConfigKeys("") {
		issues = append(issues, staunch.Issue{Path: name, Message: "is unknown; there are no settings"})
	}
	return issues
}

func (p *plugin) Update(_ uint64, endpoints []balancer.Endpoint) { p.endpoints = endpoints }

func (p *plugin) Change(changes []balancer.Change) {
	for i := range p.endpoints {
		for _, change := range changes {
			if change.ID == p.endpoints[i].ID {
				p.endpoints[i].Weight, p.endpoints[i].Ready = change.Weight, change.Ready
			}
		}
	}
}

func (p *plugin) Pick(cx balancer.Context) (uint32, error) {
	var tried []uint32
	if cx.Attempt > 0 {
		tried = staunch.Tried()
	}
	active := staunch.ActiveAll()
	count := uint64(len(p.endpoints))
	var best *balancer.Endpoint
	var bestRank, bestLoad uint64
	for i := range count {
		// Chance says where to begin, so that equals have equal parts.
		next := &p.endpoints[(i+cx.Random%count)%count]
		if !next.Ready {
			continue
		}
		// What was not tried goes before what was, and then the lower priority group before the other.
		rank := uint64(next.Priority)
		if slices.Contains(tried, next.ID) {
			rank |= 1 << 32
		}
		load := uint64(0)
		if int(next.ID) < len(active) {
			load = uint64(active[next.ID]) * 1_000_000 / uint64(max(1, next.Weight))
		}
		if best == nil || rank < bestRank || rank == bestRank && load < bestLoad {
			best, bestRank, bestLoad = next, rank, load
		}
	}
	if best == nil {
		return 0, staunch.ErrUnavailable
	}
	return best.ID, nil
}
