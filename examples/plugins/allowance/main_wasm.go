// A retry policy with an allowance for each tenant, so that one tenant's failing requests do not use up what the
// upstream may retry for all.
package main

import (
	"slices"
	"strconv"
	"time"

	"allowance/staunch"
	"allowance/staunch/retry"
)

func init() { retry.Serve(&policy{}) }

func main() {}

type policy struct {
	header    string
	allowance map[string]tenant
	others    tenant
	denied    uint32
}

// tenant has its allowance, and the cell with the window it is counted in.
type tenant struct {
	perSecond uint32
	cell      uint32
}

func (p *policy) Configure() (issues []staunch.Issue) {
	refuse := func(path, message string) { issues = append(issues, staunch.Issue{Path: path, Message: message}) }
	for _, name := range staunch.ConfigKeys("") {
		if !slices.Contains([]string{"header", "default", "tenants"}, name) {
			refuse(name, "there is no such setting; there are `header`, `default` and `tenants`")
		}
	}
	read := func(path, cell string, fallback uint32) tenant {
		text, ok := staunch.Config(path)
		if !ok {
			return tenant{fallback, staunch.Cell(cell)}
		}
		number, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			refuse(path, "retries a second are a whole number, 0 or more")
		}
		return tenant{uint32(number), staunch.Cell(cell)}
	}

	p.header = "x-tenant"
	if header, ok := staunch.Config("header"); ok {
		p.header = header
	}
	p.others = read("default", "others", 1)
	p.allowance = map[string]tenant{}
	for _, name := range staunch.ConfigKeys("tenants") {
		p.allowance[name] = read("tenants."+escaped(name), "tenant "+name, 0)
	}
	p.denied = staunch.Counter("denied")
	staunch.WantStatus(502, 504)
	return issues
}

// escaped writes a name as a part of a path.
func escaped(name string) string {
	var out []byte
	for _, b := range []byte(name) {
		if b == '.' || b == '\\' {
			out = append(out, '\\')
		}
		out = append(out, b)
	}
	return string(out)
}

func (p *policy) Decide(cx retry.Attempt) *retry.Plan {
	// What was sent and is not safe to repeat is not repeated.
	if cx.Sent && cx.Method == retry.Other {
		return nil
	}
	name, _ := staunch.RequestField(p.header)
	tenant, known := p.allowance[name]
	if !known {
		tenant = p.others
	}
	if !tenant.take(time.Duration(staunch.Monotonic())) {
		staunch.Add(p.denied, 1)
		return nil
	}
	return &retry.Plan{Elsewhere: true}
}

func (t tenant) take(now time.Duration) bool {
	current := staunch.Load(t.cell)
	for {
		next, granted := window(current).take(now, t.perSecond)
		if !granted {
			return false
		}
		found := staunch.CompareExchange(t.cell, current, uint64(next))
		if found == current {
			return true
		}
		current = found
	}
}
