//! Bodies on their way through the filters that rewrite them.

/// Bytes of a body that a filter sees at once.
const PIECE: usize = 64 * 1024;

/// One body in one filter's hands. When it is dropped before its end, the body has broken off.
pub trait BodyFilter {
    /// Appends what a piece becomes to `out`; with `last`, when the piece may be empty, all that is still to come.
    ///
    /// # Errors
    /// When the filter failed: the body cannot go on, and must not look complete.
    fn rewrite(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), BodyBroken>;
}

/// A filter failed on a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a rewriter failed on the body")]
pub struct BodyBroken;

/// The filters of one body, in the order in which it passes them.
#[derive(Default)]
pub struct BodyChain {
    filters: Vec<Box<dyn BodyFilter>>,
    ended: bool,
    /// What goes in and out of the filter at work. Kept for their memory.
    buffers: [Vec<u8>; 2],
}

impl BodyChain {
    pub fn push(&mut self, filter: Box<dyn BodyFilter>) {
        self.filters.push(filter);
    }

    /// Whether bodies pass as they are.
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// What a part of the body becomes.
    ///
    /// # Errors
    /// When a filter failed.
    pub fn rewrite(&mut self, data: &[u8]) -> Result<&[u8], BodyBroken> {
        self.run(data, false)
    }

    /// What comes at the end; nothing when that was asked for before.
    ///
    /// # Errors
    /// When a filter failed.
    pub fn end(&mut self) -> Result<&[u8], BodyBroken> {
        if self.ended {
            return Ok(&[]);
        }
        self.ended = true;
        self.run(&[], true)
    }

    fn run(&mut self, data: &[u8], last: bool) -> Result<&[u8], BodyBroken> {
        let [input, output] = &mut self.buffers;
        input.clear();
        input.extend_from_slice(data);
        for filter in &mut self.filters {
            output.clear();
            let mut pieces = input.chunks(PIECE).peekable();
            if last && pieces.peek().is_none() {
                filter.rewrite(&[], true, output)?;
            }
            while let Some(piece) = pieces.next() {
                filter.rewrite(piece, last && pieces.peek().is_none(), output)?;
            }
            std::mem::swap(input, output);
        }
        Ok(input)
    }
}

impl std::fmt::Debug for BodyChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BodyChain").field("filters", &self.filters.len()).field("ended", &self.ended).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds the latest byte back and puts its name between bytes.
    struct Late(u8, Option<u8>);

    impl BodyFilter for Late {
        fn rewrite(&mut self, piece: &[u8], last: bool, out: &mut Vec<u8>) -> Result<(), BodyBroken> {
            assert!(piece.len() <= PIECE);
            for &byte in piece {
                out.extend(self.1.replace(byte));
            }
            if last {
                out.extend(self.1.take());
                out.push(self.0);
            }
            Ok(())
        }
    }

    #[test]
    fn a_body_passes_its_filters_in_order_and_ends_once() {
        let mut chain = BodyChain::default();
        chain.push(Box::new(Late(b'1', None)));
        chain.push(Box::new(Late(b'2', None)));

        let mut whole = Vec::new();
        for part in [&b"a"[..], b"bc", b""] {
            whole.extend_from_slice(chain.rewrite(part).expect("it works"));
        }
        whole.extend_from_slice(chain.end().expect("it works"));
        whole.extend_from_slice(chain.end().expect("it works"));

        assert_eq!(whole, b"abc12");
    }

    #[test]
    fn a_long_part_is_seen_in_pieces() {
        let mut chain = BodyChain::default();
        chain.push(Box::new(Late(b'1', None)));

        let length = chain.rewrite(&vec![7; 3 * PIECE + 1]).expect("it works").len();

        assert_eq!(length, 3 * PIECE);
        assert_eq!(chain.end().expect("it works"), [7, b'1']);
    }
}
