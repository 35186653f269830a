//! The hash balancers under requests: golden picks, the same endpoints as a real nginx, and what happens to keys whose
//! endpoint fails.
//!
//! The comparison is skipped where nginx is not installed.

use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::harness::{Client, Proxy, Upstream, eventually};

/// Keys that nginx and staunch are asked for.
const KEYS: usize = 10_000;
/// Requests that are sent before their responses are read.
const PIPELINED: usize = 100;

/// What each of the responses to these requests says, in one string.
fn answers(client: &mut Client, requests: impl Iterator<Item = String>) -> String {
    let requests: Vec<String> = requests.collect();
    let mut said = String::new();
    for some in requests.chunks(PIPELINED) {
        client.send(some.concat());
        for _ in some {
            let response = client.response();
            assert_eq!(response.status, 200);
            said += response.text();
        }
    }
    said
}

fn get(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n")
}

fn keys(count: usize, path: &str) -> impl Iterator<Item = String> {
    (0..count).map(move |n| get(&format!("{path}?k=k{n}"), ""))
}

#[test]
fn plain_hash_gives_the_golden_picks() {
    let endpoints = ["1", "2", "3"].map(Upstream::replying);
    let quoted = endpoints.each_ref().map(|endpoint| format!("\"{endpoint}\"")).join(", ");
    for key in ["query:k", "header:x-key", "cookie:k"] {
        let proxy = Proxy::with(&format!(
            "[upstreams.api]\nendpoints = [{quoted}]\nbalance = {{ plugin = \"hash\", config = {{ key = \"{key}\" }} }}\n"
        ));
        let request = |n| get(&format!("/?k=k{n}"), &format!("X-Key: k{n}\r\nCookie: a=b; k=k{n}\r\n"));

        let picks = answers(&mut Client::to(&proxy), (0..24).map(request));

        assert_eq!(picks, "212123131111113233213321", "by {key}");
    }
}

/// Keeps listeners off the ports that the golden picks are for, as far as they are free.
fn hold(ports: [u16; 3]) -> Vec<Socket> {
    ports.iter().filter_map(|&port| refusing(port).ok()).collect()
}

fn refusing(port: u16) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

#[test]
fn consistent_hash_gives_the_golden_picks() {
    // To be picked is enough: whoever listens there, or nobody, the access log says where a request went.
    let _held = hold([39001, 39002, 39003]);
    let folder = tempfile::tempdir().expect("a folder");
    for (weight, expected) in [(1, "121213231322312321333311"), (3, "121213211321312121331311")] {
        let file = folder.path().join(format!("{weight}.log"));
        let proxy = Proxy::with(&format!(
            "[access_log]\npath = \"{}\"\n[upstreams.api]\nendpoints = [\n\
               {{ address = \"127.0.0.1:39001\", weight = {weight} }}, \"127.0.0.1:39002\", \"127.0.0.1:39003\",\n\
             ]\n\
             balance = {{ plugin = \"hash\", config = {{ key = \"query:k\", consistent = true }} }}\n\
             read_timeout = \"1s\"\npassive = {{ max_fails = 0 }}\nretry = {{ attempts = 1 }}\n",
            file.display()
        ));
        let mut client = Client::to(&proxy);
        for n in 0..24 {
            client.get(&format!("/?k=k{n}"));
        }

        let read = || fs::read_to_string(&file).unwrap_or_default();
        eventually(|| read().lines().count() == 24);
        let picked = |line: &str| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["endpoint"].as_str().and_then(|address| address.chars().last()).expect("an endpoint")
        };
        assert_eq!(read().lines().map(picked).collect::<String>(), expected, "with weight {weight}");
    }
}

#[test]
fn keys_of_an_endpoint_that_fails_go_elsewhere_and_no_others() {
    let alive = ["1", "2", "3"].map(Upstream::replying);
    let failing = Upstream::refusing();
    for balance in [
        "{ plugin = \"hash\", config = { key = \"query:k\" } }",
        "{ plugin = \"hash\", config = { key = \"query:k\", consistent = true } }",
        "{ plugin = \"maglev\", config = { key = \"query:k\" } }",
        "{ plugin = \"rendezvous\", config = { key = \"query:k\", hash_balance_factor = 1000 } }",
    ] {
        let proxy = |fourth: &str| {
            let [a, b, c] = &alive;
            Proxy::with(&format!(
                "[upstreams.api]\nbalance = {balance}\nendpoints = [\"{a}\", \"{b}\", \"{c}\", {fourth}]\n"
            ))
        };
        let picks = |proxy: &Proxy| answers(&mut Client::to(proxy), keys(200, "/"));
        let failed = proxy(&format!("\"{failing}\""));

        let (at_first, later) = (picks(&failed), picks(&failed));
        let down = picks(&proxy(&format!("{{ address = \"{failing}\", down = true }}")));

        assert_eq!(at_first, later, "{balance}");
        assert_eq!(later, down, "{balance}");
        assert!(["1", "2", "3"].iter().all(|name| later.matches(name).count() > 30), "{balance}: {later}");
    }
}

#[test]
fn backups_share_the_keys_when_no_primary_is_ready() {
    let backups = ["1", "2", "3"].map(Upstream::replying);
    let quoted = backups.each_ref().map(|endpoint| format!("{{ address = \"{endpoint}\", backup = true }}")).join(", ");
    let proxy = Proxy::with(&format!(
        "[upstreams.api]\nendpoints = [\"{}\", {quoted}]\n\
         balance = {{ plugin = \"hash\", config = {{ key = \"query:k\" }} }}\n",
        Upstream::refusing()
    ));

    let picks = answers(&mut Client::to(&proxy), keys(24, "/"));

    assert_eq!(picks, "212123131111113233213321");
}

#[test]
fn tables_of_very_many_points_are_made_before_the_proxy_starts() {
    let origin = Upstream::replying("found");
    let down = |n: u32| format!("{{ address = \"127.0.{}.{}:9\", weight = 6, down = true }}", n / 250, n % 250);
    let endpoints: Vec<String> = (1..1000).map(down).chain([format!("\"{origin}\"")]).collect();
    for balance in [
        "{ plugin = \"hash\", config = { key = \"path\", consistent = true } }",
        "{ plugin = \"maglev\", config = { key = \"path\", table_size = 1000003 } }",
    ] {
        let proxy =
            Proxy::with(&format!("[upstreams.api]\nbalance = {balance}\nendpoints = [{}]\n", endpoints.join(", ")));

        assert_eq!(proxy.get("/").text(), "found");
    }
}

#[test]
fn a_growing_conversation_stays_on_one_endpoint() {
    let endpoints = ["1", "2", "3", "4"].map(Upstream::replying);
    let quoted = endpoints.each_ref().map(|endpoint| format!("\"{endpoint}\"")).join(", ");
    // Workers of which each has some of the connections.
    let proxy = Proxy::with(&format!(
        "[server]\nworkers = 3\n[plugins.prefix-affinity]\nshared = \"10MiB\"\n[upstreams.api]\nendpoints = [{quoted}]\n\
         balance = {{ plugin = \"prefix-affinity\", config = {{ key = \"header:x-prefix\" }} }}\n"
    ));

    let mut first = String::new();
    for chat in 0..20 {
        let mut prefix = format!("chat-{chat}");
        let mut said = String::new();
        for turn in 0..5 {
            said += Client::to(&proxy).ask("GET", "/", &format!("X-Prefix: {prefix}\r\n")).text();
            write!(prefix, "/turn-{turn}").expect("a string");
        }
        assert_eq!(said, said[..1].repeat(5), "chat {chat}");
        first += &said[..1];
    }

    assert!(["1", "2", "3", "4"].iter().all(|name| first.contains(name)), "{first}");
}

/// An nginx with five servers that say a letter each, and a proxy of its own before them. It ends with the test.
struct Nginx {
    servers: [SocketAddr; 5],
    proxy: SocketAddr,
    child: Child,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A master that is killed leaves its worker behind; one that is told to stop does not.
        let _ = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        let _ = self.child.wait();
    }
}

/// An algorithm as nginx and staunch write it.
const ALGORITHMS: [(&str, &str, &str); 3] = [
    ("plain", "hash $arg_k", "{ plugin = \"hash\", config = { key = \"query:k\" } }"),
    ("ring", "hash $arg_k consistent", "{ plugin = \"hash\", config = { key = \"query:k\", consistent = true } }"),
    ("ip", "ip_hash", "\"ip-hash\""),
];
/// Weights of the five servers, where one of a weight below 0 is `down`, and how many keys are asked for.
const WEIGHTS: [(&str, [i32; 5], usize); 3] =
    [("uneven", [7, 1, 3, 1, 12], KEYS), ("even", [1, 1, 1, 1, 1], KEYS / 5), ("down", [2, -1, 1, -20, 3], KEYS / 5)];

impl Nginx {
    fn start(folder: &Path) -> Option<Self> {
        let is_there = Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok_and(|done| done.success());
        if !is_there {
            println!("skipped: nginx is not installed (Debian: apt-get install nginx)");
            return None;
        }
        // Its worker serves as another user.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder, open).expect("a folder of ours");
        // Free a moment ago; other tests have another address.
        let taken: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.78:0").expect("a port")).collect();
        let addresses: Vec<_> = taken.iter().map(|taken| taken.local_addr().expect("bound")).collect();
        drop(taken);
        let (proxy, servers) = (addresses[5], [0, 1, 2, 3, 4].map(|n| addresses[n]));

        let here = folder.display();
        let mut http = String::new();
        for (server, name) in servers.iter().zip("ABCDE".chars()) {
            writeln!(http, "server {{ listen {server}; location / {{ return 200 {name}; }} }}").expect("a string");
        }
        let mut locations = String::new();
        for (algorithm, directive, _) in ALGORITHMS {
            for (name, weights, _) in WEIGHTS {
                let server = |(server, weight): (&SocketAddr, i32)| match weight {
                    ..0 => format!("server {server} weight={} down; ", -weight),
                    weight => format!("server {server} weight={weight}; "),
                };
                let list: String = servers.iter().zip(weights).map(server).collect();
                writeln!(http, "upstream {algorithm}-{name} {{ {directive}; {list} keepalive 8; }}").expect("a string");
                writeln!(locations, "location /{algorithm}/{name} {{ proxy_pass http://{algorithm}-{name}; }}")
                    .expect("a string");
            }
        }
        let config = format!(
            "daemon off; worker_processes 1; pid {here}/pid; error_log {here}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n\
               access_log off; keepalive_requests 1000000; tcp_nodelay on;\n\
               client_body_temp_path {here}/a; proxy_temp_path {here}/b; fastcgi_temp_path {here}/c;\n\
               uwsgi_temp_path {here}/d; scgi_temp_path {here}/e;\n\
               {http}\n\
               server {{\n\
                 listen {proxy}; set_real_ip_from 127.0.0.0/8; real_ip_header X-Real-IP;\n\
                 proxy_http_version 1.1; proxy_set_header Connection \"\";\n{locations}\n\
               }}\n\
             }}\n"
        );
        fs::write(folder.join("nginx.conf"), config).expect("a file");
        let mut command = Command::new("nginx");
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).arg("-e").arg(folder.join("error.log"));
        let child = command.stdin(Stdio::null()).spawn().expect("nginx");
        let nginx = Self { servers, proxy, child };
        eventually(|| TcpStream::connect(nginx.proxy).is_ok());
        Some(nginx)
    }

    /// A staunch with the same upstreams at the same paths.
    fn rival(&self) -> Proxy {
        let mut text = String::new();
        for (algorithm, _, balance) in ALGORITHMS {
            for (name, weights, _) in WEIGHTS {
                let endpoint = |(server, weight): (&SocketAddr, i32)| {
                    format!("{{ address = \"{server}\", weight = {}, down = {} }}", weight.abs(), weight < 0)
                };
                let list: Vec<String> = self.servers.iter().zip(weights).map(endpoint).collect();
                write!(
                    text,
                    "[upstreams.{algorithm}-{name}]\nbalance = {balance}\nendpoints = [{}]\n\
                     [[routes]]\npath = \"/{algorithm}/{name}\"\nupstream = \"{algorithm}-{name}\"\n",
                    list.join(", ")
                )
                .expect("a string");
            }
        }
        Proxy::with(&text)
    }
}

#[test]
fn ten_thousand_keys_go_where_nginx_sends_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(nginx) = Nginx::start(folder.path()) else { return };
    let rival = nginx.rival();
    let (mut theirs, mut ours) = (Client::connect(nginx.proxy), Client::to(&rival));

    for algorithm in ["plain", "ring"] {
        for (name, _, count) in WEIGHTS {
            let path = format!("/{algorithm}/{name}");
            let (expected, picks) = (answers(&mut theirs, keys(count, &path)), answers(&mut ours, keys(count, &path)));

            assert_eq!(picks.len(), count);
            assert!(picks == expected, "{path}: {} differ", differ(&picks, &expected));
        }
    }
}

#[test]
fn ten_thousand_clients_go_where_nginx_sends_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(nginx) = Nginx::start(folder.path()) else { return };
    let rival = nginx.rival();
    // Networks apart, of which nothing that is hashed is the same.
    let clients: Vec<Ipv4Addr> =
        (0..KEYS as u32).map(|n| Ipv4Addr::new(127, (n * 7 / 256 % 256) as u8, (n * 7 % 256) as u8, 1)).collect();

    let mut picks = WEIGHTS.map(|_| String::new());
    for (number, client) in clients.iter().enumerate() {
        // A connection from the client's own address, for each of the upstreams.
        let mut connection = client_from(*client, &rival);
        let asked = WEIGHTS.iter().zip(&mut picks).filter(|((_, _, count), _)| number < *count);
        let (requests, picks): (Vec<_>, Vec<_>) =
            asked.map(|((name, ..), picks)| (get(&format!("/ip/{name}"), ""), picks)).unzip();
        connection.send(requests.concat());
        for picks in picks {
            *picks += connection.response().text();
        }
    }

    let mut theirs = Client::connect(nginx.proxy);
    for ((name, _, count), picks) in WEIGHTS.iter().zip(picks) {
        let request = |client: &Ipv4Addr| get(&format!("/ip/{name}"), &format!("X-Real-IP: {client}\r\n"));
        let expected = answers(&mut theirs, clients[..*count].iter().map(request));

        assert_eq!(picks.len(), *count);
        assert!(picks == expected, "{name}: {} differ", differ(&picks, &expected));
    }
}

fn client_from(address: Ipv4Addr, proxy: &Proxy) -> Client {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((address, 0)).into()).expect("all of 127/8 is ours");
    socket.connect(&proxy.address().into()).expect("it listens");
    Client::over_tcp(socket.into())
}

fn differ(picks: &str, expected: &str) -> usize {
    picks.bytes().zip(expected.bytes()).filter(|(pick, expected)| pick != expected).count()
}
