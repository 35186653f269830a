// Every part of the contract once, with examples/plugins/tidy-query/src/staunch.d.ts. What it has to do: README.md.

import * as clock from "staunch:plugin/clock@0.1.0";
import * as config from "staunch:plugin/config@0.1.0";
import * as delegate from "staunch:plugin/delegate@0.1.0";
import * as loads from "staunch:plugin/loads@0.1.0";
import * as log from "staunch:plugin/log@0.1.0";
import * as metrics from "staunch:plugin/metrics@0.1.0";
import * as pace from "staunch:plugin/pace@0.1.0";
import * as random from "staunch:plugin/random@0.1.0";
import * as registration from "staunch:plugin/registration@0.1.0";
import * as request from "staunch:plugin/request@0.1.0";
import * as response from "staunch:plugin/response@0.1.0";
import * as routing from "staunch:plugin/routing@0.1.0";
import * as selection from "staunch:plugin/selection@0.1.0";
import * as sharing from "staunch:plugin/shared@0.1.0";
import type { ConfigIssue, FieldEdit, Maybe, Plugin } from "staunch:plugin";

import { bytes, text } from "../../examples/plugins/tidy-query/src/text";

let picks = 0;
let last = 0;
let sizes = 0;
let cell = 0;
let observed = 0;
let positionA = 0;
let positionB = 0;
let names = new Map<number, string>();
let group = 0;

const maybe = (value: Maybe<Uint8Array>) => (value == null ? null : text(value));

export const lifecycle: Plugin["lifecycle"] = {
  configure() {
    const issues: ConfigIssue[] = [];
    const message = config.get("refuse");
    if (message != null) issues.push({ path: "refuse", message });
    if (config.keys("list").length > 0 && config.get("list.1") !== "b") issues.push({ path: "list", message: "not b" });
    registration.wantKey({ tag: "header", val: "x-key" });
    registration.wantKey({ tag: "client-address" });
    registration.wantFeedback("every-attempt", 1, 1_000_000);
    registration.wantStatus(500, 599);
    registration.wantNonIdempotent();
    positionA = registration.wantRequestField("x-a");
    positionB = registration.wantResponseField("x-b");
    if (config.get("skip") != null) {
      registration.skipRequests();
      registration.skipResponses();
    }
    picks = metrics.counter("picks");
    last = metrics.gauge("last");
    sizes = metrics.histogram("sizes", [1, 10]);
    cell = sharing.cell("requests");
    if (log.enabled("info")) log.write("info", "configured");
    routing.hasUpstream("nowhere");
    if (issues.length > 0) throw issues;
  },
};

export const balancer: Plugin["balancer"] = {
  update(_, endpoints) {
    const named = ({ id, zone, weight, labels }: (typeof endpoints)[0]): [number, string] => [
      id,
      `${labels[0]?.[1] ?? "-"} ${zone ?? "-"} ${weight}`,
    ];
    names = new Map(endpoints.map(named));
    group = delegate.group(endpoints.map(({ id }) => id));
  },
  change(changes) {
    for (const { weight } of changes) metrics.set(last, weight);
  },
  pick(cx) {
    metrics.add(picks, 1);
    const key = maybe(selection.key()) ?? "";
    const seen = [
      Number(BigInt(cx.key ?? 0) & 0xffn),
      cx.attempt,
      loads.active(0),
      loads.activeAll().length,
      loads.latencyAll().length,
      selection.tried().length,
      observed,
    ];
    selection.appendResponseField("x-seen", bytes(`${key} ${seen.join(" ")}`));
    if (key === "busy") throw "overloaded";
    for (const [id, name] of names) {
      if (cx.attempt === 0 && name.startsWith(key)) {
        selection.appendResponseField("x-name", bytes(name));
        return id;
      }
    }
    return delegate.pick(group);
  },
};

export const feedback: Plugin["feedback"] = {
  observe(samples) {
    for (const { endpoint, status } of samples) {
      observed = status;
      metrics.recordValue(sizes, loads.latency(endpoint) > 0 ? 1 : 0);
    }
  },
};

export const retry: Plugin["retry"] = {
  decide(cx) {
    const again =
      cx.outcome.tag === "status" &&
      cx.outcome.val === 503 &&
      cx.attempt === 0 &&
      cx.method === "other" &&
      cx.sent &&
      cx.budget > 0 &&
      Number(cx.retryAfter) === 0 &&
      response.field("x-try") != null;
    return again ? { delay: 1_000_000, elsewhere: true } : undefined;
  },
};

function shared(): string {
  sharing.delete("key");
  const first = sharing.put("key", bytes("one"), undefined);
  try {
    sharing.put("key", bytes("two"), undefined);
    return "written twice";
  } catch (why) {
    if ((why as Error).message !== "conflict") return `${why}`;
  }
  const third = sharing.remember("key", bytes("three"), first, 60_000_000_000);
  const stored = sharing.get("key");
  const before = Number(sharing.fetchAdd(cell, 1));
  const exchanged = sharing.compareExchange(cell, before + 1, before + 1);
  const good = stored?.[1] === third && exchanged === sharing.load(cell);
  return good ? (maybe(stored?.[0]) ?? "none") : "bad";
}

const bit = (it: boolean) => (it ? 1 : 0);

export const requestRewriter: Plugin["requestRewriter"] = {
  onRequest(wanted) {
    if (request.pathAndQuery() === "/respond") {
      return { tag: "respond", val: { status: 418, fields: [["x-made", bytes("here")]], body: bytes("made") } };
    }
    const clocks = clock.wall() > 1.7e18 && clock.monotonic() > 0 && random.next() !== random.next();
    pace.delay(1_000_000);
    request.setNote("from", bytes(request.pathAndQuery()));
    const seen = [
      request.method(),
      request.scheme(),
      request.authority(),
      request.clientAddress(),
      request.route(),
      request.upstream(),
      shared(),
    ];
    const counts = [
      request.id().length,
      wanted.length,
      bit(request.fields().length > 3),
      bit(clocks),
      request.fieldValues("x-d").length,
      bit(routing.sendTo("nowhere")),
    ];
    const edits: FieldEdit[] = [
      { tag: "set", val: ["x-request", bytes(seen.join(" "))] },
      { tag: "set", val: ["x-counts", bytes(counts.join(" "))] },
      { tag: "append", val: ["x-a", wanted[positionA] ?? bytes("absent")] },
    ];
    if (request.field("x-d") != null) edits.push({ tag: "remove", val: "x-d" });
    return {
      tag: "rewrite",
      val: [
        [
          { tag: "path-and-query", val: "/mirrored" },
          { tag: "method", val: "PATCH" },
          { tag: "authority", val: "mirror.test" },
        ],
        edits,
      ],
    };
  },
};

export const responseRewriter: Plugin["responseRewriter"] = {
  onResponse(wanted) {
    if (response.status() === 404) return { tag: "replace", val: { status: 410, fields: [], body: bytes("gone") } };
    const known = response.endpoint() !== "" && response.fields().length > 0;
    const seen = [
      maybe(wanted[positionB]) ?? "absent",
      wanted.length,
      maybe(request.note("from")) ?? "-",
      bit(known),
      response.fieldValues("x-b").length,
    ];
    const edits: FieldEdit[] = [{ tag: "set", val: ["x-response", bytes(seen.join(" "))] }];
    if (response.status() === 200) return { tag: "rewrite", val: [203, edits] };
    return { tag: "fields", val: edits };
  },
};

function shouted(piece: Uint8Array, last: boolean): Uint8Array {
  const out = new Uint8Array(piece.length + bit(last));
  out.set(piece);
  for (let i = 0; i < piece.length; i++) if (out[i]! >= 97 && out[i]! <= 122) out[i]! -= 32;
  if (last) out[piece.length] = 33;
  return out;
}

export const requestBodyRewriter: Plugin["requestBodyRewriter"] = {
  begin: () => true,
  rewrite: (_, piece, last) => shouted(piece, last),
  abandon() {},
};

export const responseBodyRewriter: Plugin["responseBodyRewriter"] = {
  begin: () => response.field("x-plain") == null,
  rewrite: (_, piece, last) => shouted(piece, last),
  abandon() {},
};

export const handover: Plugin["handover"] = {
  save: () => bytes(`${observed}`),
  restore(state) {
    observed = state.length;
  },
};
