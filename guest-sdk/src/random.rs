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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stays_below_its_bound() {
        for (random, bound, expected) in [(0, 9, 0), (u64::MAX, 9, 8), (u64::MAX, u32::MAX, u32::MAX - 1), (7, 0, 0)] {
            assert_eq!(below(random, bound), expected);
        }
    }
}
