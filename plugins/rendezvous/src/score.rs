//! Weighted rendezvous hashing (Thaler, Ravishankar 1998; Schindelhauer, Schomaker 2005).

use staunch_plugin::random;

/// What an endpoint is known by, however the configuration lists it.
pub(crate) fn seed(address: &str) -> u64 {
    // FNV-1a.
    let hash = address
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    random::mix(hash, 0)
}

/// How much an endpoint wants a key: the highest score has it. Each wins as often as its weight says, since
/// `-ln(u) / w`, for an even `u`, is the time that an event of rate `w` takes, and the first of several events is
/// each one's as often as its rate says.
pub(crate) fn score(key: u64, seed: u64, weight: u32) -> f64 {
    // 53 bits and a half, so that it is neither 0 nor 1.
    let even = ((random::mix(key ^ seed, 0) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -f64::from(weight) / even.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn winner(key: u64, endpoints: &[(u64, u32)]) -> usize {
        let scores = endpoints.iter().map(|&(seed, weight)| score(key, seed, weight)).zip(0..);
        scores.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are some").1
    }

    #[test]
    fn each_wins_as_often_as_its_weight_says() {
        let endpoints =
            [("10.0.0.1:80", 1), ("10.0.0.2:80", 2), ("10.0.0.3:80", 5)].map(|(at, weight)| (seed(at), weight));
        let mut won = [0; 3];
        for key in 0..80_000 {
            won[winner(key, &endpoints)] += 1;
        }

        for (won, fair) in won.into_iter().zip([10_000, 20_000, 50_000]) {
            assert!(i32::abs_diff(won, fair) < 700, "{won} of {fair}");
        }
    }

    #[test]
    fn a_weight_that_rises_takes_keys_and_moves_no_others() {
        let before = [1, 2, 3].map(|n| (random::mix(n, 0), 2));
        let mut after = before;
        after[1].1 = 3;

        for key in 0..10_000 {
            let (was, is) = (winner(key, &before), winner(key, &after));
            assert!(was == is || is == 1, "{key}: {was}, {is}");
        }
    }

    #[test]
    fn a_score_is_a_number_whatever_is_hashed() {
        for key in (0..10_000).chain([u64::MAX, u64::MAX >> 11]) {
            for weight in [0, 1, u32::MAX] {
                let score = score(key, 0, weight);
                assert!(score.is_finite() && score >= 0.0, "{key}, {weight}: {score}");
            }
        }
    }
}
