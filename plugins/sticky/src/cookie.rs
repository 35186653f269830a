//! The cookie that names an endpoint (RFC 6265).

use std::time::Duration;

use staunch_plugin::{Config, Invalid, Setting, choose};

use crate::siphash::siphash;

/// How the cookie is called, made and sent.
#[derive(Clone, Debug)]
pub(crate) struct Cookie {
    pub(crate) name: String,
    /// From the semicolon after the value on.
    attributes: String,
    key: (u64, u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SameSite {
    Strict,
    Lax,
    None,
}

impl Setting for SameSite {
    fn from_text(text: &str) -> Result<Self, String> {
        choose(text, &[("strict", Self::Strict), ("lax", Self::Lax), ("none", Self::None)])
    }
}

impl Cookie {
    pub(crate) fn read(config: &Config) -> Result<Self, Invalid> {
        config.only(&["name", "max_age", "path", "domain", "secure", "http_only", "same_site", "secret"]);
        let name = config.get_or("name", "staunch".to_owned());
        if name.is_empty() || !name.bytes().all(is_token) {
            config.issue("name", "must be a cookie's name: letters, digits, `-`, `_` and the like");
        }
        let mut attributes = String::new();
        let path = config.get_or("path", "/".to_owned());
        if !path.starts_with('/') || !path.bytes().all(is_attribute) {
            config.issue("path", "must be a path that begins with `/`, without `;`");
        }
        attributes += &format!("; Path={path}");
        if let Some(domain) = config.get::<String>("domain") {
            if domain.is_empty() || !domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte)) {
                config.issue("domain", "must be a domain such as `example.com`");
            }
            attributes += &format!("; Domain={domain}");
        }
        if let Some(max_age) = config.get::<Duration>("max_age") {
            if max_age.as_secs() == 0 {
                config.issue("max_age", "must be a second or more; leave it out for a cookie of the session");
            }
            attributes += &format!("; Max-Age={}", max_age.as_secs());
        }
        let secure = config.get_or("secure", false);
        if secure {
            attributes += "; Secure";
        }
        if config.get_or("http_only", true) {
            attributes += "; HttpOnly";
        }
        let same_site = config.get_or("same_site", SameSite::Lax);
        if same_site == SameSite::None && !secure {
            config.issue("same_site", "can be `none` only with `secure = true`: browsers refuse such a cookie");
        }
        attributes += match same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        };
        let secret = config.get_or("secret", String::new());
        let key = (siphash((0, 0), secret.as_bytes()), siphash((0, 1), secret.as_bytes()));
        Ok(Self { name, attributes, key })
    }

    /// What stands for an address: the same in every worker and after every start, and nothing that tells it.
    pub(crate) fn value(&self, address: &str) -> u64 {
        siphash(self.key, address.as_bytes())
    }

    /// The value that a client sent, unless it is none of ours.
    pub(crate) fn parse(value: &[u8]) -> Option<u64> {
        if value.len() != 16 || !value.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return None;
        }
        u64::from_str_radix(str::from_utf8(value).ok()?, 16).ok()
    }

    /// The header that gives a client its value.
    pub(crate) fn set(&self, value: u64) -> String {
        format!("{}={value:016x}{}", self.name, self.attributes)
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_attribute(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && byte != b';'
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use staunch_plugin::testing::Host;
    use staunch_plugin::{Balancer, BalancerNeeds, EndpointChange, EndpointId, Endpoints, PickContext, PickError};

    use super::*;

    /// What only reads the cookie's settings.
    struct Reading(Cookie);

    impl Balancer for Reading {
        fn configure(config: &Config, _: &mut BalancerNeeds) -> Result<Self, Invalid> {
            Cookie::read(config).map(Self)
        }

        fn update(&mut self, _: Endpoints) {}

        fn change(&mut self, _: &[EndpointChange]) {}

        fn pick(&mut self, _: &PickContext) -> Result<EndpointId, PickError> {
            Err(PickError::Unavailable)
        }
    }

    fn cookie(host: &Host) -> Cookie {
        host.balancer::<Reading>().expect("the settings are right").0
    }

    #[test]
    fn by_default_it_is_one_of_the_session_that_no_script_sees() {
        let cookie = cookie(&Host::new());

        assert_eq!(cookie.set(0xab), "staunch=00000000000000ab; Path=/; HttpOnly; SameSite=Lax");
    }

    #[test]
    fn every_attribute_can_be_said() {
        let host = Host::new();
        for (setting, value) in [
            ("name", "__Secure-route"),
            ("path", "/shop"),
            ("domain", "example.com"),
            ("max_age", "1h 30m"),
            ("secure", "true"),
            ("http_only", "false"),
            ("same_site", "none"),
        ] {
            host.set(setting, value);
        }

        assert_eq!(
            cookie(&host).set(1),
            "__Secure-route=0000000000000001; Path=/shop; Domain=example.com; Max-Age=5400; Secure; SameSite=None"
        );
    }

    #[test]
    fn a_value_is_the_same_for_ever_and_another_with_another_secret() {
        let host = Host::new();
        let plain = cookie(&host);
        // A change of this number would send every client elsewhere.
        assert_eq!(format!("{:016x}", plain.value("10.0.0.1:80")), "a71270e4b268125c");

        host.set("secret", "s3cret");
        let secret = cookie(&host);
        assert_eq!(format!("{:016x}", secret.value("10.0.0.1:80")), "824f6b24fc5f6d07");
        assert_ne!(secret.value("10.0.0.1:80"), secret.value("10.0.0.2:80"));
    }

    #[test]
    fn only_values_of_its_own_are_read() {
        assert_eq!(Cookie::parse(b"00000000000000ab"), Some(0xab));
        for wrong in ["", "ab", "00000000000000AB", "+0000000000000ab", "00000000000000ab0", "\u{e9}0000000000000a"] {
            assert_eq!(Cookie::parse(wrong.as_bytes()), None, "for {wrong}");
        }
    }

    #[test]
    fn a_wrong_setting_is_refused() {
        for (setting, value, expected) in [
            ("name", "a b", "`name` must be a cookie's name: letters, digits, `-`, `_` and the like"),
            ("path", "shop", "`path` must be a path that begins with `/`, without `;`"),
            ("path", "/; Domain=x", "`path` must be a path that begins with `/`, without `;`"),
            ("domain", "a;b", "`domain` must be a domain such as `example.com`"),
            ("max_age", "10ms", "`max_age` must be a second or more; leave it out for a cookie of the session"),
            ("same_site", "none", "`same_site` can be `none` only with `secure = true`: browsers refuse such a cookie"),
            ("same_site", "Lax", "`same_site` cannot be `Lax`; did you mean `lax`?"),
            ("http-only", "true", "`http-only` is unknown; did you mean `http_only`?"),
        ] {
            let host = Host::new();
            host.set(setting, value);

            let issues = host.balancer::<Reading>().err().expect("it is wrong");

            assert_eq!(issues.to_string(), expected, "for {setting} = {value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_set_is_read_again(value in any::<u64>()) {
            let set = cookie(&Host::new()).set(value);
            let sent = set.split(['=', ';']).nth(1).expect("a value");

            prop_assert_eq!(Cookie::parse(sent.as_bytes()), Some(value));
        }
    }
}
