//! An endpoint that comes back begins with a small share.

use crate::harness::{ADMIN, Client, Proxy, Upstream, api, eventually};

fn shares(client: &mut Client, requests: usize) -> usize {
    (0..requests).filter(|_| client.get("/").text() == "back").count()
}

#[test]
fn an_endpoint_that_comes_back_has_a_small_share_first() {
    let [back, other] = ["back", "other"].map(Upstream::replying);
    // So long that it does not grow while this runs.
    let proxy = Proxy::with(&format!("{ADMIN}{}slow_start = \"10h\"\n", api([&back, &other])));
    let mut client = Client::to(&proxy);
    assert_eq!(shares(&mut client, 20), 10, "nothing is slow when the proxy starts");

    assert_eq!(proxy.order(&back, "{\"drain\": true}").status, 200);
    eventually(|| client.get("/").text() == "other" && client.get("/").text() == "other");
    assert_eq!(proxy.order(&back, "{\"drain\": false}").status, 200);

    eventually(|| client.get("/").text() == "back");
    assert_eq!(shares(&mut client, 110), 10, "a tenth of the other's weight, to the request");
    let status = proxy.endpoint(&back);
    assert_eq!((&status["state"], &status["weight"]), (&"up".into(), &1.into()));
    assert!(status["starting"].as_f64().is_some_and(|share| (0.1..0.2).contains(&share)), "{status}");
    assert_eq!(status["reason"], "slow start: it has 10 % of its weight");
}

#[test]
fn its_share_grows_to_the_whole_without_anybody_doing_anything() {
    let [back, other] = ["back", "other"].map(Upstream::replying);
    let slow_start = "slow_start = { window = \"300ms\", aggression = 2, min_weight_percent = 1 }\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{slow_start}", api([&back, &other])));
    let mut client = Client::to(&proxy);
    proxy.order(&back, "{\"down\": true}");
    eventually(|| client.get("/").text() == "other" && client.get("/").text() == "other");

    proxy.order(&back, "{\"down\": null}");

    eventually(|| proxy.endpoint(&back)["starting"].is_null());
    // What was gained under other weights is spent first.
    eventually(|| shares(&mut client, 10) == 5);
}

#[test]
fn a_balancer_that_places_keys_by_weight_knows_no_slow_start() {
    let [back, other] = ["back", "other"].map(Upstream::replying);
    let hash = "balance = { plugin = \"hash\", config = { key = \"path\" } }\nslow_start = \"10h\"\n";
    let proxy = Proxy::with(&format!("{ADMIN}{}{hash}", api([&back, &other])));
    let mut client = Client::to(&proxy);
    let places = |client: &mut Client| -> Vec<String> {
        (0..50).map(|key| client.get(&format!("/{key}")).text().to_owned()).collect()
    };
    let before = places(&mut client);

    proxy.order(&back, "{\"drain\": true}");
    eventually(|| !places(&mut client).contains(&"back".to_owned()));
    proxy.order(&back, "{\"drain\": false}");

    eventually(|| places(&mut client) == before);
}
