//! So many requests and no more, whichever worker they come to.

use std::thread;
use std::time::{Duration, Instant};

use crate::harness::{ADMIN, Client, Proxy, Upstream, api};

fn limited(origin: &Upstream, head: &str, settings: &str) -> Proxy {
    Proxy::with(&format!(
        "{head}{}[[routes]]\nupstream = \"api\"\nrewrite = [{{ plugin = \"rate-limit\", config = {{ {settings} }} }}]\n",
        api([origin])
    ))
}

#[test]
fn all_workers_together_let_no_more_pass_than_allowed() {
    let origin = Upstream::replying("");
    let proxy = limited(&origin, "[server]\nworkers = 4\n", "rate = \"1r/m\", burst = 24, nodelay = true");

    let statuses: Vec<u16> = thread::scope(|scope| {
        let clients: Vec<_> = (0..16)
            .map(|_| {
                scope.spawn(|| {
                    let mut client = Client::to(&proxy);
                    [(); 5].map(|()| client.get("/").status)
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().expect("it asks")).collect()
    });

    let passed = statuses.iter().filter(|&&status| status == 200).count();
    assert_eq!((passed, statuses.iter().filter(|&&status| status == 429).count()), (25, 55));
    assert_eq!(origin.requests(), 25);
}

#[test]
fn a_burst_is_held_until_its_time() {
    let origin = Upstream::replying("");
    let proxy = limited(&origin, "", "rate = \"10r/s\", burst = 5");
    let mut client = Client::to(&proxy);
    let began = Instant::now();

    for _ in 0..4 {
        assert_eq!(client.get("/").status, 200);
    }

    assert!(began.elapsed() >= Duration::from_millis(290), "{:?}", began.elapsed());
}

#[test]
fn a_client_is_told_what_is_left_and_when_to_come_back() {
    let origin = Upstream::replying("");
    let proxy = limited(&origin, ADMIN, "rate = \"1r/m\", burst = 1, nodelay = true, key = \"$http_x_key\"");
    let mut client = Client::to(&proxy);
    let told = |client: &mut Client, key: &str| {
        let response = client.ask("GET", "/", &format!("X-Key: {key}\r\n"));
        let field = |name: &str| response.field(name).map(str::to_owned);
        (response.status, field("ratelimit-limit"), field("ratelimit-remaining"), field("retry-after").is_some())
    };

    for (key, status, remaining) in [("a", 200, "1"), ("a", 200, "0"), ("a", 429, "0"), ("b", 200, "1")] {
        assert_eq!(told(&mut client, key), (status, Some("2".into()), Some(remaining.into()), status == 429), "{key}");
    }
    let plain = client.get("/");
    assert_eq!((plain.status, plain.field("ratelimit-limit")), (200, None), "without a key there is no limit");
    assert_eq!(origin.requests(), 4);
}

#[test]
fn a_dry_run_refuses_nobody() {
    let origin = Upstream::replying("");
    let proxy = limited(&origin, "", "rate = \"1r/m\", dry_run = true");
    let mut client = Client::to(&proxy);

    for _ in 0..5 {
        let response = client.get("/");
        assert_eq!((response.status, response.field("ratelimit-limit")), (200, None));
    }
}
