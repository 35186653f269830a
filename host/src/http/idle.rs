//! Which of numbered connections has been idle for longest.

/// Numbers in the order in which they came, each at most once. Every operation takes the same short time. Numbers are
/// small, as each costs memory.
#[derive(Debug, Default)]
pub(crate) struct Idle {
    links: Vec<Link>,
    oldest: Option<u32>,
    youngest: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Link {
    is_in: bool,
    older: Option<u32>,
    younger: Option<u32>,
}

impl Idle {
    /// Puts a number behind all others.
    pub(crate) fn push(&mut self, number: u32) {
        self.remove(number);
        let at = number as usize;
        if at >= self.links.len() {
            self.links.resize(at + 1, Link::default());
        }
        self.links[at] = Link { is_in: true, older: self.youngest, younger: None };
        match self.youngest.replace(number) {
            Some(before) => self.links[before as usize].younger = Some(number),
            None => self.oldest = Some(number),
        }
    }

    /// Takes a number out, if it is in.
    pub(crate) fn remove(&mut self, number: u32) {
        let Some(link) = self.links.get_mut(number as usize).filter(|link| link.is_in) else { return };
        let Link { older, younger, .. } = std::mem::take(link);
        match older {
            Some(older) => self.links[older as usize].younger = younger,
            None => self.oldest = younger,
        }
        match younger {
            Some(younger) => self.links[younger as usize].older = older,
            None => self.youngest = older,
        }
    }

    /// The one that came first.
    pub(crate) fn oldest(&self) -> Option<u32> {
        self.oldest
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_list_does(steps in prop::collection::vec((0u32..8, 0u8..3), 0..200)) {
            let mut idle = Idle::default();
            let mut list: Vec<u32> = Vec::new();
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
                    _ => {
                        let oldest = idle.oldest();
                        prop_assert_eq!(oldest, (!list.is_empty()).then(|| list.remove(0)));
                        oldest.into_iter().for_each(|oldest| idle.remove(oldest));
                    }
                }
            }
            for number in list {
                prop_assert_eq!(idle.oldest(), Some(number));
                idle.remove(number);
            }
            prop_assert_eq!(idle.oldest(), None);
        }
    }
}
