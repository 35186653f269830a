//! Endpoints that live traffic takes out by a window or as outliers, how they come back, and panic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::SeqCst};

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually, ok};

/// An origin that answers with the status it is told to; 0: not yet.
fn told(status: u16) -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let told = status.clone();
    let origin = Upstream::raw(move |talk| {
        while talk.request().is_some() {
            talk.wait_for(|| told.load(SeqCst) > 0);
            match told.load(SeqCst) {
                200 => talk.send(ok("told")),
                status => talk.send(format!("HTTP/1.1 {status} Told\r\ncontent-length: 0\r\n\r\n")),
            };
        }
    });
    (origin, status)
}

fn state(proxy: &Proxy, origin: &Upstream) -> String {
    proxy.endpoint(origin)["state"].as_str().expect("a state").to_owned()
}

const OUTLIER: &str = "[upstreams.api.passive]\npolicy = \"outlier\"\ninterval = \"100ms\"\n";
const WINDOW: &str = "[upstreams.api.passive]\npolicy = \"window\"\nmin_requests = 4\nprobes = 2\njitter_percent = 0\n";

#[test]
fn an_origin_that_answers_5xx_is_ejected_as_an_outlier_and_comes_back_by_itself() {
    let ((bad, status), good) = (told(500), Upstream::replying("good"));
    let proxy = Proxy::with(&format!("{ADMIN}{}{OUTLIER}base_ejection_time = \"3s\"\n", api([&bad, &good])));
    let mut client = Client::to(&proxy);

    let statuses: Vec<_> = (0..10).map(|_| client.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 500).count(), 5, "{statuses:?}");

    let ejected = proxy.endpoint(&bad);
    assert_eq!((&ejected["state"], &ejected["reason"]), (&"ejected".into(), &"5 consecutive 5xx".into()));
    assert!(ejected["since"].is_string(), "{ejected}");
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "good");
    }
    proxy.assert_counted("staunch_upstream_ejections_total{upstream=\"api\"}", 1.0);
    proxy.assert_counted("staunch_upstream_endpoints{upstream=\"api\",state=\"ejected\"}", 1.0);

    status.store(200, SeqCst);
    eventually(|| client.get("/").text() == "told");
    assert_eq!(state(&proxy, &bad), "up");
}

#[test]
fn a_connection_that_is_refused_is_an_outliers_failure_too() {
    let (bad, good) = (Upstream::refusing(), Upstream::replying("good"));
    let proxy = Proxy::with(&format!("{ADMIN}{}{OUTLIER}", api([&bad, &good])));

    for _ in 0..12 {
        assert_eq!(proxy.get("/").text(), "good", "tried again elsewhere");
    }

    assert_eq!(proxy.endpoint(&bad)["reason"], "5 consecutive 5xx");
}

#[test]
fn no_more_outliers_are_out_at_once_than_allowed() {
    let bad = [(); 3].map(|()| Upstream::status(500));
    let proxy =
        Proxy::with(&format!("{ADMIN}{}{OUTLIER}max_ejection_percent = 40\n", api([&bad[0], &bad[1], &bad[2]])));

    for _ in 0..30 {
        assert_eq!(proxy.get("/").status, 500);
    }

    let ejected = bad.iter().filter(|origin| state(&proxy, origin) == "ejected").count();
    assert_eq!(ejected, 1, "40 % of three is one");
}

#[test]
fn an_endpoint_that_does_worse_than_the_others_is_ejected_for_its_success_rate() {
    // One of two of its requests fails, and never five in a row.
    let bad = Upstream::raw(|talk| {
        for number in 0.. {
            let Some(_) = talk.request() else { return };
            talk.send(if number % 2 == 0 { ok("") } else { b"HTTP/1.1 500 Odd\r\ncontent-length: 0\r\n\r\n".to_vec() });
        }
    });
    let good = [(); 4].map(|()| Upstream::replying(""));
    let proxy = Proxy::with(&format!(
        "{ADMIN}{}[upstreams.api.passive]\npolicy = \"outlier\"\ninterval = \"1s\"\nsuccess_rate_request_volume = 4\n",
        api([&bad, &good[0], &good[1], &good[2], &good[3]])
    ));
    let mut client = Client::to(&proxy);

    eventually(|| {
        client.get("/");
        proxy.metric("staunch_upstream_ejections_total{upstream=\"api\"}") == 1.0
    });

    let ejected = proxy.endpoint(&bad);
    let reason = ejected["reason"].as_str().expect("a reason");
    assert!(ejected["state"] == "ejected" && reason.starts_with("success rate "), "{ejected}");
}

#[test]
fn a_half_open_endpoint_has_exactly_as_many_probes_as_asked_for() {
    let ((bad, status), good) = (told(500), Upstream::replying("good"));
    let ejection = "base_ejection_time = \"1s\"\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{WINDOW}{ejection}", api([&bad, &good])));
    let mut client = Client::to(&proxy);
    let statuses: Vec<_> = (0..8).map(|_| client.get("/").status).collect();
    assert_eq!(statuses.iter().filter(|&&status| status == 500).count(), 4, "{statuses:?}");
    assert_eq!(state(&proxy, &bad), "ejected");
    assert_eq!(proxy.endpoint(&bad)["reason"], "4 of 4 requests failed");

    status.store(0, SeqCst);
    eventually(|| state(&proxy, &bad) == "probing");
    let mut clients: Vec<_> = (0..10).map(|_| Client::to(&proxy)).collect();
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    eventually(|| bad.requests() + good.requests() == 18);
    assert_eq!((bad.requests(), good.requests()), (4 + 2, 4 + 8));

    status.store(200, SeqCst);
    let told = clients.iter_mut().map(|client| client.response().text().to_owned());
    assert_eq!(told.filter(|answer| answer == "told").count(), 2);
    assert_eq!(state(&proxy, &bad), "up");
    let answers: Vec<_> = (0..4).map(|_| client.get("/").text().to_owned()).collect();
    assert_eq!(answers.iter().filter(|&answer| answer == "told").count(), 2, "it has its share again: {answers:?}");
}

#[test]
fn a_probe_that_fails_ejects_again() {
    let ((bad, _), good) = (told(500), Upstream::replying("good"));
    let proxy = Proxy::with(&format!("{ADMIN}{}{WINDOW}base_ejection_time = \"200ms\"\n", api([&bad, &good])));
    let mut client = Client::to(&proxy);

    eventually(|| {
        client.get("/");
        proxy.metric("staunch_upstream_ejections_total{upstream=\"api\"}") >= 2.0
    });

    assert_eq!(proxy.endpoint(&bad)["reason"], "a probe failed");
}

#[test]
fn a_probe_whose_client_goes_away_is_sent_again() {
    let ((bad, status), good) = (told(500), Upstream::replying("good"));
    let passive = WINDOW.replace("probes = 2", "probes = 1\nbase_ejection_time = \"200ms\"");
    let proxy = Proxy::with(&format!("{ADMIN}{}{passive}", api([&bad, &good])));
    let mut client = Client::to(&proxy);
    (0..8).for_each(|_| drop(client.get("/")));
    status.store(0, SeqCst);
    eventually(|| state(&proxy, &bad) == "probing");
    let mut impatient = [Client::to(&proxy), Client::to(&proxy)];
    impatient.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    eventually(|| bad.requests() == 5);

    drop(impatient);
    status.store(200, SeqCst);

    eventually(|| client.get("/").text() == "told");
}

#[test]
fn when_too_few_are_healthy_all_have_traffic_again_but_those_that_are_down() {
    let ((one, first), (two, second)) = (told(500), told(500));
    let (good, down) = (Upstream::replying("good"), Upstream::replying("down"));
    let endpoints = format!("[\"{one}\", \"{two}\", \"{good}\", {{ address = \"{down}\", down = true }}]");
    let proxy =
        Proxy::with(&format!("{ADMIN}[upstreams.api]\nendpoints = {endpoints}\n{WINDOW}base_ejection_time = \"5s\"\n"));
    let mut client = Client::to(&proxy);

    eventually(|| {
        client.get("/");
        state(&proxy, &two) == "panic"
    });

    let (asked, reason) = (one.requests() + two.requests(), proxy.endpoint(&one)["reason"].to_string());
    assert!(reason.contains("offered although: 2 of 4 requests failed") || reason.contains("4 of 4"), "{reason}");
    assert_eq!(
        (state(&proxy, &one), state(&proxy, &good), state(&proxy, &down)),
        ("panic".into(), "up".into(), "down".into())
    );
    for _ in 0..9 {
        client.get("/");
    }
    let share = one.requests() + two.requests() - asked;
    assert!((5..=7).contains(&share), "two of three each time: {share} of 9");
    assert_eq!(down.connections(), 0);
    proxy.assert_counted("staunch_upstream_panic{upstream=\"api\"}", 1.0);
    proxy.assert_counted("staunch_upstream_panics_total{upstream=\"api\"}", 1.0);

    first.store(200, SeqCst);
    second.store(200, SeqCst);
    eventually(|| {
        client.get("/");
        proxy.metric("staunch_upstream_panic{upstream=\"api\"}") == 0.0
    });
}

#[test]
fn without_a_panic_threshold_there_is_a_503_when_none_is_healthy() {
    let bad = [Upstream::status(500), Upstream::status(500)];
    for (threshold, status) in [("panic_threshold = 0\n", 503), ("", 500)] {
        let proxy = Proxy::with(&format!("{}{threshold}{WINDOW}", api([&bad[0], &bad[1]])));
        let mut client = Client::to(&proxy);

        (0..8).for_each(|_| assert_eq!(client.get("/").status, 500));

        assert_eq!(client.get("/").status, status, "with `{threshold}`");
    }
}

#[test]
fn a_passing_check_ends_an_outliers_ejection() {
    // Well by its check, and ill for everybody else, once.
    let failures = Arc::new(AtomicU16::new(0));
    let counted = failures.clone();
    let origin = Upstream::answering(move |request| {
        if request.target() == "/status" || counted.fetch_add(1, SeqCst) >= 5 {
            return ok("well");
        }
        b"HTTP/1.1 500 Ill\r\ncontent-length: 0\r\n\r\n".to_vec()
    });
    let check = "[upstreams.api.health]\npath = \"/status\"\ninterval = \"50ms\"\n";
    let (policy, long) = (OUTLIER.replace("100ms", "1h"), "base_ejection_time = \"1h\"\n");
    let good = Upstream::replying("good");
    let proxy = Proxy::with(&format!("{ADMIN}{}{policy}{long}{check}", api([&origin, &good])));
    let mut client = Client::to(&proxy);

    (0..10).for_each(|_| drop(client.get("/")));
    assert_eq!(failures.load(SeqCst), 5);
    proxy.assert_counted("staunch_upstream_ejections_total{upstream=\"api\"}", 1.0);

    eventually(|| client.get("/").text() == "well");
}

#[test]
fn an_ejection_outlives_a_reload() {
    let (bad, good) = (Upstream::status(500), Upstream::replying("good"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("staunch.toml");
    let text = |window: &str| format!("{ADMIN}{}{WINDOW}window = \"{window}\"\n", api([&bad, &good]));
    let proxy = Proxy::start(&text("10s"), Some(&file)).unwrap_or_else(|error| panic!("{error}"));
    let mut client = Client::to(&proxy);
    (0..8).for_each(|_| drop(client.get("/")));
    assert_eq!(state(&proxy, &bad), "ejected");

    proxy.reload(&file, &text("11s"));

    assert_eq!(state(&proxy, &bad), "ejected");
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "good");
    }
}

#[test]
fn a_request_that_a_panic_sends_to_an_ill_endpoint_is_answered_by_one_that_is_well() {
    let ill = [(); 3].map(|()| Upstream::raw(|talk| drop(talk.request())));
    let good = Upstream::replying("good");
    let proxy = Proxy::with(&format!(
        "{ADMIN}{}{WINDOW}base_ejection_time = \"300s\"\n[upstreams.api.retry]\nbudget = {{ percent = 0, min = 0 }}\n",
        api([&ill[0], &ill[1], &ill[2], &good])
    ));
    let mut client = Client::to(&proxy);
    eventually(|| {
        client.get("/");
        ill.iter().all(|endpoint| state(&proxy, endpoint) == "panic")
    });
    let asked: usize = ill.iter().map(Upstream::requests).sum();

    for _ in 0..40 {
        assert_eq!(client.get("/").text(), "good");
    }

    assert!(ill.iter().map(Upstream::requests).sum::<usize>() > asked, "the panic spreads requests");
}
