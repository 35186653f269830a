//! Several texts looked for at once: the leftmost that is found, and of those that begin there the first in the list.

use aho_corasick::{AhoCorasick, AhoCorasickKind, BuildError, MatchKind};

/// A text and what takes its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Replacement {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Vec<u8>,
}

/// The texts with a machine that finds them, in a time that is linear in what is searched.
#[derive(Debug)]
pub(crate) struct Search {
    replacements: Vec<Replacement>,
    ignore_case: bool,
    machine: AhoCorasick,
    longest: usize,
}

/// A text that was found, by its position in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) which: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Search {
    pub(crate) fn new(replacements: Vec<Replacement>, ignore_case: bool) -> Result<Self, BuildError> {
        let machine = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .ascii_case_insensitive(ignore_case)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(replacements.iter().map(|replacement| &replacement.from))?;
        let longest = replacements.iter().map(|replacement| replacement.from.len()).max().unwrap_or(0);
        Ok(Self { replacements, ignore_case, machine, longest })
    }

    /// All but one of the texts; none when there is no other.
    pub(crate) fn without(&self, which: usize) -> Option<Self> {
        let mut left = self.replacements.clone();
        left.remove(which);
        if left.is_empty() { None } else { Self::new(left, self.ignore_case).ok() }
    }

    pub(crate) fn replacement(&self, which: usize) -> &Replacement {
        &self.replacements[which]
    }

    /// The first match at or after `from`.
    pub(crate) fn find(&self, text: &[u8], from: usize) -> Option<Found> {
        let found = self.machine.find(text.get(from..)?)?;
        Some(Found { which: found.pattern().as_usize(), start: from + found.start(), end: from + found.end() })
    }

    /// Where, at or after `from`, a match could begin that more text would complete; the end when nowhere.
    pub(crate) fn unsettled(&self, text: &[u8], from: usize) -> usize {
        let earliest = text.len().saturating_sub(self.longest.saturating_sub(1)).max(from);
        (earliest..text.len()).find(|&start| self.could_begin_with(&text[start..])).unwrap_or(text.len())
    }

    fn could_begin_with(&self, end: &[u8]) -> bool {
        self.replacements.iter().any(|Replacement { from, .. }| match from.get(..end.len()) {
            Some(beginning) if from.len() > end.len() => {
                if self.ignore_case {
                    beginning.eq_ignore_ascii_case(end)
                } else {
                    beginning == end
                }
            }
            _ => false,
        })
    }
}
