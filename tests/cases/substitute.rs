//! Text is replaced in bodies, however they come, and whoever compressed or cut them is left alone.

use std::time::Duration;

use crate::harness::{Client, Framing, Proxy, Upstream, eventually};

fn substituting(origin: &Upstream, settings: &str) -> Proxy {
    Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [\"{origin}\"]\n[[routes]]\nupstream = \"api\"\n\
         rewrite = [{{ plugin = \"substitute\", config = {{ {settings} }} }}]\n"
    ))
}

const INTERNAL: &str = "replace = [{ from = \"http://internal\", to = \"https://shop.test\" }]";

fn html(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn text_is_replaced_and_what_told_of_the_old_bytes_goes() {
    let body = "<a href=\"http://internal/a\">http://internal</a>";
    let fields = "ETag: \"v1\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n";
    let origin = Upstream::saying(html(fields, body));
    let proxy = substituting(&origin, INTERNAL);
    let mut client = Client::to(&proxy);

    let response = client.ask("GET", "/", "Accept-Encoding: gzip, br\r\n");

    assert_eq!(response.text(), "<a href=\"https://shop.test/a\">https://shop.test</a>");
    assert_eq!(response.framing, Framing::Chunked);
    assert_eq!((response.field("etag"), response.field("last-modified")), (Some("W/\"v1\""), None));
    assert_eq!(response.field("accept-ranges"), None);
    assert_eq!(origin.only_request().head.all("accept-encoding"), ["identity"]);
    assert_eq!(client.get("/").status, 200, "the connection goes on");
}

#[test]
fn a_text_that_comes_in_pieces_is_replaced() {
    let origin = Upstream::raw(|talk| {
        while talk.request().is_some() {
            talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in ["hello http", "://", "in", "tern", "al/", "x"] {
                talk.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
                talk.pause(Duration::from_millis(5));
            }
            talk.send("0\r\n\r\n");
        }
    });
    let proxy = substituting(&origin, INTERNAL);

    assert_eq!(proxy.get("/").text(), "hello https://shop.test/x");
}

#[test]
fn a_word_that_is_settled_goes_on_before_the_next_comes() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhello http");
        talk.stall();
    });
    let proxy = substituting(&origin, INTERNAL);
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = client.response_head();
    assert_eq!((head.status, head.framing), (200, Framing::Chunked));

    assert_eq!(client.take(11), b"6\r\nhello \r\n", "the rest of the body is not there");
}

#[test]
fn a_large_body_comes_whole() {
    let body = "x http://internal ".repeat(100_000);
    let origin = Upstream::saying(html("", &body));
    let proxy = substituting(&origin, INTERNAL);

    let response = proxy.get("/");

    assert!(response.text() == body.replace("http://internal", "https://shop.test"));
}

#[test]
fn what_is_compressed_cut_or_of_another_kind_passes_as_it_is() {
    let body = "http://internal";
    for (name, response) in [
        ("compressed", html("Content-Encoding: gzip\r\n", body)),
        ("a part", html("Content-Range: bytes 0-14/99\r\n", body).replace("200 OK", "206 Partial Content")),
        ("an image", html("", body).replace("text/html", "image/png")),
        ("of no kind", html("", body).replace("Content-Type: text/html\r\n", "")),
    ] {
        let proxy = substituting(&Upstream::saying(response), INTERNAL);

        let response = proxy.get("/");

        assert_eq!((response.text(), response.framing), (body, Framing::Length(15)), "{name}");
    }
}

#[test]
fn once_and_without_regard_to_case() {
    let origin = Upstream::saying(html("", "Cat cat CAT dog"));
    let settings = "once = true, ignore_case = true, replace = [{ from = \"cat\", to = \"cow\" }, { from = \"dog\" }]";

    assert_eq!(substituting(&origin, settings).get("/").text(), "cow cat CAT ");
}

#[test]
fn a_body_that_breaks_off_is_not_presented_as_whole() {
    let origin = Upstream::raw(|talk| {
        talk.request();
        talk.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\nhttp://inter");
    });
    let proxy = substituting(&origin, INTERNAL);
    let mut client = Client::to(&proxy);

    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");

    let broken = client.try_response().expect_err("it broke off");
    assert!(broken.part.is_some_and(|part| part.body.is_empty()), "what was held back is not there");
    eventually(|| origin.open_connections() == 0);
}
