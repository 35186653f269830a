//! One timer of a connection, used for one wait after another.
//!
//! # Why not a `Sleep` for each wait?
//!
//! Every wait of a request would enter and leave the runtime's timer wheel, thousands of times a second, for
//! time limits that almost never pass. This timer stays in the wheel at its earlier moment and is moved only when
//! it fires too early or is needed sooner. Nor is it told again whom to wake while that is the task it knows.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that moves lazily.
#[derive(Default)]
pub(crate) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
    /// Whom it wakes.
    known: Option<Waker>,
}

impl Deadline {
    /// Ready when `moment` has passed; otherwise wakes the task when it does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, moment: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(moment)));
        if timer.deadline() > moment {
            timer.as_mut().reset(moment);
            self.known = None;
        }
        loop {
            let is_known = self.known.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
            if is_known && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if timer.as_mut().poll(cx).is_pending() {
                self.known = Some(cx.waker().clone());
                return Poll::Pending;
            }
            if Instant::now() >= moment {
                return Poll::Ready(());
            }
            timer.as_mut().reset(moment);
            self.known = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    async fn passes(deadline: &mut Deadline, seconds: u64) -> u64 {
        let began = Instant::now();
        let moment = began + Duration::from_secs(seconds);
        poll_fn(|cx| deadline.poll(cx, moment)).await;
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_moment_is_not_cut_short_by_an_earlier_one() {
        let mut deadline = Deadline::default();

        assert_eq!(passes(&mut deadline, 1).await, 1);
        assert_eq!(passes(&mut deadline, 5).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_moment_is_kept_after_a_later_one() {
        let mut deadline = Deadline::default();
        let far = Instant::now() + Duration::from_secs(60);
        let soon = tokio::time::timeout(Duration::from_secs(1), poll_fn(|cx| deadline.poll(cx, far)));
        assert!(soon.await.is_err());

        assert_eq!(passes(&mut deadline, 2).await, 2);
    }
}
