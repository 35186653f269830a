//! How many bytes an answer brings into a plugin's memory, for who measures that.

use crate::plugins::instance::State;

impl State {
    /// Notes an answer in the simulation, if this is one.
    pub(super) fn copied<R: Copied>(&self, answer: R) -> R {
        if let Some(simulation) = &self.core.simulation {
            simulation.copied(answer.bytes());
        }
        answer
    }
}

/// What a host function answers. Scalars pass in registers; lists and text are copied.
pub(super) trait Copied {
    fn bytes(&self) -> usize;
}

/// What a list has in it, as it lies in memory.
trait Element {
    fn size(&self) -> usize;
}

impl Copied for () {
    fn bytes(&self) -> usize {
        0
    }
}

impl Copied for bool {
    fn bytes(&self) -> usize {
        0
    }
}

impl Copied for u16 {
    fn bytes(&self) -> usize {
        0
    }
}

impl Copied for String {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl<T: Element> Copied for Vec<T> {
    fn bytes(&self) -> usize {
        self.iter().map(Element::size).sum()
    }
}

impl<T: Copied> Copied for Option<T> {
    fn bytes(&self) -> usize {
        self.as_ref().map_or(0, Copied::bytes)
    }
}

impl Element for u8 {
    fn size(&self) -> usize {
        1
    }
}

impl Element for u32 {
    fn size(&self) -> usize {
        4
    }
}

impl Element for u64 {
    fn size(&self) -> usize {
        8
    }
}

impl Element for Vec<u8> {
    fn size(&self) -> usize {
        8 + self.len()
    }
}

impl Element for (String, Vec<u8>) {
    fn size(&self) -> usize {
        16 + self.0.len() + self.1.len()
    }
}
