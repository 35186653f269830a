//! The page a person looks at: upstreams and plugins in two kinds of tables, nothing to load besides.

use std::fmt::{self, Display, Write};

use super::maintenance::MaintenanceStatus;
use super::status::{EndpointStatus, PluginStatus, UpstreamStatus};

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<meta http-equiv=\"refresh\" content=\"5\">
<title>staunch</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 72em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; width: 100%; margin-bottom: 2em; }
th, td { text-align: left; padding: .2em .8em .2em 0; border-bottom: 1px solid #8884; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.up { color: #2a9d4a; }
.bad { color: #d33; }
small { opacity: .7; }
</style>
</head>
<body>
";

/// The whole page.
pub(super) fn render(
    ready: bool,
    maintenance: &MaintenanceStatus,
    upstreams: &[UpstreamStatus],
    plugins: &[PluginStatus],
) -> String {
    let mut page = String::from(HEAD);
    write_all(&mut page, ready, maintenance, upstreams, plugins).expect("a string takes all that is written");
    page
}

fn write_all(
    page: &mut String,
    ready: bool,
    maintenance: &MaintenanceStatus,
    upstreams: &[UpstreamStatus],
    plugins: &[PluginStatus],
) -> fmt::Result {
    let (class, readiness) = if ready { ("up", "ready") } else { ("bad", "not ready") };
    let version = env!("CARGO_PKG_VERSION");
    writeln!(page, "<h1>staunch <small>{version}</small> <small class=\"{class}\">{readiness}</small></h1>")?;
    if maintenance.server.on {
        writeln!(page, "<p class=\"bad\">closed for maintenance</p>")?;
    }
    for closed in maintenance.routes.iter().filter(|route| route.closing.on) {
        writeln!(page, "<p class=\"bad\">the route {} is closed for maintenance</p>", Escaped(&closed.route))?;
    }
    for upstream in upstreams {
        let (name, balance) = (Escaped(&upstream.name), Escaped(&upstream.balance));
        writeln!(page, "<h2>{name} <small>{balance}</small></h2>")?;
        write_guards(page, upstream)?;
        writeln!(page, "<table>")?;
        write_heads(page, &["endpoint", "state", "why"], &["weight", "in flight", "failures"])?;
        for endpoint in &upstream.endpoints {
            write_endpoint(page, endpoint)?;
        }
        writeln!(page, "</table>")?;
    }
    if !plugins.is_empty() {
        writeln!(page, "<h2>plugins</h2>\n<table>")?;
        write_heads(page, &["plugin", "use", "source", "version"], &["calls", "ns per call", "faults", "fallbacks"])?;
        for plugin in plugins {
            write_plugin(page, plugin)?;
        }
        writeln!(page, "</table>")?;
    }
    writeln!(
        page,
        "<p><a href=\"/api/upstreams\">/api/upstreams</a> · <a href=\"/api/plugins\">/api/plugins</a> · <a href=\"/metrics\">/metrics</a></p>\n</body>\n</html>"
    )
}

fn write_heads(page: &mut String, texts: &[&str], numbers: &[&str]) -> fmt::Result {
    write!(page, "<tr>")?;
    texts.iter().try_for_each(|text| write!(page, "<th>{text}</th>"))?;
    numbers.iter().try_for_each(|number| write!(page, "<th class=\"number\">{number}</th>"))?;
    writeln!(page, "</tr>")
}

fn write_guards(page: &mut String, upstream: &UpstreamStatus) -> fmt::Result {
    if let Some(breaker) = &upstream.breaker {
        let class = if breaker.state.name() == "closed" { "up" } else { "bad" };
        writeln!(page, "<p>breaker <span class=\"{class}\">{}</span></p>", breaker.state.name())?;
    }
    if let Some(queue) = &upstream.queue {
        let max = queue.max_requests.map(|max| format!(" of {max}")).unwrap_or_default();
        writeln!(page, "<p>{}{max} in flight, {} of {} waiting</p>", queue.requests, queue.pending, queue.max_pending)?;
    }
    if let Some(concurrency) = &upstream.concurrency {
        writeln!(page, "<p>{} of {} in flight (adaptive)</p>", concurrency.requests, concurrency.limit)?;
    }
    Ok(())
}

fn write_endpoint(page: &mut String, endpoint: &EndpointStatus) -> fmt::Result {
    let class = if endpoint.state.name() == "up" { "up" } else { "bad" };
    let backup = if endpoint.backup { " <small>backup</small>" } else { "" };
    write!(page, "<tr><td>{}{backup}</td>", Escaped(&endpoint.address))?;
    write!(page, "<td class=\"{class}\">{}</td>", endpoint.state.name())?;
    write!(page, "<td>{}</td>", Escaped(endpoint.reason.as_deref().unwrap_or("")))?;
    write_number(page, endpoint.weight)?;
    write_number(page, endpoint.active)?;
    write_number(page, endpoint.failures)?;
    writeln!(page, "</tr>")
}

fn write_plugin(page: &mut String, plugin: &PluginStatus) -> fmt::Result {
    let digest = plugin.digest.trim_start_matches("sha256:");
    let version = format!("{} · {}", plugin.generation, digest.get(..12).unwrap_or(digest));
    let trial = if plugin.standing.probation.is_some() { " <small>on probation</small>" } else { "" };
    let tripped = if plugin.tripped { " <small class=\"bad\">tripped</small>" } else { "" };
    write!(page, "<tr><td>{}{tripped}</td>", Escaped(&plugin.plugin))?;
    write!(page, "<td>{}</td><td>{}</td>", Escaped(&plugin.used_in), Escaped(&plugin.source))?;
    write!(page, "<td>{}{trial}</td>", Escaped(&version))?;
    write_number(page, plugin.calls)?;
    write_number(page, plugin.ns_per_call.map_or_else(|| "–".to_owned(), |ns| ns.to_string()))?;
    write_number(page, plugin.faults.total())?;
    write_number(page, plugin.fallbacks)?;
    writeln!(page, "</tr>")?;
    match &plugin.last_fault {
        Some(fault) => writeln!(page, "<tr><td></td><td colspan=\"7\" class=\"bad\">{}</td></tr>", Escaped(fault)),
        None => Ok(()),
    }
}

fn write_number(page: &mut String, number: impl Display) -> fmt::Result {
    write!(page, "<td class=\"number\">{number}</td>")
}

/// A text that cannot become markup.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|character| match character {
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '&' => f.write_str("&amp;"),
            '"' => f.write_str("&quot;"),
            other => f.write_char(other),
        })
    }
}
