// The contract staunch:plugin@0.1.0 in TypeScript, as componentize-qjs gives it to JavaScript: what wit/ says. Copy
// this file beside your source.
//
// A plugin exports an object for each interface (`lifecycle` and, for its kind, `balancer`, `retry`,
// `requestRewriter`, …; see Plugin below), and imports functions from the modules "staunch:plugin/…@0.1.0".
//
// What is absent comes as null (as undefined from other componentizers): use `??` and `== null`. Bytes are Uint8Array;
// text.ts makes text of them and back, for QuickJS has no TextDecoder. A 64-bit number comes as a number: keys, durations
// and instants are exact (below 2^53), `random` is rounded, and from 2^63 on it comes negative.

// So that names can be imported; it has nothing to run.
declare module "staunch:plugin" {
  export type EndpointId = number;
  /** What may be absent. */
  export type Maybe<T> = T | null | undefined;
  /** A 64-bit number. */
  export type U64 = number | bigint;
  /** Nanoseconds. */
  export type Duration = U64;
  export type Level = "debug" | "info" | "warn" | "error";
  /** A header, with the bytes of its value. */
  export type Field = [name: string, value: Uint8Array];

  export interface ConfigIssue {
    path: string;
    message: string;
  }

  export interface Endpoint {
    id: EndpointId;
    address: string;
    weight: number;
    priority: number;
    zone: Maybe<string>;
    ready: boolean;
    labels: [name: string, value: string][];
  }

  export interface EndpointChange {
    id: EndpointId;
    weight: number;
    ready: boolean;
  }

  export interface PickContext {
    key: Maybe<U64>;
    random: U64;
    now: U64;
    attempt: number;
    previous: Maybe<EndpointId>;
  }

  export interface Sample {
    latency: Duration;
    endpoint: EndpointId;
    status: number;
    penalty: number;
  }

  export type Failure =
    "connect" | "connect-timeout" | "tls" | "reset" | "response-timeout" | "protocol" | "overload";
  export type Outcome = { tag: "status"; val: number } | { tag: "failed"; val: Failure };

  export interface AttemptContext {
    outcome: Outcome;
    endpoint: EndpointId;
    attempt: number;
    method: "safe" | "idempotent" | "other";
    sent: boolean;
    elapsed: Duration;
    remaining: Maybe<Duration>;
    budget: number;
    retryAfter: Maybe<Duration>;
    random: U64;
  }

  export interface RetryPlan {
    delay: Duration;
    elsewhere: boolean;
  }

  export type FieldEdit =
    { tag: "set"; val: Field } | { tag: "append"; val: Field } | { tag: "remove"; val: string };
  export type TargetEdit =
    | { tag: "path-and-query"; val: string }
    | { tag: "authority"; val: string }
    | { tag: "method"; val: string };

  export interface LocalResponse {
    status: number;
    fields: Field[];
    body: Uint8Array;
  }

  export type RequestAction =
    | { tag: "proceed" }
    | { tag: "fields"; val: FieldEdit[] }
    | { tag: "rewrite"; val: [TargetEdit[], FieldEdit[]] }
    | { tag: "respond"; val: LocalResponse };
  export type ResponseAction =
    | { tag: "proceed" }
    | { tag: "fields"; val: FieldEdit[] }
    | { tag: "rewrite"; val: [status: number, FieldEdit[]] }
    | { tag: "replace"; val: LocalResponse };

  /** What a plugin exports: `lifecycle`, and one of the kinds with what belongs to it. */
  export interface Plugin {
    lifecycle: {
      /** Throws a list of ConfigIssue. */
      configure(): void;
    };
    balancer: {
      update(version: U64, endpoints: Endpoint[]): void;
      change(changes: EndpointChange[]): void;
      /** Throws "unavailable" or "overloaded". */
      pick(cx: PickContext): EndpointId;
    };
    feedback: { observe(samples: Sample[]): void };
    retry: { decide(cx: AttemptContext): Maybe<RetryPlan> };
    requestRewriter: { onRequest(wanted: Maybe<Uint8Array>[]): RequestAction };
    responseRewriter: { onResponse(wanted: Maybe<Uint8Array>[]): ResponseAction };
    requestBodyRewriter: BodyRewriter;
    responseBodyRewriter: BodyRewriter;
    handover: { save(): Uint8Array; restore(state: Uint8Array): void };
  }

  export interface BodyRewriter {
    begin(body: number): boolean;
    rewrite(body: number, piece: Uint8Array, last: boolean): Uint8Array;
    abandon(body: number): void;
  }
}

declare module "staunch:plugin/registration@0.1.0" {
  import type { U64 } from "staunch:plugin";
  export type KeySource =
    | { tag: "client-address" | "host" | "path" | "path-and-query" }
    | { tag: "header" | "cookie" | "query"; val: string };
  export function wantKey(source: KeySource): void;
  export function wantFeedback(kind: "every-attempt" | "failures", batch: number, maxAge: U64): void;
  export function wantStatus(first: number, last: number): void;
  export function wantNonIdempotent(): void;
  export function wantRequestField(name: string): number;
  export function wantResponseField(name: string): number;
  export function skipRequests(): void;
  export function skipResponses(): void;
}

declare module "staunch:plugin/config@0.1.0" {
  import type { Maybe } from "staunch:plugin";
  export function get(path: string): Maybe<string>;
  export function keys(path: string): string[];
}

declare module "staunch:plugin/log@0.1.0" {
  import type { Level } from "staunch:plugin";
  export function enabled(level: Level): boolean;
  export function write(level: Level, message: string): void;
}

declare module "staunch:plugin/metrics@0.1.0" {
  import type { U64 } from "staunch:plugin";
  export function counter(name: string): number;
  export function gauge(name: string): number;
  export function histogram(name: string, bounds: number[]): number;
  export function add(metric: number, amount: U64): void;
  export function set(metric: number, value: number): void;
  export function recordValue(metric: number, value: number): void;
}

declare module "staunch:plugin/shared@0.1.0" {
  import type { Maybe, U64 } from "staunch:plugin";
  export function cell(name: string): number;
  export function load(cell: number): U64;
  export function fetchAdd(cell: number, amount: U64): U64;
  export function compareExchange(cell: number, current: U64, next: U64): U64;
  export function get(key: string): Maybe<[value: Uint8Array, version: U64]>;
  /** Throws an Error whose message is `full` or `conflict`. */
  export function put(key: string, value: Uint8Array, version: Maybe<U64>): U64;
  export function remember(
    key: string,
    value: Uint8Array,
    version: Maybe<U64>,
    maxAge: U64,
  ): U64;
  function remove(key: string): void;
  export { remove as delete };
}

declare module "staunch:plugin/clock@0.1.0" {
  import type { U64 } from "staunch:plugin";
  export function monotonic(): U64;
  export function wall(): U64;
}

declare module "staunch:plugin/random@0.1.0" {
  import type { U64 } from "staunch:plugin";
  export function next(): U64;
}

declare module "staunch:plugin/loads@0.1.0" {
  import type { U64 } from "staunch:plugin";
  export function active(endpoint: number): number;
  export function activeAll(): Uint32Array | number[];
  export function latency(endpoint: number): U64;
  export function latencyAll(): BigUint64Array | U64[];
}

declare module "staunch:plugin/selection@0.1.0" {
  import type { Maybe } from "staunch:plugin";
  export function key(): Maybe<Uint8Array>;
  export function tried(): Uint32Array | number[];
  export function appendResponseField(name: string, value: Uint8Array): void;
}

declare module "staunch:plugin/delegate@0.1.0" {
  export function group(endpoints: number[]): number;
  /** Throws an Error whose message is `unavailable` or `overloaded`. */
  export function pick(group: number): number;
}

declare module "staunch:plugin/routing@0.1.0" {
  export function hasUpstream(name: string): boolean;
  export function sendTo(name: string): boolean;
}

declare module "staunch:plugin/pace@0.1.0" {
  import type { U64 } from "staunch:plugin";
  export function delay(duration: U64): void;
}

declare module "staunch:plugin/request@0.1.0" {
  import type { Field, Maybe } from "staunch:plugin";
  export function method(): string;
  export function scheme(): string;
  export function authority(): string;
  export function pathAndQuery(): string;
  export function clientAddress(): string;
  export function id(): string;
  export function route(): string;
  export function upstream(): string;
  export function field(name: string): Maybe<Uint8Array>;
  export function fieldValues(name: string): Uint8Array[];
  export function fields(): Field[];
  export function note(name: string): Maybe<Uint8Array>;
  export function setNote(name: string, value: Uint8Array): void;
}

declare module "staunch:plugin/response@0.1.0" {
  import type { Field, Maybe } from "staunch:plugin";
  export function status(): number;
  export function endpoint(): string;
  export function field(name: string): Maybe<Uint8Array>;
  export function fieldValues(name: string): Uint8Array[];
  export function fields(): Field[];
}
