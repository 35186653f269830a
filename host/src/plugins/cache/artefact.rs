//! What a file of compiled code is called, and what it begins with.

use std::hash::{Hash, Hasher};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use xxhash_rust::xxh64::xxh64;

use crate::plugins::compiler::hex;

/// What every file begins with. The number is that of this layout: magic, key, checksum, code.
const MAGIC: &[u8; 24] = b"staunch compiled code 1\n";

/// Bytes before the code.
const HEADER: usize = MAGIC.len() + 32 + 8;

/// What the name of a file with compiled code ends with.
pub(super) const SUFFIX: &str = ".native";

/// All that compiled code depends on, hashed: the component, how it was compiled and for which processor, the versions
/// of wasmtime and of this proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugins) struct Key([u8; 32]);

/// A file that is not what was written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Damaged {
    #[error("it does not begin as it should")]
    Foreign,
    #[error("it is for something else than its name says")]
    Misplaced,
    #[error("its checksum is wrong")]
    Garbled,
}

impl Key {
    /// `component`: the bytes that are compiled.
    pub(in crate::plugins) fn of(component: &[u8], engine: &Engine) -> Self {
        let mut hasher = Feeding(Sha256::new());
        env!("CARGO_PKG_VERSION").hash(&mut hasher);
        // With the version of wasmtime in it.
        engine.precompile_compatibility_hash().hash(&mut hasher);
        component.hash(&mut hasher);
        Self(hasher.0.finalize().into())
    }

    /// The name of its file.
    pub(super) fn file(&self) -> String {
        hex(&self.0) + SUFFIX
    }
}

/// What stands before some code.
pub(super) fn header(key: &Key, code: &[u8]) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    let (magic, rest) = header.split_at_mut(MAGIC.len());
    let (name, checksum) = rest.split_at_mut(key.0.len());
    magic.copy_from_slice(MAGIC);
    name.copy_from_slice(&key.0);
    checksum.copy_from_slice(&xxh64(code, 0).to_le_bytes());
    header
}

/// The code in a file's bytes.
///
/// # Errors
/// When they are not what was written under this key.
pub(super) fn open<'b>(bytes: &'b [u8], key: &Key) -> Result<&'b [u8], Damaged> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(Damaged::Foreign)?;
    let rest = rest.strip_prefix(&key.0).ok_or(Damaged::Misplaced)?;
    let (checksum, code) = rest.split_first_chunk().ok_or(Damaged::Garbled)?;
    if xxh64(code, 0).to_le_bytes() == *checksum { Ok(code) } else { Err(Damaged::Garbled) }
}

/// Has a digest take in all that is hashed.
struct Feeding(Sha256);

impl Hasher for Feeding {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        u64::from_le_bytes(*digest.first_chunk().expect("a digest has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins::engine::engine;

    #[test]
    fn what_was_written_is_read_and_nothing_else() {
        let (key, other) = (Key([1; 32]), Key([2; 32]));
        let bytes = [&header(&key, b"code")[..], b"code"].concat();

        assert_eq!(open(&bytes, &key), Ok(&b"code"[..]));
        assert_eq!(open(&bytes, &other), Err(Damaged::Misplaced));
        for end in 0..bytes.len() {
            assert!(open(&bytes[..end], &key).is_err(), "of {end} bytes");
        }
        for at in 0..bytes.len() {
            let mut garbled = bytes.clone();
            garbled[at] ^= 1;
            assert!(open(&garbled, &key).is_err(), "with another byte {at}");
        }
    }

    #[test]
    fn a_key_stands_for_the_component_and_the_way_it_is_compiled() {
        let (plain, metered) = (engine(false).unwrap(), engine(true).unwrap());

        assert_eq!(Key::of(b"a", &plain), Key::of(b"a", &engine(false).unwrap()));
        assert_ne!(Key::of(b"a", &plain), Key::of(b"b", &plain));
        assert_ne!(Key::of(b"a", &plain), Key::of(b"a", &metered));
    }
}
