//! The connections of one worker to one endpoint that requests share: HTTP/2.
//!
//! Requests go over the first that has room. Another is opened when none has, by one request while the others wait for
//! it, so that a burst on a cold proxy opens as many connections as the endpoint's limit of streams asks for and not one
//! for each request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::http::h2::Link;
use crate::upstream::lane::Keep;

/// Those of one endpoint.
#[derive(Default)]
pub(super) struct Links {
    links: RefCell<Vec<Rc<Link>>>,
    /// Whether the endpoint has agreed to share connections.
    in_use: Cell<bool>,
    opening: Cell<bool>,
    /// There is another one, or it is known how much one takes.
    opened: Rc<Notify>,
}

/// The one who opens another connection, until this is dropped.
pub(super) struct Opening<'l>(&'l Links);

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.0.opening.set(false);
        self.0.opened.notify_waiters();
    }
}

impl Links {
    /// One that takes a request now.
    pub(super) fn take(&self, keep: Keep) -> Option<Rc<Link>> {
        let mut links = self.links.borrow_mut();
        links.retain(|link| link.is_usable(keep.max_exchanges));
        links.iter().find(|link| link.has_room()).cloned()
    }

    /// Has the caller open another one; or nobody, as somebody does already, or as one may yet turn out to have room.
    pub(super) fn begin(&self) -> Option<Opening<'_>> {
        if self.is_unsettled() {
            return None;
        }
        (!self.opening.replace(true)).then(|| Opening(self))
    }

    /// Waits until whoever opens one has done so, or has failed, and until the endpoint has said how much it takes.
    /// Whatever went over it before would be refused if that is too much.
    pub(super) async fn wait(&self) {
        let opened = self.opened.notified();
        if self.opening.get() || self.is_unsettled() {
            opened.await;
        }
    }

    /// What is to be called when it is known how much a connection takes.
    pub(super) fn settled(&self) -> impl FnOnce() + use<> {
        let opened = self.opened.clone();
        move || opened.notify_waiters()
    }

    fn is_unsettled(&self) -> bool {
        self.links.borrow().iter().any(|link| !link.is_settled())
    }

    /// Whether the endpoint has agreed to share connections, when it was asked last.
    pub(super) fn is_in_use(&self) -> bool {
        self.in_use.get()
    }

    /// It does not agree any more.
    pub(super) fn forget(&self) {
        self.in_use.set(false);
    }

    /// Has others use it as well.
    pub(super) fn put(&self, link: Rc<Link>) {
        self.in_use.set(true);
        self.links.borrow_mut().push(link);
    }

    /// Gives up those that have been idle for too long, or of which there are more than are kept, and those that are over.
    pub(super) fn sweep(&self, keep: Keep, now: Instant) {
        let mut idle = 0;
        self.links.borrow_mut().retain(|link| {
            if !link.is_usable(keep.max_exchanges) || link.is_idle_for(keep.timeout, now) {
                return false;
            }
            idle += usize::from(link.is_idle_for(std::time::Duration::ZERO, now));
            idle <= keep.capacity
        });
    }

    /// Gives all of them up. Requests that are under way end on them.
    pub(super) fn clear(&self) {
        self.links.borrow_mut().clear();
    }
}
