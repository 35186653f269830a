//! Every part of the contract once, with examples/plugins/tenant-home/staunch.zig. What it has to do: README.md.

const std = @import("std");
const staunch = @import("staunch");
const request = staunch.request;
const response = staunch.response;

comptime {
    staunch.balancer(@This());
    staunch.feedback(@This());
    staunch.retry(@This());
    staunch.requestRewriter(@This());
    staunch.responseRewriter(@This());
    staunch.requestBodyRewriter(@This());
    staunch.responseBodyRewriter(@This());
    staunch.handover(@This());
}

var picks: u32 = 0;
var last: u32 = 0;
var sizes: u32 = 0;
var cell: u32 = 0;
var observed: u32 = 0;
var position_a: usize = 0;
var position_b: usize = 0;
var names: [][]const u8 = &.{};
var group: u32 = 0;

fn text(comptime format: []const u8, arguments: anytype) []const u8 {
    return std.fmt.allocPrint(staunch.arena, format, arguments) catch @trap();
}

pub fn configure() void {
    if (staunch.config.get("refuse")) |message| staunch.refuse("refuse", "{s}", .{message});
    if (staunch.config.keys("list").len > 0 and !std.mem.eql(u8, staunch.config.get("list.1") orelse "", "b"))
        staunch.refuse("list", "not b", .{});
    staunch.registration.wantKey(.{ .header = "x-key" });
    staunch.registration.wantKey(.client_address);
    staunch.registration.wantFeedback(.every_attempt, 1, 1_000_000);
    staunch.registration.wantStatus(500, 599);
    staunch.registration.wantNonIdempotent();
    position_a = staunch.registration.wantRequestField("x-a");
    position_b = staunch.registration.wantResponseField("x-b");
    if (staunch.config.get("skip") != null) {
        staunch.registration.skipRequests();
        staunch.registration.skipResponses();
    }
    picks = staunch.metrics.counter("picks");
    last = staunch.metrics.gauge("last");
    sizes = staunch.metrics.histogram("sizes", &.{ 1, 10 });
    cell = staunch.shared.cell("requests");
    staunch.log.print(.info, "configured", .{});
    _ = staunch.routing.hasUpstream("nowhere");
}

pub fn update(_: u64, endpoints: []const staunch.Endpoint) void {
    names = staunch.gpa.alloc([]const u8, endpoints.len) catch @trap();
    const ids = staunch.arena.alloc(u32, endpoints.len) catch @trap();
    for (endpoints, ids) |endpoint, *id| {
        id.* = endpoint.id;
        const label = if (endpoint.labels.len > 0) endpoint.labels[0].value else "-";
        const name = .{ label, endpoint.zone orelse "-", endpoint.weight };
        names[endpoint.id] = std.fmt.allocPrint(staunch.gpa, "{s} {s} {d}", name) catch @trap();
    }
    group = staunch.delegate.group(ids);
}

pub fn change(changes: []const staunch.Change) void {
    for (changes) |to| staunch.metrics.set(last, @floatFromInt(to.weight));
}

pub fn pick(cx: staunch.PickContext) staunch.PickError!u32 {
    staunch.metrics.add(picks, 1);
    const key = staunch.selection.key() orelse "";
    staunch.selection.appendResponseField("x-seen", text("{s} {d} {d} {d} {d} {d} {d} {d}", .{
        key,                           (cx.key orelse 0) & 0xff,       cx.attempt,                    staunch.loads.active(0),
        staunch.loads.activeAll().len, staunch.loads.latencyAll().len, staunch.selection.tried().len, observed,
    }));
    if (std.mem.eql(u8, key, "busy")) return error.Overloaded;
    for (names, 0..) |name, id| {
        if (cx.attempt == 0 and std.mem.startsWith(u8, name, key)) {
            staunch.selection.appendResponseField("x-name", name);
            return @intCast(id);
        }
    }
    return staunch.delegate.pick(group);
}

pub fn observe(samples: []const staunch.Sample) void {
    for (samples) |sample| {
        observed = sample.status;
        staunch.metrics.record(sizes, if (staunch.loads.latency(sample.endpoint) > 0) 1 else 0);
    }
}

pub fn decide(cx: staunch.Attempt) ?staunch.Plan {
    const status = switch (cx.outcome) {
        .status => |status| status,
        .failed => return null,
    };
    if (status != 503 or cx.attempt != 0 or cx.method != .other or !cx.sent or cx.budget == 0) return null;
    if (cx.retry_after != 0 or response.field("x-try") == null) return null;
    return .{ .delay = 1_000_000, .elsewhere = true };
}

fn shared() []const u8 {
    const key = "key";
    staunch.shared.delete(key);
    const first = staunch.shared.put(key, "one", null) catch return "bad";
    if (staunch.shared.put(key, "two", null)) |_| return "bad" else |why| if (why != error.Conflict) return "bad";
    const third = staunch.shared.remember(key, "three", first, 60_000_000_000) catch return "bad";
    const stored = staunch.shared.get(key) orelse return "bad";
    const before = staunch.shared.fetchAdd(cell, 1);
    const exchanged = staunch.shared.compareExchange(cell, before + 1, before + 1);
    return if (stored.version == third and exchanged == staunch.shared.load(cell)) stored.bytes else "bad";
}

pub fn onRequest(wanted: []const ?[]const u8) staunch.RequestAction {
    if (std.mem.eql(u8, request.pathAndQuery(), "/respond"))
        return .{ .respond = .{ .status = 418, .fields = &.{.{ .name = "x-made", .value = "here" }}, .body = "made" } };
    const clocks = staunch.clock.wall() > 1_700_000_000_000_000_000 and staunch.clock.monotonic() > 0 and
        staunch.random.next() != staunch.random.next();
    staunch.pace.delay(1_000_000);
    request.setNote("from", request.pathAndQuery());
    var edits: std.ArrayList(staunch.FieldEdit) = .empty;
    edits.append(staunch.arena, .{ .set = .{ .name = "x-request", .value = text("{s} {s} {s} {s} {s} {s} {s}", .{
        request.method(),        request.scheme(), request.authority(),
        request.clientAddress(), request.route(),  request.upstream(),
        shared(),
    }) } }) catch @trap();
    edits.append(staunch.arena, .{ .set = .{ .name = "x-counts", .value = text("{d} {d} {d} {d} {d} {d}", .{
        request.id().len,                       wanted.len,
        @intFromBool(request.fields().len > 3), @intFromBool(clocks),
        request.fieldValues("x-d").len,         @intFromBool(staunch.routing.sendTo("nowhere")),
    }) } }) catch @trap();
    edits.append(staunch.arena, .{ .append = .{ .name = "x-a", .value = wanted[position_a] orelse "absent" } }) catch @trap();
    if (request.field("x-d") != null) edits.append(staunch.arena, .{ .remove = "x-d" }) catch @trap();
    const target = staunch.arena.dupe(staunch.TargetEdit, &.{
        .{ .path_and_query = "/mirrored" }, .{ .method = "PATCH" }, .{ .authority = "mirror.test" },
    }) catch @trap();
    return .{ .rewrite = .{ .target = target, .fields = edits.items } };
}

pub fn onResponse(wanted: []const ?[]const u8) staunch.ResponseAction {
    if (response.status() == 404) return .{ .replace = .{ .status = 410, .body = "gone" } };
    const known = response.endpoint().len > 0 and response.fields().len > 0;
    const value = text("{s} {d} {s} {d} {d}", .{
        wanted[position_b] orelse "absent", wanted.len,
        request.note("from") orelse "-",    @intFromBool(known),
        response.fieldValues("x-b").len,
    });
    const edits = staunch.arena.dupe(staunch.FieldEdit, &.{.{ .set = .{ .name = "x-response", .value = value } }}) catch @trap();
    return .{ .rewrite = .{ .status = if (response.status() == 200) 203 else null, .fields = edits } };
}

fn shouted(piece: []const u8, is_last: bool) []const u8 {
    const out = staunch.arena.alloc(u8, piece.len + @intFromBool(is_last)) catch @trap();
    _ = std.ascii.upperString(out, piece);
    if (is_last) out[piece.len] = '!';
    return out;
}

pub fn beginRequestBody(_: u32) bool {
    return true;
}
pub fn rewriteRequestBody(_: u32, piece: []const u8, is_last: bool) []const u8 {
    return shouted(piece, is_last);
}
pub fn abandonRequestBody(_: u32) void {}
pub fn beginResponseBody(_: u32) bool {
    return response.field("x-plain") == null;
}
pub fn rewriteResponseBody(_: u32, piece: []const u8, is_last: bool) []const u8 {
    return shouted(piece, is_last);
}
pub fn abandonResponseBody(_: u32) void {}

pub fn save() []const u8 {
    return text("{d}", .{observed});
}
pub fn restore(state: []const u8) void {
    observed = @intCast(state.len);
}
