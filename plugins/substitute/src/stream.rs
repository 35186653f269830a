//! One body on its way: whatever pieces it comes in, what it becomes is the same.
//!
//! # How much is held back?
//!
//! The end of a piece, from the first byte where one of the texts could begin that the next piece completes; nothing,
//! when it could begin nowhere. So a page that comes slowly goes on as slowly and no slower.

use std::rc::Rc;

use staunch_plugin::warn;

use crate::search::{Replacement, Search};

/// Bytes by which a body may grow at one place, and for each of its bytes from there on. The host takes at most 1 MiB
/// for a piece of 64 KiB, and one replacement more may come on top of what these allow it.
const SUDDEN_GROWTH: u64 = 256 * 1024;
const STEADY_GROWTH: u64 = 8;

/// A body that is under way.
#[derive(Debug)]
pub(crate) struct Stream {
    /// What is still looked for.
    search: Option<Rc<Search>>,
    once: bool,
    held: Vec<u8>,
    /// How far into the body the bytes that are held begin.
    offset: u64,
    /// By how much it may grow now, as of the place of the latest replacement.
    room: u64,
    room_at: u64,
    replaced: u64,
}

impl Stream {
    pub(crate) fn new(search: Rc<Search>, once: bool) -> Self {
        Self { search: Some(search), once, held: Vec::new(), offset: 0, room: SUDDEN_GROWTH, room_at: 0, replaced: 0 }
    }

    /// How much was replaced so far.
    pub(crate) fn replaced(&self) -> u64 {
        self.replaced
    }

    /// What a piece becomes, with what was held back before it.
    pub(crate) fn rewrite(&mut self, piece: Vec<u8>, last: bool) -> Vec<u8> {
        if self.search.is_none() && self.held.is_empty() {
            return piece;
        }
        let text = if self.held.is_empty() { piece } else { [std::mem::take(&mut self.held), piece].concat() };
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(search) = self.search.clone() {
            let settled = if last { text.len() } else { search.unsettled(&text, at) };
            let Some(found) = search.find(&text, at).filter(|found| found.start < settled) else {
                out.extend_from_slice(&text[at..settled]);
                self.offset += settled as u64;
                self.held.extend_from_slice(&text[settled..]);
                return out;
            };
            out.extend_from_slice(&text[at..found.start]);
            at = found.end;
            self.replace(search.replacement(found.which), self.offset + found.start as u64, &mut out);
            if self.once {
                self.search = search.without(found.which).map(Rc::new);
            }
        }
        self.offset += text.len() as u64;
        out.extend_from_slice(&text[at..]);
        out
    }

    /// What the body may grow by depends on places in the body, and not on the pieces it comes in.
    fn replace(&mut self, Replacement { from, to }: &Replacement, place: u64, out: &mut Vec<u8>) {
        let gained = STEADY_GROWTH.saturating_mul(place - self.room_at);
        let room = self.room.saturating_add(gained).min(SUDDEN_GROWTH);
        out.extend_from_slice(to);
        self.replaced += 1;
        self.room_at = place;
        match room.checked_sub(to.len().saturating_sub(from.len()) as u64) {
            Some(room) => self.room = room,
            None => {
                warn!("a body grows to more than {STEADY_GROWTH} times its length: nothing further is replaced in it");
                self.search = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staunch_plugin::testing::Host;

    use super::*;

    fn search(pairs: &[(&str, &str)], ignore_case: bool) -> Rc<Search> {
        let replacements = pairs.iter().map(|(from, to)| Replacement { from: (*from).into(), to: (*to).into() });
        Rc::new(Search::new(replacements.collect(), ignore_case).expect("it can be built"))
    }

    /// What comes of each piece, the last one included.
    fn pieces(search: &Rc<Search>, once: bool, pieces: &[&str]) -> Vec<String> {
        let mut stream = Stream::new(search.clone(), once);
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let mut out: Vec<String> =
            pieces.iter().map(|piece| text(stream.rewrite(piece.as_bytes().to_vec(), false))).collect();
        out.push(text(stream.rewrite(Vec::new(), true)));
        out
    }

    #[test]
    fn the_leftmost_text_wins_and_of_several_there_the_first_listed() {
        for (pairs, text, expected) in [
            (&[("a", "b"), ("b", "a")][..], "abba", "baab"),
            (&[("ab", "1"), ("abc", "2")], "abcab", "1c1"),
            (&[("abc", "2"), ("ab", "1")], "abcab", "21"),
            (&[("bcd", "1"), ("abcx", "2")], "abcdabcx", "a12"),
            (&[("aa", "x")], "aaaaa", "xxa"),
            (&[("x", "")], "axbx", "ab"),
        ] {
            assert_eq!(pieces(&search(pairs, false), false, &[text]).concat(), expected, "{pairs:?}");
        }
    }

    #[test]
    fn no_more_is_held_back_than_could_be_the_beginning_of_a_text() {
        let search = search(&[("</head>", "<x></head>"), ("<b", "<i")], false);

        assert_eq!(pieces(&search, false, &["a<", "/hea", "d>b</h", "1></"]), ["a", "", "<x></head>b", "</h1>", "</"]);
        // `<b` is held, for nothing longer could begin so; nothing is held that is settled.
        assert_eq!(pieces(&search, false, &["<b", ">c"]), ["<i", ">c", ""]);
    }

    #[test]
    fn once_is_once_for_each_text() {
        let search = search(&[("ab", "1"), ("b", "2"), ("a", "3")], false);

        assert_eq!(pieces(&search, true, &["ab", "ab", "ab", "ab"]).concat(), "132abab");
        assert_eq!(pieces(&search, true, &["xx"]), ["xx", ""]);
    }

    #[test]
    fn upper_and_lower_case_may_be_the_same() {
        let search = search(&[("Http://", "https://")], true);

        assert_eq!(pieces(&search, false, &["HTT", "P://a hTTp:/", "/b http:"]).concat(), "https://a https://b http:");
    }

    #[test]
    fn a_body_that_grows_without_end_is_left_alone_from_some_point_on() {
        let host = Host::new();
        let search = search(&[("a", &"b".repeat(64 * 1024))], false);
        let mut stream = Stream::new(search, false);

        let first = stream.rewrite(vec![b'a'; 64 * 1024], false);
        let second = stream.rewrite(vec![b'a'; 64 * 1024], true);

        assert!(first.len() > SUDDEN_GROWTH as usize && first.len() <= 1024 * 1024, "{}", first.len());
        assert_eq!(second, vec![b'a'; 64 * 1024]);
        assert_eq!(host.logs().len(), 1);
    }

    #[test]
    fn a_long_body_that_grows_steadily_is_replaced_to_its_end() {
        let host = Host::new();
        let mut stream = Stream::new(search(&[("a", "bbbbbbbb")], false), false);

        for _ in 0..64 {
            assert_eq!(stream.rewrite(vec![b'a'; 64 * 1024], false).len(), 512 * 1024);
        }

        assert_eq!((stream.replaced(), host.logs().len()), (64 * 64 * 1024, 0));
    }

    /// At each place the first text in the list that stands there, one place after the other.
    fn naive(pairs: &[(String, String)], once: bool, ignore_case: bool, text: &[u8]) -> Vec<u8> {
        let mut left: Vec<&(String, String)> = pairs.iter().collect();
        let (mut out, mut at) = (Vec::new(), 0);
        while at < text.len() {
            let stands = |from: &str| {
                text.get(at..at + from.len()).is_some_and(|here| match ignore_case {
                    true => here.eq_ignore_ascii_case(from.as_bytes()),
                    false => here == from.as_bytes(),
                })
            };
            match left.iter().position(|(from, _)| stands(from)) {
                Some(which) => {
                    let (from, to) = left[which];
                    out.extend_from_slice(to.as_bytes());
                    at += from.len();
                    if once {
                        left.remove(which);
                    }
                }
                None => {
                    out.push(text[at]);
                    at += 1;
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn in_whatever_pieces_a_body_comes_it_becomes_the_same(
            pairs in prop::collection::vec(("[abAB]{1,5}", "[abx]{0,6}"), 1..5),
            pieces in prop::collection::vec("[abABc]{0,9}", 0..12),
            once: bool,
            ignore_case: bool,
        ) {
            let replacements = pairs.iter().map(|(from, to)| Replacement { from: from.clone().into(), to: to.clone().into() });
            let search = Rc::new(Search::new(replacements.collect(), ignore_case).expect("it can be built"));
            let mut stream = Stream::new(search, once);

            let mut out = Vec::new();
            for (i, piece) in pieces.iter().enumerate() {
                out.extend(stream.rewrite(piece.clone().into_bytes(), i + 1 == pieces.len()));
            }

            let whole = naive(&pairs, once, ignore_case, pieces.concat().as_bytes());
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&whole));
        }

        #[test]
        fn any_bytes_pass_that_hold_no_text(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..10)) {
            let search = search(&[("no such text", "x")], true);
            let mut stream = Stream::new(search, false);

            let mut out = Vec::new();
            for piece in &pieces {
                out.extend(stream.rewrite(piece.clone(), false));
            }
            out.extend(stream.rewrite(Vec::new(), true));

            prop_assert_eq!(out, pieces.concat());
        }
    }
}
