//! The retry policy `backoff`: Envoy's conditions, and pauses that grow.

mod conditions;
mod pause;

use std::time::Duration;

use staunch_plugin::{AttemptContext, Config, Invalid, MethodKind, Outcome, Retry, RetryNeeds, RetryPlan};

use conditions::Conditions;
use pause::Pause;

struct Backoff {
    conditions: Conditions,
    pause: Pause,
    non_idempotent: bool,
    elsewhere: bool,
}

impl Retry for Backoff {
    fn configure(config: &Config, needs: &mut RetryNeeds) -> Result<Self, Invalid> {
        config.only(&[
            "on",
            "status_codes",
            "headers",
            "base",
            "max",
            "retry_after",
            "max_retry_after",
            "non_idempotent",
            "elsewhere",
        ]);
        let conditions = Conditions::read(config);
        for &(first, last) in conditions.statuses() {
            needs.want_status(first, last);
        }
        for name in conditions.fields() {
            needs.want_response_field(name);
        }
        let non_idempotent = config.get_or("non_idempotent", false);
        if conditions.concern_grpc() && !non_idempotent {
            config.issue("non_idempotent", "must be true for the conditions of gRPC: its calls are POSTs");
        }
        if non_idempotent {
            needs.want_non_idempotent();
        }
        let elsewhere = config.get_or("elsewhere", false);
        Ok(Self { conditions, pause: Pause::read(config), non_idempotent, elsewhere })
    }

    fn decide(&mut self, cx: &AttemptContext) -> Option<RetryPlan> {
        let harmless = !cx.sent || cx.method != MethodKind::Other || self.non_idempotent;
        if !harmless || !self.conditions.cover(cx.outcome, cx.sent) {
            return None;
        }
        let asked = cx.retry_after.filter(|_| matches!(cx.outcome, Outcome::Status(_)));
        let delay = self.pause.before_retry(cx.attempt, asked, cx.random)?;
        // Whoever has to wait past the deadline is better off with the answer that is there.
        let in_time = cx.remaining.is_none_or(|remaining| delay == Duration::ZERO || delay < remaining);
        in_time.then_some(RetryPlan { delay, elsewhere: self.elsewhere })
    }
}

staunch_plugin::export!(retry: Backoff);

#[cfg(test)]
mod tests {
    use staunch_plugin::Failure;
    use staunch_plugin::testing::{Host, Response, attempt_context};

    use super::*;

    const UNAVAILABLE: Outcome = Outcome::Status(503);

    fn backoff(host: &Host) -> Backoff {
        host.retry().unwrap_or_else(|issues| panic!("{issues}"))
    }

    #[test]
    fn a_gateways_errors_are_retried_by_default_after_a_pause() {
        let host = Host::new();
        let mut backoff = backoff(&host);

        assert_eq!(host.wanted_statuses(), [(502, 504)]);
        let delays: Vec<_> =
            (0..100).map(|_| backoff.decide(&attempt_context(UNAVAILABLE)).expect("it is retried").delay).collect();
        assert!(delays.iter().all(|&delay| delay < Duration::from_millis(25)), "{delays:?}");
        assert!(delays.iter().any(|&delay| delay > Duration::from_millis(12)), "{delays:?}");
        assert_eq!(backoff.decide(&attempt_context(Outcome::Status(500))), None);
    }

    #[test]
    fn a_post_that_was_sent_is_retried_only_when_the_operator_says_so() {
        let sent = AttemptContext { method: MethodKind::Other, ..attempt_context(Outcome::Failed(Failure::Reset)) };
        let unsent = AttemptContext { sent: false, ..sent };

        let host = Host::new();
        let mut careful = backoff(&host);
        assert!(!host.wants_non_idempotent());
        assert_eq!((careful.decide(&sent).is_some(), careful.decide(&unsent).is_some()), (false, true));

        host.set("non_idempotent", true);
        let mut bold = backoff(&host);
        assert!(host.wants_non_idempotent() && bold.decide(&sent).is_some());
    }

    #[test]
    fn a_pause_that_would_outlast_the_deadline_is_not_begun() {
        let host = Host::new();
        let mut backoff = backoff(&host);
        let asked = AttemptContext { retry_after: Some(Duration::from_secs(2)), ..attempt_context(UNAVAILABLE) };

        for (remaining, is_retried) in [(1, false), (2, false), (4, true)] {
            let cx = AttemptContext { remaining: Some(Duration::from_secs(remaining)), ..asked };
            assert_eq!(backoff.decide(&cx).is_some(), is_retried, "with {remaining} s left");
        }
    }

    #[test]
    fn an_endpoint_that_asks_for_time_gets_it() {
        let host = Host::new();
        let mut backoff = backoff(&host);
        let asked = |seconds| AttemptContext {
            retry_after: Some(Duration::from_secs(seconds)),
            ..attempt_context(UNAVAILABLE)
        };

        let delay = backoff.decide(&asked(2)).expect("it is retried").delay;
        assert!((Duration::from_secs(2)..Duration::from_secs(3)).contains(&delay), "{delay:?}");
        assert_eq!(backoff.decide(&asked(6)), None, "more than 5 s is for the client to wait");

        host.set("retry_after", false);
        let mut deaf = self::backoff(&host);
        assert!(deaf.decide(&asked(6)).expect("it is retried").delay < Duration::from_millis(25));
    }

    #[test]
    fn grpc_calls_are_asked_about_by_their_header() {
        let host = Host::new();
        host.set_list("on", ["unavailable", "retriable-headers"]);
        host.set("headers", "x-again");
        let issues = host.retry::<Backoff>().err().expect("calls are POSTs");
        assert_eq!(issues.to_string(), "`non_idempotent` must be true for the conditions of gRPC: its calls are POSTs");

        let host = Host::new();
        host.set_list("on", ["unavailable", "retriable-headers"]);
        host.set("headers", "x-again");
        host.set("non_idempotent", true);
        let mut backoff = backoff(&host);
        assert_eq!(
            (host.wanted_response_fields(), host.wanted_statuses()),
            (vec!["grpc-status".into(), "x-again".into()], vec![])
        );

        host.set_response(Response::default().field("grpc-status", "14"));
        let call = AttemptContext { method: MethodKind::Other, ..attempt_context(Outcome::Status(200)) };
        assert!(backoff.decide(&call).is_some());
    }

    #[test]
    fn the_endpoints_tried_so_far_may_be_ruled_out() {
        let host = Host::new();
        assert!(!backoff(&host).decide(&attempt_context(UNAVAILABLE)).expect("it is retried").elsewhere);

        host.set("elsewhere", true);
        assert!(backoff(&host).decide(&attempt_context(UNAVAILABLE)).expect("it is retried").elsewhere);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let host = Host::new();
        host.set_list("on", ["5xx", "gateway-eror", "retriable-status-codes"]);
        host.set("base", "1s");
        host.set("max", "500ms");
        host.set("delay", "1s");

        let issues = host.retry::<Backoff>().err().expect("nothing is right");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`delay` is unknown; there are `on`, `status_codes`, `headers`, `base`, `max`, `retry_after`, `max_retry_after`, \
                 `non_idempotent`, `elsewhere`",
                "`on.1` cannot be `gateway-eror`; did you mean `gateway-error`?",
                "`on` has `retriable-status-codes`, but there are no `status_codes`",
                "`max` must not be less than `base`",
            ]
        );

        let host = Host::new();
        host.set_list("status_codes", [429]);
        let issues = host.retry::<Backoff>().err().expect("nobody reads it");
        assert_eq!(issues.to_string(), "`status_codes` needs `retriable-status-codes` in `on`");
    }
}
