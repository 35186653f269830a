//! A client that sends what bytes it likes and reads responses with care.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustls::{ClientConnection, CommonState, StreamOwned};

use super::wire::{Socket, Wire};
use super::{End, Proxy, Response};

/// One connection to a proxy.
#[derive(Debug)]
pub(crate) struct Client {
    wire: Wire,
}

/// A response that did not come whole.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    /// The part that came: the head with a piece of the body, or nothing.
    pub(crate) part: Option<Response>,
    pub(crate) end: End,
}

impl Client {
    pub(crate) fn to(proxy: &Proxy) -> Self {
        Self::connect(proxy.address())
    }

    pub(crate) fn connect(address: std::net::SocketAddr) -> Self {
        Self::over_tcp(TcpStream::connect(address).expect("it listens"))
    }

    pub(crate) fn over_tcp(stream: TcpStream) -> Self {
        Self { wire: Wire::new(Socket::Tcp(stream)) }
    }

    pub(crate) fn over_tls(stream: StreamOwned<ClientConnection, TcpStream>) -> Self {
        Self { wire: Wire::new(Socket::TlsClient(Box::new(stream))) }
    }

    /// What the TLS handshake came to.
    #[track_caller]
    pub(crate) fn session(&self) -> &CommonState {
        self.wire.session().expect("it has TLS")
    }

    /// A client whose socket holds little, so that it is full soon.
    pub(crate) fn with_small_window(proxy: &Proxy) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a socket");
        socket.connect(&proxy.address().into()).expect("it listens");
        Self { wire: Wire::new(Socket::Tcp(socket.into())) }
    }

    pub(crate) fn over(path: &Path) -> std::io::Result<Self> {
        UnixStream::connect(path).map(|stream| Self { wire: Wire::new(Socket::Unix(stream)) })
    }

    /// Sends bytes. A peer that is gone already shows when its answer is read.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.wire.send(bytes.as_ref());
    }

    /// Sends as much as the proxy takes without a pause of `patience`, and answers how much that was.
    pub(crate) fn send_until_blocked(&mut self, bytes: &[u8], patience: Duration) -> usize {
        self.wire.send_until_blocked(bytes, patience)
    }

    /// Sends a GET and reads its response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.ask("GET", path, "")
    }

    /// Sends a request with these further lines (each with its CRLF) and reads its response.
    #[track_caller]
    pub(crate) fn ask(&mut self, method: &str, path: &str, lines: &str) -> Response {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{lines}\r\n"));
        self.response_to(method)
    }

    /// Sends a POST and reads its response.
    #[track_caller]
    pub(crate) fn post(&mut self, path: &str, body: impl AsRef<[u8]>) -> Response {
        let body = body.as_ref();
        let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        // In one write: an answer that comes before the body would cost the connection.
        self.send([head.as_bytes(), body].concat());
        self.response()
    }

    /// Sends a PATCH with these further lines (each with its CRLF) and reads its response.
    #[track_caller]
    pub(crate) fn patch(&mut self, path: &str, lines: &str, body: &str) -> Response {
        let length = body.len();
        self.send(format!("PATCH {path} HTTP/1.1\r\nHost: test\r\n{lines}Content-Length: {length}\r\n\r\n{body}"));
        self.response()
    }

    /// Reads a response to a request that was not a HEAD.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.response_to("GET")
    }

    #[track_caller]
    pub(crate) fn response_to(&mut self, method: &str) -> Response {
        self.try_response_to(method).unwrap_or_else(|broken| panic!("no whole response: {broken:?}"))
    }

    pub(crate) fn try_response(&mut self) -> Result<Response, Broken> {
        self.try_response_to("GET")
    }

    pub(crate) fn try_response_to(&mut self, method: &str) -> Result<Response, Broken> {
        let mut response = self.wire.response_head(method).map_err(|end| Broken { part: None, end })?;
        match self.wire.response_body(&mut response) {
            Ok(()) => Ok(response),
            Err(end) => Err(Broken { part: Some(response), end }),
        }
    }

    /// Reads only the head of a response.
    #[track_caller]
    pub(crate) fn response_head(&mut self) -> Response {
        self.wire.response_head("GET").unwrap_or_else(|end| panic!("no head: {end:?}"))
    }

    /// Reads the body of a response whose head was read.
    #[track_caller]
    pub(crate) fn response_body(&mut self, mut response: Response) -> Response {
        self.wire.response_body(&mut response).unwrap_or_else(|end| panic!("no whole body: {end:?}"));
        response
    }

    /// Reads exactly so many bytes, whatever they are.
    #[track_caller]
    pub(crate) fn take(&mut self, length: usize) -> Vec<u8> {
        self.wire.take(length).unwrap_or_else(|end| panic!("too few bytes: {end:?}, {:?}", self.wire.rest()))
    }

    /// Reads all there is until the proxy ends the connection.
    pub(crate) fn drain(&mut self) -> (Vec<u8>, End) {
        self.wire.drain()
    }

    /// Waits for the proxy to close the connection, with nothing more said.
    #[track_caller]
    pub(crate) fn assert_closed(&mut self) {
        let (rest, end) = self.drain();
        assert_eq!((rest.escape_ascii().to_string().as_str(), end), ("", End::Closed));
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        self.wire.finish();
    }

    /// Goes away with a reset.
    pub(crate) fn reset(self) {
        self.wire.reset();
    }
}
