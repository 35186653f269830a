//! What the control thread has a worker do between two requests: replace plugins where they serve, or turn to another
//! configuration.

use std::rc::Rc;

use tokio::sync::{mpsc, oneshot};

use crate::filters::Filter;
use crate::http::site::Site;
use crate::proxy::blueprint::{Ready, Seat};
use crate::proxy::worker::{Post, Turn};
use crate::replaceable::Replaceable;
use crate::upstream::Upstream;
use crate::upstream::balancer::Balancer;
use crate::upstream::retry::RetryPolicy;

/// One thing to do. Each is done whole before the next request is looked at.
pub(crate) enum Order {
    /// Answers what the plugins in these places have learned.
    Save(Vec<Seat>, oneshot::Sender<Vec<Option<Vec<u8>>>>),
    /// Puts these in their places. What served there before is kept if it may come back.
    Install { parts: Vec<(Seat, Ready)>, keep: bool, done: oneshot::Sender<()> },
    /// Puts back what was kept in these places.
    GoBack(Vec<Seat>, oneshot::Sender<()>),
    /// Lets go of what was kept in these places.
    Release(Vec<Seat>),
    /// Serves another configuration from now on.
    Turn(Box<Turn>, oneshot::Sender<()>),
    /// Whatever a test wants.
    #[cfg(test)]
    Do(Box<dyn FnOnce(&Post) + Send>),
}

/// Does what is ordered for as long as the worker serves.
pub(super) async fn obey(post: Rc<Post>, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        let site = post.worker.site();
        // Who gave the order may have ended; it is done all the same.
        match order {
            Order::Turn(turn, done) => {
                post.turn(*turn);
                let _ = done.send(());
            }
            #[cfg(test)]
            Order::Do(what) => what(&post),
            Order::Save(seats, answer) => {
                let states = seats.iter().map(|seat| Place::of(&site, seat)?.save()).collect();
                drop(answer.send(states));
            }
            Order::Install { parts, keep, done } => {
                for (seat, ready) in parts {
                    if let Some(place) = Place::of(&site, &seat) {
                        place.install(ready, keep);
                    }
                }
                let _ = done.send(());
            }
            Order::GoBack(seats, done) => {
                for place in seats.iter().filter_map(|seat| Place::of(&site, seat)) {
                    place.go_back();
                }
                let _ = done.send(());
            }
            Order::Release(seats) => {
                for place in seats.iter().filter_map(|seat| Place::of(&site, seat)) {
                    place.release();
                }
            }
        }
    }
}

/// Where a plugin serves on this worker.
enum Place<'s> {
    Balancer(&'s Upstream, &'s Replaceable<dyn Balancer>),
    Retry(&'s Replaceable<dyn RetryPolicy>),
    Rewriter(&'s Replaceable<dyn Filter>),
}

impl<'s> Place<'s> {
    fn of(site: &'s Site, seat: &Seat) -> Option<Self> {
        Some(match seat {
            Seat::Balancer(upstream) => {
                let upstream = site.upstream(upstream)?;
                Self::Balancer(upstream, &upstream.balancer)
            }
            Seat::Retry(upstream) => Self::Retry(&site.upstream(upstream)?.retry),
            Seat::Rewriter { route, step } => {
                let route = site.route_named(route)?;
                Self::Rewriter(route.filters.get(*step)?)
            }
        })
    }

    fn save(&self) -> Option<Vec<u8>> {
        match self {
            Self::Balancer(_, balancer) => balancer.get().save(),
            Self::Retry(retry) => retry.get().save(),
            Self::Rewriter(rewriter) => rewriter.get().save(),
        }
    }

    fn install(&self, ready: Ready, keep: bool) {
        match (self, ready) {
            (Self::Balancer(upstream, place), Ready::Balancer(ready)) => {
                place.replace(ready.into_balancer(), keep);
                upstream.inform();
            }
            (Self::Retry(place), Ready::Retry(ready)) => place.replace(ready.into_policy(), keep),
            (Self::Rewriter(place), Ready::Rewriter(ready)) => place.replace(ready.into_filter(), keep),
            _ => debug_assert!(false, "a plugin of one kind came for the place of another"),
        }
    }

    fn go_back(&self) {
        match self {
            Self::Balancer(upstream, place) => {
                if place.go_back() {
                    upstream.inform();
                }
            }
            Self::Retry(place) => drop(place.go_back()),
            Self::Rewriter(place) => drop(place.go_back()),
        }
    }

    fn release(&self) {
        match self {
            Self::Balancer(_, place) => place.release(),
            Self::Retry(place) => place.release(),
            Self::Rewriter(place) => place.release(),
        }
    }
}
