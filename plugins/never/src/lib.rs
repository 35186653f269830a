//! The retry policy `never`: no attempt is followed by another.

use staunch_plugin::{AttemptContext, Config, Invalid, Retry, RetryNeeds, RetryPlan};

struct Never;

impl Retry for Never {
    fn configure(config: &Config, _: &mut RetryNeeds) -> Result<Self, Invalid> {
        config.only(&[]);
        Ok(Self)
    }

    fn decide(&mut self, _: &AttemptContext) -> Option<RetryPlan> {
        None
    }
}

staunch_plugin::export!(retry: Never);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, attempt_context};
    use staunch_plugin::{Failure, Outcome};

    use super::*;

    #[test]
    fn nothing_is_tried_again_and_no_answer_is_asked_about() {
        let host = Host::new();
        let mut never: Never = host.retry().expect("it has no settings");

        for outcome in [Outcome::Status(503), Outcome::Failed(Failure::Connect), Outcome::Failed(Failure::Reset)] {
            let unsent = AttemptContext { sent: false, ..attempt_context(outcome) };
            assert_eq!(never.decide(&unsent), None, "for {outcome:?}");
        }
        assert_eq!(host.wanted_statuses(), []);
        assert!(!host.wants_non_idempotent());
    }

    #[test]
    fn a_setting_is_refused() {
        let host = Host::new();
        host.set("on", "error");

        let issues = host.retry::<Never>().err().expect("there are no settings");

        assert_eq!(issues.to_string(), "`on` is unknown; there are no settings");
    }
}
