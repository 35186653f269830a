//! The configurations that have served, by their numbers.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// Configurations that are kept.
const KEPT: usize = 10;

/// A configuration that has served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// When it took over.
    pub(crate) since: SystemTime,
    pub(crate) source: Source,
    /// The first generation that said the same, when it came back.
    pub(crate) again: Option<u64>,
    /// Why it came back, when that was not an operator's wish.
    #[serde(default)]
    pub(crate) why: Option<String>,
    /// Where relative paths in it begin is this file's folder.
    pub(crate) file: Option<PathBuf>,
    pub(crate) text: String,
}

/// Where a configuration came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Source {
    Start,
    /// Its file was read again.
    Reload,
    /// It was sent to the admin server.
    Admin,
    /// An operator wanted an earlier one.
    Rollback,
    /// The one after it was not confirmed, or did worse.
    TakenBack,
}

/// The latest configurations, the one that serves last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    kept: VecDeque<Generation>,
}

impl Source {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Admin => "admin",
            Self::Rollback => "rollback",
            Self::TakenBack => "taken_back",
        }
    }
}

impl History {
    /// The number for a process that starts with this text: that of the last configuration if it said the same.
    pub(crate) fn number_at_start(&self, text: &str) -> u64 {
        self.kept.back().map_or(1, |last| if last.text == text { last.number } else { last.number + 1 })
    }

    /// Takes down one that serves from now on. One that says the same as the one before it takes its place: it was only
    /// read again. `pinned` is kept, however old.
    pub(crate) fn accept(&mut self, next: Generation, pinned: Option<u64>) {
        match self.kept.back_mut() {
            Some(last) if last.text == next.text && last.file == next.file => last.number = next.number,
            _ => self.kept.push_back(next),
        }
        while self.kept.len() > KEPT {
            let oldest = self.kept.iter().position(|known| Some(known.number) != pinned);
            self.kept.remove(oldest.unwrap_or(0));
        }
    }

    /// The one that serves.
    pub(crate) fn serving(&self) -> Option<&Generation> {
        self.kept.back()
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Generation> {
        self.kept.iter().find(|known| known.number == number)
    }

    /// What an operator goes back to who does not say how far: the one before what serves. Going back again goes
    /// further back, and not to and fro.
    pub(crate) fn previous(&self) -> Option<&Generation> {
        let serving = self.serving()?;
        let first = serving.again.unwrap_or(serving.number);
        let earlier = self.kept.iter().rev().skip_while(|known| known.number > first);
        earlier.filter(|known| known.number < first).find(|known| known.text != serving.text)
    }

    /// The latest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Generation> {
        self.kept.iter().rev()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn generation(number: u64, text: &str) -> Generation {
        Generation {
            number,
            since: SystemTime::UNIX_EPOCH,
            source: Source::Reload,
            again: None,
            why: None,
            file: None,
            text: text.to_owned(),
        }
    }

    /// One after the other, with these texts.
    fn history(texts: &[&str]) -> History {
        let mut history = History::default();
        for (number, text) in (1..).zip(texts) {
            history.accept(generation(number, text), None);
        }
        history
    }

    fn numbers(history: &History) -> Vec<u64> {
        history.iter().map(|known| known.number).collect()
    }

    /// Goes back as an operator does.
    fn roll_back(history: &mut History) -> Option<String> {
        let to = history.previous()?.clone();
        let number = history.serving()?.number + 1;
        let again = Some(to.again.unwrap_or(to.number));
        history.accept(Generation { number, again, source: Source::Rollback, ..to.clone() }, None);
        Some(to.text)
    }

    #[test]
    fn the_last_ten_are_kept() {
        let texts: Vec<_> = (1..=12).map(|number| number.to_string()).collect();

        let history = history(&texts.iter().map(String::as_str).collect::<Vec<_>>());

        assert_eq!(numbers(&history), (3..=12).rev().collect::<Vec<_>>());
        assert!(history.get(2).is_none() && history.get(3).is_some());
    }

    #[test]
    fn what_may_be_needed_is_kept_however_old() {
        let mut history = history(&["a", "b"]);
        for number in 3..=30 {
            history.accept(generation(number, &number.to_string()), Some(2));
        }

        assert_eq!(numbers(&history), (22..=30).rev().chain([2]).collect::<Vec<_>>());
    }

    #[test]
    fn a_file_that_is_only_read_again_pushes_nothing_out() {
        let history = history(&["a", "b", "b", "b"]);

        assert_eq!(numbers(&history), [4, 1]);
    }

    #[test]
    fn going_back_goes_ever_further_back() {
        let mut history = history(&["a", "b", "c"]);

        let texts: Vec<_> = std::iter::from_fn(|| roll_back(&mut history)).collect();

        assert_eq!(texts, ["b", "a"]);
        assert_eq!(history.serving().map(|serving| serving.number), Some(5));
    }

    #[test]
    fn what_came_after_a_way_back_has_what_it_replaced_before_it() {
        let mut history = history(&["a", "b", "c"]);
        roll_back(&mut history);
        history.accept(generation(5, "d"), None);

        assert_eq!(roll_back(&mut history).as_deref(), Some("b"), "what served before, and not what was given up");
        assert_eq!(roll_back(&mut history).as_deref(), Some("a"));
    }

    #[test]
    fn numbers_go_on_over_a_start() {
        let history = history(&["a", "b"]);

        assert_eq!(history.number_at_start("b"), 2);
        assert_eq!(history.number_at_start("a"), 3);
        assert_eq!(History::default().number_at_start("a"), 1);
    }

    proptest! {
        #[test]
        fn there_are_never_more_than_ten_and_always_the_serving_one(texts in prop::collection::vec("[ab]{1,3}", 1..40)) {
            let mut history = History::default();
            for (number, text) in (1..).zip(&texts) {
                history.accept(generation(number, text), Some(1));

                prop_assert!(history.iter().count() <= KEPT);
                prop_assert_eq!(history.serving().map(|serving| (serving.number, &serving.text)), Some((number, text)));
            }
        }
    }
}
