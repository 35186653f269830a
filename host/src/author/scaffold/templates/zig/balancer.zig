//! Picks the ready endpoint with the fewest requests in flight for its weight, and among equals by chance.

const std = @import("std");
const staunch = @import("staunch.zig");

comptime {
    staunch.balancer(@This());
}

const Candidate = struct { id: u32, weight: u32, priority: u32, ready: bool };

var candidates: []Candidate = &.{};

pub fn configure() void {
    for (staunch.config.keys("")) |name| staunch.refuse(name, "is unknown; there are no settings", .{});
}

pub fn update(_: u64, endpoints: []const staunch.Endpoint) void {
    staunch.gpa.free(candidates);
    candidates = staunch.gpa.alloc(Candidate, endpoints.len) catch @trap();
    for (endpoints, candidates) |from, *to| {
        to.* = .{ .id = from.id, .weight = from.weight, .priority = from.priority, .ready = from.ready };
    }
}

pub fn change(changes: []const staunch.Change) void {
    for (candidates) |*candidate| {
        for (changes) |to| {
            if (to.id != candidate.id) continue;
            candidate.weight = to.weight;
            candidate.ready = to.ready;
        }
    }
}

pub fn pick(cx: staunch.PickContext) staunch.PickError!u32 {
    if (candidates.len == 0) return error.Unavailable;
    const active = staunch.loads.activeAll();
    const tried: []const u32 = if (cx.attempt > 0) staunch.selection.tried() else &.{};
    // Chance says where to begin, so that equals have equal parts.
    const start: usize = @intCast(cx.random % candidates.len);
    var best: ?Candidate = null;
    var best_rank: u64 = 0;
    var best_load: u64 = 0;
    for (0..candidates.len) |step| {
        const next = candidates[(start + step) % candidates.len];
        if (!next.ready) continue;
        // What was not tried goes before what was, and then the lower priority group before the other.
        const was_tried = std.mem.indexOfScalar(u32, tried, next.id) != null;
        const rank = @as(u64, if (was_tried) 1 else 0) << 32 | next.priority;
        const in_flight: u64 = if (next.id < active.len) active[next.id] else 0;
        const load = in_flight * 1_000_000 / @max(1, next.weight);
        if (best == null or rank < best_rank or (rank == best_rank and load < best_load)) {
            best = next;
            best_rank = rank;
            best_load = load;
        }
    }
    return if (best) |found| found.id else error.Unavailable;
}
