// A retry policy that tries again elsewhere what failed or was answered with 503, as often as the setting `retries`
// says.
package main

import (
	"strconv"

	"{{name}}/staunch"
	"{{name}}/staunch/retry"
)

func init() { retry.Serve(&plugin{retries: 1}) }

func main() {}

type plugin struct{ retries uint64 }

func (p *plugin) Configure() (issues []staunch.Issue) {
	for _, name := range staunch.ConfigKeys("") {
		if name != "retries" {
			issues = append(issues, staunch.Issue{Path: name, Message: "is unknown; there is only `retries`"})
		}
	}
	if text, ok := staunch.Config("retries"); ok {
		retries, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			issues = append(issues, staunch.Issue{Path: "retries", Message: "must be a whole number"})
		}
		p.retries = retries
	}
	staunch.WantStatus(503, 503)
	return issues
}

func (p *plugin) Decide(cx retry.Attempt) *retry.Plan {
	if (cx.Failed || cx.Status == 503) && uint64(cx.Attempt) < p.retries {
		return &retry.Plan{Elsewhere: true}
	}
	return nil
}
