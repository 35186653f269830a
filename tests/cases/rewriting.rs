//! The built-in rewriter changes headers of requests and responses.

use crate::harness::{Client, Proxy, Upstream, api};

/// A proxy whose only route rewrites with these settings of `set-headers`.
fn rewriting(origin: &Upstream, settings: &str) -> Proxy {
    Proxy::with(&format!(
        "{}[[routes]]\nupstream = \"api\"\nrewrite = [{{ plugin = \"set-headers\", config = {{ {settings} }} }}]\n",
        api([origin])
    ))
}

#[test]
fn headers_of_a_request_are_removed_set_and_appended() {
    let origin = Upstream::replying("");
    let proxy = rewriting(
        &origin,
        "request = { remove = [\"x-gone\"], set = { x-set = \"new\", x-two = [\"1\", \"2\"] }, append = { via = \"1.1 staunch\" } }",
    );

    Client::to(&proxy).ask(
        "GET",
        "/",
        "X-Gone: 1\r\nx-gone: 2\r\nX-Set: old\r\nx-set: older\r\nVia: 1.0 a\r\nX-Kept: k\r\n",
    );

    let request = origin.only_request();
    assert_eq!(request.field("x-gone"), None);
    assert_eq!(request.head.all("x-set"), ["new"]);
    assert_eq!(request.head.all("x-two"), ["1", "2"]);
    assert_eq!(request.head.all("via"), ["1.0 a", "1.1 staunch"]);
    assert_eq!(request.field("x-kept"), Some("k"));
}

#[test]
fn headers_of_a_response_are_removed_set_and_appended() {
    let origin = Upstream::saying(
        "HTTP/1.1 200 OK\r\nServer: secret/1.0\r\nX-Powered-By: x\r\nVary: a\r\nContent-Length: 2\r\n\r\nhi",
    );
    let proxy = rewriting(
        &origin,
        "response = { remove = [\"x-powered-by\"], set = { server = \"staunch\" }, append = { vary = \"b\" } }",
    );

    let response = proxy.get("/");

    assert_eq!((response.text(), response.field("x-powered-by")), ("hi", None));
    assert_eq!((response.head.all("server"), response.head.all("vary")), (vec!["staunch"], vec!["a", "b"]));
}

#[test]
fn values_may_name_facts_of_the_request() {
    let origin = Upstream::replying("");
    let proxy = rewriting(
        &origin,
        "request = { set = { x-from = \"$remote_addr\", x-all = \"$scheme://$${host}/ to $upstream for 5$$\", x-id = \"$request_id\" } }, \
         response = { set = { x-id = \"$request_id\", x-by = \"$upstream\" } }",
    );
    let mut client = Client::to(&proxy);

    let (first, second) = (client.get("/"), client.get("/"));

    let requests = origin.received();
    assert_eq!(requests[0].field("x-from"), Some("127.0.0.1"));
    assert_eq!(requests[0].field("x-all"), Some("http://test/ to api for 5$"));
    assert_eq!(first.field("x-by"), Some("api"));
    let id = requests[0].field("x-id").expect("an id");
    assert_eq!(first.field("x-id"), Some(id), "one id for a request and its response");
    assert!(!id.is_empty() && second.field("x-id") != Some(id), "{id}");
}

#[test]
fn the_host_that_an_endpoint_sees_may_be_set() {
    let origin = Upstream::replying("");
    let proxy = rewriting(&origin, "request = { set = { host = \"internal.test\" } }");

    proxy.get("/");

    let request = origin.only_request();
    assert_eq!(request.head.all("host"), ["internal.test"]);
    assert_eq!(request.field("x-forwarded-host"), Some("test"), "what the client asked for");
}

#[test]
fn what_the_proxy_adds_may_be_removed() {
    let origin = Upstream::replying("");
    let proxy =
        rewriting(&origin, "request = { remove = [\"x-forwarded-for\", \"X-Forwarded-Proto\", \"x-forwarded-host\"] }");

    proxy.get("/");

    let names: Vec<_> =
        origin.only_request().head.fields.into_iter().map(|(name, _)| name.to_ascii_lowercase()).collect();
    assert_eq!(names, ["host"]);
}

#[test]
fn rewriters_work_one_after_the_other() {
    let origin = Upstream::replying("");
    let proxy = Proxy::with(&format!(
        "{}[[routes]]\nupstream = \"api\"\nrewrite = [\n\
         {{ plugin = \"set-headers\", config = {{ request = {{ set = {{ x-a = \"1\" }} }}, response = {{ append = {{ x-r = \"first\" }} }} }} }},\n\
         {{ plugin = \"set-headers\", config = {{ request = {{ append = {{ x-a = \"2\" }} }}, response = {{ append = {{ x-r = \"second\" }} }} }} }},\n]\n",
        api([&origin])
    ));

    let response = proxy.get("/");

    assert_eq!(origin.only_request().head.all("x-a"), ["1", "2"]);
    assert_eq!(response.head.all("x-r").len(), 2);
}

#[test]
fn another_route_is_not_rewritten() {
    let origin = Upstream::replying("");
    let proxy = Proxy::with(&format!(
        "{}[[routes]]\nupstream = \"api\"\n[[routes]]\npath = \"/x/\"\nupstream = \"api\"\n\
         rewrite = [{{ plugin = \"set-headers\", config = {{ request = {{ set = {{ x-a = \"1\" }} }} }} }}]\n",
        api([&origin])
    ));
    let mut client = Client::to(&proxy);

    client.get("/");
    client.get("/x/");

    let values: Vec<_> = origin.received().iter().map(|request| request.field("x-a").map(str::to_owned)).collect();
    assert_eq!(values, [None, Some("1".to_owned())]);
}

#[test]
fn settings_that_are_wrong_are_refused_with_their_place() {
    let error = Proxy::start(
        "[[routes]]\nrespond = { body = \"x\" }\n\
         rewrite = [{ plugin = \"set-headers\", config = { request = { set = { connection = \"x\" }, sett = {} } } }]\n",
        None,
    )
    .expect_err("refused");

    assert!(error.contains("sett") && error.contains("did you mean `set`?"), "{error}");
    assert!(error.contains("connection"), "{error}");
    assert!(error.lines().all(|line| line.split(':').take(2).all(|n| n.trim().parse::<u32>().is_ok())), "{error}");
}
