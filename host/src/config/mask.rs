//! A configuration's text without its secrets, for who may look at it and need not know them.

use std::sync::LazyLock;

use regex::Regex;

/// A key that says it holds a secret, and its text.
static SECRETS: LazyLock<Regex> = LazyLock::new(|| {
    let key =
        r#"(?P<key>["']?[A-Za-z0-9_.-]*(?:token|secret|password|passwd|api[_-]?key|private[_-]?key)["']?\s*=\s*)"#;
    let text = r#"(?P<text>"""(?s:.*?)"""|'''(?s:.*?)'''|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"#;
    Regex::new(&format!("(?i){key}{text}")).expect("it is written here")
});

/// The same text with `…` for the value of each key that is called a token, a secret, a password or a key to something,
/// and for `secret` wherever it stands. A value that comes from the environment alone is no secret: it shows its name.
pub fn masked(text: &str, secret: Option<&str>) -> String {
    let masked = SECRETS.replace_all(text, |found: &regex::Captures<'_>| {
        let (key, value) = (&found["key"], &found["text"]);
        let inner = value.trim_matches(['"', '\'']);
        let is_name = inner.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        if is_name.is_some_and(|name| !name.contains(['$', '{', '}'])) {
            format!("{key}{value}")
        } else {
            format!("{key}\"…\"")
        }
    });
    match secret {
        Some(secret) if !secret.is_empty() => masked.replace(secret, "…"),
        _ => masked.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_all_else_is_shown() {
        for (text, shown) in [
            ("token = \"abc\"", "token = \"…\""),
            ("admin = { token='a' , address = \"x\" }", "admin = { token=\"…\" , address = \"x\" }"),
            ("config = { api_key = \"a\\\"b\", key = \"path\" }", "config = { api_key = \"…\", key = \"path\" }"),
            ("\"db-password\" = \"\"\"a\nb\"\"\"", "\"db-password\" = \"…\""),
            ("token = \"${STAUNCH_ADMIN_TOKEN}\"", "token = \"${STAUNCH_ADMIN_TOKEN}\""),
            ("token = \"${A}x\"", "token = \"…\""),
            ("[plugins.token]\npath = \"token.wasm\"", "[plugins.token]\npath = \"token.wasm\""),
            ("hosts = [\"a\"]\n", "hosts = [\"a\"]\n"),
        ] {
            assert_eq!(masked(text, None), shown, "for {text}");
        }
    }

    #[test]
    fn a_known_secret_is_hidden_wherever_it_stands() {
        assert_eq!(masked("body = \"it is hunter2\"", Some("hunter2")), "body = \"it is …\"");
        assert_eq!(masked("a = 1", Some("")), "a = 1");
    }
}
