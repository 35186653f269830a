//! What stands in the body of an answer that tells of a failure.

use std::path::Path;

use crate::harness::{ADMIN, Client, Proxy, Response, Upstream, api};

fn once(endpoint: &Upstream) -> String {
    format!("{}[upstreams.api.passive]\nmax_fails = 0\n[upstreams.api.retry]\nattempts = 1\n", api([endpoint]))
}

fn page(response: &Response) -> (u16, &str, Option<&str>) {
    (response.status, response.text(), response.field("content-type"))
}

const TEXT: Option<&str> = Some("text/plain; charset=utf-8");

#[test]
fn a_failure_is_told_with_the_page_for_its_status() {
    let pages = "error_pages = { \"4xx\" = { body = \"yours\" }, \"502\" = { body = \"<p>ours</p>\", content_type = \"text/html\" }, \
         \"500-599\" = { body = \"any\", status = 500 } }";
    for (endpoint, expected) in
        [(Upstream::refusing(), (502, "<p>ours</p>", Some("text/html"))), (Upstream::stalling(), (500, "any", TEXT))]
    {
        let proxy = Proxy::with(&format!(
            "[[routes]]\nupstream = \"api\"\n{pages}\n{}",
            once(&endpoint).replace("\n[upstreams.api.passive]", "\nread_timeout = \"200ms\"\n[upstreams.api.passive]")
        ));
        let mut client = Client::to(&proxy);

        for _ in 0..2 {
            assert_eq!(page(&client.get("/")), expected, "and the connection goes on");
        }
    }
}

#[test]
fn the_servers_pages_are_for_what_has_no_page_or_no_route() {
    let server = "[server]\nerror_pages = { \"404\" = { body = \"lost\" }, \"400\" = { body = \"odd\" }, \"503\" = { body = \"server\" }, \"502\" = { body = \"server\" } }\n";
    let proxy = Proxy::with(&format!(
        "{server}[[routes]]\npath = \"/api\"\nupstream = \"api\"\nerror_pages = {{ \"502\" = {{ body = \"route\" }} }}\n\
         [[routes]]\npath = \"/closed\"\nrespond = {{ status = 503 }}\n\
         [[routes]]\npath = \"/worded\"\nrespond = {{ status = 503, body = \"own words\" }}\n{}",
        once(&Upstream::refusing())
    ));

    assert_eq!(page(&proxy.get("/api")), (502, "route", TEXT));
    assert_eq!(page(&proxy.get("/")), (404, "lost", TEXT));
    assert_eq!(page(&proxy.get("/closed")), (503, "server", TEXT));
    assert_eq!(page(&proxy.get("/worded")), (503, "own words", None));
    let mut client = Client::to(&proxy);
    client.send("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(page(&client.response()), (400, "odd", TEXT));
    client.finish();
    client.assert_closed();
}

#[test]
fn a_head_request_hears_how_long_the_page_would_be() {
    let server = "[server]\nerror_pages = { \"404\" = { body = \"lost\" } }\n";
    let proxy = Proxy::with(&format!(
        "{server}[[routes]]\npath = \"/api\"\nupstream = \"api\"\n{}",
        once(&Upstream::refusing())
    ));
    let mut client = Client::to(&proxy);

    let response = client.ask("HEAD", "/", "");

    assert_eq!((response.status, response.field("content-length")), (404, Some("4")));
    assert_eq!(client.get("/").text(), "lost");
}

#[test]
fn files_are_read_once_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let long = "x".repeat(1 << 20);
    std::fs::write(folder.path().join("50x.html"), "<h1>Down</h1>").expect("a file");
    std::fs::write(folder.path().join("long.json"), &long).expect("a file");
    let text = format!(
        "[[routes]]\nupstream = \"api\"\nerror_pages = {{ \"5xx\" = \"50x.html\" }}\n\
         [[routes]]\npath = \"/long\"\nupstream = \"api\"\nerror_pages = {{ \"5xx\" = {{ file = \"long.json\" }} }}\n{}",
        once(&Upstream::refusing())
    );
    let proxy = Proxy::start(&text, Some(&folder.path().join("staunch.toml"))).expect("it starts");
    drop(folder);

    assert_eq!(page(&proxy.get("/")), (502, "<h1>Down</h1>", Some("text/html; charset=utf-8")));
    let response = proxy.get("/long");
    assert_eq!(response.field("content-type"), Some("application/json"));
    assert!(response.text() == long, "all of a page arrives");
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(file("long"), vec![b'x'; (1 << 20) + 1]).expect("a file");
    for (name, why) in
        [("absent", "No such file or directory (os error 2)"), ("long", "it is longer than 1MiB"), ("", "")]
    {
        let line = format!("error_pages = {{ \"5xx\" = \"{name}\" }}");
        let text = format!("[[routes]]\nupstream = \"api\"\n{line}\n{}", once(&Upstream::refusing()));

        let told = Proxy::start(&text, Some(Path::new(&file("staunch.toml")))).expect_err("it must not start");

        // Behind what the test adds at the top.
        let place = format!("{}:7:25: ", file("staunch.toml"));
        let expected = match name {
            "" => "the path is empty".to_owned(),
            _ => format!("cannot read {}: {why}", file(name)),
        };
        assert_eq!(told, place + &expected);
    }
}

#[test]
fn an_endpoints_words_are_its_own_unless_they_are_intercepted() {
    let endpoint = Upstream::saying(
        "HTTP/1.1 401 No\r\nContent-Length: 5\r\nWWW-Authenticate: Basic realm=\"a\"\r\nETag: \"1\"\r\nX-Mine: 1\r\n\r\nwords",
    );
    for (intercept, expected) in [("", (401, "words", None)), ("intercept = true, ", (401, "page", TEXT))] {
        let proxy = Proxy::with(&format!(
            "[[routes]]\nupstream = \"api\"\nerror_pages = {{ {intercept}\"401\" = {{ body = \"page\" }} }}\n{}",
            once(&endpoint)
        ));
        let (connections, requests) = (endpoint.connections(), endpoint.requests());

        for _ in 0..3 {
            let response = proxy.get("/");
            assert_eq!(page(&response), expected);
            assert_eq!(response.field("www-authenticate"), Some("Basic realm=\"a\""));
            assert_eq!(response.field("x-mine").is_some(), intercept.is_empty());
        }
        let made = (endpoint.connections() - connections, endpoint.requests() - requests);
        assert_eq!(made, (1, 3), "with {intercept:?} the connection is kept");
    }
}

#[test]
fn the_server_may_intercept_what_a_route_does_not() {
    let server = "[server]\nerror_pages = { intercept = true, \"5xx\" = { body = \"page\", status = 200 } }\n";
    let rows = [
        ("500", Upstream::status(500), 200),
        ("404", Upstream::status(404), 404),
        ("200", Upstream::replying(""), 200),
    ];
    for (name, endpoint, status) in &rows {
        let proxy = Proxy::with(&format!("{server}{}", once(endpoint)));

        let response = proxy.get("/");

        assert_eq!((response.status, response.text() == "page"), (*status, *name == "500"), "{name}");
    }
}

#[test]
fn a_rewriters_refusal_has_its_page_and_keeps_its_fields() {
    let proxy = Proxy::with(&format!(
        "[[routes]]\nupstream = \"api\"\nerror_pages = {{ \"401\" = {{ body = \"who are you?\" }} }}\n\
         rewrite = [{{ plugin = \"basic-auth\", config = {{ users = \"a:$2b$10$pnR8XyvoK1GXJMiRK0X7d.5ED/2fR5nAKWypmVBLhEYFUImHwXR96\" }} }}]\n{}",
        once(&Upstream::replying("in"))
    ));

    let response = proxy.get("/");

    assert_eq!(page(&response), (401, "who are you?", TEXT));
    assert!(response.field("www-authenticate").is_some());
}

#[test]
fn a_reload_reads_the_files_again_and_a_missing_one_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, page) = (folder.path().join("staunch.toml"), folder.path().join("page"));
    std::fs::write(&page, "one").expect("a file");
    let text =
        format!("[server]\nerror_pages = {{ \"404\" = \"page\" }}\n{ADMIN}[[routes]]\npath = \"/a\"\nrespond = {{}}\n");
    let proxy = Proxy::start(&text, Some(&file)).expect("it starts");

    std::fs::write(&page, "two").expect("a file");
    assert_eq!(proxy.get("/").text(), "one");
    proxy.reload(&file, &text);
    assert_eq!(proxy.get("/").text(), "two");

    std::fs::remove_file(&page).expect("it was there");
    proxy.reread(&file, &text);
    proxy.assert_counted("staunch_config_refused_total", 1.0);
    assert_eq!(proxy.get("/").text(), "two");
}
