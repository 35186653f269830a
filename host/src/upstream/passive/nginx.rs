//! nginx's passive health check: `max_fails` and `fail_timeout`, exactly.
//!
//! # What does it really do?
//!
//! Failures chain: each one restarts the clock, and a success forgets them only if the endpoint was picked more
//! than `fail_timeout` after the last of them. Once `max_fails` have gathered, the endpoint is out; after
//! `fail_timeout` exactly one live request goes through as a probe, and another each `fail_timeout` until one
//! succeeds. Source: `ngx_http_upstream_round_robin.c`; time is in whole seconds there, and so it is here.

/// When failures take an endpoint out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Policy {
    /// 0: never.
    pub(crate) max_fails: u32,
    /// Seconds.
    pub(crate) fail_timeout: u64,
}

/// What is remembered of one endpoint. Moments are seconds since any fixed start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) fails: u32,
    accessed: u64,
    checked: u64,
}

impl Record {
    pub(crate) fn is_available(&self, policy: Policy, now: u64) -> bool {
        policy.max_fails == 0 || self.fails < policy.max_fails || now.saturating_sub(self.checked) > policy.fail_timeout
    }

    /// The first second at which an endpoint that is out may be probed.
    pub(crate) fn probe_at(&self, policy: Policy) -> u64 {
        self.checked + policy.fail_timeout + 1
    }

    /// Whether it has gathered enough failures to be out or on probation.
    pub(crate) fn is_suspect(&self, policy: Policy) -> bool {
        policy.max_fails != 0 && self.fails >= policy.max_fails
    }

    /// A request is sent there.
    pub(crate) fn picked(&mut self, policy: Policy, now: u64) {
        if now.saturating_sub(self.checked) > policy.fail_timeout {
            self.checked = now;
        }
    }

    pub(crate) fn failed(&mut self, now: u64) {
        self.fails = self.fails.saturating_add(1);
        (self.accessed, self.checked) = (now, now);
    }

    pub(crate) fn succeeded(&mut self) {
        if self.accessed < self.checked {
            self.fails = 0;
        }
    }
}

/// What one failure takes from an endpoint's effective weight.
pub(crate) fn penalty(policy: Policy, weight: u32) -> u32 {
    weight.checked_div(policy.max_fails).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { max_fails: 3, fail_timeout: 4 };

    #[test]
    fn failures_chain_over_successes_within_the_timeout() {
        // Measured on nginx: failures at 0, 3 and 6 s with successes between them take the server out.
        let mut record = Record::default();
        for second in [100, 103, 106] {
            record.picked(POLICY, second);
            record.failed(second);
            record.picked(POLICY, second + 1);
            record.succeeded();
        }

        assert!(!record.is_available(POLICY, 107));
    }

    #[test]
    fn a_success_after_the_timeout_forgets_the_failures() {
        let mut record = Record::default();
        record.failed(100);
        record.failed(100);

        record.picked(POLICY, 105);
        record.succeeded();

        assert_eq!(record.fails, 0);
    }

    #[test]
    fn one_probe_goes_through_after_each_timeout_until_one_succeeds() {
        let policy = Policy { max_fails: 1, fail_timeout: 10 };
        let mut record = Record::default();
        record.failed(100);
        assert!(!record.is_available(policy, 110));
        assert_eq!(record.probe_at(policy), 111);
        assert!(record.is_available(policy, 111));

        record.picked(policy, 111);
        assert!(!record.is_available(policy, 111));
        record.failed(112);
        assert!(!record.is_available(policy, 122));
        record.picked(policy, 123);
        record.succeeded();

        assert!(record.is_available(policy, 123));
    }

    #[test]
    fn no_failures_count_when_max_fails_is_0() {
        let policy = Policy { max_fails: 0, fail_timeout: 10 };
        let mut record = Record::default();
        for second in 0..100 {
            record.failed(second);
        }

        assert!(record.is_available(policy, 100));
        assert_eq!(penalty(policy, 7), 0);
    }
}
