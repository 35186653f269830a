//! Random numbers, fast and not for secrets.

use crate::host;

/// 64 random bits. `random` in a context is cheaper.
pub fn next() -> u64 {
    host::random::next()
}

/// Maps 64 random bits to a number below `bound`, evenly to one part in 2^32; 0 for a bound of 0.
pub fn below(random: u64, bound: u32) -> u32 {
    (((random >> 32) * u64::from(bound)) >> 32) as u32
}

/// Makes other random bits of some, different for each `which`: to let chance decide among endpoints that are
/// otherwise equal, without another call of the host.
pub fn mix(random: u64, which: u32) -> u64 {
    // The finaliser of SplitMix64, over its sequence.
    let z = random.wrapping_add(u64::from(which).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_below_its_bound() {
        for (random, bound, expected) in [(0, 9, 0), (u64::MAX, 9, 8), (u64::MAX, u32::MAX, u32::MAX - 1), (7, 0, 0)] {
            assert_eq!(below(random, bound), expected);
        }
    }

    #[test]
    fn chance_is_even_among_equals() {
        let mut won = [0; 3];
        for _ in 0..3000 {
            let random = next();
            let first = (0..3).min_by_key(|&which| mix(random, which)).expect("there are three");
            won[first as usize] += 1;
        }

        assert!(won.iter().all(|won| (900..1100).contains(won)), "{won:?}");
    }
}
