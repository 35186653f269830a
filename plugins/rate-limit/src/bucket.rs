//! nginx's leaky bucket: requests fill it, time empties it, and what would make it overflow is refused.
//!
//! Everything is counted in thousandths of a request and in milliseconds, with whole numbers, as nginx does.

use staunch_plugin::Setting;

/// One request in thousandths.
pub(crate) const REQUEST: u64 = 1000;

/// How fast a bucket empties, and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) rate: Rate,
    /// What it holds above the request that is due.
    pub(crate) burst: u64,
    /// How full it may be before requests have to wait; the burst when none has to.
    pub(crate) delay: u64,
}

/// Thousandths of a request a second, at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate(u64);

/// What is kept of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// How full it was.
    pub(crate) excess: u64,
    /// When.
    pub(crate) last: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It goes on after so many milliseconds, and leaves the bucket so.
    Pass { delay: u64, bucket: Bucket },
    /// It is refused, as it would have made the bucket so full; so many milliseconds later it would pass. The bucket
    /// stays as it was.
    Refuse { excess: u64, wait: u64 },
}

impl Limit {
    /// Decides about a request that comes `now`. Without a bucket it is the first.
    pub(crate) fn admit(&self, bucket: Option<Bucket>, now: u64) -> Verdict {
        let excess = bucket.map_or(0, |bucket| {
            // Another worker's clock may have been read a moment later.
            let passed = now.saturating_sub(bucket.last);
            (bucket.excess + REQUEST).saturating_sub(self.rate.in_time(passed))
        });
        if excess > self.burst {
            return Verdict::Refuse { excess, wait: self.rate.time_for(excess - self.burst) };
        }
        let delay = excess.saturating_sub(self.delay).saturating_mul(1000) / self.rate.0;
        let last = bucket.map_or(now, |bucket| bucket.last.max(now));
        Verdict::Pass { delay, bucket: Bucket { excess, last } }
    }

    /// The longest that a request can have to wait, in milliseconds.
    pub(crate) fn longest_delay(&self) -> u64 {
        self.burst.saturating_sub(self.delay).saturating_mul(1000) / self.rate.0
    }
}

impl Rate {
    fn in_time(self, milliseconds: u64) -> u64 {
        self.0.saturating_mul(milliseconds) / 1000
    }

    /// Milliseconds until so much has gone.
    pub(crate) fn time_for(self, amount: u64) -> u64 {
        amount.saturating_mul(1000).div_ceil(self.0)
    }
}

/// `10r/s` or `30r/m`.
impl Setting for Rate {
    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || "must be a rate such as \"10r/s\" or \"30r/m\"".to_owned();
        let (number, seconds) = match (text.strip_suffix("r/s"), text.strip_suffix("r/m")) {
            (Some(number), _) => (number, 1),
            (_, Some(number)) => (number, 60),
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse::<u32>().map_err(|_| wrong())?.into();
        if number == 0 { Err(wrong()) } else { Ok(Self(number * REQUEST / seconds)) }
    }
}

impl Bucket {
    /// As it is shared among workers.
    pub(crate) fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.excess.to_le_bytes());
        bytes[8..].copy_from_slice(&self.last.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (excess, last) = bytes.split_first_chunk()?;
        Some(Self { excess: u64::from_le_bytes(*excess), last: u64::from_le_bytes(last.try_into().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(rate: &str, burst: u64, delay: u64) -> Limit {
        let rate = Rate::from_text(rate).expect(rate);
        Limit { rate, burst: burst * REQUEST, delay: delay * REQUEST }
    }

    /// What becomes of requests at these times: the delay of those that pass.
    fn admitted(limit: Limit, times: &[u64]) -> Vec<Option<u64>> {
        let mut bucket = None;
        let mut admit = |&now: &u64| match limit.admit(bucket, now) {
            Verdict::Pass { delay, bucket: next } => {
                bucket = Some(next);
                Some(delay)
            }
            Verdict::Refuse { .. } => None,
        };
        times.iter().map(&mut admit).collect()
    }

    #[test]
    fn rates_are_nginxs_thousandths() {
        for (text, rate) in [("10r/s", 10_000), ("30r/m", 500), ("1r/m", 16), ("4294967295r/s", 4_294_967_295_000)] {
            assert_eq!(Rate::from_text(text), Ok(Rate(rate)));
        }
        for text in ["10", "0r/s", "-1r/s", "1.5r/s", "r/s", "10r/h", "10 r/s", "4294967296r/s"] {
            assert!(Rate::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn without_a_burst_a_request_passes_each_interval() {
        assert_eq!(
            admitted(limit("10r/s", 0, 0), &[0, 50, 99, 100, 101, 200, 1000, 1000]),
            [Some(0), None, None, Some(0), None, Some(0), Some(0), None]
        );
    }

    #[test]
    fn a_burst_waits_for_its_turn_unless_it_need_not() {
        let at_once = [0; 5];
        assert_eq!(admitted(limit("10r/s", 3, 0), &at_once), [Some(0), Some(100), Some(200), Some(300), None]);
        assert_eq!(admitted(limit("10r/s", 3, 2), &at_once), [Some(0), Some(0), Some(0), Some(100), None]);
        assert_eq!(admitted(limit("10r/s", 3, 3), &at_once), [Some(0), Some(0), Some(0), Some(0), None]);
    }

    #[test]
    fn a_refusal_says_when_there_is_room_again() {
        let limit = limit("2r/s", 1, 1);
        let bucket = Some(Bucket { excess: 1000, last: 0 });

        assert_eq!(limit.admit(bucket, 0), Verdict::Refuse { excess: 2000, wait: 500 });
        assert_eq!(limit.admit(bucket, 499), Verdict::Refuse { excess: 1002, wait: 1 });
        assert!(matches!(limit.admit(bucket, 500), Verdict::Pass { .. }));
    }

    #[test]
    fn a_clock_that_went_back_gives_nothing_away() {
        let limit = limit("10r/s", 2, 2);
        let bucket = Bucket { excess: 1000, last: 500 };

        let Verdict::Pass { bucket, .. } = limit.admit(Some(bucket), 400) else { panic!("there is room") };

        assert_eq!(bucket, Bucket { excess: 2000, last: 500 });
    }

    #[test]
    fn a_bucket_is_read_as_it_was_written() {
        let bucket = Bucket { excess: 12_345, last: u64::MAX };

        assert_eq!(Bucket::from_bytes(&bucket.to_bytes()), Some(bucket));
        for length in [0, 8, 15, 17] {
            assert_eq!(Bucket::from_bytes(&vec![0; length]), None);
        }
    }

    /// `ngx_http_limit_req_lookup`, with its names and its signed numbers.
    fn nginx(rate: i64, burst: i64, node: &mut Option<(i64, i64)>, now: i64) -> Option<i64> {
        let Some((excess, last)) = node else {
            *node = Some((0, now));
            return Some(0);
        };
        let mut ms = now - *last;
        if ms < -60_000 {
            ms = 1;
        } else if ms < 0 {
            ms = 0;
        }
        let ep = (*excess - rate * ms / 1000 + 1000).max(0);
        if ep > burst {
            return None;
        }
        *excess = ep;
        if ms > 0 {
            *last = now;
        }
        Some(ep)
    }

    proptest! {
        #[test]
        fn every_decision_is_nginxs(
            rate in 1u64..100_000, burst in 0u64..20, gaps in prop::collection::vec(0u64..300, 1..100),
        ) {
            let limit = Limit { rate: Rate(rate), burst: burst * REQUEST, delay: 0 };
            let (mut now, mut bucket, mut node) = (0, None, None);
            for gap in gaps {
                now += gap;
                let theirs = nginx(rate as i64, limit.burst as i64, &mut node, now as i64);
                let ours = match limit.admit(bucket, now) {
                    Verdict::Pass { bucket: next, .. } => {
                        bucket = Some(next);
                        Some(next.excess as i64)
                    }
                    Verdict::Refuse { .. } => None,
                };
                prop_assert_eq!(ours, theirs);
            }
        }

        #[test]
        fn no_more_pass_than_the_rate_and_the_burst_allow(
            rate in 1u64..100_000, burst in 0u64..20, gaps in prop::collection::vec(0u64..200, 1..200),
        ) {
            let limit = Limit { rate: Rate(rate), burst: burst * REQUEST, delay: 0 };
            let times: Vec<u64> = gaps.iter().scan(0, |now, gap| { *now += gap; Some(*now) }).collect();
            let passed: Vec<u64> =
                times.iter().zip(admitted(limit, &times)).filter(|(_, delay)| delay.is_some()).map(|(&at, _)| at).collect();
            for (i, from) in passed.iter().enumerate() {
                for (j, to) in passed.iter().enumerate().skip(i) {
                    let most = rate * (to - from) / 1000 + limit.burst + REQUEST;
                    prop_assert!((j - i + 1) as u64 * REQUEST <= most, "{} from {} to {}", j - i + 1, from, to);
                }
            }
        }

        #[test]
        fn who_waits_as_long_as_told_passes(rate in 1u64..100_000, burst in 0u64..20, excess in 0u64..20_000, gap in 0u64..1000) {
            let limit = Limit { rate: Rate(rate), burst: burst * REQUEST, delay: 0 };
            let bucket = Some(Bucket { excess, last: 0 });
            if let Verdict::Refuse { wait, .. } = limit.admit(bucket, gap) {
                let passes = matches!(limit.admit(bucket, gap + wait), Verdict::Pass { .. });
                prop_assert!(passes, "after {} ms", wait);
            }
        }

        #[test]
        fn a_bucket_that_has_run_empty_is_as_none(rate in 1u64..100_000, excess in 0u64..20_000, more in 0u64..1000) {
            let limit = Limit { rate: Rate(rate), burst: 20 * REQUEST, delay: 0 };
            let now = limit.rate.time_for(excess + REQUEST) + more;
            prop_assert_eq!(limit.admit(Some(Bucket { excess, last: 0 }), now), limit.admit(None, now));
        }
    }
}
