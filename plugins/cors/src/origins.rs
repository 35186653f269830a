//! Whose pages may read responses.

use regex_lite::Regex;
use staunch_plugin::{Config, Setting};

/// The origins that are allowed.
#[derive(Debug)]
pub(crate) struct Origins(Vec<Pattern>);

#[derive(Debug)]
enum Pattern {
    Any,
    Exact(String),
    /// `https://*.example.com`: what stands before the star, and after it.
    Wildcard(String, String),
    Matching(Whole),
}

/// A regular expression that the whole of an origin must match.
#[derive(Debug)]
struct Whole(Regex);

impl Origins {
    /// Reads `allow_origins` and `allow_origins_regex`, and notes what is wrong with them.
    pub(crate) fn read(config: &Config) -> Self {
        let mut patterns: Vec<Pattern> = config.values("allow_origins");
        patterns.extend(config.values("allow_origins_regex").into_iter().map(Pattern::Matching));
        if !config.has("allow_origins") && !config.has("allow_origins_regex") {
            config.issue("allow_origins", "is required");
        }
        Self(patterns)
    }

    /// Whether every origin is allowed.
    pub(crate) fn are_any(&self) -> bool {
        self.0.iter().any(|pattern| matches!(pattern, Pattern::Any))
    }

    /// Whether this one is. Browsers write origins in lower case.
    pub(crate) fn allow(&self, origin: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Any => true,
            Pattern::Exact(exact) => exact == origin,
            Pattern::Wildcard(before, after) => origin
                .strip_prefix(&**before)
                .and_then(|rest| rest.strip_suffix(&**after))
                .is_some_and(|labels| !labels.is_empty() && labels.bytes().all(is_of_host)),
            Pattern::Matching(Whole(regex)) => regex.is_match(origin),
        })
    }
}

fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._".contains(&byte)
}

impl Setting for Pattern {
    fn from_text(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let host = text.split_once("://").map(|(_, host)| host);
        if text != "null" && (host.is_none_or(str::is_empty) || host.is_some_and(|host| host.contains('/'))) {
            return Err("must be `*`, `null` or an origin such as `https://example.com`, without a path".to_owned());
        }
        let lower = text.to_ascii_lowercase();
        match lower.split_once('*') {
            None => Ok(Self::Exact(lower)),
            // Elsewhere, as in `https://*example.com`, somebody else's host would match.
            Some((before, after)) if before.ends_with("://") && after.starts_with('.') && !after.contains('*') => {
                Ok(Self::Wildcard(before.to_owned(), after.to_owned()))
            }
            Some(_) => Err("may have one `*`, for the first labels of the host: `https://*.example.com`".to_owned()),
        }
    }
}

impl Setting for Whole {
    fn from_text(text: &str) -> Result<Self, String> {
        Regex::new(&format!("^(?:{text})$")).map(Self).map_err(|error| format!("is not right: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(patterns: &[&str]) -> Origins {
        Origins(patterns.iter().map(|text| Pattern::from_text(text).expect(text)).collect())
    }

    #[test]
    fn an_origin_is_allowed_by_its_whole_name() {
        let origins = origins(&["https://Shop.test", "http://localhost:3000", "null"]);

        for (origin, is_allowed) in [
            ("https://shop.test", true),
            ("http://localhost:3000", true),
            ("null", true),
            ("http://shop.test", false),
            ("https://shop.test:8443", false),
            ("https://shop.test.evil.test", false),
            ("https://evilshop.test", false),
            ("", false),
        ] {
            assert_eq!(origins.allow(origin), is_allowed, "for {origin}");
        }
    }

    #[test]
    fn a_star_stands_for_labels_of_the_host() {
        let origins = origins(&["https://*.shop.test", "http://*.local:3000"]);

        for (origin, is_allowed) in [
            ("https://a.shop.test", true),
            ("https://a.b.shop.test", true),
            ("http://x.local:3000", true),
            ("https://shop.test", false),
            ("https://.shop.test", false),
            ("https://evilshop.test", false),
            ("https://evil.test/.shop.test", false),
            ("https://evil.test#.shop.test", false),
            ("http://a.shop.test", false),
        ] {
            assert_eq!(origins.allow(origin), is_allowed, "for {origin}");
        }
    }

    #[test]
    fn a_regular_expression_matches_all_of_an_origin() {
        let whole = Whole::from_text(r"https://pr-\d+\.shop\.test|http://localhost(:\d+)?").expect("it is right");
        let origins = Origins(vec![Pattern::Matching(whole)]);

        for (origin, is_allowed) in [
            ("https://pr-17.shop.test", true),
            ("http://localhost:8080", true),
            ("http://localhost", true),
            ("https://pr-17.shop.test.evil.test", false),
            ("http://localhost.evil.test", false),
            ("evil http://localhost", false),
        ] {
            assert_eq!(origins.allow(origin), is_allowed, "for {origin}");
        }
        assert!(Whole::from_text("(").is_err());
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in
            ["", "shop.test", "https://", "https://shop.test/", "https://*shop.test", "https://a.*.test", "*.test"]
        {
            assert!(Pattern::from_text(text).is_err(), "{text}");
        }
    }
}
