//! A part of a worker that another takes the place of while requests are under way.

use std::cell::RefCell;
use std::rc::Rc;

/// What serves on one worker, and what served before while that may come back.
///
/// Who is in the midst of something holds on to what it began with; between two looks everything may be another.
#[derive(Debug)]
pub(crate) struct Replaceable<T: ?Sized> {
    current: RefCell<Rc<T>>,
    kept: RefCell<Option<Rc<T>>>,
}

impl<T: ?Sized> Replaceable<T> {
    pub(crate) fn new(first: Rc<T>) -> Self {
        Self { current: RefCell::new(first), kept: RefCell::new(None) }
    }

    /// What serves now.
    #[inline]
    pub(crate) fn get(&self) -> Rc<T> {
        self.current.borrow().clone()
    }

    /// Puts another in its place. What served before is kept if that is wanted, unless an earlier one is kept
    /// already: that one has proved itself.
    pub(crate) fn replace(&self, next: Rc<T>, keep: bool) {
        let before = self.current.replace(next);
        if keep {
            self.kept.borrow_mut().get_or_insert(before);
        } else {
            self.release();
        }
    }

    /// Puts back what is kept, if there is something.
    pub(crate) fn go_back(&self) -> bool {
        let Some(kept) = self.kept.take() else { return false };
        self.current.replace(kept);
        true
    }

    /// Lets go of what is kept.
    pub(crate) fn release(&self) {
        self.kept.take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proved_itself_comes_back() {
        let part = Replaceable::<str>::new("a".into());

        part.replace("b".into(), true);
        part.replace("c".into(), true);
        assert_eq!(&*part.get(), "c");
        assert!(part.go_back());

        assert_eq!(&*part.get(), "a");
        assert!(!part.go_back());
    }

    #[test]
    fn what_is_not_kept_goes() {
        let part = Replaceable::new(Rc::new(1));
        let first = Rc::downgrade(&part.get());

        part.replace(Rc::new(2), true);
        assert!(first.upgrade().is_some());
        part.release();
        assert!(first.upgrade().is_none());
        part.replace(Rc::new(3), false);

        assert!(!part.go_back());
        assert_eq!(*part.get(), 3);
    }
}
