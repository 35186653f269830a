//! The requests of one connection that carries many, counted while they are served.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

#[derive(Default)]
pub(super) struct Streams {
    active: Cell<usize>,
    /// Who waits for something to happen with them.
    waiting: RefCell<Option<Waker>>,
}

/// One of them, until this is dropped.
pub(super) struct Active(Rc<Streams>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        if self.0.active.get() == 0 {
            self.0.wake();
        }
    }
}

impl Streams {
    pub(super) fn enter(self: &Rc<Self>) -> Active {
        self.active.set(self.active.get() + 1);
        Active(self.clone())
    }

    /// Wakes who waits.
    pub(super) fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Ready when there is none.
    pub(super) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.active.get() == 0 {
            return Poll::Ready(());
        }
        self.waiting.replace(Some(cx.waker().clone()));
        Poll::Pending
    }
}
