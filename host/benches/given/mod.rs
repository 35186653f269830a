//! Messages and plugins that more than one bench is given.
#![allow(dead_code, reason = "each bench takes what it needs")]

use staunch::config::{Place, Setting, Settings};
use staunch::http::facts::{Exchange, Facts};
use staunch::http::h1::{self, Limits};
use staunch::plugins::{self, PluginHost, Use, builtin};

/// What a configuration has by default.
pub(crate) const LIMITS: Limits = Limits { max_head: 32 * 1024, max_fields: 128, max_target: 8 * 1024 };

/// As a browser sends it: 7 fields.
pub(crate) const REQUEST: &[u8] = b"GET /api/items/42?page=2&sort=name HTTP/1.1\r\n\
    host: shop.test\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: application/json, text/plain, */*\r\n\
    accept-language: en-US,en;q=0.5\r\n\
    accept-encoding: gzip, deflate, br, zstd\r\n\
    referer: https://shop.test/items?page=1\r\n\
    cookie: session=8f2c1d0a9b7e; theme=dark\r\n\r\n";

/// As a server sends it: 7 fields.
pub(crate) const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\n\
    date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    server: origin/1.0\r\n\
    content-type: application/json\r\n\
    content-length: 1432\r\n\
    cache-control: private, max-age=0\r\n\
    etag: \"33a64df5\"\r\n\
    set-cookie: session=8f2c1d0a9b7e; Path=/; HttpOnly\r\n\r\n";

/// The same head with 40 further fields and 8 KiB more.
pub(crate) fn large(head: &[u8]) -> Vec<u8> {
    let mut large = head[..head.len() - 2].to_vec();
    for number in 0..40 {
        large.extend_from_slice(format!("x-custom-field-{number}: {}\r\n", "value ".repeat(30).trim_end()).as_bytes());
    }
    large.extend_from_slice(b"\r\n");
    large
}

/// An exchange whose two heads have been read.
pub(crate) fn exchange() -> Exchange {
    let client = Some([192, 0, 2, 1].into());
    let mut facts = Facts::new(client, false);
    h1::parse_request(REQUEST, &LIMITS, &mut facts.request).expect("a good request");
    h1::parse_response(RESPONSE, &LIMITS, &mut facts.response).expect("a good response");
    facts.request.mark_received();
    (facts.route, facts.upstream) = ("shop".into(), "shop".into());
    Exchange::new(facts)
}

/// A built-in plugin at its only place. It is called as in a proxy: with epochs, limits and counts.
pub(crate) fn used(name: &str, settings: &Settings) -> Use {
    let host = PluginHost::new().expect("a plugin host");
    let builtin = builtin::find(name).expect("the name of a built-in plugin");
    let plugin = host.load(name, builtin.component, plugins::Limits::default()).expect("a good plugin");
    plugin.use_as(builtin.kind, "bench", settings).expect("a plugin of this kind")
}

pub(crate) fn table<const N: usize>(entries: [(&str, Setting); N]) -> Settings {
    let entries = entries.map(|(name, setting)| (name.to_owned(), setting)).into();
    Settings { entries, place: Place::default() }
}

pub(crate) fn text(value: &str) -> Setting {
    Setting::Scalar(value.to_owned(), Place::default())
}
