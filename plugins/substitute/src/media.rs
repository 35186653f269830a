//! Which kinds of content are looked at.

use staunch_plugin::Setting;

/// Media types, each whole, with all subtypes, or all.
#[derive(Debug)]
pub(crate) struct MediaTypes(Vec<MediaType>);

/// What a `content-type` begins with, and whether that is all of it.
#[derive(Debug)]
pub(crate) struct MediaType {
    name: String,
    whole: bool,
}

impl Default for MediaTypes {
    /// HTML, as nginx has it.
    fn default() -> Self {
        Self(vec![MediaType { name: "text/html".to_owned(), whole: true }])
    }
}

impl MediaTypes {
    pub(crate) fn new(types: Vec<MediaType>) -> Self {
        Self(types)
    }

    /// Whether a `content-type` is one of them.
    pub(crate) fn have(&self, field: &[u8]) -> bool {
        let media = field.split(|&b| b == b';').next().unwrap_or_default().trim_ascii();
        self.0.iter().any(|known| {
            let name = known.name.as_bytes();
            media.get(..name.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(name))
                && (!known.whole || media.len() == name.len())
        })
    }
}

impl Setting for MediaType {
    fn from_text(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        if name == "*" || name == "*/*" {
            return Ok(Self { name: String::new(), whole: false });
        }
        match name.split_once('/') {
            Some((kind, "*")) if !kind.is_empty() && kind != "*" => {
                Ok(Self { name: name.trim_end_matches('*').to_owned(), whole: false })
            }
            Some((kind, subtype)) if !kind.is_empty() && !subtype.is_empty() && !name.contains(['*', ';', ' ']) => {
                Ok(Self { name, whole: true })
            }
            _ => Err("must be a media type such as `text/html`, or `text/*`, or `*`".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_whole_or_has_all_subtypes_or_is_any() {
        for (text, field, expected) in [
            ("text/html", "text/html", true),
            ("text/html", "Text/HTML ; charset=x", true),
            ("text/html", "text/htmlx", false),
            ("text/*", "text/css", true),
            ("text/*", "texts/css", false),
            ("*", "image/png", true),
            ("*/*", "", true),
        ] {
            let types = MediaTypes::new(vec![MediaType::from_text(text).expect(text)]);
            assert_eq!(types.have(field.as_bytes()), expected, "{field} for {text}");
        }
        for text in ["", "html", "text/", "/html", "*/html", "text/html; charset=x", "text/h*"] {
            assert!(MediaType::from_text(text).is_err(), "{text}");
        }
    }
}
