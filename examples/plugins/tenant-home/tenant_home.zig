//! Gives each tenant homes of its own: a few endpoints, found by rendezvous hashing, of which the least busy serves it.
//!
//! Caches there stay warm for the tenant, and one that floods or crashes its homes harms few others: with 2 of 10
//! endpoints, one tenant in 45 has both in common with it (shuffle sharding).

const std = @import("std");
const staunch = @import("staunch.zig");
const rendezvous = @import("rendezvous.zig");

comptime {
    staunch.balancer(@This());
}

const max_homes = 16;

const Member = struct { id: u32, weight: u32, priority: u32, ready: bool, seed: u64 };

var members: []Member = &.{};
/// A position in `members` for each slot.
var by_slot: []u32 = &.{};
var homes: usize = 2;

pub fn configure() void {
    for (staunch.config.keys("")) |name| {
        if (std.mem.eql(u8, name, "header") or std.mem.eql(u8, name, "homes")) continue;
        staunch.refuse(name, "there is no such setting; there are `header` and `homes`", .{});
    }
    if (staunch.config.get("homes")) |text| {
        homes = std.fmt.parseInt(usize, text, 10) catch 0;
        if (homes < 1 or homes > max_homes) staunch.refuse("homes", "is a number from 1 to {d}", .{max_homes});
    }
    const header = staunch.config.get("header") orelse "x-tenant";
    if (header.len == 0) return staunch.refuse("header", "the name of a header is wanted", .{});
    staunch.registration.wantKey(.{ .header = header });
    // Who names no tenant is one himself.
    staunch.registration.wantKey(.client_address);
}

pub fn update(_: u64, endpoints: []const staunch.Endpoint) void {
    var slots: usize = 0;
    for (endpoints) |endpoint| slots = @max(slots, endpoint.id + 1);
    staunch.gpa.free(members);
    staunch.gpa.free(by_slot);
    members = staunch.gpa.alloc(Member, endpoints.len) catch @trap();
    by_slot = staunch.gpa.alloc(u32, slots) catch @trap();
    @memset(by_slot, 0);
    for (members, endpoints, 0..) |*member, endpoint, position| {
        member.* = .{
            .id = endpoint.id,
            .weight = endpoint.weight,
            .priority = endpoint.priority,
            .ready = endpoint.ready,
            .seed = rendezvous.seedOf(endpoint.address),
        };
        by_slot[endpoint.id] = @intCast(position);
    }
}

pub fn change(changes: []const staunch.Change) void {
    for (changes) |to| {
        if (to.id >= by_slot.len) continue;
        const member = &members[by_slot[to.id]];
        if (member.id != to.id) continue;
        member.weight = to.weight;
        member.ready = to.ready;
    }
}

pub fn pick(cx: staunch.PickContext) staunch.PickError!u32 {
    const key = cx.key orelse cx.random;
    const tried: []const u32 = if (cx.attempt > 0) staunch.selection.tried() else &.{};
    // An endpoint that was tried is better than none.
    return leastBusyHome(key, tried) orelse leastBusyHome(key, &.{}) orelse error.Unavailable;
}

/// Of the endpoints that may be used, in the first priority group that has one, those with the highest lots are homes.
fn leastBusyHome(key: u64, tried: []const u32) ?u32 {
    var group: u32 = std.math.maxInt(u32);
    var found: usize = 0;
    var ids: [max_homes]u32 = undefined;
    var lots: [max_homes]f64 = undefined;
    for (members) |member| {
        if (!member.ready or member.priority > group) continue;
        if (std.mem.indexOfScalar(u32, tried, member.id) != null) continue;
        if (member.priority < group) {
            group = member.priority;
            found = 0;
        }
        const lot = rendezvous.lot(key, member.seed, member.weight);
        var place = found;
        while (place > 0 and lots[place - 1] < lot) place -= 1;
        if (place == homes) continue;
        found = @min(found + 1, homes);
        std.mem.copyBackwards(u32, ids[place + 1 .. found], ids[place .. found - 1]);
        std.mem.copyBackwards(f64, lots[place + 1 .. found], lots[place .. found - 1]);
        ids[place] = member.id;
        lots[place] = lot;
    }
    if (found == 0) return null;

    // Among equals the first, so that a tenant who asks for little has one home.
    var best = ids[0];
    var fewest = staunch.loads.active(best);
    for (ids[1..found]) |id| {
        const active = staunch.loads.active(id);
        if (active < fewest) {
            best = id;
            fewest = active;
        }
    }
    return best;
}
