//! Which endpoints have traffic: round robin by weight, and nginx's passive health.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually, ok};

#[test]
fn weights_are_spread_as_nginx_spreads_them() {
    let [a, b, c] = ["A", "B", "C"].map(Upstream::replying);
    let proxy =
        Proxy::with(&format!("[upstreams.api]\nendpoints = [{{ address = \"{a}\", weight = 5 }}, \"{b}\", \"{c}\"]\n"));
    let mut client = Client::to(&proxy);

    let order: String = (0..28).map(|_| client.get("/").text().to_owned()).collect();

    assert_eq!(order, "AABACAA".repeat(4));
}

#[test]
fn equal_endpoints_take_turns() {
    let [a, b, c] = ["A", "B", "C"].map(Upstream::replying);
    let proxy = Proxy::to([&a, &b, &c]);

    let order: String = (0..9).map(|_| proxy.get("/").text().to_owned()).collect();

    assert_eq!(order, "ABCABCABC");
}

#[test]
fn an_endpoint_that_failed_is_left_alone_for_a_while() {
    let good = Upstream::replying("good");
    let bad = Upstream::raw(|talk| drop(talk.request()));
    let proxy = Proxy::with(&format!("{ADMIN}{}", api([&bad, &good])));

    for _ in 0..20 {
        assert_eq!(proxy.get("/").text(), "good");
    }

    assert_eq!(bad.requests(), 1, "max_fails is 1 by default, fail_timeout ten seconds");
    proxy.assert_counted("staunch_upstream_ejections_total{upstream=\"api\"}", 1.0);
    proxy.assert_counted(&format!("staunch_upstream_endpoint_up{{upstream=\"api\",endpoint=\"{bad}\"}}"), 0.0);
}

#[test]
fn an_endpoint_is_probed_after_the_timeout_and_comes_back_when_it_answers() {
    let good = Upstream::replying("good");
    // Fails once, like a server that is restarted.
    let restarted = Upstream::raw(|talk| {
        if talk.number == 0 {
            return;
        }
        while talk.request().is_some() {
            talk.send(ok("restarted"));
        }
    });
    let passive = "[upstreams.api.passive]\nfail_timeout = \"1s\"\n";
    let proxy = Proxy::with(&format!("{}{passive}", api([&restarted, &good])));
    let mut client = Client::to(&proxy);
    assert_eq!(client.get("/").text(), "good", "tried again without anybody noticing");

    eventually(|| client.get("/").text() == "restarted");

    let order: Vec<_> = (0..4).map(|_| client.get("/").text().to_owned()).collect();
    assert!(order.iter().filter(|&answer| answer == "restarted").count() == 2, "it has its share again: {order:?}");
}

#[test]
fn one_probe_goes_to_an_endpoint_that_is_still_down() {
    let good = Upstream::replying("good");
    let bad = Upstream::raw(|talk| drop(talk.request()));
    let passive = "[upstreams.api.passive]\nfail_timeout = \"1s\"\n";
    let proxy = Proxy::with(&format!("{}{passive}", api([&bad, &good])));
    let mut client = Client::to(&proxy);

    let mut asked = 0;
    eventually(|| {
        assert_eq!(client.get("/").text(), "good");
        asked += 1;
        bad.requests() == 3
    });

    assert!(asked > 3, "every request went there");
}

#[test]
fn as_many_failures_as_configured_are_needed() {
    let good = Upstream::replying("good");
    let bad = Upstream::raw(|talk| drop(talk.request()));
    let passive = "[upstreams.api.passive]\nmax_fails = 3\n";
    let proxy = Proxy::with(&format!("{}{passive}", api([&bad, &good])));

    for _ in 0..30 {
        assert_eq!(proxy.get("/").text(), "good");
    }

    assert_eq!(bad.requests(), 3);
}

#[test]
fn no_failure_counts_when_max_fails_is_0() {
    let bad = Upstream::raw(|talk| drop(talk.request()));
    let proxy =
        Proxy::with(&format!("{}[upstreams.api.passive]\nmax_fails = 0\n", api([&bad, &Upstream::replying("")])));

    for _ in 0..10 {
        proxy.get("/");
    }

    assert_eq!(bad.requests(), 5, "half of them");
}

#[test]
fn a_lone_endpoint_is_never_taken_out() {
    let lone = Upstream::raw(|talk| drop(talk.request()));
    let proxy = Proxy::with(&format!("{}[upstreams.api.retry]\nattempts = 1\n", api([&lone])));

    for n in 1..=5 {
        assert_eq!(proxy.get("/").status, 502, "not 503");
        assert_eq!(lone.requests(), n);
    }
}

#[test]
fn statuses_that_are_retried_count_as_failures_but_403_and_404() {
    // nginx counts what `proxy_next_upstream` names, except http_403 and http_404.
    for (status, asked) in [(503, 1), (500, 1), (404, 10), (403, 10)] {
        let bad = Upstream::status(status);
        let proxy = Proxy::with(&format!(
            "{}[upstreams.api.retry]\nconfig = {{ on = [\"http_{status}\"] }}\nbudget = {{ percent = 100, min = 100 }}\n",
            api([&bad, &Upstream::replying("")])
        ));

        for _ in 0..20 {
            assert_eq!(proxy.get("/").status, 200);
        }

        assert_eq!(bad.requests(), asked, "for {status}");
    }
}

#[test]
fn a_backup_has_traffic_only_while_no_other_has() {
    let [backup, good] = ["backup", "good"].map(Upstream::replying);
    // Answers on one connection, and is gone for good once that is closed.
    let proxy = Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [{{ address = \"{backup}\", backup = true }}, \"{good}\"]\n"
    ));
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "good");
    }

    let bad = Upstream::refusing();
    let proxy = Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [{{ address = \"{backup}\", backup = true }}, \"{bad}\"]\n"
    ));
    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "backup");
    }
}

#[test]
fn an_endpoint_that_is_down_has_no_traffic() {
    let [down, good] = ["down", "good"].map(Upstream::replying);
    let proxy =
        Proxy::with(&format!("[upstreams.api]\nendpoints = [{{ address = \"{down}\", down = true }}, \"{good}\"]\n"));

    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "good");
    }
    assert_eq!(down.connections(), 0);
}

#[test]
fn there_is_a_503_when_no_endpoint_may_have_traffic() {
    let down = Upstream::replying("down");
    let proxy = Proxy::with(&format!("[upstreams.api]\nendpoints = [{{ address = \"{down}\", down = true }}]\n"));

    assert_eq!(proxy.get("/").status, 503);
    assert_eq!(down.connections(), 0);
}

#[test]
fn there_is_an_answer_while_every_endpoint_has_failed() {
    // nginx and this proxy answer 502 for those that were tried, and 503 while all are out.
    let proxy = Proxy::to([&Upstream::refusing(), &Upstream::refusing()]);
    let mut client = Client::to(&proxy);

    assert_eq!(client.get("/").status, 502);
    for _ in 0..5 {
        assert!(matches!(client.get("/").status, 502 | 503));
    }
}

#[test]
fn an_endpoint_with_as_many_requests_as_it_may_have_gets_no_more() {
    let (full, other) = (Upstream::stalling(), Upstream::replying("other"));
    let proxy = Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [{{ address = \"{full}\", max_connections = 2 }}, \"{other}\"]\n"
    ));
    let mut waiting = Vec::new();
    while full.requests() < 2 {
        let mut client = Client::to(&proxy);
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        let before = full.requests() + other.requests();
        eventually(|| full.requests() + other.requests() > before || before > 0);
        waiting.push(client);
    }

    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "other");
    }
    assert_eq!(full.requests(), 2);
}

/// Answers `/status` as it is told, and says `name` to everything else.
fn checked(name: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let told = is_well.clone();
    let upstream = Upstream::answering(move |request| match request.target() {
        "/status" if !told.load(SeqCst) => b"HTTP/1.1 500 Ill\r\ncontent-length: 0\r\n\r\n".to_vec(),
        "/status" => ok(""),
        _ => ok(name),
    });
    (upstream, is_well)
}

#[test]
fn an_endpoint_that_fails_its_check_has_no_traffic_until_it_passes() {
    let ((a, a_is_well), (b, _)) = (checked("A"), checked("B"));
    let check = "[upstreams.api.health]\npath = \"/status\"\ninterval = \"50ms\"\nfall = 2\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{check}", api([&a, &b])));
    let mut client = Client::to(&proxy);
    let up = format!("staunch_upstream_endpoint_up{{upstream=\"api\",endpoint=\"{a}\"}}");

    a_is_well.store(false, SeqCst);
    proxy.assert_counted(&up, 0.0);
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "B");
    }

    a_is_well.store(true, SeqCst);
    proxy.assert_counted(&up, 1.0);
    let order: String = (0..4).map(|_| client.get("/").text().to_owned()).collect();
    assert!(order == "ABAB" || order == "BABA", "{order}");
}

#[test]
fn an_endpoint_that_cannot_be_reached_fails_its_check() {
    let check = "[upstreams.api.health]\ntype = \"tcp\"\ninterval = \"50ms\"\nfall = 1\n";
    let (bad, good) = (Upstream::refusing(), Upstream::replying("good"));
    let proxy = Proxy::with(&format!("{ADMIN}{}{check}[upstreams.api.passive]\nmax_fails = 0\n", api([&bad, &good])));

    proxy.assert_counted(&format!("staunch_upstream_endpoint_up{{upstream=\"api\",endpoint=\"{bad}\"}}"), 0.0);

    for _ in 0..5 {
        assert_eq!(proxy.get("/").text(), "good");
    }
    proxy.assert_counted("staunch_upstream_retries_total{upstream=\"api\",answer=\"granted\"}", 0.0);
}

#[test]
fn many_clients_at_once_are_served_by_several_workers() {
    let origins = ["A", "B"].map(Upstream::replying);
    let proxy = Proxy::with(&format!("[server]\nworkers = 4\n{}", api([&origins[0], &origins[1]])));

    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let mut client = Client::to(&proxy);
                for _ in 0..50 {
                    assert_eq!(client.get("/").status, 200);
                }
            });
        }
    });

    assert_eq!(origins[0].requests() + origins[1].requests(), 1600);
    // Each worker takes turns by itself.
    assert!(origins[0].requests().abs_diff(800) <= 4, "{} of 1600", origins[0].requests());
}
