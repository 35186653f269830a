//! The plugins that are part of the binary.
//!
//! They are core modules, as a plugin author's `cargo build` leaves them, and are loaded the same way.

use std::time::Duration;

use super::Kind;

/// A plugin that is part of the binary.
#[derive(Debug)]
pub struct Builtin {
    /// As configuration names it.
    pub name: &'static str,
    pub kind: Kind,
    /// What a file of a plugin would hold.
    pub component: &'static [u8],
}

/// All of them, as `host/builtins.rs` names them.
pub const BUILTINS: &[Builtin] = include!(concat!(env!("OUT_DIR"), "/builtins.rs"));

/// Whether these are the bytes of one of them.
pub(super) fn contains(bytes: &[u8]) -> bool {
    BUILTINS.iter().any(|builtin| std::ptr::eq(builtin.component, bytes))
}

/// The built-in plugin of this name.
pub fn find(name: &str) -> Option<&'static Builtin> {
    BUILTINS.iter().find(|builtin| builtin.name == name)
}

/// The CPU time of one call of a built-in plugin whose work takes more than that of others of its kind.
pub fn deadline(name: &str) -> Option<Duration> {
    // To check a password is meant to be slow.
    (name == "basic-auth").then_some(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::*;
    use crate::config::{Place, Setting, Settings};
    use crate::filters::{Flow, Sides};
    use crate::http::facts::{Exchange, Facts};
    use crate::plugins::{Limits, Member, PluginError, PluginHost, Use};
    use crate::upstream::balancer::{FeedbackKind, Pick, PickContext, Sample};
    use crate::upstream::endpoint::{Endpoint, Loads};
    use crate::upstream::retry::{EndedAttempt, Failure, MethodKind, Outcome, RetryPlan};

    fn use_of(name: &str, settings: &Settings) -> Use {
        let builtin = find(name).expect(name);
        let host = PluginHost::new().expect("a plugin host");
        let plugin = host.load(name, builtin.component, Limits::default()).expect(name);
        plugin.use_as(builtin.kind, "test", settings).expect(name)
    }

    fn table<const N: usize>(entries: [(&str, Setting); N]) -> Settings {
        Settings { entries: entries.map(|(name, setting)| (name.to_owned(), setting)).into(), ..Settings::default() }
    }

    fn scalar(value: &str) -> Setting {
        Setting::Scalar(value.to_owned(), Place::default())
    }

    fn list<const N: usize>(values: [&str; N]) -> Setting {
        Setting::List(values.map(scalar).into(), Place::default())
    }

    fn exchange() -> Exchange {
        let mut facts = Facts::new(Some([192, 0, 2, 1].into()), true);
        facts.request.set_authority("Shop.test:8443");
        facts.request.fields.append(b"X-Debug", b"1");
        facts.upstream = "api".into();
        Exchange::new(facts)
    }

    #[test]
    fn a_name_that_is_none_of_them_is_not_found() {
        assert!(find("round_robin").is_none());
    }

    #[test]
    fn round_robin_picks_as_nginx_and_learns_of_failures() {
        let member = |id, weight| Member {
            endpoint: Endpoint {
                id,
                address: format!("10.0.0.{id}:80").into(),
                weight,
                priority: 0,
                zone: None,
                labels: Vec::new(),
                down: false,
            },
            ready: true,
        };
        let members: Arc<[Member]> = [member(0, 5), member(1, 1), member(2, 1)].into();
        let ready = use_of("round-robin", &Settings::default())
            .balancer(0, members, Arc::new(Loads::new(1, 3)))
            .expect("a balancer");
        assert_eq!(ready.needs().feedback, Some(FeedbackKind::Failures));
        let balancer = ready.into_balancer();
        let context = PickContext { key: None, random: 0, now: Instant::now(), attempt: 0, previous: None };
        let pick = || balancer.pick(&mut exchange(), context);

        assert_eq!([(); 7].map(|()| pick()), [0, 0, 1, 0, 2, 0, 0].map(Pick::Endpoint));

        balancer.observe(Sample { endpoint: 0, latency: Duration::ZERO, status: 0, failed: true, penalty: 5 });
        assert_eq!(pick(), Pick::Endpoint(1));
        let mut retried = exchange();
        retried.tried = vec![1, 2];
        assert_eq!(balancer.pick(&mut retried, PickContext { attempt: 2, ..context }), Pick::Endpoint(0));
    }

    #[test]
    fn standard_retries_what_it_is_told_to() {
        let on = table([("on", list(["error", "http_502"]))]);
        let ready = use_of("standard", &on).retry(0).expect("a policy");
        assert_eq!((&ready.needs().statuses[..], ready.needs().non_idempotent), (&[(502, 502)][..], false));
        let policy = ready.into_policy();
        let ended = |outcome| EndedAttempt {
            outcome,
            endpoint: 0,
            attempt: 0,
            method: MethodKind::Safe,
            sent: true,
            elapsed: Duration::ZERO,
            remaining: None,
            budget: 1,
            retry_after: None,
            random: 0,
        };

        let again = Some(RetryPlan { delay: Duration::ZERO, elsewhere: true });
        for (outcome, plan) in [
            (Outcome::Status(502), again),
            (Outcome::Failed(Failure::Reset), again),
            (Outcome::Failed(Failure::ResponseTimeout), None),
        ] {
            assert_eq!(policy.decide(&mut exchange(), ended(outcome)), plan, "after {outcome:?}");
        }
    }

    #[test]
    fn a_wrong_setting_of_a_built_in_is_named_with_its_place() {
        let on = table([("on", list(["error", "timeuot"]))]);

        let refused = use_of("standard", &on).retry(0).err();

        let Some(PluginError::Refused { issues, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(issues[0].path, "on.1");
        assert_eq!(issues[0].message, "cannot be `timeuot`; did you mean `timeout`?");
    }

    #[test]
    fn a_password_may_take_longer_to_check_than_other_rewriting() {
        assert_eq!(deadline("basic-auth"), Some(Duration::from_secs(1)));
        assert_eq!(deadline("set-headers"), None);
    }

    #[test]
    fn set_headers_sets_appends_and_removes() {
        let set = table([("X-Real-IP", scalar("$remote_addr")), ("host", scalar("${host}.internal"))]);
        let append = table([("via", list(["1.1 a", "1.1 $scheme-$upstream"]))]);
        let request =
            table([("set", Setting::Table(set)), ("append", Setting::Table(append)), ("remove", list(["x-debug"]))]);
        let settings = table([("request", Setting::Table(request))]);
        let filter = use_of("set-headers", &settings).rewriter(0).expect("a rewriter").into_filter();
        let mut exchange = exchange();

        assert_eq!(filter.sides(), Sides { request: true, ..Sides::default() });
        assert_eq!(filter.on_request(&mut exchange), Flow::Continue);
        assert_eq!(filter.on_response(&mut exchange), Flow::Continue);

        assert_eq!(exchange.request.authority(), "shop.test.internal");
        let fields = &exchange.request.fields;
        assert_eq!(fields.get(b"x-real-ip"), Some(&b"192.0.2.1"[..]));
        assert_eq!(fields.get_all(b"via").collect::<Vec<_>>(), [&b"1.1 a"[..], b"1.1 https-api"]);
        assert_eq!(fields.get(b"x-debug"), None);
    }
}
