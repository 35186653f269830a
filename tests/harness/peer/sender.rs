//! What one end sends of a message.

use std::future::poll_fn;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, Response, StatusCode, header};
use tokio::io::WriteHalf;

use super::http1::{self, Io};
use super::{Body, Broken, Result, within};

pub(crate) struct Sender {
    pub(super) sink: Sink,
    is_finished: bool,
}

pub(super) enum Sink {
    Http1 {
        io: WriteHalf<Io>,
        body: Body,
    },
    /// Before there is a response.
    Http2Response(SendResponse<Bytes>),
    Http2(SendStream<Bytes>),
    #[cfg(feature = "http3")]
    Http3(Box<h3::client::RequestStream<h3_quinn::SendStream<Bytes>, Bytes>>),
    Gone,
}

impl Sender {
    pub(super) fn new(sink: Sink, is_finished: bool) -> Self {
        Self { sink, is_finished }
    }

    /// Answers with this head. Nothing follows `Body::None`.
    pub(crate) async fn respond(&mut self, mut response: Response<()>, body: Body) -> Result<()> {
        self.is_finished = body == Body::None;
        match &mut self.sink {
            Sink::Http1 { io, body: framing } => {
                *framing = body;
                let first = format!("HTTP/1.1 {} X", response.status().as_u16());
                within(http1::write_head(io, &first, response.headers(), body)).await
            }
            Sink::Http2Response(respond) => {
                if let Body::Length(length) = body {
                    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
                }
                let stream = respond.send_response(response, body == Body::None).map_err(Broken::by)?;
                self.sink = Sink::Http2(stream);
                Ok(())
            }
            _ => Err(Broken::by("no response is expected")),
        }
    }

    /// Says something before the answer.
    pub(crate) async fn inform(&mut self, status: u16, fields: HeaderMap) -> Result<()> {
        match &mut self.sink {
            Sink::Http1 { io, .. } => {
                within(http1::write_head(io, &format!("HTTP/1.1 {status} X"), &fields, Body::None)).await
            }
            Sink::Http2Response(respond) => {
                let mut response = Response::new(());
                *response.status_mut() = StatusCode::from_u16(status).expect("a status");
                *response.headers_mut() = fields;
                respond.send_informational(response).map_err(Broken::by)
            }
            _ => Err(Broken::by("it is too late for that")),
        }
    }

    /// Sends a piece of the body, as soon as there is room for all of it.
    pub(crate) async fn send(&mut self, data: impl Into<Bytes>) -> Result<()> {
        within(self.send_patiently(data.into())).await
    }

    /// The same, however long it takes.
    pub(crate) async fn send_patiently(&mut self, mut data: Bytes) -> Result<()> {
        match &mut self.sink {
            Sink::Http1 { io, body: Body::Stream } => {
                let chunk = [format!("{:x}\r\n", data.len()).as_bytes(), &data, b"\r\n"].concat();
                http1::write(io, &chunk).await
            }
            Sink::Http1 { io, .. } => http1::write(io, &data).await,
            Sink::Http2(stream) => {
                while !data.is_empty() {
                    stream.reserve_capacity(data.len());
                    if stream.capacity() == 0 {
                        let more = poll_fn(|cx| stream.poll_capacity(cx)).await;
                        more.ok_or_else(|| Broken::by("the stream is closed"))?.map_err(Broken::by)?;
                        continue;
                    }
                    let piece = data.split_to(data.len().min(stream.capacity()));
                    stream.send_data(piece, false).map_err(Broken::by)?;
                }
                Ok(())
            }
            #[cfg(feature = "http3")]
            Sink::Http3(stream) => stream.send_data(data).await.map_err(Broken::by),
            Sink::Http2Response(_) | Sink::Gone => Err(Broken::by("there is no body")),
        }
    }

    /// Ends the body, with these fields behind it.
    pub(crate) async fn finish(&mut self, trailers: Option<HeaderMap>) -> Result<()> {
        if std::mem::replace(&mut self.is_finished, true) {
            return Ok(());
        }
        match &mut self.sink {
            Sink::Http1 { io, body: Body::Stream } => {
                let mut end = b"0\r\n".to_vec();
                http1::write_fields(&mut end, &trailers.unwrap_or_default());
                end.extend_from_slice(b"\r\n");
                within(http1::write(io, &end)).await
            }
            Sink::Http1 { .. } => Ok(()),
            Sink::Http2(stream) => match trailers {
                Some(trailers) => stream.send_trailers(trailers).map_err(Broken::by),
                None => stream.send_data(Bytes::new(), true).map_err(Broken::by),
            },
            #[cfg(feature = "http3")]
            Sink::Http3(stream) => {
                if let Some(trailers) = trailers {
                    within(stream.send_trailers(trailers)).await.map_err(Broken::by)?;
                }
                within(stream.finish()).await.map_err(Broken::by)
            }
            Sink::Http2Response(_) | Sink::Gone => Err(Broken::by("there is no body")),
        }
    }

    /// Whether the message was sent as a whole.
    pub(super) fn is_finished(&self) -> bool {
        self.is_finished
    }

    /// Breaks the message off.
    pub(crate) fn reset(&mut self, reason: Reason) {
        match std::mem::replace(&mut self.sink, Sink::Gone) {
            Sink::Http2Response(mut respond) => respond.send_reset(reason),
            Sink::Http2(mut stream) => stream.send_reset(reason),
            #[cfg(feature = "http3")]
            Sink::Http3(mut stream) => stream.stop_stream(h3::error::Code::H3_REQUEST_CANCELLED),
            // The connection ends with its other half.
            Sink::Http1 { .. } | Sink::Gone => {}
        }
    }
}
