//! The naive Rust baseline: hyper server + hyper-util pooled client, round
//! robin, one current-thread tokio runtime. What one gets in an afternoon.
//! usage: bench-hyper PORT TLS_PORT CERT KEY UPSTREAM...
use bytes::Bytes;
use http_body_util::{combinators::BoxBody, BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, CONNECTION, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::{connect::HttpConnector, Client};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::{self, pki_types::pem::PemObject};

type Body = BoxBody<Bytes, hyper::Error>;

struct Proxy {
    client: Client<HttpConnector, Incoming>,
    upstreams: Vec<(hyper::http::uri::Authority, HeaderValue)>,
    next: AtomicUsize,
}

impl Proxy {
    async fn handle(&self, mut req: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let i = self.next.fetch_add(1, Ordering::Relaxed) % self.upstreams.len();
        let (authority, host) = &self.upstreams[i];
        let path = req.uri().path_and_query().cloned();
        *req.uri_mut() = Uri::builder()
            .scheme("http")
            .authority(authority.clone())
            .path_and_query(path.unwrap_or_else(|| "/".parse().unwrap()))
            .build()
            .unwrap();
        *req.version_mut() = Version::HTTP_11;
        req.headers_mut().insert(HOST, host.clone());
        req.headers_mut().remove(CONNECTION);
        Ok(match self.client.request(req).await {
            Ok(mut r) => {
                r.headers_mut().remove(CONNECTION);
                r.map(|b| b.boxed())
            }
            Err(_) => Response::builder()
                .status(StatusCode::BAD_GATEWAY)
                .body(Empty::new().map_err(|e| match e {}).boxed())
                .unwrap(),
        })
    }
}

async fn serve<S>(proxy: Arc<Proxy>, io: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |r| {
        let p = proxy.clone();
        async move { p.handle(r).await }
    });
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), service).await;
}

fn accept(s: std::io::Result<(TcpStream, std::net::SocketAddr)>) -> Option<TcpStream> {
    let s = s.ok()?.0;
    s.set_nodelay(true).ok()?;
    Some(s)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, tls_port, cert, key, upstreams @ ..] = args.as_slice() else {
        panic!("usage: bench-hyper PORT TLS_PORT CERT KEY UPSTREAM...");
    };
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let proxy = Arc::new(Proxy {
        client: Client::builder(TokioExecutor::new()).pool_max_idle_per_host(512).build(connector),
        upstreams: upstreams.iter().map(|u| (u.parse().unwrap(), HeaderValue::from_str(u).unwrap())).collect(),
        next: AtomicUsize::new(0),
    });

    let certs = rustls::pki_types::CertificateDer::pem_file_iter(cert).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key = rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
    let mut tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));

    let plain = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    let secure = TcpListener::bind(format!("127.0.0.1:{tls_port}")).await.unwrap();
    loop {
        let proxy = proxy.clone();
        tokio::select! {
            s = plain.accept() => if let Some(s) = accept(s) {
                tokio::spawn(serve(proxy, s));
            },
            s = secure.accept() => if let Some(s) = accept(s) {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    if let Ok(s) = acceptor.accept(s).await {
                        serve(proxy, s).await;
                    }
                });
            },
        }
    }
}
