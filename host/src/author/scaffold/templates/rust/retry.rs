//! Tries again elsewhere what failed or was answered with 503, as often as the setting `retries` says.

use std::time::Duration;

use staunch_plugin::{AttemptContext, Config, Invalid, Outcome, Retry, RetryNeeds, RetryPlan};

struct Plugin {
    retries: u32,
}

impl Retry for Plugin {
    fn configure(config: &Config, needs: &mut RetryNeeds) -> Result<Self, Invalid> {
        config.only(&["retries"]);
        needs.want_status(503, 503);
        Ok(Self { retries: config.get_or("retries", 1) })
    }

    fn decide(&mut self, cx: &AttemptContext) -> Option<RetryPlan> {
        let is_worth_it = matches!(cx.outcome, Outcome::Failed(_) | Outcome::Status(503));
        let again = RetryPlan { delay: Duration::ZERO, elsewhere: true };
        (is_worth_it && cx.attempt < self.retries).then_some(again)
    }
}

staunch_plugin::export!(retry: Plugin);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{self, Host};

    use super::*;

    #[test]
    fn an_overloaded_endpoint_is_left() {
        let mut policy = Host::new().retry::<Plugin>().expect("no setting is required");

        let plan = policy.decide(&testing::attempt_context(Outcome::Status(503)));

        assert_eq!(plan, Some(RetryPlan { delay: Duration::ZERO, elsewhere: true }));
    }
}
