//! What is tried again: Envoy's `retry_on`.

use staunch_plugin::{Config, Failure, FieldName, Outcome, Setting, choose, response};

/// A word of the setting `on`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Condition {
    AnyServerError,
    GatewayError,
    Reset,
    ResetBeforeRequest,
    ConnectFailure,
    Retriable4xx,
    RetriableStatusCodes,
    RetriableHeaders,
    /// A call that ended with this code, as long as nothing came before it.
    Grpc(u8),
}

impl Setting for Condition {
    fn from_text(text: &str) -> Result<Self, String> {
        choose(
            text,
            &[
                ("5xx", Self::AnyServerError),
                ("gateway-error", Self::GatewayError),
                ("reset", Self::Reset),
                ("reset-before-request", Self::ResetBeforeRequest),
                // A stream is refused before anything of its request was looked at.
                ("refused-stream", Self::ResetBeforeRequest),
                ("connect-failure", Self::ConnectFailure),
                ("retriable-4xx", Self::Retriable4xx),
                ("retriable-status-codes", Self::RetriableStatusCodes),
                ("retriable-headers", Self::RetriableHeaders),
                ("cancelled", Self::Grpc(1)),
                ("deadline-exceeded", Self::Grpc(4)),
                ("resource-exhausted", Self::Grpc(8)),
                ("internal", Self::Grpc(13)),
                ("unavailable", Self::Grpc(14)),
            ],
        )
    }
}

/// The conditions that are listed.
#[derive(Debug)]
pub(crate) struct Conditions {
    listed: Vec<Condition>,
    statuses: Vec<(u16, u16)>,
    headers: Vec<String>,
}

impl Conditions {
    /// Reads `on` and the lists that its words need, and notes what is wrong with them.
    pub(crate) fn read(config: &Config) -> Self {
        let listed = if config.has("on") { config.values("on") } else { vec![Condition::GatewayError] };
        let codes: Vec<u16> = config.values("status_codes");
        let headers: Vec<FieldName> = config.values("headers");
        for (word, condition, list, is_empty) in [
            ("retriable-status-codes", Condition::RetriableStatusCodes, "status_codes", codes.is_empty()),
            ("retriable-headers", Condition::RetriableHeaders, "headers", headers.is_empty()),
        ] {
            if listed.contains(&condition) && is_empty {
                config.issue("on", format!("has `{word}`, but there are no `{list}`"));
            } else if !listed.contains(&condition) && !is_empty {
                config.issue(list, format!("needs `{word}` in `on`"));
            }
        }
        for code in codes.iter().filter(|code| !(200..600).contains(*code)) {
            config.issue("status_codes", format!("has {code}, which is no final status"));
        }
        Self::new(listed, &codes, headers.iter().map(FieldName::to_string).collect())
    }

    fn new(listed: Vec<Condition>, codes: &[u16], headers: Vec<String>) -> Self {
        let statuses = listed.iter().flat_map(|condition| match condition {
            Condition::AnyServerError => vec![(500, 599)],
            Condition::GatewayError => vec![(502, 504)],
            Condition::Retriable4xx => vec![(409, 409)],
            Condition::RetriableStatusCodes => codes.iter().map(|&code| (code, code)).collect(),
            _ => Vec::new(),
        });
        Self { statuses: statuses.collect(), listed, headers }
    }

    /// Ranges of statuses, both ends included.
    pub(crate) fn statuses(&self) -> &[(u16, u16)] {
        &self.statuses
    }

    /// Headers that make a response one to decide about.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &str> {
        let grpc = self.concern_grpc().then_some("grpc-status");
        grpc.into_iter().chain(self.headers.iter().map(String::as_str))
    }

    /// Whether there are conditions for gRPC.
    pub(crate) fn concern_grpc(&self) -> bool {
        self.listed.iter().any(|condition| matches!(condition, Condition::Grpc(_)))
    }

    /// Whether an attempt that ended so is tried again.
    pub(crate) fn cover(&self, outcome: Outcome, sent: bool) -> bool {
        match outcome {
            Outcome::Status(status) => {
                self.statuses.iter().any(|&(first, last)| (first..=last).contains(&status))
                    || self.headers.iter().any(|name| response::field(name).is_some())
                    || self.covers_grpc()
            }
            Outcome::Failed(failure) => self.listed.iter().any(|condition| condition.covers(failure, sent)),
        }
    }

    /// A call that brings no message has its status among the headers.
    fn covers_grpc(&self) -> bool {
        let code = || std::str::from_utf8(&response::field("grpc-status")?).ok()?.parse().ok().map(Condition::Grpc);
        self.concern_grpc() && code().is_some_and(|code| self.listed.contains(&code))
    }
}

impl Condition {
    fn covers(self, failure: Failure, sent: bool) -> bool {
        let is_connect = matches!(failure, Failure::Connect | Failure::ConnectTimeout | Failure::Tls);
        match self {
            // More of what a limit of the proxy's own just stopped would only be stopped again.
            _ if failure == Failure::Overload => false,
            // No response at all counts as a 5xx, since it would become one.
            Self::AnyServerError | Self::GatewayError | Self::Reset => true,
            Self::ResetBeforeRequest => !sent && !is_connect,
            Self::ConnectFailure => is_connect,
            Self::Retriable4xx | Self::RetriableStatusCodes | Self::RetriableHeaders | Self::Grpc(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Response};

    use super::*;

    const SENT: [Failure; 7] = [
        Failure::Connect,
        Failure::ConnectTimeout,
        Failure::Tls,
        Failure::Reset,
        Failure::ResponseTimeout,
        Failure::Protocol,
        Failure::Overload,
    ];

    fn conditions(word: &str, codes: &[u16]) -> Conditions {
        Conditions::new(vec![Condition::from_text(word).expect(word)], codes, vec!["x-again".to_owned()])
    }

    #[test]
    fn each_condition_covers_the_statuses_that_envoy_says() {
        for (word, expected) in [
            ("5xx", vec![500, 501, 502, 503, 504, 511]),
            ("gateway-error", vec![502, 503, 504]),
            ("reset", vec![]),
            ("reset-before-request", vec![]),
            ("refused-stream", vec![]),
            ("connect-failure", vec![]),
            ("retriable-4xx", vec![409]),
            ("retriable-status-codes", vec![429]),
            ("retriable-headers", vec![]),
            ("unavailable", vec![]),
        ] {
            Host::new();
            let conditions = conditions(word, &[429]);
            let covered: Vec<u16> = [200, 404, 409, 429, 500, 501, 502, 503, 504, 511]
                .into_iter()
                .filter(|&status| conditions.cover(Outcome::Status(status), true))
                .collect();

            assert_eq!(covered, expected, "for {word}");
        }
    }

    #[test]
    fn each_condition_covers_the_failures_that_envoy_says() {
        for (word, sent, unsent) in [
            ("5xx", &SENT[..6], &SENT[..6]),
            ("gateway-error", &SENT[..6], &SENT[..6]),
            ("reset", &SENT[..6], &SENT[..6]),
            ("reset-before-request", &[], &SENT[3..6]),
            ("refused-stream", &[], &SENT[3..6]),
            ("connect-failure", &SENT[..3], &SENT[..3]),
            ("retriable-4xx", &[], &[]),
            ("retriable-status-codes", &[], &[]),
            ("retriable-headers", &[], &[]),
            ("unavailable", &[], &[]),
        ] {
            let conditions = conditions(word, &[429]);
            let covered = |was_sent| -> Vec<Failure> {
                SENT.into_iter().filter(|&failure| conditions.cover(Outcome::Failed(failure), was_sent)).collect()
            };

            assert_eq!((&covered(true)[..], &covered(false)[..]), (sent, unsent), "for {word}");
        }
    }

    #[test]
    fn a_header_makes_a_response_one_to_retry() {
        let host = Host::new();
        let conditions = conditions("retriable-headers", &[]);

        assert!(!conditions.cover(Outcome::Status(200), true));
        host.set_response(Response::default().field("X-Again", ""));
        assert!(conditions.cover(Outcome::Status(200), true));
    }

    #[test]
    fn each_condition_covers_the_grpc_code_that_its_name_says() {
        let host = Host::new();
        for (word, expected) in [
            ("cancelled", "1"),
            ("deadline-exceeded", "4"),
            ("resource-exhausted", "8"),
            ("internal", "13"),
            ("unavailable", "14"),
        ] {
            let conditions = conditions(word, &[]);
            for code in ["0", "1", "4", "8", "13", "14", "114", "-1", "", "x"] {
                host.set_response(Response::default().field("grpc-status", code));
                assert_eq!(conditions.cover(Outcome::Status(200), true), code == expected, "{word}, {code}");
            }
            host.set_response(Response::default());
            assert!(!conditions.cover(Outcome::Status(200), true), "{word} without a code");
        }
    }
}
