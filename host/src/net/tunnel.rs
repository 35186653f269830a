//! Two connections of which nothing is understood: bytes pass both ways until both sides are silent for ever or for too long.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use crate::net::{Deadline, Pipe, ROOM, SMALL, Transport};

/// Why a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// Both sides have finished.
    Closed,
    /// Nothing passed for too long.
    Idle,
    Broken,
}

/// Passes bytes both ways. A side that has finished sending may still receive (half-close).
pub(crate) async fn tunnel(client: &mut Transport, endpoint: &mut Transport, idle: Duration) -> TunnelEnd {
    let mut outwards = Way::default();
    let mut inwards = Way::default();
    let mut silence = Deadline::default();
    let mut seen = 0;
    let mut due = Instant::now() + idle;
    for side in [&mut *client, &mut *endpoint] {
        // Only silence in both directions counts here.
        (side.read_timeout, side.write_timeout, side.latest) = (idle, idle, None);
        side.expect_rate(None);
    }
    poll_fn(|cx| {
        let inwards = inwards.poll(cx, client, endpoint);
        let outwards = outwards.poll(cx, endpoint, client);
        match (inwards, outwards) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(TunnelEnd::Broken),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(TunnelEnd::Closed),
            _ => {}
        }
        let passed = client.bytes_read + client.bytes_written + endpoint.bytes_read + endpoint.bytes_written;
        if passed != seen {
            seen = passed;
            due = Instant::now() + idle;
        }
        silence.poll(cx, due).map(|()| TunnelEnd::Idle)
    })
    .await
}

/// Bytes that one direction may pass before everybody else on the worker has had a turn.
const TURN: u64 = 256 * 1024;

/// One direction.
#[derive(Default)]
struct Way {
    ended: bool,
    shut: bool,
    /// More came than a buffer holds, and what follows passes through a pipe as long as that goes on.
    is_busy: bool,
    pipe: Option<Pipe>,
}

impl Way {
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut Transport, to: &mut Transport) -> Poll<io::Result<()>> {
        let turn = to.bytes_written.saturating_add(TURN);
        loop {
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if to.bytes_written > turn {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            while !from.input.is_empty() {
                let sent = ready!(to.poll_send(cx, from.input.bytes()))?;
                from.input.consume(sent);
            }
            // Nothing stays behind within the stream while more is waited for.
            ready!(to.poll_flush(cx))?;
            if let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.held() > 0) {
                ready!(to.poll_drain_pipe(cx, pipe))?;
                continue;
            }
            if self.ended {
                ready!(to.poll_shutdown(cx))?;
                self.shut = true;
                continue;
            }
            let came = match self.pipe_between(from, to) {
                Some(pipe) => from.poll_watch_pipe(cx, pipe, ROOM),
                None => from.poll_watch(cx),
            };
            if came.is_pending() {
                // Silence holds nothing that others could use.
                (self.is_busy, self.pipe) = (false, None);
            }
            let came = ready!(came)?;
            (self.ended, self.is_busy) = (came == 0, came >= SMALL);
        }
    }

    fn pipe_between(&mut self, from: &mut Transport, to: &mut Transport) -> Option<&mut Pipe> {
        if !self.is_busy {
            self.pipe = None;
        } else if self.pipe.is_none() && from.stream().is_bare() && to.stream().is_bare() {
            self.pipe = Pipe::take();
        }
        self.pipe.as_mut()
    }
}
