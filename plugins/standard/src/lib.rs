//! The retry policy `standard`: nginx's `proxy_next_upstream`.

use std::time::Duration;

use staunch_plugin::{
    AttemptContext, Config, Failure, Invalid, MethodKind, Outcome, Retry, RetryNeeds, RetryPlan, Setting, choose,
    response,
};

/// What is tried again.
#[derive(Debug, Default, PartialEq)]
struct Standard {
    error: bool,
    timeout: bool,
    invalid_header: bool,
    non_idempotent: bool,
    statuses: Vec<u16>,
    grpc: Vec<u32>,
}

/// A word of the setting `on`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Condition {
    Error,
    Timeout,
    InvalidHeader,
    Status(u16),
    /// A call that ended with this code, as long as nothing came before it.
    Grpc(u32),
    NonIdempotent,
    Off,
}

impl Setting for Condition {
    fn from_text(text: &str) -> Result<Self, String> {
        choose(
            text,
            &[
                ("error", Self::Error),
                ("timeout", Self::Timeout),
                ("invalid_header", Self::InvalidHeader),
                ("http_500", Self::Status(500)),
                ("http_502", Self::Status(502)),
                ("http_503", Self::Status(503)),
                ("http_504", Self::Status(504)),
                ("http_403", Self::Status(403)),
                ("http_404", Self::Status(404)),
                ("http_429", Self::Status(429)),
                ("grpc_cancelled", Self::Grpc(1)),
                ("grpc_deadline_exceeded", Self::Grpc(4)),
                ("grpc_resource_exhausted", Self::Grpc(8)),
                ("grpc_internal", Self::Grpc(13)),
                ("grpc_unavailable", Self::Grpc(14)),
                ("non_idempotent", Self::NonIdempotent),
                ("off", Self::Off),
            ],
        )
    }
}

impl Standard {
    fn new(conditions: &[Condition]) -> Self {
        let mut standard = Self::default();
        for condition in conditions {
            match condition {
                Condition::Error => standard.error = true,
                Condition::Timeout => standard.timeout = true,
                Condition::InvalidHeader => standard.invalid_header = true,
                Condition::Status(status) => standard.statuses.push(*status),
                Condition::Grpc(code) => standard.grpc.push(*code),
                Condition::NonIdempotent => standard.non_idempotent = true,
                Condition::Off => {}
            }
        }
        standard
    }

    fn covers(&self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Status(status) => self.statuses.contains(&status) || self.covers_grpc(),
            Outcome::Failed(failure) => match failure {
                Failure::Connect | Failure::Reset | Failure::Tls => self.error,
                Failure::ConnectTimeout | Failure::ResponseTimeout => self.timeout,
                Failure::Protocol => self.invalid_header,
                // More of what a limit of the proxy's own just stopped would only be stopped again.
                Failure::Overload => false,
            },
        }
    }
}

impl Standard {
    /// A call that brings no message has its status among the headers.
    fn covers_grpc(&self) -> bool {
        let code = || std::str::from_utf8(&response::field("grpc-status")?).ok()?.parse().ok();
        !self.grpc.is_empty() && code().is_some_and(|code| self.grpc.contains(&code))
    }
}

impl Retry for Standard {
    fn configure(config: &Config, needs: &mut RetryNeeds) -> Result<Self, Invalid> {
        config.only(&["on"]);
        let conditions =
            if config.has("on") { config.values("on") } else { vec![Condition::Error, Condition::Timeout] };
        if conditions.contains(&Condition::Off) && conditions.len() > 1 {
            config.issue("on", "has `off`, which stands alone");
        }
        let standard = Self::new(&conditions);
        standard.statuses.iter().for_each(|&status| needs.want_status(status, status));
        if !standard.grpc.is_empty() {
            needs.want_response_field("grpc-status");
            if !standard.non_idempotent {
                config.issue("on", "needs `non_idempotent` for the conditions of gRPC: its calls are POSTs");
            }
        }
        if standard.non_idempotent {
            needs.want_non_idempotent();
        }
        Ok(standard)
    }

    fn decide(&mut self, cx: &AttemptContext) -> Option<RetryPlan> {
        let harmless = !cx.sent || cx.method != MethodKind::Other || self.non_idempotent;
        // As nginx does, to the next server: one that has failed the request is not asked for it again.
        (harmless && self.covers(cx.outcome)).then_some(RetryPlan { delay: Duration::ZERO, elsewhere: true })
    }
}

staunch_plugin::export!(retry: Standard);

#[cfg(test)]
mod tests {
    use staunch_plugin::Issues;
    use staunch_plugin::testing::{Host, Response, attempt_context};

    use super::*;

    const OUTCOMES: [Outcome; 14] = [
        Outcome::Failed(Failure::Connect),
        Outcome::Failed(Failure::Reset),
        Outcome::Failed(Failure::Tls),
        Outcome::Failed(Failure::ConnectTimeout),
        Outcome::Failed(Failure::ResponseTimeout),
        Outcome::Failed(Failure::Protocol),
        Outcome::Failed(Failure::Overload),
        Outcome::Status(403),
        Outcome::Status(404),
        Outcome::Status(429),
        Outcome::Status(500),
        Outcome::Status(502),
        Outcome::Status(503),
        Outcome::Status(504),
    ];

    fn standard(host: &Host, on: &[&str]) -> Result<Standard, Issues> {
        host.set_list("on", on);
        host.retry()
    }

    fn retried(standard: &mut Standard) -> Vec<Outcome> {
        OUTCOMES.into_iter().filter(|&outcome| standard.decide(&attempt_context(outcome)).is_some()).collect()
    }

    #[test]
    fn each_condition_covers_what_nginx_says() {
        for (condition, expected) in [
            ("error", &OUTCOMES[0..3]),
            ("timeout", &OUTCOMES[3..5]),
            ("invalid_header", &OUTCOMES[5..6]),
            ("http_403", &OUTCOMES[7..8]),
            ("http_404", &OUTCOMES[8..9]),
            ("http_429", &OUTCOMES[9..10]),
            ("http_500", &OUTCOMES[10..11]),
            ("http_502", &OUTCOMES[11..12]),
            ("http_503", &OUTCOMES[12..13]),
            ("http_504", &OUTCOMES[13..14]),
            ("non_idempotent", &[]),
            ("off", &[]),
        ] {
            let host = Host::new();
            let mut standard = standard(&host, &[condition]).expect(condition);

            assert_eq!(retried(&mut standard), expected, "for {condition}");
        }
    }

    #[test]
    fn errors_and_timeouts_are_retried_by_default_and_nothing_with_an_empty_list() {
        let mut default: Standard = Host::new().retry().expect("no settings are fine");
        assert_eq!(retried(&mut default), OUTCOMES[0..5]);

        let mut none = standard(&Host::new(), &[]).expect("an empty list is fine");
        assert_eq!(retried(&mut none), []);
    }

    #[test]
    fn a_single_condition_needs_no_list() {
        let host = Host::new();
        host.set("on", "timeout");

        let mut standard: Standard = host.retry().expect("one condition is fine");

        assert_eq!(retried(&mut standard), OUTCOMES[3..5]);
    }

    #[test]
    fn the_host_is_asked_for_the_statuses_and_no_others() {
        let host = Host::new();

        standard(&host, &["error", "http_502", "http_404"]).expect("these are conditions");

        assert_eq!(host.wanted_statuses(), [(502, 502), (404, 404)]);
        assert!(!host.wants_non_idempotent());
    }

    #[test]
    fn a_post_that_was_sent_is_retried_only_when_the_operator_says_so() {
        let sent = AttemptContext { method: MethodKind::Other, ..attempt_context(OUTCOMES[0]) };
        let unsent = AttemptContext { sent: false, ..sent };
        let put = AttemptContext { method: MethodKind::Idempotent, ..sent };

        let host = Host::new();
        let mut careful = standard(&host, &["error"]).expect("this is a condition");
        assert_eq!([sent, unsent, put].map(|cx| careful.decide(&cx).is_some()), [false, true, true]);

        let mut bold = standard(&host, &["error", "non_idempotent"]).expect("these are conditions");
        assert!(bold.decide(&sent).is_some());
        assert!(host.wants_non_idempotent());
    }

    #[test]
    fn a_call_is_retried_for_the_code_that_is_named() {
        let host = Host::new();
        for (word, expected) in [
            ("grpc_cancelled", "1"),
            ("grpc_deadline_exceeded", "4"),
            ("grpc_resource_exhausted", "8"),
            ("grpc_internal", "13"),
            ("grpc_unavailable", "14"),
        ] {
            let mut standard = standard(&host, &[word, "non_idempotent"]).expect(word);
            assert!(host.wanted_response_fields().contains(&"grpc-status".to_owned()));
            let call = AttemptContext { method: MethodKind::Other, ..attempt_context(Outcome::Status(200)) };
            for code in ["0", "1", "4", "8", "13", "14", "114", "-1", "", "x"] {
                host.set_response(Response::default().field("grpc-status", code));
                assert_eq!(standard.decide(&call).is_some(), code == expected, "{word}, {code}");
            }
            host.set_response(Response::default());
            assert_eq!(standard.decide(&call), None, "{word} without a code");
        }

        let issues = standard(&host, &["grpc_unavailable"]).expect_err("calls are POSTs");
        assert_eq!(issues.to_string(), "`on` needs `non_idempotent` for the conditions of gRPC: its calls are POSTs");
    }

    #[test]
    fn a_plan_waits_for_nothing_and_insists_on_nothing() {
        let mut standard = standard(&Host::new(), &["error"]).expect("this is a condition");

        let plan = standard.decide(&attempt_context(OUTCOMES[0])).expect("an error is retried");

        assert!(plan.delay.is_zero() && plan.elsewhere);
    }

    #[test]
    fn every_wrong_condition_is_named_with_its_place() {
        let host = Host::new();
        host.set("onn", 1);

        let issues = standard(&host, &["eror", "http_505", "never", "off"]).expect_err("they are wrong");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(texts[0], "`onn` is unknown; did you mean `on`?");
        assert_eq!(texts[1], "`on.0` cannot be `eror`; did you mean `error`?");
        assert_eq!(texts[2], "`on.1` cannot be `http_505`; did you mean `http_500`?");
        assert!(texts[3].starts_with("`on.2` cannot be `never`, only `error`, `timeout`, "), "{}", texts[3]);
        assert_eq!(texts.len(), 4);

        let issues = standard(&Host::new(), &["off", "error"]).expect_err("off stands alone");
        assert_eq!(issues.to_string(), "`on` has `off`, which stands alone");
    }
}
