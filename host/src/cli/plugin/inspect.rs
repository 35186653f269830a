//! `staunch plugin inspect`: what a plugin is, before it is trusted with a request.

use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use staunch::config::Settings;
use staunch::plugins::{Kind, Member, Plugin, PluginError, PluginHost};
use staunch::upstream::balancer::{BalancerNeeds, FeedbackKind, KeySource};
use staunch::upstream::endpoint::{Endpoint, Loads};
use staunch::upstream::retry::RetryNeeds;

use super::{Failure, keeping, load, say};

pub(super) fn inspect(file: &Path) -> Result<(), Failure> {
    let host = keeping(PluginHost::new())?;
    let plugin = load(&host, file)?;
    say(describe(&plugin).trim_end());
    Ok(())
}

/// A line for each thing there is to know.
fn describe(plugin: &Plugin) -> String {
    let kinds: Vec<_> = plugin.exports().kinds().collect();
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        writeln!(text, "{name:<10}{value}").expect("a string takes all that is written");
    };
    line("plugin", plugin.name());
    line("kind", &kinds.iter().map(Kind::to_string).collect::<Vec<_>>().join(", "));
    let exports = plugin.exports();
    for (has, what) in [
        (exports.feedback, "hears how attempts end"),
        (plugin.delegates(), "leaves a part of the decision to the balancer behind it (`then`)"),
        (exports.handover, "hands what it has learned to the version that replaces it"),
    ] {
        if has {
            line("", what);
        }
    }
    line("contract", &format!("staunch:plugin@{}", plugin.contract()));
    line("size", &format!("{} bytes", plugin.size()));
    line("sha256", plugin.digest());
    let mut title = "imports";
    for import in plugin.imports() {
        line(title, import);
        title = "";
    }
    if plugin.imports().is_empty() {
        line(title, "nothing");
    }
    for kind in kinds {
        line("asks for", &asked_for(plugin, kind).unwrap_or_else(|error| format!("(not known) {error}")));
    }
    text
}

/// What the plugin asks for when it is configured without settings and with one endpoint.
fn asked_for(plugin: &Plugin, kind: Kind) -> Result<String, PluginError> {
    let used = plugin.use_as(kind, "plugin inspect", &Settings::default())?;
    Ok(match kind {
        Kind::Balancer => balancer_needs(used.balancer(0, [member()].into(), Arc::new(Loads::new(1, 1)))?.needs()),
        Kind::Retry => retry_needs(used.retry(0)?.needs()),
        Kind::Rewriter => {
            let sides = used.rewriter(0)?.sides();
            let asked = [
                (sides.request, "request heads"),
                (sides.request_body, "request bodies"),
                (sides.response, "response heads"),
                (sides.response_body, "response bodies"),
            ];
            let asked: Vec<_> = asked.into_iter().filter(|(asks, _)| *asks).map(|(_, what)| what.to_owned()).collect();
            list(&asked)
        }
    })
}

fn member() -> Member {
    let endpoint = Endpoint {
        id: 0,
        address: "127.0.0.1:80".into(),
        weight: 1,
        priority: 0,
        zone: None,
        labels: Vec::new(),
        down: false,
    };
    Member { endpoint, ready: true }
}

fn balancer_needs(needs: &BalancerNeeds) -> String {
    let mut asked: Vec<String> = needs.key.iter().map(|source| format!("the key {}", key(source))).collect();
    asked.extend(needs.feedback.map(|kind| match kind {
        FeedbackKind::EveryAttempt => "the outcome of every attempt".to_owned(),
        FeedbackKind::Failures => "the outcome of failed attempts".to_owned(),
    }));
    asked.extend(needs.latency.then(|| "response times of endpoints".to_owned()));
    list(&asked)
}

fn key(source: &KeySource) -> String {
    match source {
        KeySource::ClientAddress => "client address".to_owned(),
        KeySource::Host => "host".to_owned(),
        KeySource::Path => "path".to_owned(),
        KeySource::PathAndQuery => "path and query".to_owned(),
        KeySource::Header(name) => format!("header `{name}`"),
        KeySource::Cookie(name) => format!("cookie `{name}`"),
        KeySource::Query(name) => format!("query parameter `{name}`"),
    }
}

fn retry_needs(needs: &RetryNeeds) -> String {
    let range =
        |&(first, last): &(u16, u16)| if first == last { first.to_string() } else { format!("{first}–{last}") };
    let mut asked: Vec<String> = Vec::new();
    if !needs.statuses.is_empty() {
        asked.push(format!("the statuses {}", needs.statuses.iter().map(range).collect::<Vec<_>>().join(", ")));
    }
    if !needs.fields.is_empty() {
        let fields: Vec<String> = needs.fields.iter().map(|name| format!("`{name}`")).collect();
        asked.push(format!("responses with {}", fields.join(", ")));
    }
    if needs.non_idempotent {
        asked.push("requests that are not idempotent".to_owned());
    }
    list(&asked)
}

fn list(asked: &[String]) -> String {
    if asked.is_empty() { "nothing besides".to_owned() } else { asked.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_told_in_words() {
        let balancer = BalancerNeeds {
            key: vec![KeySource::Header("x-tenant".to_owned()), KeySource::ClientAddress],
            feedback: Some(FeedbackKind::Failures),
            latency: false,
        };
        let retry = RetryNeeds {
            statuses: vec![(502, 504), (429, 429)],
            fields: vec!["grpc-status".to_owned()],
            non_idempotent: true,
        };

        assert_eq!(
            balancer_needs(&balancer),
            "the key header `x-tenant`, the key client address, the outcome of failed attempts"
        );
        assert_eq!(
            retry_needs(&retry),
            "the statuses 502–504, 429, responses with `grpc-status`, requests that are not idempotent"
        );
        assert_eq!(balancer_needs(&BalancerNeeds::default()), "nothing besides");
    }

    #[test]
    fn a_file_that_is_no_plugin_is_a_bad_plugin() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("text.wasm");
        std::fs::write(&file, "no plugin").unwrap();

        assert!(matches!(inspect(&file), Err(Failure::Bad(_))));
        assert!(matches!(inspect(&folder.path().join("absent")), Err(Failure::Bad(_))));
    }
}
