//! Lamping and Veach's jump consistent hash (https://arxiv.org/abs/1406.2294): as even as a modulus, and when the
//! number of buckets grows from n to n + 1 only one key of n + 1 moves, to the new bucket. It needs no table.

/// The bucket of a key, below `buckets`, which is at least 1.
pub fn bucket(key: u64, buckets: u32) u32 {
    var state = key;
    var found: i64 = -1;
    var next: i64 = 0;
    while (next < buckets) {
        found = next;
        state = state *% 2862933555777941757 +% 1;
        const scale = @as(f64, @floatFromInt(@as(u64, 1) << 31)) / @as(f64, @floatFromInt((state >> 33) + 1));
        next = @intFromFloat(@as(f64, @floatFromInt(found + 1)) * scale);
    }
    return @intCast(found);
}

/// Another key that has nothing to do with this one: where to look when the first bucket cannot be used.
pub fn another(key: u64, attempt: u64) u64 {
    // SplitMix64's finaliser.
    var x = key +% (attempt *% 0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) *% 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) *% 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

const testing = @import("std").testing;

test "buckets are those of the paper's own function" {
    // From the published C++ function, as Guava and others test it.
    const expected = [_]struct { u64, u32, u32 }{
        .{ 1, 1, 0 },              .{ 42, 57, 43 },     .{ 0xDEAD10CC, 1, 0 },
        .{ 0xDEAD10CC, 666, 361 }, .{ 256, 1024, 520 },
    };
    for (expected) |one| try testing.expectEqual(one[2], bucket(one[0], one[1]));
}

test "a new bucket takes its share and nothing else moves" {
    var moved: u32 = 0;
    for (0..10_000) |key| {
        const before = bucket(another(key, 0), 9);
        const after = bucket(another(key, 0), 10);
        if (before == after) continue;
        try testing.expectEqual(9, after);
        moved += 1;
    }
    try testing.expect(900 < moved and moved < 1100);
}
