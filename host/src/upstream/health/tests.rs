use super::*;

fn endpoint(id: EndpointId) -> Endpoint {
    Endpoint {
        id,
        address: format!("10.0.0.{id}:80").into(),
        weight: 4,
        priority: 0,
        zone: None,
        labels: Vec::new(),
        down: false,
    }
}

fn config(count: u32) -> config::Upstream {
    let configured = |id| format!("10.0.0.{id}:80").parse().expect("an endpoint");
    config::Upstream { endpoints: (0..count).map(configured).collect(), ..config::Upstream::new("api") }
}

fn endpoints(count: u32) -> Vec<Endpoint> {
    (0..count).map(endpoint).collect()
}

fn of(config: &config::Upstream) -> Health {
    Health::new(&endpoints(config.endpoints.len() as u32), config, None)
}

fn with(count: u32, passive: Passive) -> Health {
    of(&config::Upstream { passive, ..config(count) })
}

fn standing(health: &Health, id: EndpointId, now: Instant) -> Standing {
    health.standings(now)[id as usize]
}

fn is_ready(health: &Health, id: EndpointId, now: Instant) -> bool {
    standing(health, id, now).is_ready()
}

/// An attempt with this status, from its beginning to its end.
fn attempt(health: &Health, id: EndpointId, status: u16, now: Instant) -> Judged {
    let entered = health.enter(id, false, now).expect("it may go there");
    health.ended(id, entered.ticket, Outcome::Status(status), status >= 500, 4, now)
}

fn ejected(judged: Judged) -> Option<String> {
    match judged.notice {
        Some(Notice::Ejected { why, .. }) => Some(why),
        _ => None,
    }
}

fn later(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}

#[test]
fn a_failed_endpoint_comes_back_for_one_probe() {
    let health = of(&config(2));
    let now = Instant::now();

    let judged = attempt(&health, 0, 500, now);
    assert!(judged.failed && judged.penalty == 4);
    assert_eq!(ejected(judged).as_deref(), Some("1 failure"));
    assert_eq!(standing(&health, 0, now), Standing::Failed);
    let seen = health.generation();
    let now = later(now, 12);
    assert!(health.is_stale(seen, now));
    health.reschedule(now);
    assert!(is_ready(&health, 0, now));
    let probe = health.enter(0, false, now).expect("the probe");

    assert!(!is_ready(&health, 0, now));
    assert!(health.enter(0, false, now).is_none(), "one probe and no more, whatever another worker has seen");
    let judged = health.ended(0, probe.ticket, Outcome::Status(200), false, 4, now);
    assert_eq!(judged.notice, Some(Notice::Returned { endpoint: 0 }));
    assert!(is_ready(&health, 0, now));
}

#[test]
fn a_lone_endpoint_is_never_taken_out() {
    let window = WindowPassive { min_requests: 1, ..WindowPassive::default() };
    for passive in [Passive::default(), Passive::Window(window), Passive::Outlier(OutlierDetection::default())] {
        let health = with(1, passive);
        let now = Instant::now();

        for _ in 0..20 {
            let judged = attempt(&health, 0, 500, now);
            assert!(judged.failed && judged.notice.is_none());
        }

        assert_eq!(standing(&health, 0, now), Standing::Up);
    }
}

#[test]
fn a_full_endpoint_is_not_ready_until_a_request_leaves() {
    let mut config = config(2);
    config.endpoints[0].max_connections = Some(2);
    let health = of(&config);
    let now = Instant::now();

    let enter = || health.enter(0, false, now).is_some_and(|entered| entered.placed);
    assert!(enter() && enter());
    assert!(!enter());
    assert_eq!(standing(&health, 0, now), Standing::Full);
    let seen = health.generation();
    health.state(0).expect("it is there").leave();

    assert!(health.is_stale(seen, now));
    assert!(is_ready(&health, 0, now));
}

#[test]
fn an_active_check_decides_over_live_traffic() {
    let health = of(&config(2));

    health.state(1).expect("it is there").checked(false);

    assert_eq!(standing(&health, 1, Instant::now()), Standing::Unhealthy);
}

#[test]
fn another_configuration_takes_over_what_an_endpoint_has_come_to() {
    let (endpoints, health) = (endpoints(3), of(&config(3)));
    let now = Instant::now();
    attempt(&health, 2, 500, now);
    health.order(1, EndpointOrder { drain: Some(Said::This(true)), ..EndpointOrder::default() });

    let mut changed = config(3);
    changed.endpoints.remove(0);
    let next = Health::new(&changed_endpoints(&endpoints), &changed, Some((&endpoints, &health)));

    assert_eq!(next.standings(now), [Standing::Draining, Standing::Failed]);
}

fn changed_endpoints(endpoints: &[Endpoint]) -> Vec<Endpoint> {
    endpoints[1..].iter().map(|endpoint| Endpoint { id: endpoint.id - 1, ..endpoint.clone() }).collect()
}

fn window() -> WindowPassive {
    WindowPassive { min_requests: 4, probes: 2, jitter_percent: 0, ..WindowPassive::default() }
}

#[test]
fn a_window_of_failures_ejects_and_probes_bring_back() {
    let health = with(3, Passive::Window(window()));
    let now = Instant::now();
    let notices: Vec<_> = [200, 502, 404, 500].map(|status| attempt(&health, 0, status, now)).into();

    let why = notices.into_iter().last().and_then(ejected);
    assert_eq!(why.as_deref(), Some("2 of 4 requests failed"));
    assert_eq!(standing(&health, 0, now), Standing::Ejected);
    assert_eq!(health.reason(0, Standing::Ejected, now), why);
    assert!(health.enter(0, false, now).is_none());

    let now = later(now, 11);
    health.reschedule(now);
    assert_eq!(standing(&health, 0, now), Standing::Probing { ready: true });
    let probes: Vec<_> = (0..9).map_while(|_| health.enter(0, false, now)).collect();
    assert_eq!(probes.len(), 2);
    assert_eq!(standing(&health, 0, now), Standing::Probing { ready: false });
    for probe in probes {
        health.ended(0, probe.ticket, Outcome::Status(200), false, 4, now);
    }
    assert_eq!(standing(&health, 0, now), Standing::Up);
}

#[test]
fn an_abandoned_probe_is_sent_again() {
    let health = with(3, Passive::Window(window()));
    let now = Instant::now();
    (0..4).for_each(|_| drop(attempt(&health, 0, 500, now)));
    let now = later(now, 11);
    let probes: Vec<_> = (0..2).filter_map(|_| health.enter(0, false, now)?.ticket).collect();
    let seen = health.generation();

    health.state(0).expect("it is there").abandoned(probes[0]);

    assert!(health.is_stale(seen, now));
    assert_eq!(standing(&health, 0, now), Standing::Probing { ready: true });
}

#[test]
fn five_server_errors_in_a_row_eject_an_outlier_until_an_interval_ends() {
    let health = with(3, Passive::Outlier(OutlierDetection::default()));
    let now = Instant::now();
    health.tick(now);

    let notices: Vec<_> = (0..5).map(|_| ejected(attempt(&health, 0, 500, now))).collect();
    assert_eq!(notices[4].as_deref(), Some("5 consecutive 5xx"));
    assert_eq!(standing(&health, 0, now), Standing::Ejected);

    let others: Vec<_> = (0..5).filter_map(|_| ejected(attempt(&health, 1, 500, now))).collect();
    assert_eq!(others, [""; 0], "one of three is as many as may be out");

    assert_eq!(health.tick(later(now, 20)), []);
    assert_eq!(health.tick(later(now, 31)), [Notice::Returned { endpoint: 0 }]);
    assert_eq!(standing(&health, 0, later(now, 31)), Standing::Up);
}

#[test]
fn an_interval_is_judged_once_whichever_worker_comes_first() {
    let health = with(5, Passive::Outlier(OutlierDetection::default()));
    let now = Instant::now();
    health.tick(now);
    for id in 0..5 {
        for n in 0..100 {
            attempt(&health, id, if id == 3 && n % 2 == 0 { 500 } else { 200 }, now);
        }
    }

    let notices = health.tick(later(now, 10));

    let [Notice::Ejected { endpoint: 3, why, .. }] = &notices[..] else { panic!("{notices:?}") };
    assert_eq!(why, "success rate 50.0 % < 52.0 %");
    assert_eq!(health.tick(later(now, 10)), []);
}

#[test]
fn a_passing_check_ends_an_outliers_ejection_unless_that_is_switched_off_or_it_is_still_unhealthy() {
    for (unejects, is_up, expected) in [(true, true, true), (false, true, false), (true, false, false)] {
        let successful_active_health_check_uneject_host = unejects;
        let passive = OutlierDetection { successful_active_health_check_uneject_host, ..OutlierDetection::default() };
        let health = with(3, Passive::Outlier(passive));
        let now = Instant::now();
        (0..5).for_each(|_| drop(attempt(&health, 0, 500, now)));
        health.state(0).expect("it is there").checked(is_up);

        assert_eq!(health.check_passed(0, now), expected);
    }
}

#[test]
fn too_few_healthy_endpoints_are_joined_by_the_others_but_not_by_those_that_are_shut() {
    let mut config = config::Upstream { panic_threshold: Some(50), ..config(5) };
    config.endpoints[3].down = true;
    config.endpoints[4].drain = true;
    let health = of(&config);
    let now = Instant::now();
    let check = |id, up| health.state(id).expect("it is there").checked(up);
    use Standing::{Down, Draining, Panic, Unhealthy, Up};

    check(0, false);
    assert_eq!(health.standings(now), [Unhealthy, Up, Up, Down, Draining], "two of three");
    check(1, false);
    assert_eq!(health.standings(now), [Panic, Panic, Up, Down, Draining], "one of three");
    check(2, false);
    assert_eq!(health.standings(now), [Panic, Panic, Panic, Down, Draining]);
    let reason = "offered although: its active check fails; fewer than 50 % of the endpoints are healthy";
    assert_eq!(health.reason(0, Panic, now).as_deref(), Some(reason));
    check(0, true);
    check(1, true);
    assert_eq!(health.standings(now), [Up, Up, Unhealthy, Down, Draining]);
}

#[test]
fn one_that_awaits_its_probe_is_not_healthy_yet() {
    let health = of(&config::Upstream { panic_threshold: Some(100), ..config(2) });
    let now = Instant::now();
    attempt(&health, 0, 500, now);
    assert_eq!(standing(&health, 0, now), Standing::Panic);

    // Its probe is due; a panic that ended now would begin again with the next failure.
    let now = later(now, 12);
    health.state(1).expect("it is there").checked(false);
    assert_eq!(health.standings(now), [Standing::Up, Standing::Panic]);
}

#[test]
fn without_a_threshold_nobody_is_offered_that_is_not_healthy() {
    for (config, threshold) in [
        (config(2), 0),
        (config::Upstream { panic_threshold: Some(30), ..config(2) }, 30),
        (config::Upstream { health: Some(config::HealthCheck::default()), ..config(2) }, 50),
        (config::Upstream { passive: Passive::Window(window()), ..config(2) }, 50),
    ] {
        assert_eq!(config.panic_threshold(), threshold);
    }
    let health = of(&config(2));
    let now = Instant::now();
    attempt(&health, 0, 500, now);
    attempt(&health, 1, 500, now);

    assert_eq!(health.standings(now), [Standing::Failed; 2]);
}

#[test]
fn what_comes_back_starts_slowly_and_what_was_there_from_the_beginning_does_not() {
    let slow_start = Some(SlowStart::new(Duration::from_secs(60)));
    let health = of(&config::Upstream { slow_start, ..config(2) });
    let now = Instant::now();
    // A weight of 4 grows in twentieths.
    assert_eq!([0, 1].map(|id| health.weight(id, now)), [(20, false); 2]);
    attempt(&health, 0, 500, now);
    let now = later(now, 12);
    attempt(&health, 0, 200, now);

    let weights = [0, 15, 30, 45, 60, 75].map(|seconds| health.weight(0, later(now, seconds)).0);

    assert_eq!(weights, [2, 5, 10, 15, 20, 20]);
    assert_eq!(health.weight(1, now), (20, false));
    assert!(health.weight(0, later(now, 59)).1 && !health.weight(0, later(now, 60)).1);
    assert_eq!(
        health.reason(0, Standing::Up, later(now, 30)).as_deref(),
        Some("slow start: it has 50 % of its weight")
    );
}

#[test]
fn a_first_check_begins_nothing_anew_and_a_later_one_does() {
    let state = EndpointState::new(Arc::default(), false);
    let age = || state.age(Instant::now());

    state.checked(true);
    assert_eq!(age(), None);

    state.checked(false);
    assert_eq!(age(), None);
    state.checked(true);
    assert!(age().is_some());
}

#[test]
fn one_that_joins_starts_slowly() {
    let slow_start = Some(SlowStart::new(Duration::from_secs(60)));
    let (old, new) = (config(1), config::Upstream { slow_start, ..config(2) });
    let before = of(&old);

    let health = Health::new(&endpoints(2), &new, Some((&endpoints(1), &before)));

    let growing = [0, 1].map(|id| health.weight(id, Instant::now()).1);
    assert_eq!(growing, [false, true]);
}

#[test]
fn an_operator_decides_over_the_configuration_until_that_is_taken_back() {
    let mut config = config(3);
    config.endpoints[0].down = true;
    let health = of(&config);
    let now = Instant::now();
    let order = |id, order| health.order(id, order);
    use Standing::{Down, Draining, Up};

    let reason = Some("new disks".to_owned());
    order(1, EndpointOrder { drain: Some(Said::This(true)), reason, ..EndpointOrder::default() });
    order(0, EndpointOrder { down: Some(Said::This(false)), ..EndpointOrder::default() });
    order(2, EndpointOrder { weight: Some(Said::This(9)), ..EndpointOrder::default() });

    assert_eq!(health.standings(now), [Up, Draining, Up]);
    assert_eq!(health.reason(1, Draining, now).as_deref(), Some("new disks"));
    assert!(health.since(1, Draining).is_some());
    assert_eq!(health.weight(2, now).0, 9);

    order(0, EndpointOrder { down: Some(Said::AsConfigured), ..EndpointOrder::default() });
    order(1, EndpointOrder { down: Some(Said::This(true)), ..EndpointOrder::default() });
    order(2, EndpointOrder { weight: Some(Said::AsConfigured), ..EndpointOrder::default() });

    assert_eq!(health.standings(now), [Down, Down, Up]);
    assert_eq!(health.reason(0, Down, now).as_deref(), Some("configured down"));
    assert_eq!(health.reason(1, Down, now).as_deref(), Some("an operator ordered `down`"));
    assert_eq!(health.weight(2, now).0, 4);
}
