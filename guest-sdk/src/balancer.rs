//! Balancers: which endpoint an attempt goes to.

use std::time::Duration;

use crate::{Config, EndpointChange, EndpointId, Endpoints, Instant, Invalid, Setting, host, nearest};

/// Picks an endpoint for each attempt. Exported with `export!(balancer: MyType)`.
///
/// The host calls `configure`, then `update` before the first `pick`. Membership that changes comes to a new
/// instance, so `update` is the place for tables that are dear to build.
pub trait Balancer: Sized + 'static {
    /// Reads the configuration and asks for what later calls need. Has 2 s of CPU time.
    ///
    /// # Errors
    ///
    /// A wrong setting keeps the configuration that ran before in force, or the proxy from starting. Every issue
    /// that `config` noticed is reported, whether this answers `Ok` or not.
    fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid>;

    /// Takes the membership. Has 2 s of CPU time and never delays a request.
    fn update(&mut self, endpoints: Endpoints);

    /// Takes changes of weight and readiness, between two picks. Must be quick; [`Endpoints::apply`] does it for
    /// who keeps nothing else.
    fn change(&mut self, changes: &[EndpointChange]);

    /// Picks an endpoint. Has 10 ms of CPU time, and is on the path of every request.
    ///
    /// To answer an endpoint that is unknown or not ready is a fault of the plugin. An endpoint that this request
    /// has tried is a fair answer only when no other is ready; [`Endpoints::candidates`] knows.
    ///
    /// # Errors
    ///
    /// The client gets 503.
    fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError>;
}

/// A balancer that learns how attempts ended. Exported with `export!(balancer: MyType + feedback)`.
///
/// The endpoint with the fewest failures, of which half are forgotten with each good answer:
///
/// ```
/// use std::collections::HashMap;
/// use std::time::Duration;
///
/// use staunch_plugin::{
///     Balancer, BalancerNeeds, Config, EndpointChange, EndpointId, Endpoints, Feedback, FeedbackKind, Invalid,
///     PickContext, PickError, Sample, random,
/// };
///
/// #[derive(Default)]
/// struct Proven {
///     endpoints: Endpoints,
///     failures: HashMap<EndpointId, u32>,
/// }
///
/// impl Balancer for Proven {
///     fn configure(_: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
///         needs.want_feedback(FeedbackKind::EveryAttempt, 16, Duration::from_millis(50));
///         Ok(Self::default())
///     }
///
///     fn update(&mut self, endpoints: Endpoints) {
///         self.endpoints = endpoints;
///     }
///
///     fn change(&mut self, changes: &[EndpointChange]) {
///         self.endpoints.apply(changes);
///     }
///
///     fn pick(&mut self, cx: &PickContext) -> Result<EndpointId, PickError> {
///         let failures = |id| self.failures.get(&id).copied().unwrap_or(0);
///         let candidates = self.endpoints.candidates(cx).map(|endpoint| endpoint.id);
///         let proven = candidates.min_by_key(|&id| (failures(id), random::mix(cx.random, id)));
///         proven.ok_or(PickError::Unavailable)
///     }
/// }
///
/// impl Feedback for Proven {
///     fn observe(&mut self, samples: &[Sample]) {
///         for sample in samples {
///             let failures = self.failures.entry(sample.endpoint).or_default();
///             let failed = sample.status.is_none_or(|status| status >= 500);
///             *failures = if failed { failures.saturating_add(1) } else { *failures / 2 };
///         }
///     }
/// }
///
/// staunch_plugin::export!(balancer: Proven + feedback);
///
/// use staunch_plugin::testing::{self, Host};
///
/// let host = Host::new();
/// let mut balancer = host.balancer::<Proven>().unwrap();
/// balancer.update(testing::endpoints(2));
/// balancer.observe(&[Sample { endpoint: 0, latency: Duration::ZERO, status: None, penalty: 1 }]);
///
/// assert_eq!(balancer.pick(&testing::pick_context()), Ok(1));
/// ```
pub trait Feedback: Balancer {
    /// Takes the attempts of this worker that finished since the last call; how many at a time and which, says
    /// [`BalancerNeeds::want_feedback`].
    fn observe(&mut self, samples: &[Sample]);
}

/// What a balancer may ask for while it is configured.
#[derive(Debug)]
pub struct BalancerNeeds(());

impl BalancerNeeds {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// Adds a source of the balancing key. The first source that is present in a request gives
    /// [`PickContext::key`], and its bytes are to be had from [`crate::selection::key`].
    pub fn want_key(&mut self, source: KeySource) {
        host::registration::want_key(&source);
    }

    /// Asks for the key that a setting names: a source, as [`KeySource`] is written, or a list of them, of which the
    /// first that is present in a request is used.
    ///
    /// # Errors
    ///
    /// The setting is absent or not right, which is noted.
    pub fn want_key_of(&mut self, config: &Config, path: &str) -> Result<(), Invalid> {
        if !config.has(path) {
            return Err(config.issue(path, format!("is required, such as {EXAMPLES}")));
        }
        let full = config.full(path);
        if host::config::get(&full).is_none() && host::config::keys(&full).is_empty() {
            return Err(config.issue(path, format!("must name a source, such as {EXAMPLES}")));
        }
        for source in config.values::<KeySource>(path) {
            host::registration::want_key(&source);
        }
        Ok(())
    }

    /// For a balancer with [`Feedback`]: `observe` comes before the first pick after `batch` attempts of this kind
    /// have finished or the oldest is `max_age` old, or soon after `max_age` when there is no pick. Without this
    /// call: every attempt, 64, 100 ms.
    pub fn want_feedback(&mut self, kind: FeedbackKind, batch: u32, max_age: Duration) {
        host::registration::want_feedback(kind, batch, max_age);
    }
}

/// Where the balancing key comes from. As a setting it is written "client-address", "host", "path", "path-and-query"
/// (or "uri"), "header:NAME", "cookie:NAME" or "query:NAME".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// The client's address, without its port.
    ClientAddress,
    /// The host the request is for, in lower case, without its port.
    Host,
    /// The path of the request without its query.
    Path,
    /// The path with its query, as it was sent.
    PathAndQuery,
    /// The first value of this header.
    Header(String),
    /// The value of this cookie.
    Cookie(String),
    /// The value of this query parameter, not decoded.
    Query(String),
}

/// Settings of a key, for who has written none.
const EXAMPLES: &str = "\"path\", \"client-address\" or \"header:x-user\"";

impl Setting for KeySource {
    fn from_text(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let has_name = kind.len() < text.len();
        let source = match kind {
            "client-address" if !has_name => Self::ClientAddress,
            "host" if !has_name => Self::Host,
            "path" if !has_name => Self::Path,
            "path-and-query" | "uri" if !has_name => Self::PathAndQuery,
            "header" | "cookie" | "query" if name.is_empty() => return Err(format!("needs a name: `{kind}:NAME`")),
            "header" if !name.bytes().all(is_token) => return Err(format!("cannot be a header called `{name}`")),
            "header" => Self::Header(name.to_owned()),
            "cookie" => Self::Cookie(name.to_owned()),
            "query" => Self::Query(name.to_owned()),
            _ => return Err(unknown(text, kind)),
        };
        Ok(source)
    }
}

fn unknown(text: &str, kind: &str) -> String {
    let words = ["client-address", "host", "path", "path-and-query", "header:NAME", "cookie:NAME", "query:NAME"];
    match nearest(kind, words.map(|word| word.trim_end_matches(":NAME"))).filter(|&meant| meant != kind) {
        Some(meant) => format!("cannot be `{text}`; did you mean `{meant}`?"),
        None => format!("cannot be `{text}`, only `{}`", words.join("`, `")),
    }
}

/// Whether a byte may stand in the name of a header (RFC 9110 section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Which attempts a balancer hears of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedbackKind {
    /// All of them.
    EveryAttempt,
    /// Those that the host's passive health check counts as failures.
    Failures,
}

/// What [`Balancer::pick`] is told. More is read lazily, through [`crate::selection`], [`crate::request`] and
/// [`crate::loads`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PickContext {
    /// The hash of the balancing key, when one was asked for and is present: the low 53 bits of xxHash64 with
    /// seed 0.
    pub key: Option<u64>,
    /// 64 fresh random bits.
    pub random: u64,
    /// When the proxy last looked at its clock for this request.
    pub now: Instant,
    /// 0 for the first attempt.
    pub attempt: u32,
    /// The endpoint of the attempt before.
    pub previous: Option<EndpointId>,
}

/// Why no endpoint was picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickError {
    /// No endpoint may have traffic.
    Unavailable,
    /// Some may, but none should have this request now.
    Overloaded,
}

/// One finished attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where it went.
    pub endpoint: EndpointId,
    /// The time to the response head, or to the failure.
    pub latency: Duration,
    /// The status, unless the attempt brought no response.
    pub status: Option<u16>,
    /// What the host's passive health check takes from the endpoint's weight for this failure (nginx:
    /// `weight / max_fails`); 0 when it is none.
    pub penalty: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    fn wanted(host: &Host) -> Result<(), String> {
        struct Keyed;
        impl Balancer for Keyed {
            fn configure(config: &Config, needs: &mut BalancerNeeds) -> Result<Self, Invalid> {
                needs.want_key_of(config, "key")?;
                Ok(Self)
            }
            fn update(&mut self, _: Endpoints) {}
            fn change(&mut self, _: &[EndpointChange]) {}
            fn pick(&mut self, _: &PickContext) -> Result<EndpointId, PickError> {
                Err(PickError::Unavailable)
            }
        }
        host.balancer::<Keyed>().map(|_| ()).map_err(|issues| issues.to_string())
    }

    #[test]
    fn a_key_is_named_by_a_source_or_a_list_of_them() {
        let host = Host::new();
        host.set("key", "uri");
        assert_eq!(wanted(&host), Ok(()));
        assert_eq!(host.wanted_keys(), [KeySource::PathAndQuery]);

        let host = Host::new();
        host.set_list("key", ["cookie:sid", "query:a:b", "header:X-User", "client-address", "host", "path"]);
        assert_eq!(wanted(&host), Ok(()));
        assert_eq!(
            host.wanted_keys(),
            [
                KeySource::Cookie("sid".into()),
                KeySource::Query("a:b".into()),
                KeySource::Header("X-User".into()),
                KeySource::ClientAddress,
                KeySource::Host,
                KeySource::Path,
            ]
        );
    }

    #[test]
    fn a_key_that_is_not_right_is_told_what_is() {
        for (text, wrong) in [
            ("hots", "cannot be `hots`; did you mean `host`?"),
            ("header", "needs a name: `header:NAME`"),
            ("cookie:", "needs a name: `cookie:NAME`"),
            ("heder:x", "cannot be `heder:x`; did you mean `header`?"),
            (
                "path:x",
                "cannot be `path:x`, only `client-address`, `host`, `path`, `path-and-query`, `header:NAME`, \
                 `cookie:NAME`, `query:NAME`",
            ),
            ("header:x y", "cannot be a header called `x y`"),
        ] {
            assert_eq!(KeySource::from_text(text), Err(wrong.to_owned()));
        }

        let host = Host::new();
        let absent = "`key` is required, such as \"path\", \"client-address\" or \"header:x-user\"";
        assert_eq!(wanted(&host), Err(absent.to_owned()));
        host.set_list("key", [""; 0]);
        let empty = "`key` must name a source, such as \"path\", \"client-address\" or \"header:x-user\"";
        assert_eq!(wanted(&host), Err(empty.to_owned()));
        host.set_list("key", ["path", "pth"]);
        assert!(wanted(&host).is_err_and(|issues| issues.starts_with("`key.1` cannot be `pth`")));
    }
}
