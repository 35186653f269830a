//! HTTP/2 towards clients.

use super::reader::Reader;

/// What a client of HTTP/2 may do on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Requests at a time (128, nginx's `http2_max_concurrent_streams`; 1 to 65535).
    pub max_concurrent_streams: u32,
    /// Bytes of one request's body that may come before somebody takes them (128KiB; 64KiB less a byte, which the
    /// protocol begins with, to 16MiB).
    pub window: u32,
}

/// The window a connection begins with (RFC 9113 section 6.9.2).
const LEAST_WINDOW: u32 = 65_535;
/// The largest there is (RFC 9113 section 6.9.1).
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

impl Default for Http2 {
    fn default() -> Self {
        Self { max_concurrent_streams: 128, window: 128 * 1024 }
    }
}

impl Http2 {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let mut http2 = Self::default();
        reader.set_number("max_concurrent_streams", 1..=65535, &mut http2.max_concurrent_streams);
        reader.set_size("window", u64::from(LEAST_WINDOW)..=16 * 1024 * 1024, &mut http2.window);
        http2
    }

    /// Room for the windows of all requests at once, so that one whose body nobody takes does not hold up the others.
    pub fn connection_window(&self) -> u32 {
        self.window.saturating_mul(self.max_concurrent_streams).clamp(LEAST_WINDOW, LARGEST_WINDOW)
    }
}
