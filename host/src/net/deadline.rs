//! One timer of a connection, used for one wait after another.
//!
//! # Why not a `Sleep` for each wait?
//!
//! Every wait of a request would enter and leave the runtime's timer wheel, thousands of times a second, for
//! time limits that almost never pass. This timer stays in the wheel at its earlier moment and is moved only when
//! it fires too early or is needed sooner.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that moves lazily.
#[derive(Default)]
pub(crate) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
}

/// A wait took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Deadline {
    /// Ready when `moment` has passed; otherwise wakes the task when it does.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, moment: Instant) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(moment)));
        if timer.deadline() > moment {
            timer.as_mut().reset(moment);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= moment {
                return Poll::Ready(());
            }
            timer.as_mut().reset(moment);
        }
    }

    /// Waits for `future`, at most `limit` long. The clock is read only if the future has to wait.
    pub(crate) async fn within<F: Future>(&mut self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut moment = None;
        std::future::poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let moment = *moment.get_or_insert_with(|| Instant::now() + limit);
            self.poll(cx, moment).map(|()| Err(Elapsed))
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_later_limit_is_not_cut_short_by_an_earlier_one() {
        let mut deadline = Deadline::default();

        assert_eq!(deadline.within(Duration::from_secs(1), std::future::pending::<()>()).await, Err(Elapsed));
        let began = Instant::now();
        assert_eq!(deadline.within(Duration::from_secs(5), std::future::pending::<()>()).await, Err(Elapsed));

        assert_eq!(began.elapsed().as_secs(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_limit_is_kept_after_a_later_one() {
        let mut deadline = Deadline::default();
        let soon = tokio::time::sleep(Duration::from_secs(1));
        assert!(deadline.within(Duration::from_secs(60), soon).await.is_ok());

        let began = Instant::now();
        assert_eq!(deadline.within(Duration::from_secs(2), std::future::pending::<()>()).await, Err(Elapsed));

        assert_eq!(began.elapsed().as_secs(), 2);
    }
}
