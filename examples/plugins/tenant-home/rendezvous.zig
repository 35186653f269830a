//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; the weights as in Schindelhauer and Schomaker 2005): each
//! endpoint draws a lot for a key, and the highest wins. An endpoint that comes or goes moves its own keys and no others,
//! and wherever it stands in a list does not matter.

/// The lot that an endpoint draws for a key. `seed` is the endpoint's own, see `seedOf`.
pub fn lot(key: u64, seed: u64, weight: u32) f64 {
    // Evenly distributed over the open interval from 0 to 1.
    const chance = (@as(f64, @floatFromInt(mixed(key ^ seed) >> 11)) + 0.5) / (1 << 53);
    return @as(f64, @floatFromInt(weight)) / -@log(chance);
}

/// FNV-1a of what names an endpoint wherever it stands: its address.
pub fn seedOf(address: []const u8) u64 {
    var hash: u64 = 0xcbf29ce484222325;
    for (address) |byte| hash = (hash ^ byte) *% 0x100000001b3;
    return mixed(hash);
}

/// SplitMix64's finaliser.
fn mixed(bits: u64) u64 {
    var x = bits +% 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) *% 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) *% 0x94d049bb133111eb;
    return x ^ (x >> 31);
}

const testing = @import("std").testing;

const addresses = [_][]const u8{ "10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80" };

fn winner(key: u64, weights: [4]u32) usize {
    var best: usize = 0;
    for (addresses, weights, 0..) |address, weight, i| {
        if (lot(key, seedOf(address), weight) > lot(key, seedOf(addresses[best]), weights[best])) best = i;
    }
    return best;
}

test "each endpoint wins as often as its weight says" {
    var wins: [4]u32 = @splat(0);
    for (0..10_000) |key| wins[winner(key, .{ 1, 2, 3, 4 })] += 1;
    for (wins, 1..) |won, weight| try testing.expectApproxEqAbs(@as(f64, @floatFromInt(weight * 1000)), @as(f64, @floatFromInt(won)), 150);
}

test "who leaves moves nobody else's keys" {
    for (0..10_000) |key| {
        const before = winner(key, .{ 1, 1, 1, 1 });
        // A weight of 0 never wins.
        const after = winner(key, .{ 1, 0, 1, 1 });
        try testing.expect(after != 1 and (before == after or before == 1));
    }
}
