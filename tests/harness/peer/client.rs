//! The end that asks.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, header};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::http1::{self, Io, Reader};
use super::receiver::{Receiver, Source};
use super::sender::{Sender, Sink};
use super::{Body, Broken, Front, Result, within};

/// The host that clients ask for.
const HOST: &str = "test";

/// Where a proxy is, and how it is trusted.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    pub(crate) trust: ClientConfig,
}

/// A client. With HTTP/1 it has a connection for each request, with others one for all.
pub(crate) struct Connection {
    front: Front,
    entry: Entry,
    shared: Shared,
}

enum Shared {
    None,
    Http2(h2::client::SendRequest<Bytes>),
    #[cfg(feature = "http3")]
    Http3 {
        send: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
        /// Lives as long as what it carries.
        _endpoint: quinn::Endpoint,
    },
}

/// A request with its response.
pub(crate) struct Call {
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
}

impl Connection {
    pub(crate) async fn open(front: Front, entry: &Entry) -> Result<Self> {
        let shared = match front {
            Front::Http1 | Front::Http1Tls => Shared::None,
            Front::Http2 | Front::H2c => {
                let io = within(connect(front, entry)).await?;
                let mut builder = h2::client::Builder::new();
                builder.initial_window_size(256 * 1024).initial_connection_window_size(4 * 1024 * 1024);
                let (send, connection) = within(builder.handshake(io)).await.map_err(Broken::by)?;
                // Its requests hear of it if it breaks.
                tokio::task::spawn_local(async { drop(connection.await) });
                Shared::Http2(send)
            }
            #[cfg(feature = "http3")]
            Front::Http3 => within(connect_http3(entry)).await?,
        };
        Ok(Self { front, entry: entry.clone(), shared })
    }

    /// Begins a request. Nothing follows `Body::None`.
    pub(crate) async fn call(&mut self, mut request: Request<()>, body: Body) -> Result<Call> {
        let is_head = request.method() == Method::HEAD;
        if let (Body::Length(length), Shared::Http2(_)) = (body, &self.shared) {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        #[cfg(feature = "http3")]
        if let (Body::Length(length), Shared::Http3 { .. }) = (body, &self.shared) {
            request.headers_mut().insert(header::CONTENT_LENGTH, length.into());
        }
        let ends = body == Body::None;
        let (sink, source) = match &mut self.shared {
            Shared::None => {
                let io = within(connect(self.front, &self.entry)).await?;
                let (read, mut write) = tokio::io::split(io);
                let first = format!("{} {} HTTP/1.1", request.method(), request.uri());
                request.headers_mut().insert(header::HOST, HeaderValue::from_static(HOST));
                within(http1::write_head(&mut write, &first, request.headers(), body)).await?;
                (Sink::Http1 { io: write, body }, Source::Http1(Reader::new(read)))
            }
            Shared::Http2(send) => {
                absolute(&mut request, self.front);
                let mut ready = within(send.clone().ready()).await.map_err(Broken::by)?;
                let (response, stream) = ready.send_request(request, ends).map_err(Broken::by)?;
                (Sink::Http2(stream), Source::Response(response))
            }
            #[cfg(feature = "http3")]
            Shared::Http3 { send, .. } => {
                absolute(&mut request, self.front);
                let (mut send, receive) = within(send.send_request(request)).await.map_err(Broken::by)?.split();
                if ends {
                    within(send.finish()).await.map_err(Broken::by)?;
                }
                (Sink::Http3(Box::new(send)), Source::Http3(receive))
            }
        };
        Ok(Call { sender: Sender::new(sink, ends), receiver: Receiver::new(source, is_head) })
    }

    /// Sends a whole request.
    pub(crate) async fn send(&mut self, request: Request<()>, body: &[u8]) -> Result<Call> {
        if body.is_empty() {
            return self.call(request, Body::None).await;
        }
        let mut call = self.call(request, Body::Length(body.len())).await?;
        call.sender.send(Bytes::copy_from_slice(body)).await?;
        call.sender.finish(None).await?;
        Ok(call)
    }

    /// Sends a whole request and reads the whole response.
    pub(crate) async fn ask(&mut self, request: Request<()>, body: &[u8]) -> Result<Response<Vec<u8>>> {
        self.send(request, body).await?.answer().await
    }

    /// Waits until the proxy takes no further requests on it.
    pub(crate) async fn left(&mut self) {
        let Shared::Http2(send) = &self.shared else { panic!("a connection of {:?} is not left", self.front) };
        within(async {
            while send.clone().ready().await.is_ok() {
                // Nothing wakes who waits for that, but time passes for the connection.
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

impl Call {
    /// The whole response.
    pub(crate) async fn answer(&mut self) -> Result<Response<Vec<u8>>> {
        let (head, ()) = self.receiver.response().await?.into_parts();
        Ok(Response::from_parts(head, self.receiver.body().await?))
    }

    /// What stood behind the body.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.receiver.trailers.as_ref()
    }

    /// Does not want it any more.
    pub(crate) fn reset(mut self) {
        self.sender.reset(Reason::CANCEL);
        self.receiver.reset();
    }
}

fn absolute(request: &mut Request<()>, front: Front) {
    let scheme = if front == Front::H2c { "http" } else { "https" };
    let uri = format!("{scheme}://{HOST}{}", request.uri());
    *request.uri_mut() = uri.parse::<Uri>().expect("a URI");
}

async fn connect(front: Front, entry: &Entry) -> Result<Io> {
    let (address, protocol) = match front {
        Front::Http1 | Front::H2c => (entry.plain, None),
        Front::Http1Tls => (entry.secure, Some("http/1.1")),
        _ => (entry.secure, Some("h2")),
    };
    let stream = TcpStream::connect(address).await.map_err(Broken::by)?;
    stream.set_nodelay(true).map_err(Broken::by)?;
    let Some(protocol) = protocol else { return Ok(Box::new(stream)) };
    let connector = TlsConnector::from(Arc::new(offering(entry, protocol)));
    let stream = connector.connect(ServerName::try_from(HOST).expect("a name"), stream).await.map_err(Broken::by)?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol.as_bytes()));
    Ok(Box::new(stream))
}

fn offering(entry: &Entry, protocol: &str) -> ClientConfig {
    let mut config = entry.trust.clone();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    config
}

#[cfg(feature = "http3")]
async fn connect_http3(entry: &Entry) -> Result<Shared> {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(offering(entry, "h3")).map_err(Broken::by)?;
    let endpoint = quinn::Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(Broken::by)?;
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, entry.secure, HOST).map_err(Broken::by)?;
    let connection = h3_quinn::Connection::new(connecting.await.map_err(Broken::by)?);
    let (mut driver, send) = h3::client::new(connection).await.map_err(Broken::by)?;
    tokio::task::spawn_local(async move { drop(std::future::poll_fn(|cx| driver.poll_close(cx)).await) });
    Ok(Shared::Http3 { send, _endpoint: endpoint })
}
