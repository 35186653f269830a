//! A share of all clients, and each client's place in their row.

use std::fmt;

use staunch_plugin::{Setting, random};

/// Places in the row: hundredths of a percent.
const PLACES: u32 = 10_000;

/// Those before a point of the row, so that whoever is in a share is in every greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u32);

/// Where a client stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Share {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) fn has(self, place: Place) -> bool {
        place.0 < self.0
    }
}

impl Setting for Share {
    fn from_text(text: &str) -> Result<Self, String> {
        let percent = f64::from_text(text).ok().filter(|percent| (0.0..=100.0).contains(percent));
        percent
            .map(|percent| Self((percent * 100.0).round() as u32))
            .ok_or_else(|| "must be a number from 0 to 100".to_owned())
    }
}

impl Place {
    /// By chance.
    pub(crate) fn drawn(random: u64) -> Self {
        Self(random::below(random, PLACES))
    }

    /// Of whoever has this key, in the row of `group`: to be among the first of one is to be anywhere in another.
    pub(crate) fn of(group: &str, key: &str) -> Self {
        // FNV-1a, stirred so that its high bits are even.
        let bytes = group.bytes().chain([0]).chain(key.bytes());
        let hash =
            bytes.fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self::drawn(random::mix(hash, 0))
    }

    /// Reads what `to_string` wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (percent, hundredths) = text.split_once('.')?;
        let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
        if hundredths.len() != 2 || !is_number(percent) || !is_number(hundredths) {
            return None;
        }
        let place = percent.parse::<u32>().ok()?.checked_mul(100)? + hundredths.parse::<u32>().ok()?;
        (place < PLACES).then_some(Self(place))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_nothing_has_nobody_and_one_of_everything_has_all() {
        let share = |text| Share::from_text(text).expect(text);

        assert!(!share("0").has(Place(0)) && share("0.01").has(Place(0)) && !share("0.01").has(Place(1)));
        assert!(share("100").has(Place(9999)) && !share("99.99").has(Place(9999)));
        for text in ["-1", "100.1", "x", "nan"] {
            assert!(Share::from_text(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_place_is_read_as_it_was_written_and_nothing_else_is() {
        for place in [0, 7, 100, 9999].map(Place) {
            assert_eq!(Place::parse(&place.to_string()), Some(place));
        }
        for text in ["", "1", "1.5", "1.500", "100.00", "-1.00", "1.+1", "99999999999.00", "42949673.00"] {
            assert_eq!(Place::parse(text), None, "{text}");
        }
    }

    #[test]
    fn rows_of_different_groups_are_independent() {
        let both = (0..1000).filter(|i| {
            let key = format!("client {i}");
            Place::of("a", &key).0 < 5000 && Place::of("b", &key).0 < 5000
        });

        assert!((200..300).contains(&both.count()));
    }
}
