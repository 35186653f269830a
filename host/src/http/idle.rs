//! Which of numbered connections has been idle for longest.

/// Numbers in the order in which they came, each at most once. Every operation takes the same short time.
#[derive(Debug, Default)]
pub(super) struct Idle {
    links: Vec<Link>,
    oldest: Option<usize>,
    youngest: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_in: bool,
    older: Option<usize>,
    younger: Option<usize>,
}

impl Idle {
    /// Puts a number behind all others.
    pub(super) fn push(&mut self, number: usize) {
        self.remove(number);
        if number >= self.links.len() {
            self.links.resize(number + 1, Link::default());
        }
        self.links[number] = Link { is_in: true, older: self.youngest, younger: None };
        match self.youngest.replace(number) {
            Some(before) => self.links[before].younger = Some(number),
            None => self.oldest = Some(number),
        }
    }

    /// Takes a number out, if it is in.
    pub(super) fn remove(&mut self, number: usize) {
        let Some(link) = self.links.get_mut(number).filter(|link| link.is_in) else { return };
        let Link { older, younger, .. } = std::mem::take(link);
        match older {
            Some(older) => self.links[older].younger = younger,
            None => self.oldest = younger,
        }
        match younger {
            Some(younger) => self.links[younger].older = older,
            None => self.youngest = older,
        }
    }

    /// The one that came first.
    pub(super) fn oldest(&self) -> Option<usize> {
        self.oldest
    }

    /// Takes out the one that came first.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let oldest = self.oldest?;
        self.remove(oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_list_does(steps in prop::collection::vec((0usize..8, 0u8..3), 0..200)) {
            let mut idle = Idle::default();
            let mut list: Vec<usize> = Vec::new();
            for (number, what) in steps {
                match what {
                    0 => {
                        idle.push(number);
                        list.retain(|other| *other != number);
                        list.push(number);
                    }
                    1 => {
                        idle.remove(number);
                        list.retain(|other| *other != number);
                    }
                    _ => prop_assert_eq!(idle.pop(), (!list.is_empty()).then(|| list.remove(0))),
                }
            }
            let rest: Vec<_> = std::iter::from_fn(|| idle.pop()).collect();
            prop_assert_eq!(rest, list);
        }
    }
}
