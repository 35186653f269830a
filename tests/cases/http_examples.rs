//! The examples for HTTP/2 and WebSocket, run on free ports.

use std::process::Command;

use crate::harness::{Client, Proxy, Upstream, ok};

/// The example with its listener on a free port and endpoints somewhere else.
fn example(text: &str, endpoints: &[(&str, &str)]) -> Proxy {
    let mut text = text.replace("address = \"127.0.0.1:8080\"", "address = \"127.0.0.1:0\"");
    for (written, real) in endpoints {
        assert!(text.contains(written), "{written}");
        text = text.replace(&format!("\"{written}\""), &format!("\"{real}\""));
    }
    Proxy::with(&text)
}

#[test]
fn http2_is_spoken_on_both_sides() {
    // A proxy of its own is a server that speaks HTTP/2.
    let origin = Upstream::replying("service");
    let behind = Proxy::to([&origin]);
    let service = behind.address().to_string();
    let old = Upstream::replying("old");
    let proxy = example(
        include_str!("../../examples/http2.toml"),
        &[
            ("127.0.0.1:9001", &service),
            ("127.0.0.1:9002", &Upstream::refusing().to_string()),
            ("127.0.0.1:9003", &old.to_string()),
        ],
    );

    for (path, said) in [("/", "service"), ("/", "service"), ("/old/", "old")] {
        assert_eq!(Client::to(&proxy).get(path).text(), said);
    }
    // By a client that speaks it too.
    let url = format!("http://{}/", proxy.address());
    let said = Command::new("curl").args(["-s", "--http2-prior-knowledge", "-w", " %{http_version}", &url]).output();
    match said {
        Ok(said) if said.status.success() => assert_eq!(String::from_utf8_lossy(&said.stdout), "service 2"),
        _ => println!("skipped in part: there is no curl that speaks HTTP/2"),
    }
}

#[test]
fn a_chat_is_beside_the_pages() {
    let chat = Upstream::raw(|talk| {
        talk.head();
        talk.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        while let Some(piece) = talk.take(4) {
            talk.send(piece);
        }
    });
    let pages = Upstream::answering(|_| ok("page"));
    let proxy = example(
        include_str!("../../examples/websocket.toml"),
        &[
            ("127.0.0.1:9001", &chat.to_string()),
            ("127.0.0.1:9002", &Upstream::refusing().to_string()),
            ("127.0.0.1:9003", &pages.to_string()),
        ],
    );

    let mut talking = Vec::new();
    for _ in 0..3 {
        let mut client = Client::to(&proxy);
        client.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        assert_eq!(client.response_head().status, 101);
        talking.push(client);
    }
    for client in &mut talking {
        client.send("ping");
        assert_eq!(client.take(4), b"ping");
    }
    assert_eq!(Client::to(&proxy).get("/").text(), "page");
}
