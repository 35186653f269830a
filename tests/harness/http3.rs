//! A client of HTTP/3: the library `h3` over `quinn`, on a runtime of its own.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::{Code, ConnectionError, StreamError};
use h3_quinn::{BidiStream, OpenStreams};
use http::{HeaderMap, Request};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Endpoint, VarInt};
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Caller, PATIENCE};

/// One connection. It ends with its test.
pub(crate) struct Http3 {
    endpoint: Endpoint,
    pub(crate) quic: quinn::Connection,
    sender: SendRequest<OpenStreams, Bytes>,
    driver: JoinHandle<ConnectionError>,
    authority: String,
    runtime: Handle,
    /// Its runtime ends with it.
    _end: DropGuard,
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

pub(crate) type Exchange = RequestStream<BidiStream<Bytes>, Bytes>;

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().expect("text"))
    }
}

impl Http3 {
    /// Connects by `localhost`, which the certificate must be for.
    #[track_caller]
    pub(crate) fn connect(caller: &Caller, address: SocketAddr) -> Self {
        Self::try_connect(caller, address).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same; or why not.
    pub(crate) fn try_connect(caller: &Caller, address: SocketAddr) -> Result<Self, String> {
        let end = CancellationToken::new();
        let (until, own) = (end.clone(), Builder::new_current_thread().enable_all().build().expect("a runtime"));
        let runtime = own.handle().clone();
        thread::spawn(move || own.block_on(until.cancelled()));
        let end = end.drop_guard();
        let crypto = QuicClientConfig::try_from(caller.config.clone()).expect("TLS 1.3");
        let mut transport = quinn::TransportConfig::default();
        transport.max_idle_timeout(Some(Duration::from_secs(20).try_into().expect("not too long")));
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        let connecting = async {
            let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
            let connecting = endpoint.connect_with(config, address, "localhost").expect("a connection");
            let quic = connecting.await.map_err(|error| error.to_string())?;
            let (mut connection, sender) =
                (h3::client::new(h3_quinn::Connection::new(quic.clone())).await).map_err(|error| error.to_string())?;
            let driver = tokio::spawn(async move { std::future::poll_fn(|cx| connection.poll_close(cx)).await });
            Ok((endpoint, quic, sender, driver))
        };
        let connected: Result<_, String> =
            runtime.block_on(async { timeout(PATIENCE, connecting).await.map_err(|_| "no answer".to_owned())? });
        let (endpoint, quic, sender, driver) = connected?;
        Ok(Self {
            endpoint,
            quic,
            sender,
            driver,
            authority: format!("localhost:{}", address.port()),
            runtime,
            _end: end,
        })
    }

    /// Waits for it, though not for ever.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(PATIENCE, what).await }).expect("it comes in time")
    }

    pub(crate) fn spawn<T: Send + 'static>(&self, what: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
        self.runtime.spawn(what)
    }

    /// Begins a request whose body may follow.
    pub(crate) fn begin(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
    ) -> impl Future<Output = Result<Exchange, StreamError>> + Send + use<> {
        let mut request = Request::builder().method(method).uri(format!("https://{}{path}", self.authority));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (request, mut sender) = (request.body(()).expect("a request"), self.sender.clone());
        async move { sender.send_request(request).await }
    }

    /// Asks and waits for all of the answer.
    #[track_caller]
    pub(crate) fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_ask(method, path, fields, body).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The same; or what broke it off.
    #[track_caller]
    pub(crate) fn try_ask(
        &self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, StreamError> {
        let (begun, body) = (self.begin(method, path, fields), Bytes::copy_from_slice(body));
        self.wait(async move {
            let mut stream = begun.await?;
            if !body.is_empty() {
                stream.send_data(body).await?;
            }
            stream.finish().await?;
            answer(&mut stream).await
        })
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], b"")
    }

    /// Goes on from another port of this address, as behind a NAT that has forgotten it.
    pub(crate) fn move_to(&self, address: &str) {
        let _guard = self.runtime.enter();
        self.endpoint.rebind(UdpSocket::bind((address, 0)).expect("a port")).expect("another socket");
    }

    /// Where it comes from.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.endpoint.local_addr().expect("bound")
    }

    /// Why it ended, once it has.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ConnectionError {
        let driver = std::mem::replace(&mut self.driver, self.runtime.spawn(std::future::pending()));
        match self.runtime.block_on(async { timeout(PATIENCE, driver).await }) {
            Ok(end) => end.expect("it does not panic"),
            Err(_) => panic!("it goes on: {:?} {:?}", self.quic.close_reason(), self.quic.stats()),
        }
    }
}

impl Drop for Http3 {
    /// Says so, for otherwise its peer would wait for it.
    fn drop(&mut self) {
        self.quic.close(VarInt::from_u32(0x100), b"");
        let told = async { timeout(Duration::from_millis(200), self.endpoint.wait_idle()).await };
        let _ = self.runtime.block_on(told);
    }
}

/// Reads a response, past those that are only for information.
pub(crate) async fn answer(stream: &mut Exchange) -> Result<Answer, StreamError> {
    let head = loop {
        let head = stream.recv_response().await?;
        if !head.status().is_informational() {
            break head;
        }
    };
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await? {
        while data.has_remaining() {
            let chunk = data.chunk();
            body.extend_from_slice(chunk);
            let length = chunk.len();
            data.advance(length);
        }
    }
    let trailers = stream.recv_trailers().await?;
    Ok(Answer { status: head.status().as_u16(), fields: head.headers().clone(), body, trailers })
}

/// The code that a peer has ended a stream with.
pub(crate) fn code(error: &StreamError) -> Option<Code> {
    match error {
        StreamError::RemoteTerminate { code, .. } => Some(*code),
        _ => None,
    }
}
