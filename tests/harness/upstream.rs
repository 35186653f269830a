//! An origin that says exactly what a test wants, and keeps what it was asked.

use std::cell::RefCell;
use std::fmt;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use rustls::{CommonState, ServerConfig, ServerConnection, StreamOwned};
use socket2::{Domain, Socket as RawSocket, Type};

use super::wire::{Socket, Wire};
use super::{End, Request, eventually};

/// One origin; clones are the same one. It ends with its test.
#[derive(Clone)]
pub(crate) struct Upstream(Arc<Handle>);

thread_local! {
    /// The origins of the test that this thread runs: so one that a test has no name for lives on.
    static KEPT: RefCell<Vec<Upstream>> = const { RefCell::new(Vec::new()) };
}

/// Ends the origin when the test is over.
struct Handle {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// What holds the port of one that accepts nothing.
    held: Vec<RawSocket>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// In the order in which their heads came.
    requests: Vec<Request>,
    /// Handles to close them with.
    connections: Vec<Option<TcpStream>>,
    open: usize,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.over = true;
        for connection in state.connections.iter().flatten() {
            // It may be closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.shared.changed.notify_all();
        if self.held.is_empty() {
            // Wakes the thread that accepts.
            let _ = TcpStream::connect(self.address);
        }
    }
}

/// As a configuration names it.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.address.fmt(f)
    }
}

/// A whole response with this body.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut response = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}

impl Upstream {
    /// Does for each connection what the script says; the connection ends with it.
    pub(crate) fn raw(script: impl Fn(&mut Talk) + Send + Sync + 'static) -> Self {
        Self::raw_on(TcpListener::bind("127.0.0.1:0").expect("a port"), script)
    }

    /// The same with a listener of the test's own.
    pub(crate) fn raw_on(listener: TcpListener, script: impl Fn(&mut Talk) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared::default());
        let (accepting, script) = (shared.clone(), Arc::new(script));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().map_while(Result::ok).enumerate() {
                let mut state = accepting.lock();
                if state.over {
                    return;
                }
                let Ok(handle) = stream.try_clone() else { return };
                state.connections.push(Some(handle));
                state.open += 1;
                drop(state);
                let (shared, script) = (accepting.clone(), script.clone());
                thread::spawn(move || {
                    let mut talk = Talk { wire: Wire::new(Socket::Tcp(stream)), shared: shared.clone(), number };
                    script(&mut talk);
                    drop(talk);
                    let mut state = shared.lock();
                    // With its last handle the connection ends: in order, or with a reset if that was asked for.
                    state.connections[number] = None;
                    state.open -= 1;
                    drop(state);
                    shared.changed.notify_all();
                });
            }
        });
        Self::kept(Handle { address, shared, held: Vec::new() })
    }

    /// The same behind TLS. Who does not agree with it is not served.
    pub(crate) fn secure(tls: Arc<ServerConfig>, script: impl Fn(&mut Talk) + Send + Sync + 'static) -> Self {
        Self::raw(move |talk| {
            if talk.secure(&tls) {
                script(talk);
            }
        })
    }

    fn kept(handle: Handle) -> Self {
        let upstream = Self(Arc::new(handle));
        KEPT.with_borrow_mut(|kept| kept.push(upstream.clone()));
        upstream
    }

    /// Answers each request with what the function says.
    pub(crate) fn answering(answer: impl Fn(&Request) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::raw(move |talk| {
            while let Some(request) = talk.request() {
                talk.send(answer(&request));
            }
        })
    }

    /// Answers each request with these bytes.
    pub(crate) fn saying(response: impl AsRef<[u8]>) -> Self {
        let response = response.as_ref().to_vec();
        Self::answering(move |_| response.clone())
    }

    /// Answers each request with this body.
    pub(crate) fn replying(body: impl AsRef<[u8]>) -> Self {
        Self::saying(ok(body))
    }

    /// Answers each request with this status and an empty body.
    pub(crate) fn status(status: u16) -> Self {
        Self::saying(format!("HTTP/1.1 {status} Said\r\ncontent-length: 0\r\n\r\n"))
    }

    /// Answers each request with its own body.
    pub(crate) fn echo() -> Self {
        Self::answering(|request| ok(&request.body))
    }

    /// Has a port on which nobody listens.
    pub(crate) fn refusing() -> Self {
        let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        Self::holding(vec![socket])
    }

    /// Listens, but its queue is full: who connects gets no answer.
    pub(crate) fn unreachable() -> Self {
        let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.listen(0).expect("a listener");
        let address = socket.local_addr().expect("bound");
        let mut held = vec![socket];
        loop {
            let filler = RawSocket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            let connected = filler.connect_timeout(&address, Duration::from_millis(200));
            held.push(filler);
            if connected.is_err() {
                return Self::holding(held);
            }
        }
    }

    fn holding(held: Vec<RawSocket>) -> Self {
        let address = held[0].local_addr().ok().and_then(|address| address.as_socket()).expect("bound");
        Self::kept(Handle { address, shared: Arc::default(), held })
    }

    /// Reads requests and never answers.
    pub(crate) fn stalling() -> Self {
        Self::raw(|talk| {
            talk.request();
            talk.stall();
        })
    }

    /// Answers `n` requests on each connection and closes it then, without saying so before.
    pub(crate) fn closing_after(n: usize) -> Self {
        Self::raw(move |talk| {
            for _ in 0..n {
                let Some(_) = talk.request() else { return };
                talk.send(ok("closing"));
            }
        })
    }

    /// Promises a hundred bytes and closes after ten.
    pub(crate) fn truncating() -> Self {
        Self::raw(|talk| {
            talk.request();
            talk.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789");
        })
    }

    /// Answers with what is not HTTP.
    pub(crate) fn garbling() -> Self {
        Self::saying("\x16\x03\x01 these are not the bytes you are looking for\r\n\r\n")
    }

    /// Sends a body a byte at a time, with so much time between two.
    pub(crate) fn dripping(body: &'static str, gap: Duration) -> Self {
        Self::raw(move |talk| {
            while talk.request().is_some() {
                talk.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()));
                for byte in body.bytes() {
                    talk.send([byte]);
                    talk.pause(gap);
                }
            }
        })
    }

    /// Requests whose head came.
    pub(crate) fn requests(&self) -> usize {
        self.0.shared.lock().requests.len()
    }

    /// Connections accepted.
    pub(crate) fn connections(&self) -> usize {
        self.0.shared.lock().connections.len()
    }

    /// Connections that neither side has ended.
    pub(crate) fn open_connections(&self) -> usize {
        self.0.shared.lock().open
    }

    /// What it was asked, in order.
    pub(crate) fn received(&self) -> Vec<Request> {
        self.0.shared.lock().requests.clone()
    }

    /// The only request it was asked, once that has come whole.
    #[track_caller]
    pub(crate) fn only_request(&self) -> Request {
        eventually(|| self.received().first().is_some_and(|request| request.is_whole));
        let mut received = self.received();
        assert_eq!(received.len(), 1, "one request");
        received.remove(0)
    }

    /// Closes every connection it has.
    pub(crate) fn close_connections(&self) {
        for connection in self.0.shared.lock().connections.iter().flatten() {
            // It may be closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

/// An origin's side of one connection.
pub(crate) struct Talk {
    wire: Wire,
    shared: Arc<Shared>,
    /// From 0, in the order in which they were accepted.
    pub(crate) number: usize,
}

impl Talk {
    /// Goes on behind TLS. Answers whether the client agreed.
    fn secure(&mut self, tls: &Arc<ServerConfig>) -> bool {
        let Some(stream) = self.wire.take_tcp() else { return false };
        let session = ServerConnection::new(tls.clone()).expect("a session");
        let mut stream = StreamOwned::new(session, stream);
        while stream.conn.is_handshaking() {
            if stream.conn.complete_io(&mut stream.sock).is_err() {
                return false;
            }
        }
        self.wire = Wire::new(Socket::TlsServer(Box::new(stream)));
        true
    }

    /// What the handshake came to, if there is TLS.
    pub(crate) fn session(&self) -> Option<&CommonState> {
        self.wire.session()
    }

    /// Reads a whole request; `None` when there is none any more, or it broke off.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let mut request = self.head()?;
        self.body(&mut request).then_some(request)
    }

    /// Reads a request's head.
    pub(crate) fn head(&mut self) -> Option<Request> {
        let request = self.wire.request_head(self.number).ok()?;
        self.shared.lock().requests.push(request.clone());
        self.shared.changed.notify_all();
        Some(request)
    }

    /// Reads the body of a request whose head was read; `false` when it broke off.
    pub(crate) fn body(&mut self, request: &mut Request) -> bool {
        let is_whole = self.wire.request_body(request).is_ok();
        let mut state = self.shared.lock();
        // One connection carries one request at a time.
        if let Some(known) = state.requests.iter_mut().rev().find(|known| known.connection == self.number) {
            *known = request.clone();
        }
        drop(state);
        self.shared.changed.notify_all();
        is_whole
    }

    /// Sends bytes; `false` when the peer is gone.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.send(bytes.as_ref()).is_ok()
    }

    /// Sends as much as the peer takes without a pause of `patience`, and answers how much that was.
    pub(crate) fn send_until_blocked(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.wire.send_until_blocked(bytes, patience)
    }

    /// Reads exactly so many bytes, whatever they are.
    pub(crate) fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        self.wire.take(length).ok()
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        self.wire.finish();
    }

    /// Has the connection end with a reset.
    pub(crate) fn reset(&self) {
        self.wire.reset();
    }

    /// Waits until the peer ends the connection, and tells how.
    pub(crate) fn end(&mut self) -> End {
        self.wire.drain().1
    }

    /// Waits until the peer ends the connection.
    pub(crate) fn stall(&mut self) {
        self.wire.discard();
    }

    /// Forgets what this origin was asked so far, for one that is asked a great deal.
    pub(crate) fn forget(&self) {
        self.shared.lock().requests.clear();
    }

    /// Waits for so long, or until the test is over.
    pub(crate) fn pause(&self, time: Duration) {
        let state = self.shared.lock();
        let _ = self.shared.changed.wait_timeout_while(state, time, |state| !state.over);
    }

    /// Waits for something that the test does.
    pub(crate) fn wait_for(&self, mut event: impl FnMut() -> bool) {
        eventually(|| event() || self.shared.lock().over);
    }
}
