//! Sets a header of every request: `name` and `value` say which.

const std = @import("std");
const staunch = @import("staunch.zig");

comptime {
    staunch.requestRewriter(@This());
}

var header: staunch.Field = .{ .name = "x-hello", .value = "world" };

pub fn configure() void {
    for (staunch.config.keys("")) |name| {
        if (std.mem.eql(u8, name, "name") or std.mem.eql(u8, name, "value")) continue;
        staunch.refuse(name, "is unknown; there are `name` and `value`", .{});
    }
    if (staunch.config.get("name")) |name| header.name = staunch.gpa.dupe(u8, name) catch @trap();
    if (staunch.config.get("value")) |value| header.value = staunch.gpa.dupe(u8, value) catch @trap();
}

pub fn onRequest(_: []const ?[]const u8) staunch.RequestAction {
    const edits = staunch.arena.dupe(staunch.FieldEdit, &.{.{ .set = header }}) catch @trap();
    return .{ .rewrite = .{ .fields = edits } };
}
