// Every part of the contract once, with examples/plugins/allowance/staunch. What it has to do: README.md.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"allowance/staunch"
	"allowance/staunch/balancer"
	"allowance/staunch/feedback"
	"allowance/staunch/handover"
	"allowance/staunch/retry"
	"allowance/staunch/rewriter"
	"allowance/staunch/rewriter/request"
	"allowance/staunch/rewriter/requestbody"
	"allowance/staunch/rewriter/response"
	"allowance/staunch/rewriter/responsebody"
)

type mirror struct {
	picks, last, sizes, cell uint32
	observed                 uint32
	positionA, positionB     uint32
	names                    map[uint32]string
	group                    uint32
}

var plugin mirror

func init() {
	balancer.Serve(&plugin)
	feedback.Serve(plugin.observe)
	retry.Serve(&plugin)
	request.Serve(&plugin)
	response.Serve(&plugin)
	requestbody.Serve(requests{})
	responsebody.Serve(responses{})
	handover.Serve(
		func() []byte { return fmt.Append(nil, plugin.observed) },
		func(state []byte) { plugin.observed = uint32(len(state)) },
	)
}

func main() {}

func (m *mirror) Configure() (issues []staunch.Issue) {
	if message, ok := staunch.Config("refuse"); ok {
		issues = append(issues, staunch.Issue{Path: "refuse", Message: message})
	}
	if second, _ := staunch.Config("list.1"); len(staunch.ConfigKeys("list")) > 0 && second != "b" {
		issues = append(issues, staunch.Issue{Path: "list", Message: "not b"})
	}
	staunch.WantKey(staunch.Header, "x-key")
	staunch.WantKey(staunch.ClientAddress, "")
	staunch.WantFeedback(staunch.EveryAttempt, 1, time.Millisecond)
	staunch.WantStatus(500, 599)
	staunch.WantNonIdempotent()
	m.positionA, m.positionB = staunch.WantRequestField("x-a"), staunch.WantResponseField("x-b")
	if _, ok := staunch.Config("skip"); ok {
		staunch.SkipRequests()
		staunch.SkipResponses()
	}
	m.picks, m.last = staunch.Counter("picks"), staunch.Gauge("last")
	m.sizes = staunch.Histogram("sizes", []float64{1, 10})
	m.cell = staunch.Cell("requests")
	if staunch.LogEnabled(staunch.Info) {
		staunch.Log(staunch.Info, "configured")
	}
	staunch.HasUpstream("nowhere")
	return issues
}

func (m *mirror) Update(_ uint64, endpoints []balancer.Endpoint) {
	m.names = map[uint32]string{}
	var ids []uint32
	for _, endpoint := range endpoints {
		ids = append(ids, endpoint.ID)
		zone, label := "-", "-"
		if endpoint.Zone != "" {
			zone = endpoint.Zone
		}
		if len(endpoint.Labels) > 0 {
			label = endpoint.Labels[0].Value
		}
		m.names[endpoint.ID] = fmt.Sprint(label, " ", zone, " ", endpoint.Weight)
	}
	m.group = staunch.Group(ids)
}

func (m *mirror) Change(changes []balancer.Change) {
	for _, change := range changes {
		staunch.Set(m.last, float64(change.Weight))
	}
}

func (m *mirror) Pick(cx balancer.Context) (uint32, error) {
	staunch.Add(m.picks, 1)
	key, _ := staunch.Key()
	staunch.AppendResponseField("x-seen", fmt.Sprint(key, " ", cx.Key&0xff, cx.Attempt, staunch.Active(0),
		len(staunch.ActiveAll()), len(staunch.LatencyAll()), len(staunch.Tried()), m.observed))
	if key == "busy" {
		return 0, staunch.ErrOverloaded
	}
	for id, name := range m.names {
		if cx.Attempt == 0 && strings.HasPrefix(name, key) {
			staunch.AppendResponseField("x-name", name)
			return id, nil
		}
	}
	return staunch.PickFrom(m.group)
}

func (m *mirror) observe(samples []feedback.Sample) {
	for _, sample := range samples {
		m.observed = sample.Status
		value := 0.0
		if staunch.Latency(sample.Endpoint) > 0 {
			value = 1
		}
		staunch.Record(m.sizes, value)
	}
}

func (m *mirror) Decide(cx retry.Attempt) *retry.Plan {
	_, try := staunch.ResponseField("x-try")
	if cx.Failed || cx.Status != 503 || cx.Attempt != 0 || cx.Method != retry.Other || !cx.Sent || cx.Budget == 0 ||
		!cx.HasRetryAfter || cx.RetryAfter != 0 || !try {
		return nil
	}
	return &retry.Plan{Delay: time.Millisecond, Elsewhere: true}
}

func (m *mirror) shared() string {
	staunch.SharedDelete("key")
	first, err := staunch.SharedPut("key", "one", nil)
	_, conflict := staunch.SharedPut("key", "two", nil)
	third, err2 := staunch.SharedRemember("key", "three", &first, time.Minute)
	value, version, ok := staunch.SharedGet("key")
	before := staunch.FetchAdd(m.cell, 1)
	exchanged := staunch.CompareExchange(m.cell, before+1, before+1)
	if err != nil || !errors.Is(conflict, staunch.ErrConflict) || err2 != nil || !ok || version != third ||
		exchanged != staunch.Load(m.cell) {
		return "bad"
	}
	return value
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (m *mirror) OnRequest(wanted []*string) rewriter.Action {
	if staunch.Target() == "/respond" {
		return rewriter.Action{Respond: &rewriter.Response{
			Status: 418, Fields: []staunch.Field{{Name: "x-made", Value: "here"}}, Body: "made",
		}}
	}
	clocks := staunch.Wall().Year() > 2023 && staunch.Monotonic() > 0 && staunch.Random() != staunch.Random()
	staunch.Delay(time.Millisecond)
	staunch.SetNote("from", staunch.Target())
	seen := strings.Join([]string{
		staunch.Method(), staunch.Scheme(), staunch.Authority(), staunch.Client(), staunch.Route(), staunch.Upstream(),
		m.shared(),
	}, " ")
	counts := fmt.Sprint(len(staunch.ID()), len(wanted), bit(len(staunch.RequestFields()) > 3), bit(clocks),
		len(staunch.RequestFieldValues("x-d")), bit(staunch.SendTo("nowhere")))
	a := "absent"
	if wanted[m.positionA] != nil {
		a = *wanted[m.positionA]
	}
	edits := []rewriter.Edit{
		rewriter.Set("x-request", seen), rewriter.Set("x-counts", counts), rewriter.Append("x-a", a),
	}
	if _, ok := staunch.RequestField("x-d"); ok {
		edits = append(edits, rewriter.Remove("x-d"))
	}
	return rewriter.Action{PathAndQuery: "/mirrored", Method: "PATCH", Authority: "mirror.test", Fields: edits}
}

func (m *mirror) OnResponse(wanted []*string) rewriter.Action {
	if staunch.Status() == 404 {
		return rewriter.Action{Respond: &rewriter.Response{Status: 410, Body: "gone"}}
	}
	b, from := "absent", "-"
	if wanted[m.positionB] != nil {
		b = *wanted[m.positionB]
	}
	if note, ok := staunch.Note("from"); ok {
		from = note
	}
	known := staunch.AnsweredBy() != "" && len(staunch.ResponseFields()) > 0
	action := rewriter.Action{Fields: []rewriter.Edit{rewriter.Set("x-response", fmt.Sprint(b, " ", len(wanted), " ",
		from, " ", bit(known), len(staunch.ResponseFieldValues("x-b"))))}}
	if staunch.Status() == 200 {
		action.Status = 203
	}
	return action
}

func shouted(piece []byte, last bool) []byte {
	out := bytes.ToUpper(piece)
	if last {
		out = append(out, '!')
	}
	return out
}

type requests struct{}

func (requests) Begin(uint32) bool                                { return true }
func (requests) Rewrite(_ uint32, piece []byte, last bool) []byte { return shouted(piece, last) }
func (requests) Abandon(uint32)                                   {}

type responses struct{}

func (responses) Begin(uint32) bool {
	_, plain := staunch.ResponseField("x-plain")
	return !plain
}
func (responses) Rewrite(_ uint32, piece []byte, last bool) []byte { return shouted(piece, last) }
func (responses) Abandon(uint32)                                   {}
