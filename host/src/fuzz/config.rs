//! A configuration's text.

use crate::config::Config;

/// A text is read or refused with faults that stand somewhere in it, and the same way twice.
pub fn config(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let environment = |name: &str| (!name.starts_with('X')).then(|| name.to_lowercase());
    let read = Config::parse_with(&text, None, &environment);
    if let Err(faults) = &read {
        assert!(!faults.faults.is_empty(), "refused without a reason");
        let lines = text.lines().count() + 1;
        for fault in &faults.faults {
            assert!(fault.place.line <= lines, "{fault} in {lines} lines");
            assert!(!fault.message.is_empty() && !fault.message.contains('\n'), "{fault}");
        }
    }
    let again = Config::parse_with(&text, None, &environment);
    assert_eq!(format!("{read:?}"), format!("{again:?}"));
}
