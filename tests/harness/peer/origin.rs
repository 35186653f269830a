//! The end that answers: an origin whose script has a request at a time, whatever protocol brings it.

use std::fmt;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::{Request, Response};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::http1::{Io, Reader};
use super::receiver::{Receiver, Source};
use super::sender::{Sender, Sink};
use super::{Back, Body, Broken, Result, within};

/// An origin on a thread of its own. It ends with its test.
pub(crate) struct Origin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    over: CancellationToken,
}

/// A request that it serves.
pub(crate) struct Serving {
    pub(crate) request: Request<()>,
    pub(crate) receiver: Receiver,
    pub(crate) sender: Sender,
    leave: Rc<Notify>,
}

impl Origin {
    /// Serves each request by the script. `streams`: how many a connection takes at a time, where it has many.
    pub(crate) fn start(
        back: Back,
        tls: Option<Arc<ServerConfig>>,
        streams: Option<u32>,
        script: impl AsyncFn(&mut Serving) -> Result<()> + Send + 'static,
    ) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let (over, connections) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
        let (until, count) = (over.clone(), connections.clone());
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let script = Rc::new(script);
            let serve = async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    count.fetch_add(1, SeqCst);
                    let (tls, script) = (tls.clone(), script.clone());
                    tokio::task::spawn_local(async move {
                        // Without that, small pieces would wait for each other.
                        stream.set_nodelay(true).expect("a socket");
                        let io: Io = match tls {
                            None => Box::new(stream),
                            Some(tls) => match TlsAcceptor::from(tls).accept(stream).await {
                                Ok(stream) => Box::new(stream),
                                Err(_) => return,
                            },
                        };
                        match back.has_streams() {
                            true => serve_http2(io, streams, script).await,
                            false => serve_http1(io, script).await,
                        }
                    });
                }
            };
            let local = LocalSet::new();
            local.block_on(&runtime, until.run_until_cancelled(serve));
        });
        Self { address, connections, over }
    }

    /// How many there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

impl Serving {
    pub(crate) fn path(&self) -> String {
        self.request.uri().path().to_owned()
    }

    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.request.headers().get(name).map(|value| value.to_str().expect("text"))
    }

    /// Answers with status 200 and this body, whose length is known.
    pub(crate) async fn answer(&mut self, body: impl Into<Bytes>) -> Result<()> {
        let body = body.into();
        self.sender.respond(Response::new(()), Body::Length(body.len())).await?;
        self.sender.send(body).await?;
        self.sender.finish(None).await
    }

    /// Waits until whoever asked does not want the answer any more.
    pub(crate) async fn gone(&mut self) {
        within(async {
            match (&mut self.sender.sink, &mut self.receiver.source) {
                (Sink::Http2(stream), _) => drop(std::future::poll_fn(|cx| stream.poll_reset(cx)).await),
                (Sink::Http2Response(respond), _) => drop(std::future::poll_fn(|cx| respond.poll_reset(cx)).await),
                (_, Source::Http1(reader)) => reader.closed().await,
                _ => {}
            }
        })
        .await;
    }

    /// Breaks it off.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.sender.reset(reason);
        self.receiver.reset();
    }

    /// Says goodbye on its connection, of HTTP/2: what has come is still served.
    pub(crate) fn leave(&self) {
        self.leave.notify_one();
    }
}

async fn serve_http1(io: Io, script: Rc<impl AsyncFn(&mut Serving) -> Result<()>>) {
    let (read, write) = tokio::io::split(io);
    let (mut reader, mut io) = (Reader::new(read), write);
    let leave = Rc::<Notify>::default();
    while let Ok((line, fields)) = reader.head().await {
        reader.expect_body(&fields, false);
        let mut words = line.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let mut request = Request::builder().method(method).uri(target).body(()).expect("a request");
        *request.headers_mut() = fields;
        let receiver = Receiver::new(Source::Http1(reader), false);
        let sender = Sender::new(Sink::Http1 { io, body: Body::None }, false);
        let mut serving = Serving { request, receiver, sender, leave: leave.clone() };
        // Who is at the other end notices.
        let _ = script(&mut serving).await;
        let is_whole = serving.sender.is_finished();
        match (serving.receiver.source, serving.sender.sink) {
            (Source::Http1(read), Sink::Http1 { io: written, .. }) if is_whole && read.is_at_end() => {
                (reader, io) = (read, written);
            }
            _ => return,
        }
    }
}

async fn serve_http2(io: Io, streams: Option<u32>, script: Rc<impl AsyncFn(&mut Serving) -> Result<()> + 'static>) {
    let mut builder = h2::server::Builder::new();
    builder.initial_window_size(256 * 1024).initial_connection_window_size(4 * 1024 * 1024).enable_connect_protocol();
    if let Some(streams) = streams {
        builder.max_concurrent_streams(streams);
    }
    let Ok(mut connection) = builder.handshake::<_, Bytes>(io).await else { return };
    let leave = Rc::<Notify>::default();
    loop {
        let accepted = tokio::select! {
            accepted = connection.accept() => accepted,
            () = leave.notified() => {
                connection.graceful_shutdown();
                continue;
            }
        };
        let Some(Ok((request, respond))) = accepted else { return };
        let (parts, body): (_, RecvStream) = request.into_parts();
        let receiver = Receiver::new(Source::Http2(body), false);
        let sender = Sender::new(Sink::Http2Response(respond), false);
        let mut serving = Serving { request: Request::from_parts(parts, ()), receiver, sender, leave: leave.clone() };
        let script = script.clone();
        tokio::task::spawn_local(async move { script(&mut serving).await.map_err(|Broken(_)| ()) });
    }
}
