//! The prefixes of a key, each named by a hash.

use staunch_plugin::random;

/// How a key falls into pieces. Its prefixes end where a piece ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// What stands between two separators; those that are empty do not count.
    Separated(Vec<u8>),
    /// So many bytes each. A last piece that is not whole does not count, unless it is the only one: what was added
    /// last is seldom asked for again.
    Long(usize),
}

impl Pieces {
    /// The hash of each prefix of a key, the shortest first, `most` of them at most.
    pub(crate) fn prefixes(&self, key: &[u8], most: usize) -> Vec<u64> {
        let mut prefix = Prefix::empty();
        match self {
            Self::Separated(separator) => split(key, separator)
                .filter(|piece| !piece.is_empty())
                .take(most)
                .map(|piece| prefix.with(piece))
                .collect(),
            Self::Long(length) => {
                let is_whole = |piece: &&[u8]| piece.len() == *length || key.len() < *length;
                key.chunks(*length).filter(is_whole).take(most).map(|piece| prefix.with(piece)).collect()
            }
        }
    }
}

fn split<'a>(key: &'a [u8], separator: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut rest = Some(key);
    std::iter::from_fn(move || {
        let key = rest?;
        let found = key.windows(separator.len()).position(|window| window == separator);
        let (piece, after) = match found {
            Some(at) => (&key[..at], Some(&key[at + separator.len()..])),
            None => (key, None),
        };
        rest = after;
        Some(piece)
    })
}

/// The FNV-1a hash of the pieces so far.
struct Prefix(u64);

impl Prefix {
    fn empty() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds a piece, and answers the hash of all there are.
    fn with(&mut self, piece: &[u8]) -> u64 {
        // The length keeps apart what ends elsewhere.
        for byte in piece.iter().chain(&(piece.len() as u64).to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        random::mix(self.0, 0)
    }
}

/// What an endpoint is known by, in whatever membership.
pub(crate) fn name_of(address: &str) -> u64 {
    Prefix::empty().with(address.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn separated(separator: &str, key: &str) -> Vec<u64> {
        Pieces::Separated(separator.into()).prefixes(key.as_bytes(), 32)
    }

    fn long(length: usize, key: &str) -> Vec<u64> {
        Pieces::Long(length).prefixes(key.as_bytes(), 32)
    }

    #[test]
    fn keys_share_the_prefixes_of_their_common_pieces() {
        let (a, b) = (separated("/", "gold/system/chat-1"), separated("/", "gold/system/chat-2/turn"));

        assert_eq!((a.len(), b.len()), (3, 4));
        assert_eq!(a[..2], b[..2]);
        assert_ne!(a[2], b[2]);
        assert_ne!(separated("/", "gold-system")[0], a[0]);
        assert_eq!(separated("::", "x::y")[..1], separated("::", "x"));
    }

    #[test]
    fn empty_pieces_do_not_count() {
        assert_eq!(separated("/", "/a//b/"), separated("/", "a/b"));
        assert_eq!(separated("/", "///"), [0; 0]);
        assert_eq!(separated("/", ""), [0; 0]);
        assert_ne!(separated("/", "ab"), separated("/", "a/b"));
    }

    #[test]
    fn pieces_of_a_length_are_whole_or_the_only_one() {
        let prompt = "You are a helpful assistant.";

        assert_eq!(long(8, prompt).len(), 3);
        assert_eq!(long(8, prompt)[..2], long(8, &prompt[..17])[..]);
        assert_eq!(long(100, prompt).len(), 1);
        assert_eq!(long(28, prompt).len(), 1);
        assert_eq!(long(8, ""), [0; 0]);
    }

    #[test]
    fn a_long_key_counts_as_far_as_it_is_looked_at() {
        let pieces = Pieces::Long(1);

        assert_eq!(pieces.prefixes(b"abcdef", 3), pieces.prefixes(b"abcxyz", 3));
        assert_eq!(pieces.prefixes(b"abcdef", 3).len(), 3);
    }
}
