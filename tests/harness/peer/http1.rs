//! HTTP/1.1 by hand, over whatever carries it.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};

use super::super::Channel;
use super::{Body, Broken, Result};

pub(super) type Io = Box<dyn Channel>;

/// What is read of a connection.
pub(super) struct Reader {
    io: ReadHalf<Io>,
    buffer: BytesMut,
    framing: Framing,
}

/// What of a body is still to come.
enum Framing {
    Ended,
    Length(u64),
    /// Of the chunk that has begun.
    Chunk(u64),
    UntilClosed,
}

impl Reader {
    pub(super) fn new(io: ReadHalf<Io>) -> Self {
        Self { io, buffer: BytesMut::new(), framing: Framing::Ended }
    }

    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.framing, Framing::Ended)
    }

    /// A first line and the fields below it. The body is for `expect_body`.
    pub(super) async fn head(&mut self) -> Result<(String, HeaderMap)> {
        Ok((self.line().await?, self.fields().await?))
    }

    /// Has the body follow that these fields tell of. `closes`: one without a length goes on to the connection's end.
    pub(super) fn expect_body(&mut self, fields: &HeaderMap, closes: bool) {
        let length = fields.get(header::CONTENT_LENGTH).map(|value| value.to_str().expect("text"));
        self.framing = match length {
            _ if fields.contains_key(header::TRANSFER_ENCODING) => Framing::Chunk(0),
            Some("0") => Framing::Ended,
            Some(length) => Framing::Length(length.parse().expect("a number")),
            None if closes => Framing::UntilClosed,
            None => Framing::Ended,
        };
    }

    /// The next piece of the body; `None` is its end, with what stood behind it.
    pub(super) async fn data(&mut self, trailers: &mut Option<HeaderMap>) -> Result<Option<Bytes>> {
        if let Framing::Chunk(0) = self.framing {
            let line = self.line().await?;
            let size =
                u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).map_err(Broken::by)?;
            if size == 0 {
                self.framing = Framing::Ended;
                *trailers = Some(self.fields().await?).filter(|trailers| !trailers.is_empty());
                return Ok(None);
            }
            self.framing = Framing::Chunk(size);
        }
        if self.is_at_end() {
            return Ok(None);
        }
        if self.buffer.is_empty()
            && let Err(broken) = self.fill().await
        {
            return if let Framing::UntilClosed = self.framing { Ok(None) } else { Err(broken) };
        }
        let left = match &self.framing {
            Framing::Length(left) | Framing::Chunk(left) => *left,
            Framing::UntilClosed | Framing::Ended => u64::MAX,
        };
        let taken = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let piece = self.buffer.split_to(taken).freeze();
        let left = left - taken as u64;
        match self.framing {
            Framing::Length(_) if left == 0 => self.framing = Framing::Ended,
            Framing::Length(_) => self.framing = Framing::Length(left),
            Framing::Chunk(_) => {
                self.framing = Framing::Chunk(left);
                if left == 0 {
                    self.line().await?;
                }
            }
            Framing::UntilClosed | Framing::Ended => {}
        }
        Ok(Some(piece))
    }

    /// Reads on until the peer is gone.
    pub(super) async fn closed(&mut self) {
        while self.fill().await.is_ok() {
            self.buffer.clear();
        }
    }

    async fn fill(&mut self) -> Result<()> {
        self.buffer.reserve(64 * 1024);
        match self.io.read_buf(&mut self.buffer).await {
            Ok(0) => Err(Broken::by("the connection was closed")),
            Ok(_) => Ok(()),
            Err(error) => Err(Broken::by(error)),
        }
    }

    async fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(end + 2);
                return String::from_utf8(line[..end].to_vec()).map_err(Broken::by);
            }
            self.fill().await?;
        }
    }

    async fn fields(&mut self) -> Result<HeaderMap> {
        let mut fields = HeaderMap::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| Broken::by("a line without a colon"))?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(Broken::by)?;
            fields.append(name, HeaderValue::from_str(value.trim()).map_err(Broken::by)?);
        }
    }
}

/// Writes a first line with these fields, and how the body is framed.
pub(super) async fn write_head(io: &mut WriteHalf<Io>, first: &str, fields: &HeaderMap, body: Body) -> Result<()> {
    let mut head = format!("{first}\r\n").into_bytes();
    write_fields(&mut head, fields);
    match body {
        Body::None => {}
        Body::Length(length) => head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        Body::Stream => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
    }
    head.extend_from_slice(b"\r\n");
    write(io, &head).await
}

pub(super) fn write_fields(into: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            into.extend_from_slice(part);
        }
    }
}

pub(super) async fn write(io: &mut WriteHalf<Io>, bytes: &[u8]) -> Result<()> {
    io.write_all(bytes).await.map_err(Broken::by)?;
    io.flush().await.map_err(Broken::by)
}
