//! What must hold for any bytes at all, for `host/fuzz` to try with.
//!
//! Each function takes what somebody else may send and panics when a promise is broken: that nothing panics, that
//! it makes no difference in which pieces bytes come, that what is accepted reads the same to a second reader
//! (`reference`, slow and simple), and that what is written is understood as it was meant.
//!
//! The corpus in `host/fuzz/corpus` is run by an ordinary test, so that what was found once stays found.

mod config;
mod head;
mod proxy_header;
mod reference;
mod rewriting;

pub use config::config;
pub use head::{request, response};
pub use proxy_header::proxy_header;
pub use rewriting::rewriting;

/// A function of this module.
pub type Target = fn(&[u8]);

/// All targets, by the name of their file in `host/fuzz/targets` and of their folder in `host/fuzz/corpus`.
pub const TARGETS: [(&str, Target); 5] = [
    ("config", config),
    ("proxy_header", proxy_header),
    ("request", request),
    ("response", response),
    ("rewriting", rewriting),
];

/// Where to cut an input of this length: everywhere if it is short.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    let step = (length / 64).max(1);
    (0..length).step_by(step)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn corpus(name: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
        let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        files.map(|file| fs::read(file.expect("a file").path()).expect("a file")).collect()
    }

    #[test]
    fn every_target_holds_for_its_corpus() {
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            assert!(!corpus.is_empty(), "{name} has no corpus");
            corpus.iter().for_each(|input| target(input));
        }
    }

    #[test]
    fn every_target_holds_for_what_is_like_its_corpus() {
        // What a machine without a fuzzer can do: bytes changed, cut out, doubled and put together.
        let mut random = fastrand::Rng::with_seed(7);
        for (name, target) in TARGETS {
            let corpus = corpus(name);
            for _ in 0..500 {
                let mut input = corpus[random.usize(..corpus.len())].clone();
                for _ in 0..random.usize(1..5) {
                    change(&mut input, &corpus, &mut random);
                }
                target(&input);
            }
        }
    }

    fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], random: &mut fastrand::Rng) {
        let at = random.usize(..=input.len());
        let end = random.usize(at..=input.len());
        match random.u8(..5) {
            0 => input.insert(at, random.u8(..)),
            1 if at < input.len() => input[at] = b"\r\n :;,=\"\0\xff0a-+"[random.usize(..14)],
            2 => drop(input.drain(at..end)),
            3 => {
                let part = input[at..end].to_vec();
                input.splice(at..at, part);
            }
            _ => {
                let other = &corpus[random.usize(..corpus.len())];
                input.truncate(at);
                input.extend_from_slice(&other[random.usize(..=other.len())..]);
            }
        }
    }
}
