//! The contract staunch:plugin@0.1.0 for plugins in Zig: what wit/ says, in Zig's words.
//!
//! Copy this file beside your source, and say there which struct is the plugin, and what kind it is:
//!
//!     const staunch = @import("staunch.zig");
//!     comptime {
//!         staunch.balancer(@This());
//!     }
//!
//! `balancer`, `feedback`, `retry`, `requestRewriter`, `responseRewriter`, `requestBodyRewriter`,
//! `responseBodyRewriter`, `handover`: as many as it is. Each says which functions the struct has to have.
//!
//! What the host passes, what an imported function answers and what comes from `arena` lives until the call that it
//! belongs to ends, and is freed then. What has to live longer is copied with `gpa`. Times are nanoseconds. A plugin
//! imports the functions that it calls and no others.

const std = @import("std");

/// For what outlives a call.
pub const gpa = std.heap.wasm_allocator;

/// For what does not. Nothing has to be freed.
pub const arena = call_arena.allocator();

var call_arena = std.heap.ArenaAllocator.init(gpa);

/// Where a slice begins: for an empty one, whose pointer may be anything, at an address that the proxy accepts.
fn start(items: anytype) @TypeOf(items.ptr) {
    return if (items.len > 0) items.ptr else @ptrFromInt(8);
}

const Bytes = extern struct {
    ptr: [*]const u8,
    len: usize,

    fn of(bytes: []const u8) Bytes {
        return .{ .ptr = start(bytes), .len = bytes.len };
    }
    fn slice(self: Bytes) []const u8 {
        return self.ptr[0..self.len];
    }
};

fn List(comptime T: type) type {
    return extern struct {
        ptr: [*]const T,
        len: usize,

        fn of(items: []const T) @This() {
            return .{ .ptr = start(items), .len = items.len };
        }
        fn slice(self: @This()) []const T {
            return self.ptr[0..self.len];
        }
    };
}

const MaybeBytes = extern struct {
    is_some: bool,
    value: Bytes,

    fn get(self: MaybeBytes) ?[]const u8 {
        return if (self.is_some) self.value.slice() else null;
    }
};

/// A header, or a label of an endpoint.
pub const Field = struct { name: []const u8, value: []const u8 };

const RawField = extern struct { name: Bytes, value: Bytes };

fn texts(list: List(Bytes)) []const []const u8 {
    const out = arena.alloc([]const u8, list.len) catch @trap();
    for (out, list.slice()) |*to, from| to.* = from.slice();
    return out;
}

fn fieldsOf(list: List(RawField)) []const Field {
    const out = arena.alloc(Field, list.len) catch @trap();
    for (out, list.slice()) |*to, from| to.* = .{ .name = from.name.slice(), .value = from.value.slice() };
    return out;
}

fn rawFields(fields: []const Field) List(RawField) {
    const out = arena.alloc(RawField, fields.len) catch @trap();
    for (out, fields) |*to, from| to.* = .{ .name = .of(from.name), .value = .of(from.value) };
    return .of(out);
}

// ---- imports: what the proxy does for a plugin; wit/host.wit says more of each ----

/// For use within `configure`.
pub const registration = struct {
    const raw = struct {
        extern "staunch:plugin/registration@0.1.0" fn @"want-key"(source: u32, ptr: [*]const u8, len: usize) void;
        extern "staunch:plugin/registration@0.1.0" fn @"want-feedback"(kind: u32, batch: u32, max_age: u64) void;
        extern "staunch:plugin/registration@0.1.0" fn @"want-status"(first: u32, last: u32) void;
        extern "staunch:plugin/registration@0.1.0" fn @"want-non-idempotent"() void;
        extern "staunch:plugin/registration@0.1.0" fn @"want-request-field"(ptr: [*]const u8, len: usize) u32;
        extern "staunch:plugin/registration@0.1.0" fn @"want-response-field"(ptr: [*]const u8, len: usize) u32;
        extern "staunch:plugin/registration@0.1.0" fn @"skip-requests"() void;
        extern "staunch:plugin/registration@0.1.0" fn @"skip-responses"() void;
    };

    pub const KeySource = union(enum(u32)) {
        client_address,
        host,
        path,
        path_and_query,
        header: []const u8,
        cookie: []const u8,
        query: []const u8,
    };

    pub const FeedbackKind = enum(u32) { every_attempt, failures };

    pub fn wantKey(source: KeySource) void {
        const name: []const u8 = switch (source) {
            .header, .cookie, .query => |name| name,
            else => "",
        };
        raw.@"want-key"(@backingInt(source), start(name), name.len);
    }
    pub fn wantFeedback(kind: FeedbackKind, batch: u32, max_age: u64) void {
        raw.@"want-feedback"(@backingInt(kind), batch, max_age);
    }
    pub fn wantStatus(first: u16, last: u16) void {
        raw.@"want-status"(first, last);
    }
    pub fn wantNonIdempotent() void {
        raw.@"want-non-idempotent"();
    }
    pub fn wantRequestField(name: []const u8) usize {
        return raw.@"want-request-field"(start(name), name.len);
    }
    pub fn wantResponseField(name: []const u8) usize {
        return raw.@"want-response-field"(start(name), name.len);
    }
    pub fn skipRequests() void {
        raw.@"skip-requests"();
    }
    pub fn skipResponses() void {
        raw.@"skip-responses"();
    }
};

/// The settings.
pub const config = struct {
    const raw = struct {
        extern "staunch:plugin/config@0.1.0" fn get(ptr: [*]const u8, len: usize, out: *MaybeBytes) void;
        extern "staunch:plugin/config@0.1.0" fn keys(ptr: [*]const u8, len: usize, out: *List(Bytes)) void;
    };

    /// The setting at a path such as `limits.0.name`.
    pub fn get(path: []const u8) ?[]const u8 {
        var out: MaybeBytes = undefined;
        raw.get(start(path), path.len, &out);
        return out.get();
    }
    /// The names or positions under a path; "" is the whole.
    pub fn keys(path: []const u8) []const []const u8 {
        var out: List(Bytes) = undefined;
        raw.keys(start(path), path.len, &out);
        return texts(out);
    }
};

pub const log = struct {
    const raw = struct {
        extern "staunch:plugin/log@0.1.0" fn enabled(level: u32) bool;
        extern "staunch:plugin/log@0.1.0" fn write(level: u32, ptr: [*]const u8, len: usize) void;
    };

    pub const Level = enum(u32) { debug, info, warn, err };

    pub fn print(level: Level, comptime format: []const u8, arguments: anytype) void {
        if (!raw.enabled(@backingInt(level))) return;
        const line = std.fmt.allocPrint(arena, format, arguments) catch @trap();
        raw.write(@backingInt(level), start(line), line.len);
    }
};

pub const metrics = struct {
    const raw = struct {
        extern "staunch:plugin/metrics@0.1.0" fn counter(ptr: [*]const u8, len: usize) u32;
        extern "staunch:plugin/metrics@0.1.0" fn gauge(ptr: [*]const u8, len: usize) u32;
        extern "staunch:plugin/metrics@0.1.0" fn histogram(ptr: [*]const u8, len: usize, bounds: [*]const f64, count: usize) u32;
        extern "staunch:plugin/metrics@0.1.0" fn add(metric: u32, amount: u64) void;
        extern "staunch:plugin/metrics@0.1.0" fn set(metric: u32, value: f64) void;
        extern "staunch:plugin/metrics@0.1.0" fn @"record-value"(metric: u32, value: f64) void;
    };

    pub fn counter(name: []const u8) u32 {
        return raw.counter(start(name), name.len);
    }
    pub fn gauge(name: []const u8) u32 {
        return raw.gauge(start(name), name.len);
    }
    pub fn histogram(name: []const u8, bounds: []const f64) u32 {
        return raw.histogram(start(name), name.len, start(bounds), bounds.len);
    }
    pub fn add(metric: u32, amount: u64) void {
        raw.add(metric, amount);
    }
    pub fn set(metric: u32, value: f64) void {
        raw.set(metric, value);
    }
    pub fn record(metric: u32, value: f64) void {
        raw.@"record-value"(metric, value);
    }
};

/// State shared by the instances of one use on every worker.
pub const shared = struct {
    const Stored = extern struct { is_some: bool, value: Bytes align(8), version: u64 };
    const Written = extern struct { failed: bool, outcome: extern union { version: u64, reason: u8 } };
    const raw = struct {
        extern "staunch:plugin/shared@0.1.0" fn cell(ptr: [*]const u8, len: usize) u32;
        extern "staunch:plugin/shared@0.1.0" fn load(cell: u32) u64;
        extern "staunch:plugin/shared@0.1.0" fn @"fetch-add"(cell: u32, amount: u64) u64;
        extern "staunch:plugin/shared@0.1.0" fn @"compare-exchange"(cell: u32, current: u64, new: u64) u64;
        extern "staunch:plugin/shared@0.1.0" fn get(ptr: [*]const u8, len: usize, out: *Stored) void;
        extern "staunch:plugin/shared@0.1.0" fn put(ptr: [*]const u8, len: usize, value: [*]const u8, value_len: usize, has_version: u32, version: u64, out: *Written) void;
        extern "staunch:plugin/shared@0.1.0" fn remember(ptr: [*]const u8, len: usize, value: [*]const u8, value_len: usize, has_version: u32, version: u64, max_age: u64, out: *Written) void;
        extern "staunch:plugin/shared@0.1.0" fn delete(ptr: [*]const u8, len: usize) void;
    };

    pub const Error = error{ Full, Conflict };
    pub const Value = struct { bytes: []const u8, version: u64 };

    pub fn cell(name: []const u8) u32 {
        return raw.cell(start(name), name.len);
    }
    pub fn load(of: u32) u64 {
        return raw.load(of);
    }
    pub fn fetchAdd(of: u32, amount: u64) u64 {
        return raw.@"fetch-add"(of, amount);
    }
    /// The value before: the exchange was made if it is `current`.
    pub fn compareExchange(of: u32, current: u64, new: u64) u64 {
        return raw.@"compare-exchange"(of, current, new);
    }
    pub fn get(key: []const u8) ?Value {
        var out: Stored = undefined;
        raw.get(start(key), key.len, &out);
        return if (out.is_some) .{ .bytes = out.value.slice(), .version = out.version } else null;
    }
    /// Answers the new version. `version` is the one to be replaced; null: the key must be absent.
    pub fn put(key: []const u8, value: []const u8, version: ?u64) Error!u64 {
        var out: Written = undefined;
        raw.put(start(key), key.len, start(value), value.len, @intFromBool(version != null), version orelse 0, &out);
        return written(out);
    }
    pub fn remember(key: []const u8, value: []const u8, version: ?u64, max_age: u64) Error!u64 {
        var out: Written = undefined;
        raw.remember(start(key), key.len, start(value), value.len, @intFromBool(version != null), version orelse 0, max_age, &out);
        return written(out);
    }
    pub fn delete(key: []const u8) void {
        raw.delete(start(key), key.len);
    }

    fn written(out: Written) Error!u64 {
        if (!out.failed) return out.outcome.version;
        return if (out.outcome.reason == 0) error.Full else error.Conflict;
    }
};

pub const clock = struct {
    pub extern "staunch:plugin/clock@0.1.0" fn monotonic() u64;
    pub extern "staunch:plugin/clock@0.1.0" fn wall() u64;
};

pub const random = struct {
    pub extern "staunch:plugin/random@0.1.0" fn next() u64;
};

/// What the proxy measures of the endpoints.
pub const loads = struct {
    const raw = struct {
        extern "staunch:plugin/loads@0.1.0" fn @"active-all"(out: *List(u32)) void;
        extern "staunch:plugin/loads@0.1.0" fn @"latency-all"(out: *List(u64)) void;
    };

    pub extern "staunch:plugin/loads@0.1.0" fn active(endpoint: u32) u32;
    pub extern "staunch:plugin/loads@0.1.0" fn latency(endpoint: u32) u64;

    /// By slot, that is by the id of an endpoint.
    pub fn activeAll() []const u32 {
        var out: List(u32) = undefined;
        raw.@"active-all"(&out);
        return out.slice();
    }
    pub fn latencyAll() []const u64 {
        var out: List(u64) = undefined;
        raw.@"latency-all"(&out);
        return out.slice();
    }
};

/// For use within `pick`.
pub const selection = struct {
    const raw = struct {
        extern "staunch:plugin/selection@0.1.0" fn key(out: *MaybeBytes) void;
        extern "staunch:plugin/selection@0.1.0" fn tried(out: *List(u32)) void;
        extern "staunch:plugin/selection@0.1.0" fn @"append-response-field"(ptr: [*]const u8, len: usize, value: [*]const u8, value_len: usize) void;
    };

    pub fn key() ?[]const u8 {
        var out: MaybeBytes = undefined;
        raw.key(&out);
        return out.get();
    }
    pub fn tried() []const u32 {
        var out: List(u32) = undefined;
        raw.tried(&out);
        return out.slice();
    }
    pub fn appendResponseField(name: []const u8, value: []const u8) void {
        raw.@"append-response-field"(start(name), name.len, start(value), value.len);
    }
};

pub const PickError = error{ Unavailable, Overloaded };

const PickResult = extern struct { is_refused: bool, value: u32 };

/// The balancer behind this one. A group is made within `update`.
pub const delegate = struct {
    const raw = struct {
        extern "staunch:plugin/delegate@0.1.0" fn group(ptr: [*]const u32, len: usize) u32;
        extern "staunch:plugin/delegate@0.1.0" fn pick(group: u32, out: *PickResult) void;
    };

    pub fn group(endpoints: []const u32) u32 {
        return raw.group(start(endpoints), endpoints.len);
    }
    pub fn pick(of: u32) PickError!u32 {
        var out: PickResult = .{ .is_refused = true, .value = 0 };
        raw.pick(of, &out);
        if (!out.is_refused) return out.value;
        return if (out.value & 0xff == 0) error.Unavailable else error.Overloaded;
    }
};

/// For rewriters of requests.
pub const routing = struct {
    const raw = struct {
        extern "staunch:plugin/routing@0.1.0" fn @"has-upstream"(ptr: [*]const u8, len: usize) bool;
        extern "staunch:plugin/routing@0.1.0" fn @"send-to"(ptr: [*]const u8, len: usize) bool;
    };

    pub fn hasUpstream(name: []const u8) bool {
        return raw.@"has-upstream"(start(name), name.len);
    }
    pub fn sendTo(name: []const u8) bool {
        return raw.@"send-to"(start(name), name.len);
    }
};

/// For rewriters of requests.
pub const pace = struct {
    pub extern "staunch:plugin/pace@0.1.0" fn delay(duration: u64) void;
};

/// The request of the exchange under way.
pub const request = struct {
    const raw = struct {
        extern "staunch:plugin/request@0.1.0" fn method(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn scheme(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn authority(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn @"path-and-query"(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn @"client-address"(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn id(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn route(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn upstream(out: *Bytes) void;
        extern "staunch:plugin/request@0.1.0" fn field(ptr: [*]const u8, len: usize, out: *MaybeBytes) void;
        extern "staunch:plugin/request@0.1.0" fn @"field-values"(ptr: [*]const u8, len: usize, out: *List(Bytes)) void;
        extern "staunch:plugin/request@0.1.0" fn fields(out: *List(RawField)) void;
        extern "staunch:plugin/request@0.1.0" fn note(ptr: [*]const u8, len: usize, out: *MaybeBytes) void;
        extern "staunch:plugin/request@0.1.0" fn @"set-note"(ptr: [*]const u8, len: usize, value: [*]const u8, value_len: usize) void;
    };

    pub fn method() []const u8 {
        return text(raw.method);
    }
    pub fn scheme() []const u8 {
        return text(raw.scheme);
    }
    pub fn authority() []const u8 {
        return text(raw.authority);
    }
    pub fn pathAndQuery() []const u8 {
        return text(raw.@"path-and-query");
    }
    pub fn clientAddress() []const u8 {
        return text(raw.@"client-address");
    }
    pub fn id() []const u8 {
        return text(raw.id);
    }
    pub fn route() []const u8 {
        return text(raw.route);
    }
    pub fn upstream() []const u8 {
        return text(raw.upstream);
    }
    pub fn field(name: []const u8) ?[]const u8 {
        var out: MaybeBytes = undefined;
        raw.field(start(name), name.len, &out);
        return out.get();
    }
    pub fn fieldValues(name: []const u8) []const []const u8 {
        var out: List(Bytes) = undefined;
        raw.@"field-values"(start(name), name.len, &out);
        return texts(out);
    }
    pub fn fields() []const Field {
        var out: List(RawField) = undefined;
        raw.fields(&out);
        return fieldsOf(out);
    }
    pub fn note(name: []const u8) ?[]const u8 {
        var out: MaybeBytes = undefined;
        raw.note(start(name), name.len, &out);
        return out.get();
    }
    pub fn setNote(name: []const u8, value: []const u8) void {
        raw.@"set-note"(start(name), name.len, start(value), value.len);
    }
};

/// The response of the exchange under way.
pub const response = struct {
    const raw = struct {
        extern "staunch:plugin/response@0.1.0" fn status() u32;
        extern "staunch:plugin/response@0.1.0" fn endpoint(out: *Bytes) void;
        extern "staunch:plugin/response@0.1.0" fn field(ptr: [*]const u8, len: usize, out: *MaybeBytes) void;
        extern "staunch:plugin/response@0.1.0" fn @"field-values"(ptr: [*]const u8, len: usize, out: *List(Bytes)) void;
        extern "staunch:plugin/response@0.1.0" fn fields(out: *List(RawField)) void;
    };

    pub fn status() u16 {
        return @truncate(raw.status());
    }
    pub fn endpoint() []const u8 {
        return text(raw.endpoint);
    }
    pub fn field(name: []const u8) ?[]const u8 {
        var out: MaybeBytes = undefined;
        raw.field(start(name), name.len, &out);
        return out.get();
    }
    pub fn fieldValues(name: []const u8) []const []const u8 {
        var out: List(Bytes) = undefined;
        raw.@"field-values"(start(name), name.len, &out);
        return texts(out);
    }
    pub fn fields() []const Field {
        var out: List(RawField) = undefined;
        raw.fields(&out);
        return fieldsOf(out);
    }
};

fn text(read: *const fn (*Bytes) callconv(.c) void) []const u8 {
    var out: Bytes = undefined;
    read(&out);
    return out.slice();
}

// ---- exports: what the struct that is the plugin has to have; wit/plugin.wit says more of each ----

/// Called by `configure` of the plugin for each mistake in its settings.
pub fn refuse(path: []const u8, comptime format: []const u8, arguments: anytype) void {
    const message = std.fmt.allocPrint(gpa, format, arguments) catch @trap();
    issues.append(gpa, .{ .name = .of(gpa.dupe(u8, path) catch @trap()), .value = .of(message) }) catch @trap();
}

var issues: std.ArrayList(RawField) = .empty;

pub const Endpoint = struct {
    id: u32,
    address: []const u8,
    weight: u32,
    priority: u32,
    zone: ?[]const u8,
    ready: bool,
    labels: []const Field,
};

const RawEndpoint = extern struct {
    id: u32,
    address: Bytes,
    weight: u32,
    priority: u32,
    zone: MaybeBytes,
    ready: bool,
    labels: List(RawField),
};

pub const Change = extern struct { id: u32, weight: u32, ready: bool };

pub const PickContext = struct { key: ?u64, random: u64, now: u64, attempt: u32, previous: ?u32 };

/// `pub fn configure() void`, `pub fn update(version: u64, endpoints: []const Endpoint) void`,
/// `pub fn change(changes: []const Change) void`, `pub fn pick(cx: PickContext) PickError!u32`.
pub fn balancer(comptime Plugin: type) void {
    const exports = struct {
        fn update(version: u64, ptr: [*]const RawEndpoint, len: usize) callconv(.c) void {
            const endpoints = arena.alloc(Endpoint, len) catch @trap();
            for (endpoints, ptr[0..len]) |*to, from| to.* = .{
                .id = from.id,
                .address = from.address.slice(),
                .weight = from.weight,
                .priority = from.priority,
                .zone = from.zone.get(),
                .ready = from.ready,
                .labels = fieldsOf(from.labels),
            };
            Plugin.update(version, endpoints);
            release();
        }
        fn change(ptr: [*]const Change, len: usize) callconv(.c) void {
            Plugin.change(ptr[0..len]);
            release();
        }
        var picked: PickResult = undefined;
        fn pick(has_key: u32, key: u64, bits: u64, now: u64, attempt: u32, has_previous: u32, previous: u32) callconv(.c) *PickResult {
            const cx: PickContext = .{
                .key = if (has_key != 0) key else null,
                .random = bits,
                .now = now,
                .attempt = attempt,
                .previous = if (has_previous != 0) previous else null,
            };
            picked = if (Plugin.pick(cx)) |endpoint|
                .{ .is_refused = false, .value = endpoint }
            else |why|
                .{ .is_refused = true, .value = if (why == error.Overloaded) 1 else 0 };
            return &picked;
        }
    };
    lifecycle(Plugin);
    give("balancer", "update", &exports.update);
    give("balancer", "change", &exports.change);
    giveResult("balancer", "pick", &exports.pick);
}

pub const Sample = extern struct { latency: u64, endpoint: u32, status: u32, penalty: u32 };

/// For a balancer: `pub fn observe(samples: []const Sample) void`.
pub fn feedback(comptime Plugin: type) void {
    const exports = struct {
        fn observe(ptr: [*]const Sample, len: usize) callconv(.c) void {
            Plugin.observe(ptr[0..len]);
            release();
        }
    };
    give("feedback", "observe", &exports.observe);
}

pub const Failure = enum(u32) { connect, connect_timeout, tls, reset, response_timeout, protocol, overload };

pub const Outcome = union(enum) { status: u16, failed: Failure };

pub const Method = enum(u32) { safe, idempotent, other };

pub const Attempt = struct {
    outcome: Outcome,
    endpoint: u32,
    attempt: u32,
    method: Method,
    sent: bool,
    elapsed: u64,
    remaining: ?u64,
    budget: u32,
    retry_after: ?u64,
    random: u64,
};

pub const Plan = extern struct { delay: u64 = 0, elsewhere: bool = false };

/// `pub fn configure() void`, `pub fn decide(cx: Attempt) ?Plan`.
pub fn retry(comptime Plugin: type) void {
    const exports = struct {
        var decision: extern struct { is_some: bool, plan: Plan } = undefined;
        fn decide(failed: u32, detail: u32, endpoint: u32, attempt: u32, method: u32, sent: u32, elapsed: u64, has_remaining: u32, remaining: u64, budget: u32, has_retry_after: u32, retry_after: u64, bits: u64) callconv(.c) *anyopaque {
            const plan: ?Plan = Plugin.decide(.{
                .outcome = if (failed != 0) .{ .failed = @fromBackingInt(@intCast(detail)) } else .{ .status = @truncate(detail) },
                .endpoint = endpoint,
                .attempt = attempt,
                .method = @fromBackingInt(@intCast(method)),
                .sent = sent != 0,
                .elapsed = elapsed,
                .remaining = if (has_remaining != 0) remaining else null,
                .budget = budget,
                .retry_after = if (has_retry_after != 0) retry_after else null,
                .random = bits,
            });
            decision = .{ .is_some = plan != null, .plan = plan orelse .{} };
            return &decision;
        }
    };
    lifecycle(Plugin);
    giveResult("retry", "decide", &exports.decide);
}

pub const FieldEdit = union(enum) { set: Field, append: Field, remove: []const u8 };

pub const TargetEdit = union(enum) { path_and_query: []const u8, authority: []const u8, method: []const u8 };

pub const LocalResponse = struct { status: u16, fields: []const Field = &.{}, body: []const u8 = "" };

/// What becomes of a request.
pub const RequestAction = union(enum) {
    proceed,
    rewrite: struct { target: []const TargetEdit = &.{}, fields: []const FieldEdit = &.{} },
    respond: LocalResponse,
};

/// What becomes of a response.
pub const ResponseAction = union(enum) {
    proceed,
    rewrite: struct { status: ?u16 = null, fields: []const FieldEdit = &.{} },
    replace: LocalResponse,
};

const RawEdit = extern struct { kind: u8, name: Bytes, value: Bytes };
const RawTarget = extern struct { kind: u8, value: Bytes };
const RawAction = extern struct {
    tag: u8,
    does: extern union {
        fields: List(RawEdit),
        request: extern struct { target: List(RawTarget), fields: List(RawEdit) },
        response: extern struct { status: u16, fields: List(RawEdit) },
        local: extern struct { status: u16, fields: List(RawField), body: Bytes },
    },

    fn respond(self: *RawAction, made: LocalResponse) void {
        self.tag = 3;
        self.does = .{ .local = .{ .status = made.status, .fields = rawFields(made.fields), .body = .of(made.body) } };
    }
};

fn rawEdits(edits: []const FieldEdit) List(RawEdit) {
    const out = arena.alloc(RawEdit, edits.len) catch @trap();
    for (out, edits) |*to, edit| to.* = switch (edit) {
        .set => |field| .{ .kind = 0, .name = .of(field.name), .value = .of(field.value) },
        .append => |field| .{ .kind = 1, .name = .of(field.name), .value = .of(field.value) },
        .remove => |name| .{ .kind = 2, .name = .of(name), .value = .of("") },
    };
    return .of(out);
}

fn rawTargets(edits: []const TargetEdit) List(RawTarget) {
    const out = arena.alloc(RawTarget, edits.len) catch @trap();
    for (out, edits) |*to, edit| to.* = switch (edit) {
        inline else => |value| .{ .kind = @backingInt(edit), .value = .of(value) },
    };
    return .of(out);
}

fn maybes(ptr: [*]const MaybeBytes, len: usize) []const ?[]const u8 {
    const out = arena.alloc(?[]const u8, len) catch @trap();
    for (out, ptr[0..len]) |*to, from| to.* = from.get();
    return out;
}

/// `pub fn configure() void`, `pub fn onRequest(wanted: []const ?[]const u8) RequestAction`.
pub fn requestRewriter(comptime Plugin: type) void {
    const exports = struct {
        var action: RawAction = undefined;
        fn onRequest(ptr: [*]const MaybeBytes, len: usize) callconv(.c) *RawAction {
            action.tag = 0;
            switch (@as(RequestAction, Plugin.onRequest(maybes(ptr, len)))) {
                .proceed => {},
                .rewrite => |changes| {
                    action.tag = 2;
                    action.does = .{ .request = .{ .target = rawTargets(changes.target), .fields = rawEdits(changes.fields) } };
                },
                .respond => |made| action.respond(made),
            }
            return &action;
        }
    };
    lifecycle(Plugin);
    giveResult("request-rewriter", "on-request", &exports.onRequest);
}

/// `pub fn configure() void`, `pub fn onResponse(wanted: []const ?[]const u8) ResponseAction`.
pub fn responseRewriter(comptime Plugin: type) void {
    const exports = struct {
        var action: RawAction = undefined;
        fn onResponse(ptr: [*]const MaybeBytes, len: usize) callconv(.c) *RawAction {
            action.tag = 0;
            switch (@as(ResponseAction, Plugin.onResponse(maybes(ptr, len)))) {
                .proceed => {},
                .rewrite => |changes| if (changes.status) |status| {
                    action.tag = 2;
                    action.does = .{ .response = .{ .status = status, .fields = rawEdits(changes.fields) } };
                } else {
                    action.tag = 1;
                    action.does = .{ .fields = rawEdits(changes.fields) };
                },
                .replace => |made| action.respond(made),
            }
            return &action;
        }
    };
    lifecycle(Plugin);
    giveResult("response-rewriter", "on-response", &exports.onResponse);
}

/// `pub fn beginRequestBody(body: u32) bool`, `pub fn rewriteRequestBody(body: u32, piece: []const u8, last: bool) []const u8`,
/// `pub fn abandonRequestBody(body: u32) void`.
pub fn requestBodyRewriter(comptime Plugin: type) void {
    bodyRewriter("request-body-rewriter", Plugin.beginRequestBody, Plugin.rewriteRequestBody, Plugin.abandonRequestBody);
}

/// The same with `Response` in the names.
pub fn responseBodyRewriter(comptime Plugin: type) void {
    bodyRewriter("response-body-rewriter", Plugin.beginResponseBody, Plugin.rewriteResponseBody, Plugin.abandonResponseBody);
}

fn bodyRewriter(
    comptime interface: []const u8,
    comptime beginBody: fn (u32) bool,
    comptime rewriteBody: fn (u32, []const u8, bool) []const u8,
    comptime abandonBody: fn (u32) void,
) void {
    const exports = struct {
        var rewritten: Bytes = undefined;
        fn begin(body: u32) callconv(.c) bool {
            const wanted = beginBody(body);
            release();
            return wanted;
        }
        fn rewrite(body: u32, ptr: [*]const u8, len: usize, last: u32) callconv(.c) *Bytes {
            rewritten = .of(rewriteBody(body, ptr[0..len], last != 0));
            return &rewritten;
        }
        fn abandon(body: u32) callconv(.c) void {
            abandonBody(body);
            release();
        }
    };
    give(interface, "begin", &exports.begin);
    giveResult(interface, "rewrite", &exports.rewrite);
    give(interface, "abandon", &exports.abandon);
}

/// `pub fn save() []const u8`, `pub fn restore(state: []const u8) void`.
pub fn handover(comptime Plugin: type) void {
    const exports = struct {
        var saved: Bytes = undefined;
        fn save() callconv(.c) *Bytes {
            saved = .of(Plugin.save());
            return &saved;
        }
        fn restore(ptr: [*]const u8, len: usize) callconv(.c) void {
            Plugin.restore(ptr[0..len]);
            release();
        }
    };
    giveResult("handover", "save", &exports.save);
    give("handover", "restore", &exports.restore);
}

// ---- the canonical ABI ----

var has_lifecycle = false;

/// What every plugin exports.
fn lifecycle(comptime Plugin: type) void {
    const exports = struct {
        var configured: extern struct { is_refused: bool, issues: List(RawField) } = undefined;
        fn configure() callconv(.c) *anyopaque {
            Plugin.configure();
            configured = .{ .is_refused = issues.items.len > 0, .issues = .of(issues.items) };
            return &configured;
        }
    };
    giveResult("lifecycle", "configure", &exports.configure);
    @export(&realloc, .{ .name = "cabi_realloc" });
}

/// How the proxy gets memory in which to pass something.
fn realloc(old: ?[*]u8, old_size: usize, alignment: usize, size: usize) callconv(.c) [*]u8 {
    if (size == 0) return @ptrFromInt(alignment);
    const memory = arena.alignedAlloc(u8, .@"8", size) catch @trap();
    if (old) |from| @memcpy(memory[0..@min(old_size, size)], from[0..@min(old_size, size)]);
    return memory.ptr;
}

/// Ends a call.
fn release() void {
    _ = call_arena.reset(.{ .retain_with_limit = 64 * 1024 });
}

fn released(_: *anyopaque) callconv(.c) void {
    release();
}

fn give(comptime interface: []const u8, comptime function: []const u8, comptime pointer: anytype) void {
    @export(pointer, .{ .name = "staunch:plugin/" ++ interface ++ "@0.1.0#" ++ function });
}

/// The same for a function whose result the proxy reads from memory, and says so when it has.
fn giveResult(comptime interface: []const u8, comptime function: []const u8, comptime pointer: anytype) void {
    give(interface, function, pointer);
    @export(&released, .{ .name = "cabi_post_staunch:plugin/" ++ interface ++ "@0.1.0#" ++ function });
}
