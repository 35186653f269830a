//! Texts that stand for something: durations, sizes, names and field values.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::fault::BadValue;

/// The longest duration: long enough for anything, and short enough that a moment plus it is still a moment.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Reads a duration such as "250ms" or "1m30s".
pub(super) fn duration(text: &str) -> Result<Duration, BadValue> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(unitless_duration(text));
    }
    let length = humantime::parse_duration(text).map_err(|_| {
        BadValue::new(format!("`{}` is not a duration", shown(text)))
            .with_hint("write it like \"250ms\", \"30s\" or \"1m30s\"".to_owned())
    })?;
    if length > LONGEST {
        return Err(BadValue::new("a duration is at most 30 days").with_hint(
            // humantime reads a capital M as months.
            text.contains('M').then(|| format!("did you mean `\"{}\"`?", text.replace('M', "m"))),
        ));
    }
    Ok(length)
}

pub(super) fn unitless_duration(number: &str) -> BadValue {
    BadValue::new("a duration needs its unit").with_hint(format!("write `\"{number}s\"` or `\"{number}ms\"`"))
}

/// Whether a text is somebody's word for "switched off".
pub(super) fn is_off(text: &str) -> bool {
    ["off", "none", "never", "no", "false", "disabled"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

const UNITS: [(&str, u64); 7] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
];

/// Reads a size in bytes such as "8MiB", "10MB" or "512B".
pub(super) fn size(text: &str) -> Result<u64, BadValue> {
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let unit = unit.trim_start_matches(' ');
    if digits.is_empty() {
        return Err(BadValue::new(format!("`{}` is not a size", shown(text)))
            .with_hint("write it like \"512B\", \"64KiB\" or \"8MiB\"".to_owned()));
    }
    if unit.is_empty() {
        return Err(unitless_size(digits));
    }
    let Some((_, factor)) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)) else {
        let hint = match unit.to_ascii_lowercase().as_str() {
            "k" => format!("did you mean `\"{digits}KiB\"`?"),
            "m" => format!("did you mean `\"{digits}MiB\"`?"),
            "g" => format!("did you mean `\"{digits}GiB\"`?"),
            _ => "the units are B, KiB, MiB, GiB, KB, MB and GB".to_owned(),
        };
        return Err(BadValue::new(format!("`{}` is not a size", shown(text))).with_hint(hint));
    };
    let bytes = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(*factor));
    bytes.ok_or_else(|| BadValue::new(format!("`{}` is too large", shown(text))))
}

pub(super) fn unitless_size(number: &str) -> BadValue {
    let hint = match number.parse() {
        Ok(bytes @ 1024..) => format!("write `\"{}\"`", written_size(bytes)),
        _ => format!("write `\"{number}B\"`, `\"{number}KiB\"` or `\"{number}MiB\"`"),
    };
    BadValue::new("a size needs its unit").with_hint(hint)
}

/// A size as one would write it.
pub(super) fn written_size(bytes: u64) -> String {
    let unit = UNITS[1..4].iter().rev().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    let (name, factor) = unit.unwrap_or(&UNITS[0]);
    format!("{}{name}", bytes / factor)
}

/// A share of the whole, written in percent.
pub(super) fn share(text: &str) -> Result<f64, BadValue> {
    let bad = || BadValue::new(format!("`{}` is not a share", shown(text)));
    let hint = "write it like \"5%\" or \"0.5%\"";
    let Some(number) = text.strip_suffix('%') else { return Err(bad().with_hint(hint.to_owned())) };
    let percent: f64 = number.trim_end().parse().map_err(|_| bad().with_hint(hint.to_owned()))?;
    if percent > 0.0 && percent <= 100.0 {
        return Ok(percent / 100.0);
    }
    Err(BadValue::new("a share is above 0% and at most 100%"))
}

/// The name of an upstream, a plugin or a label: it appears in addresses of the admin server and in metrics.
pub(super) fn name(text: &str) -> Result<String, BadValue> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Ok(text.to_owned());
    }
    let what =
        if text.is_empty() { "a name is not empty".to_owned() } else { format!("`{}` is not a name", shown(text)) };
    Err(BadValue::new(what).with_hint("names are made of letters, digits, `-`, `_` and `.`".to_owned()))
}

/// A host name or an IPv4 address, in lower case.
pub(super) fn host_name(text: &str) -> Result<String, BadValue> {
    if text.is_empty() {
        return Err(BadValue::new("a host is not empty"));
    }
    let bad = || BadValue::new(format!("`{}` is not a host", shown(text)));
    if !text.is_ascii() {
        return Err(bad().with_hint("write an international name in its ASCII form, `xn--…`".to_owned()));
    }
    if let Some(absolute) = text.strip_suffix('.').filter(|rest| !rest.is_empty()) {
        return Err(bad().with_hint(format!("did you mean `{}`?", shown(absolute))));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let is_address = || text.parse::<Ipv4Addr>().is_ok();
    let looks_like_address = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if text.len() > 253 || !text.split('.').all(is_label) {
        return Err(bad());
    }
    if looks_like_address && !is_address() {
        return Err(bad().with_hint("an IPv4 address has four numbers from 0 to 255".to_owned()));
    }
    Ok(text.to_ascii_lowercase())
}

/// An IPv6 address in brackets, and what follows it.
pub(super) fn bracketed(text: &str) -> Option<Result<(Ipv6Addr, &str), BadValue>> {
    let (address, rest) = text.strip_prefix('[')?.split_once(']')?;
    let bad = |_| BadValue::new(format!("`{}` is not an IPv6 address", shown(address)));
    Some(address.parse().map(|address| (address, rest)).map_err(bad))
}

/// The hint for an IPv6 address without brackets.
pub(super) fn in_brackets(text: &str) -> Option<String> {
    let is_address = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    match text.rsplit_once(':') {
        Some((address, number)) if is_address(address) && port(number).is_ok() => {
            Some(format!("did you mean `[{address}]:{number}`?"))
        }
        _ => is_address(text).then(|| format!("did you mean `[{text}]:80`?")),
    }
}

/// A port, from 1.
pub(super) fn port(text: &str) -> Result<u16, BadValue> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| {
        BadValue::new(format!("`{}` is not a port", shown(text)))
            .with_hint("a port is a number from 1 to 65535".to_owned())
    })
}

/// The path of a unix socket.
pub(super) fn unix_path(path: &str) -> Result<PathBuf, BadValue> {
    if path.is_empty() {
        return Err(BadValue::new("a unix socket needs its path").with_hint("write `unix:/path`".to_owned()));
    }
    if path.contains('\0') {
        return Err(BadValue::new("a path has no NUL in it"));
    }
    Ok(PathBuf::from(path))
}

/// The whole path of a unix socket, which the system wants short.
pub(super) fn socket_path(path: PathBuf) -> Result<PathBuf, BadValue> {
    // `sun_path` of Linux has 108 bytes, a NUL among them.
    if path.as_os_str().len() > 107 {
        return Err(BadValue::new("the path of a unix socket has at most 107 bytes"));
    }
    Ok(path)
}

/// A method or a field's name (RFC 9110 section 5.6.2).
pub(super) fn token(text: &str, what: &str) -> Result<String, BadValue> {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(is_token) {
        return Ok(text.to_owned());
    }
    let text = if text.is_empty() { "nothing".to_owned() } else { format!("`{}`", shown(text)) };
    Err(BadValue::new(format!("{text} is not {what}")))
}

/// A method, as it is written.
pub(super) fn method(text: &str) -> Result<String, BadValue> {
    let upper = text.to_ascii_uppercase();
    if upper != text && METHODS.contains(&upper.as_str()) {
        return Err(BadValue::new("methods are case-sensitive").with_hint(format!("did you mean `{upper}`?")));
    }
    token(text, "a method")
}

const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// The name of a header, in lower case.
pub(super) fn field_name(text: &str) -> Result<String, BadValue> {
    token(text, "a header name").map(|name| name.to_ascii_lowercase())
}

/// The value of a header (RFC 9110 section 5.5).
pub(super) fn field_value(text: &str) -> Result<String, BadValue> {
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(BadValue::new("a header's value has no line break or control character in it"));
    }
    if text.trim() != text {
        return Err(BadValue::new("a header's value has no space at its ends"));
    }
    Ok(text.to_owned())
}

/// A path that requests are matched with or sent to.
pub(super) fn path(text: &str) -> Result<String, BadValue> {
    if !text.starts_with('/') {
        let hint = if text.starts_with(['^', '~']) {
            "write a regular expression as `path_regex`".to_owned()
        } else {
            format!("did you mean `/{}`?", shown(text))
        };
        return Err(BadValue::new("a path begins with `/`").with_hint(hint));
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
        return Err(BadValue::new(format!("a path has no `{}` in it", bad.escape_debug()))
            .with_hint("write it percent-encoded".to_owned()));
    }
    Ok(text.to_owned())
}

/// What is wrong with a text that should be a regular expression.
pub(super) fn bad_regex(text: &str, error: &regex::Error) -> BadValue {
    // The error draws a picture of several lines and ends it with the reason.
    let error = error.to_string();
    let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").trim();
    BadValue::new(format!("`{}` is not a regular expression: {reason}", shown(text)))
}

/// A range of numbers as one would say it.
pub(super) fn said(range: &RangeInclusive<i64>) -> String {
    if *range.end() >= i64::from(u32::MAX) {
        format!("a whole number, at least {}", range.start())
    } else {
        format!("a whole number from {} to {}", range.start(), range.end())
    }
}

/// A text for a message: on one line, and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    shown
}

/// The most letters of a text that a message repeats.
const SHOWN: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_in_percent() {
        for (text, share_of_one) in [("5%", 0.05), ("0.5 %", 0.005), ("100%", 1.0)] {
            assert_eq!(share(text), Ok(share_of_one), "for {text}");
        }
        for text in ["", "5", "%", "0%", "-1%", "101%", "nan%", "inf%"] {
            assert!(share(text).is_err(), "for {text}");
        }
    }

    #[test]
    fn a_duration_carries_its_unit() {
        for (text, millis) in
            [("250ms", 250), ("1m30s", 90_000), ("1m 30s", 90_000), ("75s", 75_000), ("2h", 7_200_000), ("0s", 0)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "for {text}");
        }
        for text in ["", "5", "0", "-5s", "5x", "off", "1y", "5M", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "for {text}");
        }
    }

    #[test]
    fn a_size_carries_its_unit() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 65536),
            ("8MiB", 8 << 20),
            ("10MB", 10_000_000),
            ("1kb", 1000),
            ("1 GiB", 1 << 30),
            ("0B", 0),
        ] {
            assert_eq!(size(text), Ok(bytes), "for {text}");
        }
        for text in ["", "8", "MiB", "8m", "8TiB", "-1B", "1.5MiB", "99999999999GiB"] {
            assert!(size(text).is_err(), "for {text}");
        }
        for text in ["512B", "64KiB", "8MiB", "1GiB", "0B", "1001B"] {
            assert_eq!(size(text).map(written_size).as_deref(), Ok(text), "for {text}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for (text, host) in
            [("A.example", "a.example"), ("localhost", "localhost"), ("10.0.0.1", "10.0.0.1"), ("a_b", "a_b")]
        {
            assert_eq!(host_name(text).as_deref(), Ok(host), "for {text}");
        }
        for text in ["", ".", "a..b", ".a", "a.", "a b", "bücher.de", "10.0.0.256", "10.0.1", "a:80", "a/b"] {
            assert!(host_name(text).is_err(), "for {text}");
        }
    }

    #[test]
    fn long_and_odd_texts_are_shown_on_one_short_line() {
        assert_eq!(shown("a\nb"), "a\\nb");
        assert_eq!(shown(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
    }
}
