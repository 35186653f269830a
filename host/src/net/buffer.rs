//! A window of received bytes, whose memory is borrowed from the worker while it is needed.
//!
//! # Why give memory back?
//!
//! Most connections of a proxy are idle. An idle connection holds no buffer: the worker keeps a few for whoever
//! becomes readable next.

use std::cell::RefCell;

use crate::net::buffer::spare::{give, take};

/// Bytes of an ordinary buffer: a few heads, or a TLS record.
pub(crate) const SMALL: usize = 16 * 1024;
/// Bytes of a buffer that a long body passes through.
pub(crate) const LARGE: usize = 64 * 1024;

/// Received bytes that nobody has used up yet.
#[derive(Default)]
pub(crate) struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// The received bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes it can hold at once; 0 while it has no memory.
    pub(crate) fn capacity(&self) -> usize {
        self.memory.len()
    }

    /// Uses up the first `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        debug_assert!(self.start <= self.end, "only received bytes can be used up");
        if self.start >= self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Free memory after the received bytes; empty when the buffer is full.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.memory.is_empty() {
            self.memory = take(SMALL);
        }
        if self.end == self.memory.len() && self.start > 0 {
            self.memory.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.memory[self.end..]
    }

    /// Counts `n` bytes of [`Self::space`] as received.
    pub(crate) fn received(&mut self, n: usize) {
        self.end = (self.end + n).min(self.memory.len());
    }

    /// Makes room for at least `capacity` bytes.
    pub(crate) fn grow(&mut self, capacity: usize) {
        if self.memory.len() >= capacity {
            return;
        }
        let mut memory = take(capacity);
        memory[..self.len()].copy_from_slice(self.bytes());
        (self.start, self.end) = (0, self.len());
        give(std::mem::replace(&mut self.memory, memory));
    }

    /// Gives the memory back if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.is_empty() {
            give(std::mem::take(&mut self.memory));
            (self.start, self.end) = (0, 0);
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        give(std::mem::take(&mut self.memory));
    }
}

/// The worker's spare memory, by size.
mod spare {
    use super::{LARGE, RefCell, SMALL};

    /// Spare buffers kept of each size: 1 MiB and 1 MiB.
    const KEPT_SMALL: usize = 64;
    const KEPT_LARGE: usize = 16;

    thread_local! {
        static SPARE: RefCell<Spare> = const { RefCell::new(Spare { small: Vec::new(), large: Vec::new() }) };
    }

    struct Spare {
        small: Vec<Box<[u8]>>,
        large: Vec<Box<[u8]>>,
    }

    pub(super) fn take(capacity: usize) -> Box<[u8]> {
        let kept = SPARE.with_borrow_mut(|spare| {
            if capacity <= SMALL {
                spare.small.pop()
            } else if capacity <= LARGE {
                spare.large.pop()
            } else {
                None
            }
        });
        kept.unwrap_or_else(|| {
            let size = if capacity <= SMALL { SMALL } else { capacity.max(LARGE) };
            vec![0; size].into_boxed_slice()
        })
    }

    pub(super) fn give(memory: Box<[u8]>) {
        // A buffer may outlive the thread's locals at the very end; then it is simply freed.
        let _ = SPARE.try_with(|spare| {
            let Spare { small, large } = &mut *spare.borrow_mut();
            match memory.len() {
                SMALL if small.len() < KEPT_SMALL => small.push(memory),
                LARGE if large.len() < KEPT_LARGE => large.push(memory),
                _ => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_compaction_and_growth() {
        let mut buffer = Buffer::default();
        let space = buffer.space();
        space.fill(b'x');
        let n = space.len();
        buffer.received(n);

        buffer.consume(SMALL - 3);
        assert_eq!(buffer.space().len(), SMALL - 3);
        buffer.grow(LARGE);

        assert_eq!(buffer.bytes(), b"xxx");
        assert_eq!(buffer.space().len(), LARGE - 3);
    }

    #[test]
    fn an_empty_buffer_holds_no_memory_after_release() {
        let mut buffer = Buffer::default();
        buffer.space();
        buffer.received(1);

        buffer.release();
        assert_eq!(buffer.capacity(), SMALL);
        buffer.consume(1);
        buffer.release();

        assert_eq!(buffer.capacity(), 0);
    }
}
