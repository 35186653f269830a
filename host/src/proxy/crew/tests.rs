use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;

use super::*;
use crate::config::{Config, ListenAddress};
use crate::http::facts::Exchange;
use crate::proxy::Proxy;
use crate::proxy::worker::Post;
use crate::telemetry::exposition::Exposition;
use crate::upstream::balancer::{
    BadPick, Balancer, BalancerNeeds, EndpointChange, FeedbackKind, Pick, PickContext, Sample,
};
use crate::upstream::endpoint::EndpointId;

const PATIENCE: Duration = Duration::from_secs(20);

/// An origin that answers each request of each connection with `hello`.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(1..) = stream.read(&mut bytes) {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
                }
            });
        }
    });
    address
}

fn proxy(workers: usize) -> Proxy {
    let text = format!(
        "[server]\nworkers = {workers}\n[[listeners]]\naddress = \"127.0.0.1:0\"\n\
         [[routes]]\nupstream = \"api\"\nrewrite = [\"set-headers\"]\n[upstreams.api]\nendpoints = [\"{}\"]\n",
        origin()
    );
    Proxy::start(Config::parse(&text, None).unwrap()).unwrap()
}

fn address(proxy: &Proxy) -> SocketAddr {
    let ListenAddress::Tcp(address) = proxy.addresses()[0] else { unreachable!() };
    address
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(address(proxy)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether a request on a connection was answered, as opposed to having found it closed.
fn is_served(mut stream: &TcpStream) -> bool {
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let mut answer = Vec::new();
    let mut bytes = [0; 4096];
    while !answer.ends_with(b"hello") {
        match stream.read(&mut bytes) {
            Ok(0) => return false,
            Ok(length) => answer.extend_from_slice(&bytes[..length]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return false,
            Err(error) => panic!("{error}"),
        }
    }
    true
}

fn order(proxy: &Proxy, worker: usize, what: impl FnOnce(&Post) + Send + 'static) {
    // A worker that has fallen does not hear it.
    drop(proxy.running.workers()[worker].send(Order::Do(Box::new(what))));
}

fn metric(proxy: &Proxy, name: &str) -> u64 {
    let mut out = Exposition::default();
    proxy.running.metrics.write(&mut out);
    let text = out.into_text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {text}")).parse().unwrap()
}

#[track_caller]
fn eventually(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "it never came true");
        thread::park_timeout(Duration::from_millis(2));
    }
}

#[test]
fn a_worker_that_panics_costs_its_connections_and_is_started_anew() {
    let proxy = proxy(2);
    let before: Vec<_> = (0..40).map(|_| connect(&proxy)).collect();
    assert!(before.iter().all(is_served));

    order(&proxy, 0, |_| panic!("a test"));
    eventually(|| metric(&proxy, "staunch_worker_restarts_total") == 1);

    let served = before.iter().filter(|stream| is_served(stream)).count();
    assert!((1..40).contains(&served), "the other worker serves its own on: {served} of 40");
    let after: Vec<_> = (0..40).map(|_| connect(&proxy)).collect();
    assert!(after.iter().all(is_served), "no socket is left to nobody");
    assert_eq!(metric(&proxy, "staunch_worker_panics_total"), 1);
    assert_eq!(metric(&proxy, "staunch_listener_connections_active"), served as u64 + 40);
    let loads = proxy.running.parts().upstreams[0].loads.clone();
    eventually(|| loads.active(0) == 0);
    drop((before, after));
    proxy.drain();
    assert!(proxy.wait());
}

#[test]
fn connections_that_come_meanwhile_wait_for_the_next_worker() {
    let proxy = proxy(1);

    for round in 1..=5 {
        let gone = connect(&proxy);
        assert!(is_served(&gone));
        let (here, is_here) = mpsc::channel();
        let (go_on, told) = mpsc::channel::<()>();
        order(&proxy, 0, move |_| {
            // Nobody accepts while this waits, and then nobody is there.
            here.send(()).unwrap();
            let _ = told.recv();
            panic!("a test");
        });
        is_here.recv().unwrap();
        let waiting: Vec<_> = (0..5).map(|_| connect(&proxy)).collect();
        drop(go_on);

        assert!(waiting.iter().all(is_served), "round {round}");
        assert!(!is_served(&gone));
    }

    assert_eq!(metric(&proxy, "staunch_worker_restarts_total"), 5);
}

#[test]
fn whatever_part_of_a_worker_panics_it_is_started_anew() {
    let proxy = proxy(1);

    // The clock of its upstreams.
    order(&proxy, 0, |post| {
        post.worker.site().upstreams[0].balancer.replace(Panicking::at(Moment::Tick), false);
    });
    eventually(|| metric(&proxy, "staunch_worker_restarts_total") == 1);

    assert!(is_served(&connect(&proxy)), "with a balancer of its own");
}

#[test]
fn a_connection_that_panics_costs_itself_and_gives_back_what_it_holds() {
    let proxy = proxy(1);
    let other = connect(&proxy);
    assert!(is_served(&other));
    order(&proxy, 0, |post| {
        post.worker.site().upstreams[0].balancer.replace(Panicking::at(Moment::Observe), false);
    });

    assert!(!is_served(&connect(&proxy)));

    eventually(|| metric(&proxy, "staunch_worker_panics_total") == 1);
    let loads = proxy.running.parts().upstreams[0].loads.clone();
    eventually(|| loads.active(0) == 0);
    eventually(|| metric(&proxy, "staunch_listener_connections_active") == 1);
    order(&proxy, 0, |post| {
        post.worker.site().upstreams[0].balancer.replace(Panicking::at(Moment::Never), false);
    });
    assert!(is_served(&other), "the others are served on, by the same worker");
    assert_eq!(metric(&proxy, "staunch_worker_restarts_total"), 0);
    other.shutdown(Shutdown::Both).unwrap();
}

#[test]
fn one_fall_is_mended_at_once_and_several_ever_later() {
    let mut back_off = BackOff::default();
    let begin = Instant::now();
    let at = |seconds| begin + Duration::from_secs(seconds);

    let waits: Vec<_> = [0, 1, 2, 3, 4, 5, 6, 30].map(|second| back_off.fell(at(second)).as_millis()).to_vec();

    assert_eq!(waits, [0, 50, 100, 200, 400, 800, 1000, 0]);
}

/// A balancer that panics when it comes to this.
struct Panicking {
    at: Moment,
    needs: BalancerNeeds,
}

#[derive(PartialEq)]
enum Moment {
    Tick,
    Observe,
    Never,
}

impl Panicking {
    fn at(at: Moment) -> Rc<Self> {
        let needs = BalancerNeeds { feedback: Some(FeedbackKind::EveryAttempt), ..BalancerNeeds::default() };
        Rc::new(Self { at, needs })
    }

    fn come_to(&self, moment: Moment) {
        assert!(self.at != moment, "a test");
    }
}

impl Balancer for Panicking {
    fn needs(&self) -> &BalancerNeeds {
        &self.needs
    }

    fn pick(&self, _: &mut Exchange, _: PickContext) -> Pick {
        Pick::Endpoint(0)
    }

    fn reject(&self, _: EndpointId, _: BadPick) {}

    fn change(&self, _: &[EndpointChange]) {}

    fn observe(&self, _: Sample) {
        self.come_to(Moment::Observe);
    }

    fn tick(&self, _: Instant) {
        self.come_to(Moment::Tick);
    }
}
