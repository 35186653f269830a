//! Tries again elsewhere what failed or was answered with 503, as often as the setting `retries` says.

const std = @import("std");
const staunch = @import("staunch.zig");

comptime {
    staunch.retry(@This());
}

var retries: u32 = 1;

pub fn configure() void {
    for (staunch.config.keys("")) |name| {
        if (!std.mem.eql(u8, name, "retries")) staunch.refuse(name, "is unknown; there is only `retries`", .{});
    }
    if (staunch.config.get("retries")) |text| {
        retries = std.fmt.parseInt(u32, text, 10) catch
            return staunch.refuse("retries", "must be a whole number", .{});
    }
    staunch.registration.wantStatus(503, 503);
}

pub fn decide(cx: staunch.Attempt) ?staunch.Plan {
    const is_worth_it = switch (cx.outcome) {
        .status => |status| status == 503,
        .failed => true,
    };
    return if (is_worth_it and cx.attempt < retries) .{ .elsewhere = true } else null;
}
