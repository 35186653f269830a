//! Listening sockets that were open before this process began: from a service manager, or from the process that this
//! one takes the place of.
//!
//! # How do they come?
//!
//! Both ways are systemd's protocol (`sd_listen_fds(3)`): the sockets are descriptors that this process was started
//! with, and `LISTEN_FDS` says how many. An upgrade adds [`VARIABLE`], which names each descriptor's address as it was
//! configured and as it was bound, so that a listener on port 0 keeps its port, and one more descriptor over which the
//! process before waits to hear that this one serves.

use std::env;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use tracing::warn;

use super::bind::{self, Bound, Socket, Wanted};
use crate::config::{Carrier, ListenAddress};

/// What an upgrade says of the descriptors it hands over, as JSON.
const VARIABLE: &str = "STAUNCH_SOCKETS";
/// The longest answer of a new process, in bytes.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Listening sockets to be matched with a configuration. Those that nobody takes are closed with it.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Handed>);

/// The sockets of one address.
#[derive(Debug)]
struct Handed {
    /// As the process before had it in its configuration; a service manager does not say.
    asked: Option<ListenAddress>,
    address: ListenAddress,
    carrier: Carrier,
    sockets: Vec<Socket>,
}

/// The process that this one takes the place of. It waits to hear of it.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

/// The other end: a process that was started to take the place of this one.
#[derive(Debug)]
pub(crate) struct Successor(UnixStream);

/// What a new process has to say.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// It serves, all but the addresses that its configuration does not have.
    Serves { without: Vec<String> },
    /// It cannot, and why.
    Fails(String),
}

/// [`VARIABLE`].
#[derive(Serialize, Deserialize)]
struct Message {
    /// Where the answer goes.
    answer: RawFd,
    sockets: Vec<Group>,
}

#[derive(Serialize, Deserialize)]
struct Group {
    asked: String,
    address: String,
    descriptors: Vec<RawFd>,
    /// Whether they are for datagrams.
    #[serde(default)]
    datagrams: bool,
}

impl Inherited {
    /// Takes what this process was started with. To be called once, before there are threads.
    ///
    /// # Errors
    /// When a descriptor is not the listening socket it is said to be.
    pub fn from_environment() -> io::Result<(Self, Option<Predecessor>)> {
        let message = env::var(VARIABLE).ok();
        let mut descriptors = ListenFd::from_env();
        if descriptors.len() == 0 {
            return Ok(Default::default());
        }
        let (handed, predecessor) = match message {
            Some(text) => {
                let message: Message =
                    serde_json::from_str(&text).map_err(|error| bad(format!("{VARIABLE}: {error}")))?;
                let predecessor = predecessor(&mut descriptors, message.answer)?;
                (from_predecessor(&mut descriptors, message.sockets)?, Some(predecessor))
            }
            None => (from_manager(&mut descriptors)?, None),
        };
        for socket in handed.iter().flat_map(|handed| &handed.sockets) {
            socket.set_nonblocking()?;
        }
        Ok((Self(handed), predecessor))
    }

    /// Opens one address for `workers`, unless it was open already.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn bind<'a>(&mut self, wanted: impl Into<Wanted<'a>>, workers: usize) -> io::Result<Bound> {
        let wanted = wanted.into();
        match self.take(wanted) {
            Some((address, sockets)) => Ok(bind::adopt(wanted, address, sockets, workers)),
            None => bind::bind(wanted, workers, false),
        }
    }

    /// The sockets for an address of the configuration, with the address they are bound to.
    fn take(&mut self, wanted: Wanted<'_>) -> Option<(ListenAddress, Vec<Socket>)> {
        let Wanted { address: asked, carrier, .. } = wanted;
        let of_carrier = |handed: &&Handed| handed.carrier == carrier;
        let is_asked =
            |handed: &Handed| of_carrier(&handed) && handed.asked.as_ref().is_some_and(|known| is_same(known, asked));
        let at = self.0.iter().position(is_asked);
        let at =
            at.or_else(|| self.0.iter().position(|handed| of_carrier(&handed) && is_same(&handed.address, asked)))?;
        let Handed { address, sockets, .. } = self.0.remove(at);
        Some((address, sockets))
    }

    /// Closes what nobody took, and tells which addresses those were, see [`Bound::label`].
    pub(crate) fn close(self) -> Vec<String> {
        let close = |handed: Handed| {
            warn!(address = %handed.address, "closed a socket that was handed over: nothing in the configuration listens there");
            bind::label(handed.carrier, &handed.address)
        };
        self.0.into_iter().map(close).collect()
    }
}

impl Predecessor {
    /// Says that this process serves, all but the addresses that it was handed and does not need.
    pub fn serves(self, without: &[String]) {
        self.answer(&Answer::Serves { without: without.to_vec() });
    }

    /// Says that this process cannot serve.
    pub fn fails(self, why: &str) {
        self.answer(&Answer::Fails(why.to_owned()));
    }

    fn answer(mut self, answer: &Answer) {
        let text = serde_json::to_string(answer).unwrap_or_default();
        if let Err(error) = writeln!(self.0, "{text}") {
            warn!(%error, "the process before this one cannot be told");
        }
    }
}

impl Successor {
    /// Has a process that is about to be started begin with these sockets. They are its own once the second part of
    /// what is returned was dropped, which must not happen before the start.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub(crate) fn prepare(command: &mut Command, doors: &[Arc<Bound>]) -> io::Result<(Self, Vec<OwnedFd>)> {
        let (own, other) = UnixStream::pair()?;
        let mut kept: Vec<OwnedFd> = vec![other.into()];
        let answer = kept[0].as_raw_fd();
        let mut sockets = Vec::new();
        for bound in doors {
            let clones: Vec<OwnedFd> = bound.sockets()?.into_iter().map(Socket::into_descriptor).collect();
            sockets.push(Group {
                asked: bound.asked.to_string(),
                address: bound.address.to_string(),
                descriptors: clones.iter().map(AsRawFd::as_raw_fd).collect(),
                datagrams: bound.carrier == Carrier::Datagrams,
            });
            kept.extend(clones);
        }
        for descriptor in &kept {
            // Nothing else that this process starts can get them meanwhile: it starts nothing else.
            SockRef::from(descriptor).set_cloexec(false)?;
        }
        let end = kept.iter().map(AsRawFd::as_raw_fd).max().unwrap_or(0) + 1;
        command
            .env(VARIABLE, serde_json::to_string(&Message { answer, sockets })?)
            // Descriptors keep their numbers: the first is 0, and only those that are named are looked at.
            .env("LISTEN_FDS_FIRST_FD", "0")
            .env("LISTEN_FDS", end.to_string())
            .env_remove("LISTEN_PID")
            .env_remove("LISTEN_FDNAMES");
        Ok((Self(own), kept))
    }

    /// Waits for its answer; `None` when it ended without one. Blocks.
    ///
    /// # Errors
    /// When it says nothing for so long, or nothing that can be understood.
    pub(crate) fn answer(self, patience: Duration) -> io::Result<Option<Answer>> {
        self.0.set_read_timeout(Some(patience))?;
        let mut line = String::new();
        match BufReader::new(self.0.take(LONGEST_ANSWER)).read_line(&mut line) {
            Ok(0) => Ok(None),
            Ok(_) => Ok(Some(serde_json::from_str(&line)?)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::TimedOut.into()),
            Err(error) => Err(error),
        }
    }
}

fn predecessor(descriptors: &mut ListenFd, number: RawFd) -> io::Result<Predecessor> {
    let stream = descriptors.take_custom(index(number)?, libc::AF_UNIX, libc::SOCK_STREAM, "unix stream socket")?;
    stream.map(Predecessor).ok_or_else(|| bad(format!("{VARIABLE}: there is no descriptor {number}")))
}

fn from_predecessor(descriptors: &mut ListenFd, groups: Vec<Group>) -> io::Result<Vec<Handed>> {
    let address = |text: &str| text.parse::<ListenAddress>().map_err(|_| bad(format!("{VARIABLE}: `{text}`")));
    let mut handed = Vec::new();
    for group in groups {
        let sockets = group.descriptors.iter().map(|&number| {
            let socket = socket(descriptors, index(number)?)?;
            socket.ok_or_else(|| bad(format!("{VARIABLE}: there is no descriptor {number}")))
        });
        handed.push(Handed {
            sockets: sockets.collect::<io::Result<_>>()?,
            asked: Some(address(&group.asked)?),
            address: address(&group.address)?,
            carrier: if group.datagrams { Carrier::Datagrams } else { Carrier::Streams },
        });
    }
    Ok(handed)
}

/// All descriptors of a service manager, by address.
fn from_manager(descriptors: &mut ListenFd) -> io::Result<Vec<Handed>> {
    let mut handed: Vec<Handed> = Vec::new();
    for number in 0..descriptors.len() {
        let Some(socket) = socket(descriptors, number)? else { continue };
        let Some(address) = socket.address()? else {
            warn!("a unix socket without a path was handed over: it is closed");
            continue;
        };
        let carrier = socket.carrier();
        match handed.iter_mut().find(|known| known.address == address && known.carrier == carrier) {
            Some(known) => known.sockets.push(socket),
            None => handed.push(Handed { asked: None, address, carrier, sockets: vec![socket] }),
        }
    }
    Ok(handed)
}

fn socket(descriptors: &mut ListenFd, number: usize) -> io::Result<Option<Socket>> {
    match descriptors.take_tcp_listener(number) {
        Ok(socket) => Ok(socket.map(Socket::Tcp)),
        Err(not_tcp) => match descriptors.take_unix_listener(number) {
            Ok(socket) => Ok(socket.map(Socket::Unix)),
            Err(_) => match descriptors.take_udp_socket(number) {
                Ok(socket) => Ok(socket.map(Socket::Udp)),
                Err(_) => Err(not_tcp),
            },
        },
    }
}

fn index(number: RawFd) -> io::Result<usize> {
    usize::try_from(number).map_err(|_| bad(format!("{VARIABLE}: {number} is no descriptor")))
}

fn is_same(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        // Relative to the same folder, in whatever process.
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => {
            let whole = |path| path::absolute(path).ok();
            one == other || whole(one).is_some_and(|one| whole(other) == Some(one))
        }
        (one, other) => one == other,
    }
}

fn bad(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn handed(asked: Option<&str>, count: usize) -> Handed {
        let first = bind::bind((&"127.0.0.1:0".parse::<ListenAddress>().unwrap()).into(), count, false).unwrap();
        Handed {
            carrier: Carrier::Streams,
            asked: asked.map(|text| text.parse().unwrap()),
            address: first.address.clone(),
            sockets: first.sockets().unwrap(),
        }
    }

    fn serving(bound: &Bound, number: usize, workers: usize) -> usize {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _inside = runtime.enter();
        bound.listeners(number, workers).unwrap().len()
    }

    #[test]
    fn a_listener_on_any_port_keeps_the_one_it_had() {
        let (first, second) = (handed(Some("127.0.0.1:0"), 1), handed(Some("127.0.0.1:0"), 1));
        let addresses = [first.address.clone(), second.address.clone()];
        let mut inherited = Inherited(vec![first, second]);

        let bound = [1, 1]
            .map(|workers| inherited.bind(&"127.0.0.1:0".parse::<ListenAddress>().unwrap(), workers).unwrap().address);

        assert_eq!(bound, addresses);
        assert!(inherited.close().is_empty());
    }

    #[test]
    fn a_socket_is_found_by_where_it_listens() {
        let given = handed(None, 1);
        let (address, mut inherited) = (given.address.clone(), Inherited(vec![given]));

        assert_eq!(inherited.bind(&address, 1).unwrap().address, address);
        assert!(inherited.close().is_empty());
    }

    #[test]
    fn what_nobody_wants_is_closed_and_told() {
        let given = handed(None, 1);
        let address = given.address.clone();
        let mut inherited = Inherited(vec![given]);

        let other = inherited.bind(&"127.0.0.1:0".parse::<ListenAddress>().unwrap(), 1).unwrap();

        assert_ne!(other.address, address);
        assert_eq!(inherited.close(), [address.to_string()]);
        let ListenAddress::Tcp(address) = address else { unreachable!() };
        assert!(TcpListener::bind(address).is_ok(), "it is free again");
    }

    #[test]
    fn no_socket_is_left_unserved_and_no_worker_idle() {
        for (sockets, workers, each) in [(3, 2, [2, 1].as_slice()), (2, 2, &[1, 1]), (1, 3, &[1, 1, 1]), (5, 1, &[5])] {
            let given = handed(None, sockets);
            let address = given.address.clone();

            let bound = Inherited(vec![given]).bind(&address, workers).unwrap();

            let found: Vec<_> = (0..workers).map(|number| serving(&bound, number, workers)).collect();
            assert_eq!(found, each, "{sockets} sockets for {workers} workers");
        }
    }

    #[test]
    fn a_socket_that_allows_no_other_beside_it_is_shared() {
        let alone = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = ListenAddress::Tcp(alone.local_addr().unwrap());
        let given = Handed {
            asked: None,
            address: address.clone(),
            carrier: Carrier::Streams,
            sockets: vec![Socket::Tcp(alone)],
        };
        given.sockets[0].set_nonblocking().unwrap();

        let bound = Inherited(vec![given]).bind(&address, 2).unwrap();

        assert_eq!([serving(&bound, 0, 2), serving(&bound, 1, 2)], [1, 1]);
        assert_eq!(bound.sockets().unwrap().len(), 1);
    }

    #[test]
    fn an_answer_crosses_and_silence_is_told_from_an_end() {
        let pair = || UnixStream::pair().unwrap();
        let patience = Duration::from_secs(10);

        let (ours, theirs) = pair();
        Predecessor(theirs).serves(&["127.0.0.1:80".to_owned()]);
        let answer = Successor(ours).answer(patience).unwrap();
        assert!(matches!(answer, Some(Answer::Serves { without }) if without == ["127.0.0.1:80"]));

        let (ours, theirs) = pair();
        Predecessor(theirs).fails("no\nlistener");
        let answer = Successor(ours).answer(patience).unwrap();
        assert!(matches!(answer, Some(Answer::Fails(why)) if why == "no\nlistener"));

        let (ours, theirs) = pair();
        drop(theirs);
        assert!(Successor(ours).answer(patience).unwrap().is_none());

        let (ours, _theirs) = pair();
        let silence = Successor(ours).answer(Duration::from_millis(1)).unwrap_err();
        assert_eq!(silence.kind(), io::ErrorKind::TimedOut);
    }
}
