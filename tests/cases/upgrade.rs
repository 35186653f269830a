//! One process takes the place of another, or of nobody, over sockets that were open before it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{self, JoinHandle};

use crate::harness::{ADMIN, Client, Service, Upstream, api, eventually};

/// Clients that ask without a pause until they are told to leave.
struct Crowd {
    leave: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Half of them keep their connections, half take one for each request.
    fn gather(address: SocketAddr, size: usize) -> Self {
        let (leave, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |number: usize| {
            let (leave, answered) = (leave.clone(), answered.clone());
            thread::spawn(move || {
                let mut kept: Option<Client> = None;
                while !leave.load(SeqCst) {
                    let mut client = kept.take().unwrap_or_else(|| Client::connect(address));
                    let response = client.get("/");
                    assert_eq!((response.status, response.text()), (200, "hello"));
                    answered.fetch_add(1, SeqCst);
                    let closes = response.field("connection") == Some("close");
                    kept = (number.is_multiple_of(2) && !closes).then_some(client);
                }
            })
        };
        let clients = (0..size).map(client).collect();
        Self { leave, answered, clients }
    }

    /// Waits until they were answered some times more.
    fn assert_served(&self) {
        let before = self.answered.load(SeqCst);
        eventually(|| self.answered.load(SeqCst) > before + 20);
    }

    /// Fails if any request of any of them has failed.
    fn leave(self) {
        self.leave.store(true, SeqCst);
        for client in self.clients {
            client.join().expect("every request was answered");
        }
    }
}

#[test]
fn ten_upgrades_cost_clients_that_never_stop_no_request() {
    let origin = Upstream::replying("hello");
    let server = "[server]\nworkers = 2\nclient_keepalive_min_timeout = \"10s\"\n";
    let mut service = Service::start(&format!("{server}{ADMIN}{}", api([&origin])));
    let crowd = Crowd::gather(service.listener(), 4);
    let mut processes = vec![service.process];

    for round in 0..10 {
        crowd.assert_served();
        if round % 2 == 0 {
            service.signal("USR2");
        } else {
            let upgraded = service.command(&["upgrade"]);
            assert!(upgraded.status.success(), "{upgraded:?}\n{}", service.log());
        }
        service.replaced();
        processes.push(service.process);
    }
    crowd.assert_served();
    crowd.leave();

    let last = processes.pop().expect("eleven");
    for process in processes {
        service.ended(process);
    }
    service.signal("TERM");
    assert_eq!(service.told(), "STOPPING=1");
    service.ended(last);
}

#[test]
fn a_new_process_that_cannot_start_leaves_the_old_one_serving() {
    let origin = Upstream::replying("hello");
    let mut service = Service::start(&format!("{ADMIN}{}", api([&origin])));
    let file = service.folder().join("staunch.toml");
    let good = fs::read_to_string(&file).expect("a file");
    let mut client = service.client();
    client.get("/");

    fs::write(&file, format!("{good}\nbalanse = 1\n")).expect("a file");
    let refused = service.command(&["upgrade"]);
    assert_eq!(client.get("/").text(), "hello", "it keeps its connections");
    assert_eq!(service.admin().get("/readyz").status, 200);
    fs::write(&file, good).expect("a file");
    let upgraded = service.command(&["upgrade"]);

    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{words}");
    assert!(words.contains("unknown key `balanse`") && service.log().contains("not upgraded"), "{words}");
    let said = String::from_utf8_lossy(&upgraded.stdout).into_owned();
    let old = service.process;
    service.replaced();
    assert_eq!(said.trim(), format!("the process {} serves", service.process));
    service.ended(old);
    assert_eq!(service.client().get("/").text(), "hello");
    assert_eq!(service.admin().get("/readyz").status, 200, "the admin server is the new one's");
}

#[test]
fn a_tunnel_lives_on_in_the_old_process_for_as_long_as_it_drains() {
    let origin = Upstream::raw(|talk| {
        talk.head();
        talk.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
        while let Some(piece) = talk.take(5) {
            talk.send(piece);
        }
    });
    let mut service = Service::start(&format!("[server]\ndrain_timeout = \"8s\"\n{}", api([&origin])));
    let mut client = service.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    client.response_head();
    let old = service.process;

    service.signal("USR2");
    service.replaced();

    client.send("still");
    assert_eq!(client.take(5), b"still");
    assert!(TcpStream::connect(service.listener()).is_ok());
    let (rest, _) = client.drain();
    assert_eq!(rest, b"", "until it has drained");
    service.ended(old);
}

#[test]
fn a_unix_socket_is_handed_over_and_removed_by_the_last() {
    let origin = Upstream::replying("hello");
    let listener = "[[listeners]]\naddress = \"unix:@folder@/proxy\"\n";
    let mut service = Service::start(&format!("{listener}{}", api([&origin])));
    let socket = service.folder().join("proxy");
    let old = service.process;

    service.signal("USR2");
    service.replaced();
    service.ended(old);

    assert_eq!(Client::over(&socket).expect("it listens").get("/").text(), "hello");
    service.signal("TERM");
    service.ended(service.process);
    assert!(!socket.exists());
}

#[test]
fn a_listener_that_the_new_configuration_lacks_is_closed() {
    let origin = Upstream::replying("hello");
    let more = "[[listeners]]\naddress = \"unix:@folder@/proxy\"\n[[listeners]]\naddress = \"unix:@folder@/more\"\n";
    let mut service = Service::start(&format!("{more}{}", api([&origin])));
    let file = service.folder().join("staunch.toml");
    let text = fs::read_to_string(&file).expect("a file");
    let (more, old) = (service.folder().join("more"), service.process);
    let cut = text.replace(&format!("[[listeners]]\naddress = \"unix:{}\"\n", more.display()), "");
    assert_ne!(cut, text);
    fs::write(&file, cut).expect("a file");

    service.signal("USR2");
    service.replaced();
    service.ended(old);

    assert!(Client::over(&service.folder().join("proxy")).is_ok());
    assert!(UnixStream::connect(&more).is_err() && !more.exists());
}

#[test]
fn a_socket_of_systemd_is_served_with_what_waits_in_it() {
    let origin = Upstream::replying("hello");
    let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    let mut early = TcpStream::connect(address).expect("it listens");
    early.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").expect("a socket");

    let text = format!("[server]\nworkers = 3\n[[listeners]]\naddress = \"{address}\"\n{}", api([&origin]));
    let mut service = Service::start_with(&text, Some(&socket));
    drop(socket);

    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("an answer");
    assert!(answer.ends_with("hello"), "{answer}");
    let old = service.process;
    service.signal("USR2");
    service.replaced();
    service.ended(old);
    assert_eq!(service.client().get("/").text(), "hello", "it was handed on");
    assert_eq!(service.listener(), address);
}
