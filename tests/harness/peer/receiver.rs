//! What one end gets of a message.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

#[cfg(feature = "http3")]
use bytes::Buf;
use bytes::Bytes;
use h2::RecvStream;
use h2::client::ResponseFuture;
use http::{HeaderMap, Response, StatusCode};

use super::http1::Reader;
use super::{Broken, Result, within};

pub(crate) struct Receiver {
    pub(super) source: Source,
    /// What stood behind the body, once that has ended.
    pub(crate) trailers: Option<HeaderMap>,
    /// What was said before the response.
    pub(crate) interim: Vec<Response<()>>,
    /// Whether a response has no body whatever it says.
    is_head: bool,
}

pub(super) enum Source {
    Http1(Reader),
    Response(ResponseFuture),
    Http2(RecvStream),
    #[cfg(feature = "http3")]
    Http3(h3::client::RequestStream<h3_quinn::RecvStream, Bytes>),
    Gone,
}

impl Receiver {
    pub(super) fn new(source: Source, is_head: bool) -> Self {
        Self { source, trailers: None, interim: Vec::new(), is_head }
    }

    /// The head of the response.
    pub(crate) async fn response(&mut self) -> Result<Response<()>> {
        loop {
            let response = self.some_response().await?;
            if !response.status().is_informational() || response.status() == 101 {
                return Ok(response);
            }
            self.interim.push(response);
        }
    }

    /// The next head, be it for information only.
    pub(crate) async fn some_response(&mut self) -> Result<Response<()>> {
        within(self.next_response()).await
    }

    async fn next_response(&mut self) -> Result<Response<()>> {
        match &mut self.source {
            Source::Http1(reader) => {
                let (line, fields) = reader.head().await?;
                let status = line.split(' ').nth(1).unwrap_or_default();
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::from_bytes(status.as_bytes()).map_err(Broken::by)?;
                let status = response.status();
                if !self.is_head && !status.is_informational() && status != 204 && status != 304 {
                    reader.expect_body(&fields, true);
                }
                *response.headers_mut() = fields;
                Ok(response)
            }
            Source::Response(response) => {
                let polled = poll_fn(|cx| {
                    if let Poll::Ready(Some(interim)) = response.poll_informational(cx) {
                        return Poll::Ready(interim.map(|interim| (interim, None)));
                    }
                    Pin::new(&mut *response).poll(cx).map_ok(|response| {
                        let (parts, body) = response.into_parts();
                        (Response::from_parts(parts, ()), Some(body))
                    })
                });
                let (response, body) = polled.await.map_err(Broken::by)?;
                if let Some(body) = body {
                    self.source = Source::Http2(body);
                }
                Ok(response)
            }
            #[cfg(feature = "http3")]
            Source::Http3(stream) => stream.recv_response().await.map_err(Broken::by),
            Source::Http2(_) | Source::Gone => Err(Broken::by("no response is expected")),
        }
    }

    /// The next piece of the body; `None` is its end.
    pub(crate) async fn data(&mut self) -> Result<Option<Bytes>> {
        within(self.next_data()).await
    }

    async fn next_data(&mut self) -> Result<Option<Bytes>> {
        match &mut self.source {
            Source::Http1(reader) => reader.data(&mut self.trailers).await,
            Source::Http2(stream) => {
                while let Some(data) = stream.data().await {
                    let data = data.map_err(Broken::by)?;
                    // A stream that was reset has no window any more.
                    let _ = stream.flow_control().release_capacity(data.len());
                    // What ends a stream may be empty.
                    if !data.is_empty() {
                        return Ok(Some(data));
                    }
                }
                self.trailers = stream.trailers().await.map_err(Broken::by)?;
                Ok(None)
            }
            #[cfg(feature = "http3")]
            Source::Http3(stream) => match stream.recv_data().await.map_err(Broken::by)? {
                Some(mut data) => Ok(Some(data.copy_to_bytes(data.remaining()))),
                None => {
                    self.trailers = stream.recv_trailers().await.map_err(Broken::by)?;
                    Ok(None)
                }
            },
            Source::Response(_) | Source::Gone => Err(Broken::by("there is no body")),
        }
    }

    /// The whole body.
    pub(crate) async fn body(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(data) = self.data().await? {
            body.extend_from_slice(&data);
        }
        Ok(body)
    }

    /// Exactly so many bytes of the body, which come in whatever pieces.
    pub(crate) async fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while body.len() < length {
            let data = self.data().await?.ok_or_else(|| Broken::by("the body ended too early"))?;
            body.extend_from_slice(&data);
        }
        assert_eq!(body.len(), length, "more came than was sent");
        Ok(body)
    }

    /// Breaks the message off.
    pub(super) fn reset(&mut self) {
        match std::mem::replace(&mut self.source, Source::Gone) {
            #[cfg(feature = "http3")]
            Source::Http3(mut stream) => stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED),
            _ => {}
        }
    }
}
