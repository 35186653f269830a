//! Whatever stands in a file, reading it ends, and every fault has its place in it.

use proptest::prelude::*;

use super::{EXAMPLE, parse};

/// Pieces that mean something to TOML or to us.
const PIECES: &[&str] = &[
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ".",
    ",",
    "#",
    "\n",
    "\r\n",
    "\\",
    "\\u00e9",
    "\u{feff}",
    "0",
    "-1",
    "99999999999999999999",
    "1e400",
    "nan",
    "0x",
    "true",
    "2024-01-01",
    "${",
    "}",
    "$${A}",
    "${STAUNCH_ADMIN_TOKEN}",
    "é",
    "\0",
    "/",
    "*",
    ":",
    "unix:",
    "[::1]:",
    "s",
    "KiB",
    "[upstreams.api]",
    "[plugins]",
    "[[routes]]",
    "\"\"",
    "[]",
    "{}",
];

fn check(text: &str) {
    match parse(text) {
        Ok(config) => assert!(!config.listeners.is_empty()),
        Err(faults) => {
            let lines = text.split('\n').count();
            assert!(!faults.faults.is_empty());
            assert!(
                faults.faults.iter().all(|fault| (1..=lines).contains(&fault.place.line) && fault.place.column > 0)
            );
            assert!(faults.faults.is_sorted_by_key(|fault| fault.place));
            assert_eq!(faults.to_string().lines().count(), faults.faults.len(), "{faults}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_to_its_end(text in any::<String>()) {
        check(&text);
    }

    #[test]
    fn any_pieces_are_read_to_their_end(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..40)) {
        check(&pieces.concat());
    }

    #[test]
    fn an_example_with_anything_put_into_it_is_read_to_its_end(
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..30, prop::sample::select(PIECES)), 1..5),
    ) {
        let mut letters: Vec<char> = EXAMPLE.chars().collect();
        for (at, removed, piece) in edits {
            let start = at.index(letters.len());
            let end = (start + removed).min(letters.len());
            letters.splice(start..end, piece.chars());
        }
        check(&letters.into_iter().collect::<String>());
    }

    #[test]
    fn an_example_with_any_value_anywhere_is_read_to_its_end(
        line in any::<prop::sample::Index>(),
        value in prop_oneof![
            Just("0".to_owned()), Just("-1".to_owned()), Just("9223372036854775807".to_owned()), Just("1.5".to_owned()),
            Just("true".to_owned()), Just("false".to_owned()), Just("[]".to_owned()), Just("{}".to_owned()), Just("[[1]]".to_owned()),
            Just("[{ upstream = 'api' }]".to_owned()), Just("2024-01-01".to_owned()),
            "'[^'\n\r\\x00-\\x1f\\x7f]{0,20}'", "'[0-9]{1,25}[a-zA-Z]{0,3}'", "\\['[a-z:/.*\\[\\]]{0,9}'\\]",
        ],
    ) {
        let mut lines: Vec<String> = EXAMPLE.lines().map(str::to_owned).collect();
        let assignments: Vec<_> = (0..lines.len()).filter(|i| lines[*i].contains(" = ") && !lines[*i].starts_with(' ')).collect();
        let chosen = assignments[line.index(assignments.len())];
        let key = lines[chosen].split(" = ").next().unwrap_or_default().to_owned();
        lines[chosen] = format!("{key} = {value}");
        check(&lines.join("\n"));
    }
}
