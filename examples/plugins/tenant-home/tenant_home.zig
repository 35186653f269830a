//! Gives each tenant a home: the endpoint that its requests always go to, found by jump consistent hash.
//!
//! Endpoints are ordered by address, and each has as many places as its weight. While a home is not ready its tenants
//! are spread over the others, each tenant to one of them; the rest stay where they are. Endpoints that are best taken
//! away from the end of the order (in reverse order of their addresses) move the fewest tenants.

const std = @import("std");
const staunch = @import("staunch.zig");
const jump = @import("jump.zig");

comptime {
    staunch.balancer(@This());
}

/// Homes to try before any ready one is good enough.
const max_tries = 32;

/// Places at most, so that great weights cost no memory: beyond, weights are scaled down.
const max_places = 1 << 16;

const Member = struct { id: u32, priority: u32, ready: bool };

/// In the order of their addresses.
var members: []Member = &.{};
/// A position in `members` for each place.
var places: []u32 = &.{};
/// A position in `members` for each slot.
var by_slot: []u32 = &.{};
/// The priority group that is used as long as it can be.
var first_group: u32 = 0;

pub fn configure() void {
    for (staunch.config.keys("")) |name| {
        if (!std.mem.eql(u8, name, "header")) staunch.refuse(name, "there is no such setting; there is only `header`", .{});
    }
    const header = staunch.config.get("header") orelse "x-tenant";
    if (header.len == 0) return staunch.refuse("header", "the name of a header is wanted", .{});
    staunch.registration.wantKey(.{ .header = header });
    // Who names no tenant is one himself.
    staunch.registration.wantKey(.client_address);
}

pub fn update(_: u64, endpoints: []const staunch.Endpoint) void {
    const order = staunch.arena.dupe(staunch.Endpoint, endpoints) catch @trap();
    std.sort.heap(staunch.Endpoint, order, {}, byAddress);

    first_group = std.math.maxInt(u32);
    var total: u64 = 0;
    var slots: usize = 0;
    for (order) |endpoint| {
        first_group = @min(first_group, endpoint.priority);
        total += endpoint.weight;
        slots = @max(slots, endpoint.id + 1);
    }
    members = renewed(Member, members, order.len);
    by_slot = renewed(u32, by_slot, slots);
    @memset(by_slot, 0);
    var found: std.ArrayList(u32) = .empty;
    for (order, members, 0..) |endpoint, *member, position| {
        member.* = .{ .id = endpoint.id, .priority = endpoint.priority, .ready = endpoint.ready };
        by_slot[endpoint.id] = @intCast(position);
        const share = if (total > max_places) @max(1, endpoint.weight * @as(u64, max_places) / total) else endpoint.weight;
        found.appendNTimes(staunch.arena, @intCast(position), @intCast(share)) catch @trap();
    }
    places = renewed(u32, places, found.items.len);
    @memcpy(places, found.items);
}

fn renewed(comptime T: type, old: []T, len: usize) []T {
    staunch.gpa.free(old);
    return staunch.gpa.alloc(T, len) catch @trap();
}

fn byAddress(_: void, a: staunch.Endpoint, b: staunch.Endpoint) bool {
    return std.mem.lessThan(u8, a.address, b.address);
}

/// Readiness counts at once, a weight with the next `update`: places that move would move tenants.
pub fn change(changes: []const staunch.Change) void {
    for (changes) |to| {
        if (to.id >= by_slot.len) continue;
        const member = &members[by_slot[to.id]];
        if (member.id == to.id) member.ready = to.ready;
    }
}

pub fn pick(cx: staunch.PickContext) staunch.PickError!u32 {
    if (members.len == 0) return error.Unavailable;
    const key = cx.key orelse cx.random;
    if (cx.attempt == 0) {
        const member = at(key, 0);
        if (member.ready and member.priority == first_group) return member.id;
    }
    const tried: []const u32 = if (cx.attempt > 0) staunch.selection.tried() else &.{};
    return home(key, tried) orelse home(key, &.{}) orelse error.Unavailable;
}

/// The first home of a key that may be used, in the first priority group that has one.
fn home(key: u64, tried: []const u32) ?u32 {
    var group: ?u32 = null;
    for (members) |member| {
        if (isUsable(member, tried)) group = @min(group orelse member.priority, member.priority);
    }
    const priority = group orelse return null;
    for (0..max_tries) |attempt| {
        const member = at(key, attempt);
        if (member.priority == priority and isUsable(member, tried)) return member.id;
    }
    const start = jump.bucket(jump.another(key, max_tries), @intCast(members.len));
    for (0..members.len) |step| {
        const member = members[(start + step) % members.len];
        if (member.priority == priority and isUsable(member, tried)) return member.id;
    }
    return null;
}

/// Where a key goes when so many homes could not be used.
fn at(key: u64, attempt: u64) Member {
    return members[places[jump.bucket(jump.another(key, attempt), @intCast(places.len))]];
}

fn isUsable(member: Member, tried: []const u32) bool {
    return member.ready and std.mem.indexOfScalar(u32, tried, member.id) == null;
}
