//! A connection becomes a secure one, within its time and its turn.
//!
//! # Why are bytes waited for first?
//!
//! Who connects and says nothing costs a socket and a timer. Only with the first byte does a connection take one of the
//! places for handshakes, of which there are [`max_handshakes`](crate::config::Server::max_handshakes), and the memory for
//! one.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use crate::http::worker::Worker;
use crate::net::tls::{Acceptor, Hello, LOOKED_AT, TOO_OLD, security};
use crate::net::{Peer, Stream};
use crate::telemetry::metrics::{Handshake, Timeout};

/// How long a client that was refused is listened to, so that it gets to read why: a close with unread bytes is a reset,
/// which takes what was sent before it away.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of it that are read meanwhile.
const LINGERED: usize = 64 * 1024;

/// What a client is told that speaks HTTP where there is TLS.
const PLAIN: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 59\r\n\
                     connection: close\r\n\r\na plain HTTP request was sent to a port that speaks HTTPS.\n";

/// Why a connection does not become secure.
enum Refused {
    Late,
    /// By its first bytes, with what it is told.
    Beforehand(&'static str, &'static [u8], Stream),
    Failed(io::Error, Stream),
    Gone,
}

/// Shakes hands, and notes what came of it at the peer. `None`: there is no connection any more.
pub(super) async fn secure(worker: &Worker, acceptor: &Acceptor, stream: Stream, peer: &mut Peer) -> Option<Stream> {
    let metrics = worker.site().ledger.metrics.clone();
    let due = Instant::now() + acceptor.settings().handshake_timeout;
    let handshake = async {
        let mut space = [0; LOOKED_AT];
        let Ok(came) = stream.peek(&mut space).await else { return Err(Refused::Gone) };
        match Hello::of(&space[..came]) {
            Hello::Plain if acceptor.speaks_http() => {
                return Err(Refused::Beforehand("plain HTTP where there is TLS", PLAIN.as_bytes(), stream));
            }
            Hello::Old => return Err(Refused::Beforehand("TLS 1.1 or older", &TOO_OLD, stream)),
            Hello::Plain | Hello::Other => {}
        }
        let _turn = worker.admission.handshake().await;
        acceptor.accept(stream).await.map_err(|(error, stream)| Refused::Failed(error, stream))
    };
    let refused = match timeout_at(due, handshake).await.unwrap_or(Err(Refused::Late)) {
        Ok(secured) => {
            let (security, is_resumed) = security(secured.get_ref().1);
            metrics.shook_hands(if is_resumed { Handshake::Resumed } else { Handshake::Full });
            peer.security = Some(security.into());
            return Some(Stream::Tls(Box::new(secured.into())));
        }
        Err(refused) => refused,
    };
    metrics.shook_hands(Handshake::Failed);
    match refused {
        Refused::Late => {
            metrics.timed_out(Timeout::ClientHandshake);
            debug!(client = ?peer.address, "closed: no TLS handshake within handshake_timeout");
        }
        Refused::Beforehand(why, word, stream) => {
            debug!(client = ?peer.address, "closed: {why}");
            let _ = timeout(LINGER, part(stream, word)).await;
        }
        Refused::Failed(error, stream) => {
            debug!(client = ?peer.address, %error, "closed: the TLS handshake failed");
            let _ = timeout(LINGER, part(stream, b"")).await;
        }
        Refused::Gone => {}
    }
    None
}

/// Says the last word, and lets the client read it.
async fn part(mut stream: Stream, word: &[u8]) -> io::Result<()> {
    stream.write_all(word).await?;
    stream.shutdown().await?;
    let mut space = [0; 4096];
    let mut read = 0;
    while read < LINGERED {
        match stream.read(&mut space).await? {
            0 => break,
            n => read += n,
        }
    }
    Ok(())
}
