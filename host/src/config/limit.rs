//! What a route lets a client have.

use super::fault::{BadValue, Fault};
use super::plugin::{PluginKind, PluginUse};
use super::reader::{Reader, Scope};
use super::tree::Value;
use super::value;
use crate::upstream::balancer::KeySource;

/// How soon a request is served when others wait for the same upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Priority {
    /// Before all others; when the queue is full, in place of the youngest of them.
    High,
    #[default]
    Normal,
}

/// nginx's `limit_conn`: how many requests with the same key are in flight at a time, over all workers.
#[derive(Clone, Debug, PartialEq)]
pub struct ConcurrencyLimit {
    /// Where the key is in a request, the first that is present ("client-address"). A request without one, or with an
    /// empty one, has no limit.
    pub key: Vec<KeySource>,
    /// (at least 1)
    pub max: u32,
    /// What the others get (503; 400 to 599).
    pub status: u16,
}

impl ConcurrencyLimit {
    pub(super) fn read(mut reader: Reader<'_>) -> Option<Self> {
        let mut limit = Self { key: vec![KeySource::ClientAddress], max: 0, status: 503 };
        if let Some(value) = reader.value("key") {
            limit.key = read_key(value, reader.scope);
        }
        reader.set_number("status", 400..=599, &mut limit.status);
        reader.required_value("max")?;
        limit.max = reader.number("max", 1..=i64::from(i32::MAX))?;
        Some(limit)
    }
}

/// One source, or a list of them.
fn read_key(value: &Value, scope: &Scope<'_>) -> Vec<KeySource> {
    let one = |value: &Value| scope.text(value).and_then(|text| scope.accept(value.place, key_source(text)));
    match &value.kind {
        super::tree::Kind::Array(values) => {
            if values.is_empty() {
                scope.fault(Fault::new(value.place, "no key"));
            }
            values.iter().filter_map(one).collect()
        }
        _ => one(value).into_iter().collect(),
    }
}

/// As the `hash` plugin writes it.
fn key_source(text: &str) -> Result<KeySource, BadValue> {
    let named = |name: &str| match name {
        "" => Err(BadValue::new(format!("`{}` names nothing", value::shown(text)))),
        name => Ok(name.to_owned()),
    };
    Ok(match text.split_once(':') {
        None if text == "client-address" => KeySource::ClientAddress,
        None if text == "host" => KeySource::Host,
        None if text == "path" => KeySource::Path,
        None if text == "path-and-query" || text == "uri" => KeySource::PathAndQuery,
        Some(("header", name)) => KeySource::Header(value::field_name(name)?),
        Some(("cookie", name)) => KeySource::Cookie(named(name)?),
        Some(("query", name)) => KeySource::Query(named(name)?),
        _ => {
            let hint = "expected one of `client-address`, `host`, `path`, `path-and-query`, `header:NAME`, \
                        `cookie:NAME`, `query:NAME`";
            return Err(BadValue::new(format!("there is no key `{}`", value::shown(text))).with_hint(hint.to_owned()));
        }
    })
}

/// A route's `rate_limit`: the settings of the plugin `rate-limit`, which comes before the route's other rewriters.
pub(super) fn read_rate(reader: &mut Reader<'_>) -> Option<PluginUse> {
    let settings = reader.optional("rate_limit")?;
    PluginUse::resolve("rate-limit", reader.place_of("rate_limit"), Some(settings), PluginKind::Rewriter, reader.scope)
}
