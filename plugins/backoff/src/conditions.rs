//! What is tried again: Envoy's `retry_on`.

use staunch_plugin::{Config, Failure, Outcome, Setting, choose};

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
            ],
        )
    }
}

/// The conditions that are listed.
#[derive(Debug)]
pub(crate) struct Conditions {
    listed: Vec<Condition>,
    statuses: Vec<(u16, u16)>,
}

impl Conditions {
    /// Reads `on` and `status_codes`, and notes what is wrong with them.
    pub(crate) fn read(config: &Config) -> Self {
        let listed = if config.has("on") { config.values("on") } else { vec![Condition::GatewayError] };
        let codes: Vec<u16> = config.values("status_codes");
        match (listed.contains(&Condition::RetriableStatusCodes), codes.is_empty()) {
            (true, true) => {
                config.issue("on", "has `retriable-status-codes`, but there are no `status_codes`");
            }
            (false, false) => {
                config.issue("status_codes", "needs `retriable-status-codes` in `on`");
            }
            _ => {}
        }
        for code in codes.iter().filter(|code| !(200..600).contains(*code)) {
            config.issue("status_codes", format!("has {code}, which is no final status"));
        }
        Self::new(listed, &codes)
    }

    fn new(listed: Vec<Condition>, codes: &[u16]) -> Self {
        let statuses = listed.iter().flat_map(|condition| match condition {
            Condition::AnyServerError => vec![(500, 599)],
            Condition::GatewayError => vec![(502, 504)],
            Condition::Retriable4xx => vec![(409, 409)],
            Condition::RetriableStatusCodes => codes.iter().map(|&code| (code, code)).collect(),
            Condition::Reset | Condition::ResetBeforeRequest | Condition::ConnectFailure => Vec::new(),
        });
        Self { statuses: statuses.collect(), listed }
    }

    /// Ranges of statuses, both ends included.
    pub(crate) fn statuses(&self) -> &[(u16, u16)] {
        &self.statuses
    }

    /// Whether an attempt that ended so is tried again.
    pub(crate) fn cover(&self, outcome: Outcome, sent: bool) -> bool {
        match outcome {
            Outcome::Status(status) => self.statuses.iter().any(|&(first, last)| (first..=last).contains(&status)),
            Outcome::Failed(failure) => self.listed.iter().any(|condition| condition.covers(failure, sent)),
        }
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
            Self::Retriable4xx | Self::RetriableStatusCodes => false,
        }
    }
}

#[cfg(test)]
mod tests {
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
        Conditions::new(vec![Condition::from_text(word).expect(word)], codes)
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
        ] {
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
        ] {
            let conditions = conditions(word, &[429]);
            let covered = |was_sent| -> Vec<Failure> {
                SENT.into_iter().filter(|&failure| conditions.cover(Outcome::Failed(failure), was_sent)).collect()
            };

            assert_eq!((&covered(true)[..], &covered(false)[..]), (sent, unsent), "for {word}");
        }
    }
}
