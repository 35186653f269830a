//! HTTP/1 as tests read it: bytes from a socket, cut into heads and bodies, and nothing repaired.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::{ClientConnection, CommonState, ServerConnection, StreamOwned};

use super::PATIENCE;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// TLS, of which the test is the client.
    TlsClient(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// TLS, of which the test is the server.
    TlsServer(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Socket {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::TlsClient(stream) => Some(&stream.sock),
            Self::TlsServer(stream) => Some(&stream.sock),
            Self::Unix(_) => None,
        }
    }

    /// What the handshake came to, if there is TLS.
    pub(crate) fn session(&self) -> Option<&CommonState> {
        match self {
            Self::TlsClient(stream) => Some(&stream.conn),
            Self::TlsServer(stream) => Some(&stream.conn),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    fn io(&mut self) -> &mut dyn ReadWrite {
        match self {
            Self::Tcp(stream) => stream,
            Self::Unix(stream) => stream,
            Self::TlsClient(stream) => &mut **stream,
            Self::TlsServer(stream) => &mut **stream,
        }
    }
}

trait ReadWrite: Read + Write {}

impl<S: Read + Write> ReadWrite for S {}

/// Why no more bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Closed,
    Reset,
    /// Nothing came for as long as the test is willing to wait.
    Silent,
}

/// How a body was framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// The lines of a head.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// The first line, without its end.
    pub(crate) line: String,
    /// Names as they were written; bytes above 127 are Latin-1 characters.
    pub(crate) fields: Vec<(String, String)>,
}

/// A request as an upstream got it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    /// The number of the connection it came on, from 0.
    pub(crate) connection: usize,
    /// Whether all of it came.
    pub(crate) is_whole: bool,
}

/// A response as a client got it.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).into_iter().next()
    }

    /// All values of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    fn framing(&self) -> Framing {
        if let Some(coding) = self.field("transfer-encoding") {
            assert_eq!(coding, "chunked", "the only coding the proxy may write");
            assert_eq!(self.field("content-length"), None, "RFC 9112 section 6.2: never both");
            return Framing::Chunked;
        }
        let lengths = self.all("content-length");
        assert!(lengths.len() <= 1, "more than one length: {lengths:?}");
        lengths.first().map_or(Framing::None, |length| Framing::Length(length.parse().expect("a length")))
    }
}

impl Request {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn line(&self) -> &str {
        &self.head.line
    }

    pub(crate) fn target(&self) -> &str {
        self.head.line.split(' ').nth(1).expect("a request line")
    }
}

impl Response {
    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

/// One connection with what was received on it and not yet read.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read already.
    used: usize,
}

impl Wire {
    pub(crate) fn new(socket: Socket) -> Self {
        if let Some(stream) = socket.tcp() {
            stream.set_nodelay(true).expect("a socket");
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        }
        if let Socket::Unix(stream) = &socket {
            stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
            stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        }
        Self { socket, buffer: Vec::new(), used: 0 }
    }

    /// The connection as it is below, of which nothing was read.
    pub(crate) fn take_tcp(&self) -> Option<TcpStream> {
        self.socket.tcp().and_then(|stream| stream.try_clone().ok())
    }

    /// Sends all of it.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let io = self.socket.io();
        io.write_all(bytes)?;
        io.flush()
    }

    /// Sends as much of it as the peer takes without a pause of `patience`, and answers how much that was.
    pub(crate) fn send_until_blocked(&mut self, bytes: &[u8], patience: Duration) -> usize {
        let Socket::Tcp(stream) = &mut self.socket else { panic!("not over a unix socket") };
        stream.set_write_timeout(Some(patience)).expect("a socket");
        let mut sent = 0;
        while sent < bytes.len() {
            match stream.write(&bytes[sent..(sent + 65_536).min(bytes.len())]) {
                Ok(n) => sent += n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the peer went away: {error}"),
            }
        }
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket");
        sent
    }

    /// Waits for one more run of bytes.
    fn fill(&mut self) -> Result<(), End> {
        self.buffer.drain(..self.used);
        self.used = 0;
        let start = self.buffer.len();
        // Long bodies are read in long pieces.
        self.buffer.resize(start + if start > 65_536 { 1 << 20 } else { 16_384 }, 0);
        let read = match self.socket.io().read(&mut self.buffer[start..]) {
            Ok(0) => Err(End::Closed),
            Ok(n) => Ok(n),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Err(End::Silent),
            Err(_) => Err(End::Reset),
        };
        self.buffer.truncate(start + read.unwrap_or(0));
        read.map(|_| ())
    }

    /// What was received and not yet read.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    /// Reads all there is until the peer ends.
    pub(crate) fn drain(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Err(end) = self.fill() {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// Reads all there is until the peer ends, and keeps nothing of it.
    pub(crate) fn discard(&mut self) {
        while self.fill().is_ok() {
            self.used = self.buffer.len();
        }
    }

    /// Reads exactly so many bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<Vec<u8>, End> {
        while self.rest().len() < length {
            self.fill()?;
        }
        let taken = self.rest()[..length].to_vec();
        self.used += length;
        Ok(taken)
    }

    fn line(&mut self) -> Result<Vec<u8>, End> {
        let mut seen = 0;
        loop {
            let found = self.rest()[seen..].windows(2).position(|two| two == b"\r\n");
            if let Some(at) = found {
                let line = self.take(seen + at)?;
                self.used += 2;
                return Ok(line);
            }
            seen = self.rest().len().saturating_sub(1);
            self.fill()?;
        }
    }

    /// Reads a head, up to and with its empty line.
    pub(crate) fn head(&mut self) -> Result<Head, End> {
        let line = latin1(&self.line()?);
        Ok(Head { line, fields: self.section()? })
    }

    fn section(&mut self) -> Result<Vec<(String, String)>, End> {
        let mut fields = Vec::new();
        loop {
            let line = latin1(&self.line()?);
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("a field line: {line:?}"));
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Reads a body; what came of it stays in `body` when it breaks off.
    fn body(&mut self, framing: Framing, body: &mut Vec<u8>, trailers: &mut Vec<(String, String)>) -> Result<(), End> {
        match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.append(usize::try_from(length).expect("memory"), body),
            Framing::Chunked => loop {
                let line = latin1(&self.line()?);
                let size = usize::from_str_radix(&line, 16).unwrap_or_else(|_| panic!("a chunk's size: {line:?}"));
                if size == 0 {
                    *trailers = self.section()?;
                    return Ok(());
                }
                self.append(size, body)?;
                assert_eq!(self.take(2)?, b"\r\n", "the end of a chunk");
            },
            Framing::UntilClose => loop {
                body.extend_from_slice(self.rest());
                self.used = self.buffer.len();
                match self.fill() {
                    Ok(()) => {}
                    Err(End::Closed) => return Ok(()),
                    Err(end) => return Err(end),
                }
            },
        }
    }

    fn append(&mut self, mut length: usize, body: &mut Vec<u8>) -> Result<(), End> {
        while length > 0 {
            let taken = self.rest().len().min(length);
            body.extend_from_slice(&self.rest()[..taken]);
            self.used += taken;
            length -= taken;
            if length > 0 {
                self.fill()?;
            }
        }
        Ok(())
    }

    /// Reads the head of a request.
    pub(crate) fn request_head(&mut self, connection: usize) -> Result<Request, End> {
        let head = self.head()?;
        let framing = head.framing();
        Ok(Request { head, framing, body: Vec::new(), trailers: Vec::new(), connection, is_whole: false })
    }

    /// Reads the body of a request whose head was read.
    pub(crate) fn request_body(&mut self, request: &mut Request) -> Result<(), End> {
        self.body(request.framing, &mut request.body, &mut request.trailers)?;
        request.is_whole = true;
        Ok(())
    }

    /// Reads the head of a response to a request with this method.
    pub(crate) fn response_head(&mut self, method: &str) -> Result<Response, End> {
        let head = self.head()?;
        let status = head.line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
        let status = status.and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("a status line: {:?}", head.line));
        let framing = match head.framing() {
            _ if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) => Framing::None,
            Framing::None => Framing::UntilClose,
            framing => framing,
        };
        Ok(Response { status, head, framing, body: Vec::new(), trailers: Vec::new() })
    }

    /// Reads the body of a response whose head was read.
    pub(crate) fn response_body(&mut self, response: &mut Response) -> Result<(), End> {
        self.body(response.framing, &mut response.body, &mut response.trailers)
    }

    /// Says that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        // A peer that is gone already needs no telling.
        let _ = match &mut self.socket {
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Socket::Unix(stream) => stream.shutdown(Shutdown::Write),
            Socket::TlsClient(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
            Socket::TlsServer(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        };
    }

    /// What the handshake came to, if there is TLS.
    pub(crate) fn session(&self) -> Option<&CommonState> {
        self.socket.session()
    }

    /// Ends the connection with a reset, at once.
    pub(crate) fn reset(&self) {
        let stream = self.socket.tcp().expect("not over a unix socket");
        let socket = socket2::SockRef::from(stream);
        socket.set_linger(Some(Duration::ZERO)).expect("a socket");
        // What makes the kernel send the reset now is the last handle's end; so the caller drops this next.
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
