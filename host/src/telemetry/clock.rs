//! The date of a response, written at most once a second.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Today in the form of the `date` field (RFC 9110 section 5.6.7). Each worker has its own.
#[derive(Debug)]
pub struct HttpDate {
    second: Option<u64>,
    text: [u8; LENGTH],
}

/// Bytes of `Sun, 06 Nov 1994 08:49:37 GMT`.
const LENGTH: usize = 29;

impl HttpDate {
    pub fn new() -> Self {
        let mut date = Self { second: None, text: [b' '; LENGTH] };
        date.now();
        date
    }

    pub fn now(&mut self) -> &[u8; LENGTH] {
        self.at(SystemTime::now())
    }

    /// The date that was written last.
    pub fn latest(&self) -> &[u8; LENGTH] {
        &self.text
    }

    /// The date of a given moment, within the years 1970 to 9999.
    pub fn at(&mut self, time: SystemTime) -> &[u8; LENGTH] {
        let second = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST_SECOND);
        if self.second != Some(second) {
            self.second = Some(second);
            let date = httpdate::HttpDate::from(UNIX_EPOCH + Duration::from_secs(second));
            write!(&mut self.text[..], "{date}").expect("a date of 29 bytes");
        }
        &self.text
    }
}

impl Default for HttpDate {
    fn default() -> Self {
        Self::new()
    }
}

/// The end of the year 9999: a later year has no place in 29 bytes.
const LAST_SECOND: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_follows_the_clock_and_never_leaves_its_length() {
        let mut date = HttpDate::new();
        let mut at = |seconds| String::from_utf8(date.at(UNIX_EPOCH + Duration::from_secs(seconds)).to_vec()).unwrap();

        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(784_111_778), "Sun, 06 Nov 1994 08:49:38 GMT");
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(LAST_SECOND + 1), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
