// A rewriter that sets a header of every request: `name` and `value` say which.
package main

import (
	"{{name}}/staunch"
	"{{name}}/staunch/rewriter"
	"{{name}}/staunch/rewriter/request"
)

func init() { request.Serve(&plugin{name: "x-hello", value: "world"}) }

func main() {}

type plugin struct{ name, value string }

func (p *plugin) Configure() (issues []staunch.Issue) {
	settings := map[string]*string{"name": &p.name, "value": &p.value}
	for _, name := range staunch.ConfigKeys("") {
		into, known := settings[name]
		if !known {
			issues = append(issues, staunch.Issue{Path: name, Message: "is unknown; there are `name` and `value`"})
			continue
		}
		if text, ok := staunch.Config(name); ok {
			*into = text
		}
	}
	return issues
}

func (p *plugin) OnRequest([]*string) rewriter.Action {
	return rewriter.Action{Fields: []rewriter.Edit{rewriter.Set(p.name, p.value)}}
}
