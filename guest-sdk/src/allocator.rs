//! The memory of a plugin: the standard allocator with a cache in front.
//!
//! A call of a rewriter asks for a handful of small pieces and gives all of them back, and the standard allocator of
//! WebAssembly takes a hundred instructions for each. Pieces that are given back are kept in lists, one for each size,
//! where the next one who asks finds them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

/// Sizes are rounded up to a multiple of this, which is also how pieces are aligned.
const STEP: usize = 16;
/// The largest piece that is kept.
const LARGEST: usize = 512;
const CLASSES: usize = LARGEST / STEP;
/// Pieces kept of each size: all together take 270 KB at most.
const KEPT: u32 = 32;

/// The standard allocator with a cache in front, for a program of one thread.
#[derive(Debug)]
pub(crate) struct Allocator {
    lists: UnsafeCell<[List; CLASSES]>,
}

/// Pieces of one size, each of which begins with the address of the next.
#[derive(Clone, Copy, Debug)]
struct List {
    first: *mut u8,
    length: u32,
}

// SAFETY: a plugin has one thread; `lib.rs` makes no allocator of it where there could be another.
#[expect(unsafe_code, reason = "a static has to be `Sync`, also in a program of one thread")]
unsafe impl Sync for Allocator {}

impl Allocator {
    pub(crate) const fn new() -> Self {
        Self { lists: UnsafeCell::new([List { first: ptr::null_mut(), length: 0 }; CLASSES]) }
    }
}

/// The list for pieces of a layout, and the layout that all of them have.
#[inline]
fn class(layout: Layout) -> Option<(usize, Layout)> {
    let class = layout.size().wrapping_sub(1) / STEP;
    if class >= CLASSES || layout.align() > STEP {
        return None;
    }
    Layout::from_size_align((class + 1) * STEP, STEP).ok().map(|whole| (class, whole))
}

#[expect(unsafe_code, reason = "this is what an allocator is")]
// SAFETY: pieces come from the standard allocator with a layout that is at least as large and as aligned as what is asked
// for, and go back to it with the same one. One that stands in a list belongs to nobody else, and has room for an address.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some((class, whole)) = class(layout) else { return unsafe { System.alloc(layout) } };
        let list = unsafe { &mut (*self.lists.get())[class] };
        if list.first.is_null() {
            return unsafe { System.alloc(whole) };
        }
        let piece = list.first;
        list.first = unsafe { piece.cast::<*mut u8>().read() };
        list.length -= 1;
        piece
    }

    #[inline]
    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        let Some((class, whole)) = class(layout) else { return unsafe { System.dealloc(piece, layout) } };
        let list = unsafe { &mut (*self.lists.get())[class] };
        if list.length >= KEPT {
            return unsafe { System.dealloc(piece, whole) };
        }
        unsafe { piece.cast::<*mut u8>().write(list.first) };
        list.first = piece;
        list.length += 1;
    }

    #[inline]
    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The caller has seen to it that the new layout is one.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (class(layout), class(wanted)) {
            (None, None) => unsafe { System.realloc(piece, layout, size) },
            (Some((before, _)), Some((after, _))) if before == after => piece,
            _ => {
                let moved = unsafe { self.alloc(wanted) };
                if !moved.is_null() {
                    unsafe { ptr::copy_nonoverlapping(piece, moved, size.min(layout.size())) };
                    unsafe { self.dealloc(piece, layout) };
                }
                moved
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A piece of an allocator's, filled with one byte.
    struct Piece {
        at: *mut u8,
        layout: Layout,
        byte: u8,
    }

    #[expect(unsafe_code, reason = "an allocator is used as what it is")]
    impl Piece {
        fn new(allocator: &Allocator, size: usize, align: usize, byte: u8) -> Self {
            let layout = Layout::from_size_align(size, align).expect("a power of two");
            let at = unsafe { allocator.alloc(layout) };
            assert!(!at.is_null() && at.addr().is_multiple_of(align));
            unsafe { at.write_bytes(byte, size) };
            Self { at, layout, byte }
        }

        fn resize(&mut self, allocator: &Allocator, size: usize) {
            let kept = size.min(self.layout.size());
            self.at = unsafe { allocator.realloc(self.at, self.layout, size) };
            assert!(!self.at.is_null() && self.at.addr().is_multiple_of(self.layout.align()));
            self.layout = Layout::from_size_align(size, self.layout.align()).expect("a power of two");
            assert!(self.bytes()[..kept].iter().all(|&byte| byte == self.byte), "what was there has moved along");
            unsafe { self.at.write_bytes(self.byte, size) };
        }

        fn bytes(&self) -> &[u8] {
            unsafe { std::slice::from_raw_parts(self.at, self.layout.size()) }
        }

        fn free(self, allocator: &Allocator) {
            assert!(self.bytes().iter().all(|&byte| byte == self.byte), "nobody else wrote there");
            unsafe { allocator.dealloc(self.at, self.layout) };
        }
    }

    proptest! {
        #[test]
        fn pieces_are_aligned_and_belong_to_one_alone(
            steps in prop::collection::vec((0usize..4, 1usize..1200, 0u32..7, any::<usize>()), 1..400)
        ) {
            let allocator = Allocator::new();
            let mut pieces = Vec::new();
            for (n, (what, size, align, which)) in steps.into_iter().enumerate() {
                match what {
                    0 | 1 => pieces.push(Piece::new(&allocator, size, 1 << align, n as u8)),
                    _ if pieces.is_empty() => {}
                    2 => {
                        let which = which % pieces.len();
                        pieces[which].resize(&allocator, size);
                    }
                    _ => pieces.swap_remove(which % pieces.len()).free(&allocator),
                }
            }
            pieces.into_iter().for_each(|piece| piece.free(&allocator));
        }
    }

    #[test]
    fn a_piece_that_was_given_back_is_the_next_one_of_its_size() {
        let allocator = Allocator::new();
        let first = Piece::new(&allocator, 20, 4, 1);
        let at = first.at;
        first.free(&allocator);

        let (other, same) = (Piece::new(&allocator, 33, 1, 2), Piece::new(&allocator, 32, 8, 3));

        assert_eq!((other.at == at, same.at == at), (false, true));
        other.free(&allocator);
        same.free(&allocator);
    }

    #[test]
    fn no_more_than_a_few_of_each_size_are_kept() {
        let allocator = Allocator::new();
        let pieces: Vec<_> = (0..2 * KEPT).map(|_| Piece::new(&allocator, 64, 8, 7)).collect();

        pieces.into_iter().for_each(|piece| piece.free(&allocator));

        let mut lists = allocator.lists;
        assert_eq!(lists.get_mut()[3].length, KEPT);
    }
}
