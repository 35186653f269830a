//! The example plugins in other languages, under traffic.
