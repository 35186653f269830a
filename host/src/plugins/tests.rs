//! The plugin host against guests that behave, and against guests that do not.

use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::guests::Guest;
use super::*;
use crate::config::{OnFailure, Place, Setting, Settings};
use crate::filters::{Filter, Flow};
use crate::http::facts::{Exchange, Facts};
use crate::upstream::balancer::{
    BadPick, Balancer, EndpointChange, FeedbackKind, KeySource, Pick, PickContext, Sample,
};
use crate::upstream::endpoint::{Endpoint, EndpointId, Loads};
use crate::upstream::retry::{EndedAttempt, MethodKind, Outcome, RetryPlan, RetryPolicy};

/// Whether this comes true within ten seconds.
fn eventually(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        if holds() {
            return true;
        }
        thread::park_timeout(Duration::from_millis(1));
    }
    false
}

fn limits() -> Limits {
    Limits { deadline: Some(Duration::from_millis(20)), memory: 32 * 1024 * 1024, ..Limits::default() }
}

fn host() -> PluginHost {
    PluginHost::new().expect("a plugin host")
}

fn load(guest: Guest) -> Result<Plugin, PluginError> {
    host().load("guest", guest.wat().as_bytes(), limits())
}

fn use_of(guest: Guest, kind: Kind) -> Use {
    use_with(guest, kind, limits(), &Settings::default())
}

fn use_with(guest: Guest, kind: Kind, limits: Limits, settings: &Settings) -> Use {
    let plugin = host().load("guest", guest.wat().as_bytes(), limits).expect("a plugin");
    plugin.use_as(kind, "upstream api: test", settings).expect("of this kind")
}

fn members(count: u32) -> Arc<[Member]> {
    let endpoint = |id: EndpointId| Endpoint {
        id,
        address: format!("10.0.0.{id}:80").into(),
        weight: id + 1,
        priority: 0,
        zone: Some("a".into()),
        labels: vec![("tier".into(), "gold".into())],
        down: false,
    };
    (0..count).map(|id| Member { endpoint: endpoint(id), ready: true }).collect()
}

fn build(plugin_use: &Use, worker: usize) -> Result<Rc<dyn Balancer>, PluginError> {
    Ok(plugin_use.balancer(worker, members(3), Arc::new(Loads::new(2, 3)))?.into_balancer())
}

fn balancer(plugin_use: &Use) -> Rc<dyn Balancer> {
    build(plugin_use, 0).expect("a balancer")
}

fn rewriter(plugin_use: &Use) -> Rc<dyn Filter> {
    plugin_use.rewriter(0).expect("a rewriter").into_filter()
}

fn exchange() -> Exchange {
    let mut facts = Facts::new(None, false);
    facts.request.set_method("GET");
    facts.request.set_path_and_query("/a?b");
    facts.request.set_authority("a.test");
    facts.request.fields.append(b"Host", b"a.test");
    facts.request.fields.append(b"X-Tenant", b"gold");
    facts.response.status = 200;
    facts.response.fields.append(b"Server", b"origin");
    Exchange::new(facts)
}

fn context() -> PickContext {
    PickContext { key: None, random: 1, now: tokio::time::Instant::now(), attempt: 0, previous: None }
}

fn pick(balancer: &Rc<dyn Balancer>) -> Pick {
    balancer.pick(&mut exchange(), context())
}

/// A pick that makes the guests below fail.
fn bad_pick(balancer: &Rc<dyn Balancer>) -> Pick {
    balancer.pick(&mut exchange(), PickContext { attempt: 7, ..context() })
}

fn faults(plugin_use: &Use, cause: Cause) -> u64 {
    plugin_use.status().faults.iter().find(|(c, _)| *c == cause).map_or(0, |(_, count)| *count)
}

/// Answers how often this instance was asked; `bad` is done at a bad pick.
fn counting(bad: &str) -> Guest {
    Guest::balancer(&format!(
        "(if (i32.eq (local.get $attempt) (i32.const 7)) (then {bad}))
         (global.set $picks (i32.add (global.get $picks) (i32.const 1)))
         (call $endpoint (global.get $picks))"
    ))
    .function("(global $picks (mut i32) (i32.const -1))")
}

#[test]
fn a_pick_is_what_the_plugin_says() {
    let plugin_use = use_of(counting("unreachable"), Kind::Balancer);
    let balancer = balancer(&plugin_use);

    let picks: Vec<_> = (0..3).map(|_| pick(&balancer)).collect();

    assert_eq!(picks, [Pick::Endpoint(0), Pick::Endpoint(1), Pick::Endpoint(2)]);
    let status = plugin_use.status();
    assert_eq!((status.calls, status.fallbacks, status.trips), (3, 0, 0));
    assert!(status.mean_call.is_some(), "the first call is timed");
}

#[test]
fn a_trap_costs_one_call_and_a_fresh_instance_serves_the_next() {
    let plugin_use = use_of(counting("unreachable"), Kind::Balancer);
    let balancer = balancer(&plugin_use);
    let mut exchange = exchange();

    assert_eq!(pick(&balancer), Pick::Endpoint(0));
    assert_eq!(balancer.pick(&mut exchange, PickContext { attempt: 7, ..context() }), Pick::Abstain);

    assert_eq!(exchange.request.authority(), "a.test", "the exchange is given back");
    assert_eq!((faults(&plugin_use, Cause::Trap), plugin_use.status().fallbacks), (1, 1));
    let mut served = Pick::Abstain;
    assert!(eventually(|| {
        served = pick(&balancer);
        served != Pick::Abstain
    }));
    assert_eq!(served, Pick::Endpoint(0), "it counts from the start");
}

#[test]
fn a_loop_without_end_is_stopped() {
    let plugin_use = use_of(counting("(loop $ever (br $ever))"), Kind::Balancer);
    let balancer = balancer(&plugin_use);

    assert_eq!(bad_pick(&balancer), Pick::Abstain);

    assert_eq!(faults(&plugin_use, Cause::Deadline), 1);
}

#[test]
fn a_loop_is_stopped_though_the_ticker_rested_before() {
    let plugin_use = use_of(counting("(loop $ever (br $ever))"), Kind::Balancer);
    let balancer = balancer(&plugin_use);
    assert!(eventually(|| plugin_use.plugin().host().ticker.is_resting()));

    assert_eq!(bad_pick(&balancer), Pick::Abstain);

    assert_eq!(faults(&plugin_use, Cause::Deadline), 1);
}

#[test]
fn memory_beyond_the_limit_is_a_fault_of_its_own_kind() {
    let grow = "(loop $ever (drop (memory.grow (i32.const 16))) (br $ever))";
    let plugin_use = use_of(counting(grow), Kind::Balancer);
    let balancer = balancer(&plugin_use);

    assert_eq!(bad_pick(&balancer), Pick::Abstain);

    assert_eq!(faults(&plugin_use, Cause::Memory), 1);
}

#[test]
fn a_plugin_that_starts_with_too_much_memory_is_refused() {
    let plugin_use = use_of(counting("unreachable").pages(1000), Kind::Balancer);

    let Err(PluginError::Failed { during: "start-up", fault, .. }) = build(&plugin_use, 0).map(|_| ()) else {
        panic!("it has 62.5 MiB");
    };

    assert_eq!(fault.cause, Cause::Memory);
    assert_eq!(fault.message, "it asked for 65536000 bytes of memory and may have 33554432");
}

#[test]
fn a_deep_recursion_traps() {
    let guest = counting("(call $deeper)").function("(func $deeper (call $deeper) (call $deeper))");
    let plugin_use = use_of(guest, Kind::Balancer);
    let balancer = balancer(&plugin_use);

    assert_eq!(bad_pick(&balancer), Pick::Abstain);

    assert_eq!(faults(&plugin_use, Cause::Trap), 1);
}

#[test]
fn a_pick_that_cannot_be_used_costs_the_instance() {
    for why in [BadPick::Unknown, BadPick::NotReady] {
        let plugin_use = use_of(Guest::balancer("(call $endpoint (i32.const 99))"), Kind::Balancer);
        let balancer = balancer(&plugin_use);
        assert_eq!(pick(&balancer), Pick::Endpoint(99), "the upstream checks it");

        balancer.reject(99, why);

        assert_eq!((faults(&plugin_use, Cause::Answer), plugin_use.status().fallbacks), (1, 1));
        assert!(eventually(|| pick(&balancer) == Pick::Endpoint(99)), "a fresh one is as bad, and it was one fault");
    }
}

#[test]
fn an_answer_outside_the_memory_is_a_bad_answer() {
    let plugin_use = use_of(Guest::balancer("(i32.const 70000)"), Kind::Balancer);
    let balancer = balancer(&plugin_use);

    assert_eq!(pick(&balancer), Pick::Abstain);

    assert_eq!(faults(&plugin_use, Cause::Answer), 1);
}

#[test]
fn three_faults_trip_the_use_on_every_worker() {
    let plugin_use = use_of(counting("unreachable"), Kind::Balancer);
    let (first, second) = (balancer(&plugin_use), build(&plugin_use, 1).expect("another worker's"));
    assert_eq!(pick(&second), Pick::Endpoint(0));

    for done in 1..=3 {
        assert!(eventually(|| {
            bad_pick(&first);
            faults(&plugin_use, Cause::Trap) == done
        }));
    }

    let status = plugin_use.status();
    assert_eq!(status.trips, 1);
    assert!(status.tripped_for.is_some());
    assert_eq!((pick(&first), pick(&second)), (Pick::Abstain, Pick::Abstain));
    assert!(eventually(|| pick(&second) == Pick::Endpoint(1)), "the back-off passes, and this instance was never bad");
    assert!(eventually(|| matches!(pick(&first), Pick::Endpoint(_))));
}

#[test]
fn a_configuration_that_is_refused_says_where() {
    // A list of one issue at 64: its path at 100, its message at 110.
    let configure = "(i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 64))
         (i32.store (i32.const 8) (i32.const 1)) (i32.store (i32.const 64) (i32.const 100))
         (i32.store (i32.const 68) (i32.const 3)) (i32.store (i32.const 72) (i32.const 110))
         (i32.store (i32.const 76) (i32.const 7)) (i32.const 0)";
    let guest = counting("unreachable")
        .configure(configure)
        .function("(data (i32.const 100) \"a.b\") (data (i32.const 110) \"too big\")");

    let error = build(&use_of(guest, Kind::Balancer), 0).map(|_| ()).expect_err("refused");

    assert_eq!(error.to_string(), "plugin `guest` refuses the configuration of upstream api: test: a.b: too big");
    let PluginError::Refused { issues, .. } = error else { panic!("refused") };
    assert_eq!(issues, [ConfigIssue { path: "a.b".into(), message: "too big".into() }]);
}

#[test]
fn to_loop_or_trap_while_being_set_up_is_an_error_that_says_where() {
    let ever = "(loop $ever (br $ever))";
    for (guest, place, why) in [
        (counting("").configure(&format!("{ever} (i32.const 0)")), "configure", Cause::Deadline),
        (counting("").configure("unreachable"), "configure", Cause::Trap),
        (Guest::new().with_balancer(ever, "", "(call $unavailable)"), "update", Cause::Deadline),
        (Guest::new().with_balancer("unreachable", "", "(call $unavailable)"), "update", Cause::Trap),
        (counting("").function("(func $start unreachable) (start $start)"), "start-up", Cause::Trap),
    ] {
        let error = build(&use_of(guest, Kind::Balancer), 0).map(|_| ()).expect_err("it fails");

        let PluginError::Failed { during, fault, .. } = error else { panic!("{error}") };
        assert_eq!((during, fault.cause), (place, why));
    }
}

#[test]
fn an_instance_that_cannot_be_built_again_trips_the_use() {
    // The second instance of this use finds the cell at 1, and traps.
    let guest = counting("unreachable")
        .import("shared", "cell", "(param i32 i32) (result i32)")
        .import("shared", "fetch-add", "(param i32 i64) (result i64)")
        .configure(
            "(if (i64.ne (call $fetch-add (call $cell (i32.const 100) (i32.const 1)) (i64.const 1)) (i64.const 0))
               (then unreachable))
             (i32.const 0)",
        );
    let plugin_use = use_of(guest, Kind::Balancer);
    let balancer = balancer(&plugin_use);

    bad_pick(&balancer);

    assert!(eventually(|| {
        assert_eq!(pick(&balancer), Pick::Abstain);
        plugin_use.status().trips == 1
    }));
}

#[test]
fn shared_cells_and_values_survive_a_trap() {
    let guest = Guest::balancer(
        "(if (i32.eq (local.get $attempt) (i32.const 7)) (then unreachable))
         (call $endpoint (i32.wrap_i64 (call $fetch-add (global.get $cell) (i64.const 1))))",
    )
    .import("shared", "cell", "(param i32 i32) (result i32)")
    .import("shared", "fetch-add", "(param i32 i64) (result i64)")
    .function("(global $cell (mut i32) (i32.const 0)) (data (i32.const 100) \"count\")")
    .configure("(global.set $cell (call $cell (i32.const 100) (i32.const 5))) (i32.const 0)");
    let plugin_use = use_of(guest, Kind::Balancer);
    let balancer = balancer(&plugin_use);
    assert_eq!((pick(&balancer), pick(&balancer)), (Pick::Endpoint(0), Pick::Endpoint(1)));

    bad_pick(&balancer);

    assert!(eventually(|| pick(&balancer) == Pick::Endpoint(2)));
}

#[test]
fn registration_outside_configure_traps() {
    let guest = Guest::balancer("(call $want-non-idempotent) (call $endpoint (i32.const 1))").import(
        "registration",
        "want-non-idempotent",
        "",
    );
    let plugin_use = use_of(guest, Kind::Balancer);
    let balancer = balancer(&plugin_use);

    assert_eq!(pick(&balancer), Pick::Abstain);

    assert_eq!(faults(&plugin_use, Cause::Trap), 1);
}

#[test]
fn a_fresh_instance_knows_what_changed() {
    // `update` keeps the second endpoint's weight, `change` the first change's.
    let guest = Guest::new()
        .with_balancer(
            "(global.set $weight (i32.load (i32.add (local.get $list) (i32.const 56))))",
            "(global.set $weight (i32.load offset=4 (local.get $list)))",
            "(if (i32.eq (local.get $attempt) (i32.const 7)) (then unreachable))
             (call $endpoint (global.get $weight))",
        )
        .function("(global $weight (mut i32) (i32.const 0))");
    let plugin_use = use_of(guest, Kind::Balancer);
    let balancer = balancer(&plugin_use);
    assert_eq!(pick(&balancer), Pick::Endpoint(2));

    balancer.change(&[EndpointChange { id: 1, weight: 50, ready: true }]);
    assert_eq!(pick(&balancer), Pick::Endpoint(50), "told at once");
    bad_pick(&balancer);
    let first = pick(&balancer);
    balancer.change(&[EndpointChange { id: 1, weight: 60, ready: true }]);

    assert_ne!(first, Pick::Endpoint(2));
    assert!(eventually(|| pick(&balancer) == Pick::Endpoint(60)), "changed while the fresh one was built");
}

#[test]
fn a_balancer_asks_for_what_it_needs() {
    let guest = counting("")
        .import("registration", "want-key", "(param i32 i32 i32)")
        .import("registration", "want-feedback", "(param i32 i32 i64)")
        .import("loads", "latency", "(param i32) (result i64)")
        .export("feedback", "observe", "(param i32 i32)", "")
        .function("(data (i32.const 100) \"X-User\")")
        .configure(
            "(call $want-key (i32.const 4) (i32.const 100) (i32.const 6))
             (call $want-key (i32.const 0) (i32.const 0) (i32.const 0))
             (call $want-feedback (i32.const 1) (i32.const 8) (i64.const 5))
             (i32.const 0)",
        );
    let balancer = balancer(&use_of(guest, Kind::Balancer));

    let needs = balancer.needs();

    assert_eq!(needs.key, [KeySource::Header("x-user".into()), KeySource::ClientAddress]);
    assert_eq!((needs.feedback, needs.latency), (Some(FeedbackKind::Failures), true));
}

#[test]
fn a_balancer_that_asks_for_nothing_needs_nothing() {
    let balancer = balancer(&use_of(counting(""), Kind::Balancer));

    let needs = balancer.needs();

    assert!(needs.key.is_empty() && needs.feedback.is_none() && !needs.latency);
}

#[test]
fn outcomes_come_in_batches_before_a_pick_and_when_they_are_old() {
    // A pick answers how many samples came in how many batches.
    let guest = Guest::balancer(
        "(call $endpoint (i32.add (i32.mul (global.get $batches) (i32.const 100)) (global.get $samples)))",
    )
    .import("registration", "want-feedback", "(param i32 i32 i64)")
    .export(
        "feedback",
        "observe",
        "(param $list i32) (param $length i32)",
        "(global.set $batches (i32.add (global.get $batches) (i32.const 1)))
         (global.set $samples (i32.add (global.get $samples) (local.get $length)))",
    )
    .function("(global $batches (mut i32) (i32.const 0)) (global $samples (mut i32) (i32.const 0))")
    .configure("(call $want-feedback (i32.const 0) (i32.const 3) (i64.const 1000000000)) (i32.const 0)");
    let balancer = balancer(&use_of(guest, Kind::Balancer));
    let sample = Sample { endpoint: 1, latency: Duration::from_millis(5), status: 200, failed: false, penalty: 0 };
    let now = tokio::time::Instant::now();
    let pick_at = |now| balancer.pick(&mut exchange(), PickContext { now, ..context() });

    balancer.observe(sample);
    balancer.observe(sample);
    assert_eq!(pick_at(now), Pick::Endpoint(0), "neither enough nor old");
    balancer.observe(sample);
    assert_eq!(pick_at(now), Pick::Endpoint(103), "a batch is full");
    balancer.observe(sample);
    balancer.tick(now + Duration::from_millis(900));
    assert_eq!(pick_at(now), Pick::Endpoint(103));
    balancer.tick(now + Duration::from_secs(2));
    assert_eq!(pick_at(now), Pick::Endpoint(204), "the oldest has waited long enough");
}

#[test]
fn the_key_and_the_endpoints_tried_are_to_be_had_within_a_pick() {
    // Answers the length of the key's bytes, a thousand for each endpoint tried.
    let guest = Guest::balancer(
        "(call $key (i32.const 32)) (call $tried (i32.const 48))
         (call $endpoint (i32.add (i32.load (i32.const 40)) (i32.mul (i32.load (i32.const 52)) (i32.const 1000))))",
    )
    .import("selection", "key", "(param i32)")
    .import("selection", "tried", "(param i32)");
    let balancer = balancer(&use_of(guest, Kind::Balancer));
    let mut exchange = exchange();
    exchange.key = Some(b"client-7".to_vec());
    exchange.tried = vec![2, 0];

    assert_eq!(balancer.pick(&mut exchange, context()), Pick::Endpoint(2008));
}

fn ended(status: u16) -> EndedAttempt {
    EndedAttempt {
        outcome: Outcome::Status(status),
        endpoint: 1,
        attempt: 0,
        method: MethodKind::Safe,
        sent: true,
        elapsed: Duration::from_millis(3),
        remaining: Some(Duration::from_secs(1)),
        budget: 3,
        retry_after: None,
        random: 9,
    }
}

fn policy(plugin_use: &Use) -> Rc<dyn RetryPolicy> {
    plugin_use.retry(0).expect("a policy").into_policy()
}

#[test]
fn a_retry_policy_decides_about_what_it_asked_for() {
    let guest = Guest::retry(
        "(if (i32.eq (local.get $detail) (i32.const 503))
           (then (return (call $again (local.get $elapsed) (i32.const 1)))))
         (call $give_up)",
    )
    .import("registration", "want-status", "(param i32 i32)")
    .import("registration", "want-non-idempotent", "")
    .configure("(call $want-status (i32.const 500) (i32.const 504)) (call $want-non-idempotent) (i32.const 0)");
    let policy = policy(&use_of(guest, Kind::Retry));

    assert!(policy.needs().wants(502) && !policy.needs().wants(505) && policy.needs().non_idempotent);
    let plan = RetryPlan { delay: Duration::from_millis(3), elsewhere: true };
    assert_eq!(policy.decide(&mut exchange(), ended(503)), Some(plan));
    assert_eq!(policy.decide(&mut exchange(), ended(500)), None);
}

#[test]
fn a_retry_policy_that_traps_gives_up() {
    let plugin_use = use_of(Guest::retry("unreachable"), Kind::Retry);
    let policy = policy(&plugin_use);

    assert_eq!(policy.decide(&mut exchange(), ended(503)), None);

    assert_eq!((faults(&plugin_use, Cause::Trap), plugin_use.status().fallbacks), (1, 1));
}

/// Sets `x-copy` to the value of `x-tenant`, and `x-b` to `2`.
fn copying() -> Guest {
    Guest::request_rewriter(
        "(call $set (i32.const 100) (i32.const 6)
           (i32.load offset=4 (local.get $wanted)) (i32.load offset=8 (local.get $wanted)))
         (call $set (i32.const 110) (i32.const 3) (i32.const 120) (i32.const 1))
         (call $fields)",
    )
    .import("registration", "want-request-field", "(param i32 i32) (result i32)")
    .function("(data (i32.const 100) \"x-copy\") (data (i32.const 110) \"x-b\") (data (i32.const 120) \"2\")")
    .function("(data (i32.const 130) \"X-Tenant\")")
    .configure("(drop (call $want-request-field (i32.const 130) (i32.const 8))) (i32.const 0)")
}

#[test]
fn a_rewriter_reads_what_it_wanted_and_edits() {
    let plugin_use = use_of(copying(), Kind::Rewriter);
    let rewriter = rewriter(&plugin_use);
    let mut exchange = exchange();

    assert_eq!(rewriter.on_request(&mut exchange), Flow::Continue);

    assert!(rewriter.sides().request && !rewriter.sides().response);
    assert_eq!(exchange.request.fields.get(b"x-copy"), Some(&b"gold"[..]));
    assert_eq!(exchange.request.fields.get(b"x-b"), Some(&b"2"[..]));
}

#[test]
fn a_rewriter_that_answers_nonsense_is_denied_or_skipped() {
    // The body, and what stands in its memory at 100 and 110.
    let header = |data: &str| {
        Guest::request_rewriter(
            "(call $set (i32.const 100) (i32.const 4) (i32.const 110) (i32.const 3)) (call $fields)",
        )
        .function(data)
    };
    let million = "(i32.store (i32.const 0) (i32.const 1)) (i32.store (i32.const 4) (i32.const 65536))
         (i32.store (i32.const 8) (i32.const 1000000)) (i32.const 0)";
    let thousand_and_one = million.replace("1000000", "1001");
    for (name, guest) in [
        ("a value with a line break", header("(data (i32.const 100) \"x-ab\") (data (i32.const 110) \"a\\r\\n\")")),
        ("a name with a space", header("(data (i32.const 100) \"x ab\") (data (i32.const 110) \"abc\")")),
        ("a name that is not UTF-8", header("(data (i32.const 100) \"x-\\ff\\fe\") (data (i32.const 110) \"abc\")")),
        ("a million headers", Guest::request_rewriter(million).pages(400)),
        ("1001 headers", Guest::request_rewriter(&thousand_and_one).pages(400)),
        ("more headers than there is memory", Guest::request_rewriter(million)),
        ("a trap", Guest::request_rewriter("unreachable")),
    ] {
        for (on_failure, flow) in [(None, Flow::Deny), (Some(OnFailure::Skip), Flow::Continue)] {
            let limits = Limits { on_failure, ..limits() };
            let plugin_use = use_with(guest.clone(), Kind::Rewriter, limits, &Settings::default());
            let rewriter = rewriter(&plugin_use);
            let mut exchange = exchange();

            assert_eq!(rewriter.on_request(&mut exchange), flow, "{name}");

            assert_eq!(exchange.request.fields.len(), 2, "{name}: nothing was applied");
            let cause = if name == "a trap" { Cause::Trap } else { Cause::Answer };
            assert_eq!((faults(&plugin_use, cause), plugin_use.status().fallbacks), (1, 1), "{name}");
        }
    }
}

#[test]
fn a_response_is_rewritten_within_what_its_body_allows() {
    // `rewrite` with a status and no fields.
    let rewriting = |status: u16| {
        Guest::response_rewriter(&format!(
            "(i32.store (i32.const 0) (i32.const 2)) (i32.store16 (i32.const 4) (i32.const {status}))
             (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 0)) (i32.const 0)"
        ))
    };
    for (status, flow, left) in [(418, Flow::Continue, 418), (204, Flow::Deny, 200), (99, Flow::Deny, 200)] {
        let rewriter = rewriter(&use_of(rewriting(status), Kind::Rewriter));
        let mut exchange = exchange();

        assert_eq!(rewriter.on_response(&mut exchange), flow, "{status}");
        assert_eq!(exchange.response.status, left);
    }
}

#[test]
fn a_rewriter_may_answer_itself() {
    let body = "(i32.store (i32.const 0) (i32.const 3)) (i32.store16 (i32.const 4) (i32.const 403))
         (i32.store (i32.const 8) (i32.const 0)) (i32.store (i32.const 12) (i32.const 0))
         (i32.store (i32.const 16) (i32.const 100)) (i32.store (i32.const 20) (i32.const 2)) (i32.const 0)";
    let guest = Guest::request_rewriter(body).function("(data (i32.const 100) \"no\")");
    let rewriter = rewriter(&use_of(guest, Kind::Rewriter));

    let Flow::Respond(response) = rewriter.on_request(&mut exchange()) else { panic!("a response") };

    assert_eq!((response.status, &response.body[..]), (403, &b"no"[..]));
}

#[test]
fn settings_metrics_and_log_lines_cross() {
    // Counts as many as the setting `count` has characters.
    let guest = counting("")
        .import("config", "get", "(param i32 i32 i32)")
        .import("metrics", "counter", "(param i32 i32) (result i32)")
        .import("metrics", "add", "(param i32 i64)")
        .import("log", "write", "(param i32 i32 i32)")
        .function("(data (i32.const 100) \"count\")")
        .configure(
            "(call $get (i32.const 100) (i32.const 5) (i32.const 32))
             (call $add (call $counter (i32.const 100) (i32.const 5)) (i64.extend_i32_u (i32.load (i32.const 40))))
             (call $write (i32.const 2) (i32.const 100) (i32.const 5))
             (i32.const 0)",
        );
    let value = Setting::Scalar("seven".into(), Place::default());
    let settings = Settings { entries: vec![("count".into(), value)], place: Place::default() };
    let plugin_use = use_with(guest, Kind::Balancer, limits(), &settings);

    build(&plugin_use, 0).expect("a balancer");
    build(&plugin_use, 1).expect("another worker's");

    let counted = PluginMetric { name: "count".into(), value: MetricValue::Counter(10) };
    assert_eq!(plugin_use.status().metrics, [counted]);
}

#[test]
fn what_is_no_plugin_is_refused_in_words() {
    let load = |bytes: &[u8]| host().load("p", bytes, limits()).expect_err("no plugin").to_string();
    let said = |text: String, what: &str| assert!(text.contains(what), "{text}\nlacks: {what}");

    said(load(b"\x7fELF\x02\x01\x01\0"), "is not WebAssembly");
    said(load(b""), "it is empty");
    said(load(b"<html>"), "begins with `<html>`");
    said(load(b"(module (func"), "WAT text with a mistake");
    said(load(b"\0asm\x01\0\0\0\xff\xff"), "damaged");
    said(load(b"\0asm\x0d\0\x01\0\xff\xff"), "damaged");
    said(load(b"(module)"), "it exports nothing");
    said(load(b"(component)"), "it exports nothing");
    said(load(b"(module (func (export \"run\")) (func (export \"stop\")))"), "it exports run, stop");
    said(load(b"(component (import \"acme:db/query@1.0.0\" (instance)))"), "imports `acme:db/query@1.0.0`");
    said(load(b"(component (import \"wasi:cli/environment@0.2.6\" (instance)))"), "wasm32-unknown-unknown");
    said(load(b"(component (import \"staunch:plugin/loads@0.3.0\" (instance)))"), "was built for staunch:plugin 0.3.0");

    let unknown = counting("").import_from("env", "abort", "(param i32)");
    said(load(unknown.wat().as_bytes()), "imports `env.abort`");
    let newer = Guest::new().version("0.3.0").with_balancer("", "", "(call $unavailable)");
    said(load(newer.wat().as_bytes()), "was built for staunch:plugin 0.3.0, this proxy serves 0.1");
    let other = Guest::new().export("balancer", "pick", "(param i32) (result i32)", "(i32.const 0)");
    said(load(other.wat().as_bytes()), "does not follow the contract");
    let alone = "(module (func (export \"staunch:plugin/retry@0.1.0#decide\")))";
    said(load(alone.as_bytes()), "does not export staunch:plugin/lifecycle");
}

#[test]
fn a_module_for_wasip1_gets_answers_from_inside() {
    // Random bytes from the adapter pick the endpoint; they are the same for every instance.
    let guest = Guest::balancer(
        "(drop (call $random_get (i32.const 100) (i32.const 4)))
         (drop (call $fd_write (i32.const 1) (i32.const 32) (i32.const 0) (i32.const 40)))
         (call $endpoint (i32.load (i32.const 100)))",
    )
    .import_from("wasi_snapshot_preview1", "random_get", "(param i32 i32) (result i32)")
    .import_from("wasi_snapshot_preview1", "fd_write", "(param i32 i32 i32 i32) (result i32)");
    let plugin_use = use_of(guest, Kind::Balancer);
    let (first, second) = (balancer(&plugin_use), build(&plugin_use, 1).expect("another"));

    let picked = pick(&first);

    assert!(matches!(picked, Pick::Endpoint(id) if id != 0), "{picked:?}");
    assert_eq!(pick(&second), picked);
    assert_ne!(pick(&first), picked);
    assert_eq!(plugin_use.plugin().imports(), ["staunch:plugin/types@0.1.0"], "no system is imported");
}

#[test]
fn a_plugin_is_used_for_what_it_is() {
    let plugin = load(counting("")).expect("a balancer");

    let error = plugin.use_as(Kind::Retry, "x", &Settings::default()).expect_err("no retry policy");

    assert_eq!(error.to_string(), "plugin `guest` is no retry policy: it is a balancer");
}

#[test]
fn the_same_bytes_are_compiled_once_and_known_by_their_digest() {
    let host = host();
    let wat = counting("").wat();

    let (first, second) = (host.load("a", wat.as_bytes(), limits()), host.load("b", wat.as_bytes(), limits()));

    let (first, second) = (first.expect("a plugin"), second.expect("the same"));
    assert_eq!((first.digest(), first.name(), second.name()), (second.digest(), "a", "b"));
    assert_eq!((first.size(), first.contract()), (wat.len(), "0.1.0"));
    assert!(first.exports().balancer && !first.exports().feedback);
    assert!(verify_digest("a", b"", &[0; 32]).is_err());
    assert_eq!(digest(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn to_read_requests_in_flight_is_not_to_ask_for_latencies() {
    let guest = Guest::balancer("(call $endpoint (call $active (i32.const 1)))").import(
        "loads",
        "active",
        "(param i32) (result i32)",
    );
    let plugin_use = use_of(guest, Kind::Balancer);
    let loads = Arc::new(Loads::new(1, 3));
    let balancer = plugin_use.balancer(0, members(3), loads.clone()).expect("a balancer").into_balancer();

    loads.enter(0, 1);
    loads.enter(0, 1);

    assert!(!balancer.needs().latency);
    assert_eq!(pick(&balancer), Pick::Endpoint(2));
}
