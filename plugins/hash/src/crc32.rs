//! CRC-32 as Ethernet, gzip and nginx compute it, in steps.

/// A checksum under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crc32(u32);

const TABLE: [u32; 256] = table();

impl Crc32 {
    pub(crate) const fn new() -> Self {
        Self(u32::MAX)
    }

    #[must_use]
    pub(crate) fn with(self, bytes: &[u8]) -> Self {
        Self(bytes.iter().fold(self.0, |crc, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8)))
    }

    pub(crate) fn finish(self) -> u32 {
        !self.0
    }
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_is_that_of_the_standard() {
        assert_eq!(Crc32::new().with(b"123456789").finish(), 0xcbf4_3926);
        assert_eq!(Crc32::new().with(b"1234").with(b"").with(b"56789").finish(), 0xcbf4_3926);
        assert_eq!(Crc32::new().finish(), 0);
    }
}
