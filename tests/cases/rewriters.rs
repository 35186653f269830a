//! The built-in rewriters, each through the running proxy.

use crate::harness::{Client, Proxy, Upstream, api};

/// A proxy whose only route has these steps.
fn rewriting(origin: &Upstream, steps: &str) -> Proxy {
    Proxy::with(&format!("{}[[routes]]\nupstream = \"api\"\nrewrite = [{steps}]\n", api([origin])))
}

fn step(plugin: &str, settings: &str) -> String {
    format!("{{ plugin = \"{plugin}\", config = {{ {settings} }} }}")
}

#[test]
fn security_headers_are_there_and_telltales_are_not() {
    let origin = Upstream::saying(
        "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: x\r\nX-Frame-Options: DENY\r\nContent-Length: 2\r\n\r\nhi",
    );
    let proxy = rewriting(&origin, &step("security-headers", "content_security_policy = \"default-src 'self'\""));

    let response = proxy.get("/");

    assert_eq!(response.text(), "hi");
    for (name, value) in [
        ("server", None),
        ("x-powered-by", None),
        ("x-frame-options", Some("DENY")),
        ("x-content-type-options", Some("nosniff")),
        ("content-security-policy", Some("default-src 'self'")),
        ("strict-transport-security", None),
    ] {
        assert_eq!(response.field(name), value, "{name}");
    }
}

#[test]
fn an_exchange_has_one_identifier_on_both_sides() {
    let origin = Upstream::replying("");
    let proxy = rewriting(&origin, &step("request-id", "trust = true"));
    let mut client = Client::to(&proxy);

    let made = client.get("/").field("x-request-id").expect("an id").to_owned();
    let kept = client.ask("GET", "/", "X-Request-Id: abc-1\r\n");
    let refused = client.ask("GET", "/", "X-Request-Id: <a>\r\n");

    let seen: Vec<_> =
        origin.received().iter().map(|request| request.field("x-request-id").map(str::to_owned)).collect();
    assert_eq!(seen[0].as_deref(), Some(&*made));
    assert_eq!((kept.field("x-request-id"), seen[1].as_deref()), (Some("abc-1"), Some("abc-1")));
    assert_ne!(refused.field("x-request-id"), Some("<a>"));
    assert_eq!(refused.field("x-request-id"), seen[2].as_deref());
}

#[test]
fn clients_are_sent_to_https_and_to_a_tidy_path() {
    let origin = Upstream::replying("");
    let secure = rewriting(&origin, &step("redirect", "https = true"));
    let response = secure.get("/a//b?c=d");
    assert_eq!((response.status, response.field("location")), (308, Some("https://test/a//b?c=d")));

    let tidy = rewriting(&origin, &step("redirect", "trailing_slash = \"remove\", status = 301"));
    let response = tidy.get("//evil.test/");
    assert_eq!((response.status, response.field("location")), (301, Some("/evil.test")));
    assert_eq!(origin.requests(), 0);
    assert_eq!(tidy.get("/a").status, 200);
}

#[test]
fn an_endpoint_sees_a_rewritten_path_and_the_query() {
    let origin = Upstream::replying("");
    let steps = [
        step("rewrite-path", "prefix = \"/api\", forwarded_prefix = true"),
        step("rewrite-path", "regex = '^/v(\\d+)/(.*)$', to = \"/$2?version=$1\""),
    ];
    let proxy = rewriting(&origin, &steps.join(", "));
    let mut client = Client::to(&proxy);

    for path in ["/api/v2/users?id=1", "/api", "/apix/y?z", "/v3/"] {
        client.get(path);
    }

    let seen: Vec<_> = origin.received().iter().map(|request| request.target().to_owned()).collect();
    assert_eq!(seen, ["/users?version=2&id=1", "/", "/apix/y?z", "/?version=3"]);
    assert_eq!(origin.received()[0].field("x-forwarded-prefix"), Some("/api"));
}

#[test]
fn a_preflight_is_answered_without_an_endpoint_and_an_answer_is_readable() {
    let origin = Upstream::saying(
        "HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nhi",
    );
    let proxy = rewriting(
        &origin,
        &step(
            "cors",
            "allow_origins = [\"https://*.shop.test\"], credentials = true, allow_headers = [\"x-a\"], max_age = \"1h\"",
        ),
    );
    let mut client = Client::to(&proxy);

    let preflight = client.ask(
        "OPTIONS",
        "/",
        "Origin: https://a.shop.test\r\nAccess-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a\r\n",
    );
    assert_eq!((preflight.status, origin.requests()), (204, 0));
    for (name, value) in [
        ("access-control-allow-origin", "https://a.shop.test"),
        ("access-control-allow-credentials", "true"),
        ("access-control-allow-headers", "x-a"),
        ("access-control-max-age", "3600"),
    ] {
        assert_eq!(preflight.field(name), Some(value), "{name}");
    }

    let friend = client.ask("GET", "/", "Origin: https://a.shop.test\r\n");
    assert_eq!(friend.head.all("access-control-allow-origin"), ["https://a.shop.test"]);
    assert_eq!(friend.head.all("vary"), ["Accept", "Origin"]);
    let stranger = client.ask("GET", "/", "Origin: https://evil.test\r\n");
    assert_eq!((stranger.field("access-control-allow-origin"), stranger.text()), (None, "hi"));
}

/// A proxy before `shop` and `next`, whose only route leads to the first.
fn canary(shop: &Upstream, next: &Upstream, settings: &str) -> Result<Proxy, String> {
    let step = step("canary", settings);
    Proxy::start(
        &format!(
            "[upstreams.shop]\nendpoints = [\"{shop}\"]\n[upstreams.next]\nendpoints = [\"{next}\"]\n\
             [[routes]]\nupstream = \"shop\"\nrewrite = [{step}, {{ plugin = \"set-headers\", \
             config = {{ response = {{ set = {{ x-upstream = \"$upstream\" }} }} }} }}]\n"
        ),
        None,
    )
}

#[test]
fn a_canary_gets_who_asks_for_it_and_its_share() {
    let (shop, next) = (Upstream::replying("shop"), Upstream::replying("next"));
    let none = canary(&shop, &next, "to = \"next\", header = \"x-canary\", cookie = \"canary\"").expect("it starts");
    let mut client = Client::to(&none);

    for (lines, expected) in [
        ("", "shop"),
        ("X-Canary: always\r\n", "next"),
        ("Cookie: canary=always\r\n", "next"),
        ("Cookie: canary=always\r\nX-Canary: never\r\n", "shop"),
    ] {
        let response = client.ask("GET", "/", lines);
        assert_eq!((response.text(), response.field("x-upstream")), (expected, Some(expected)), "{lines}");
    }

    let all = canary(&shop, &next, "to = \"next\", percent = 100").expect("it starts");
    assert_eq!(all.get("/").text(), "next");
}

#[test]
fn a_client_that_takes_cookies_keeps_its_place() {
    let (shop, next) = (Upstream::replying("shop"), Upstream::replying("next"));
    let half =
        canary(&shop, &next, "to = \"next\", percent = 50, cookie = \"canary\", remember = \"1d\"").expect("it starts");
    let mut client = Client::to(&half);
    let mut met = std::collections::BTreeSet::new();

    for _ in 0..20 {
        let first = client.get("/");
        let cookie = first.field("set-cookie").expect("a place");
        let pair = cookie.split(';').next().expect("a pair").to_owned();
        let again = client.ask("GET", "/", &format!("Cookie: {pair}\r\n"));
        assert_eq!((again.text(), again.field("set-cookie")), (first.text(), None));
        met.insert(first.text().to_owned());
    }

    assert_eq!(met.len(), 2, "one of a million has all twenty on the same side");
}

#[test]
fn a_canary_that_leads_nowhere_is_refused_at_the_start() {
    let origin = Upstream::replying("");

    let faults = canary(&origin, &origin, "to = \"nxt\"").expect_err("there is no such upstream");

    assert!(faults.contains("names the upstream `nxt`, which there is not"), "{faults}");
}

/// Hashes of `secret`: bcrypt with a cost of 10, and argon2id with the parameters that OWASP advises.
const USERS: &str = "alice:$2b$10$pnR8XyvoK1GXJMiRK0X7d.5ED/2fR5nAKWypmVBLhEYFUImHwXR96\n\
    bob:$argon2id$v=19$m=19456,t=2,p=1$HxoOT0mmohd/+TcDp031Ig$zzEIlDuVDGm97G0eqEzRB0kwpD09kYFZgo8IzJZQePA\n";

#[test]
fn who_knows_a_password_passes_without_any_limit_being_raised() {
    let origin = Upstream::replying("cellar");
    let proxy =
        rewriting(&origin, &step("basic-auth", &format!("users = \"\"\"{USERS}\"\"\", user_header = \"x-user\"")));
    let mut client = Client::to(&proxy);

    let asked = client.get("/");
    assert_eq!(
        (asked.status, asked.field("www-authenticate")),
        (401, Some("Basic realm=\"restricted\", charset=\"UTF-8\""))
    );
    for (credentials, status) in [
        // alice:secret, bob:secret, alice:wrong, eve:secret
        ("YWxpY2U6c2VjcmV0", 200),
        ("Ym9iOnNlY3JldA==", 200),
        ("YWxpY2U6d3Jvbmc=", 401),
        ("ZXZlOnNlY3JldA==", 401),
        ("YWxpY2U6c2VjcmV0", 200),
    ] {
        let response = client.ask("GET", "/", &format!("Authorization: Basic {credentials}\r\nX-User: root\r\n"));
        assert_eq!(response.status, status, "{credentials}");
    }

    let requests = origin.received();
    let users: Vec<_> = requests.iter().map(|request| request.head.all("x-user")).collect();
    assert_eq!(users, [["alice"], ["bob"], ["alice"]]);
    assert!(requests.iter().all(|request| request.field("authorization").is_none()));
}
