//! The rewriter `redirect`: tells clients to ask elsewhere.

use regex_lite::Regex;
use staunch_plugin::template::{Facts, Template};
use staunch_plugin::{
    Config, Invalid, LocalResponse, RequestAction, RequestRewriter, Rewriter, RewriterNeeds, Setting, Wanted, choose,
};

struct Redirect {
    rule: Rule,
    status: u16,
}

/// Who is sent where.
enum Rule {
    /// Those who came over http, to https.
    Https { port: Option<u16> },
    /// Those whose path does not end as it should.
    Slash(Slash),
    /// Those whose path matches, or everybody.
    To { to: Template, path: Option<Regex>, keep_query: bool },
}

#[derive(Clone, Copy)]
enum Slash {
    Add,
    Remove,
}

impl Setting for Slash {
    fn from_text(text: &str) -> Result<Self, String> {
        choose(text, &[("add", Self::Add), ("remove", Self::Remove)])
    }
}

impl Rewriter for Redirect {
    fn configure(config: &Config, _: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["to", "regex", "keep_query", "https", "port", "trailing_slash", "status"]);
        let status = config.get_or("status", 308);
        if !matches!(status, 301 | 302 | 303 | 307 | 308) {
            config.issue("status", "must be 301, 302, 303, 307 or 308");
        }
        let only_for = |setting, names: &[&str]| {
            for name in names.iter().filter(|name| config.has(name)) {
                config.issue(name, format!("is for `{setting}` only"));
            }
        };
        let rule = match (config.has("to"), config.get_or("https", false), config.get("trailing_slash")) {
            (true, false, None) => {
                only_for("https", &["port"]);
                to(config)?
            }
            (false, true, None) => {
                only_for("to", &["regex", "keep_query"]);
                Rule::Https { port: config.get("port").filter(|port| *port != 443) }
            }
            (false, false, Some(slash)) => {
                only_for("to", &["regex", "keep_query"]);
                only_for("https", &["port"]);
                Rule::Slash(slash)
            }
            _ => return Err(config.issue("", "must have one of `to`, `https = true` and `trailing_slash`")),
        };
        Ok(Self { rule, status })
    }
}

fn to(config: &Config) -> Result<Rule, Invalid> {
    let path = config.get::<String>("regex").map(|regex| Regex::new(&regex));
    let path = path.transpose().map_err(|error| config.issue("regex", format!("is not right: {error}")))?;
    let groups = path.as_ref().map_or_else(Vec::new, groups);
    let names: Vec<&str> = groups.iter().map(String::as_str).collect();
    let text: String = config.required("to")?;
    let to = Template::with_own(&text, &names).map_err(|wrong| config.issue("to", wrong))?;
    // A query is kept unless the template has one, or has its own idea of it.
    let has_query = text.contains('?') || ["query", "request_uri"].iter().any(|name| to.mentions(name));
    Ok(Rule::To { keep_query: config.get_or("keep_query", !has_query), to, path })
}

/// What a regular expression's groups are called in a template: `1`, and its name if it has one.
fn groups(regex: &Regex) -> Vec<String> {
    regex.capture_names().enumerate().map(|(number, name)| name.map_or(number.to_string(), str::to_owned)).collect()
}

impl RequestRewriter for Redirect {
    fn on_request(&mut self, _: &Wanted) -> RequestAction {
        let facts = Facts::of_this_exchange();
        match self.rule.target(&facts).filter(|target| is_uri(target) && !is_here(target, &facts)) {
            Some(target) => RequestAction::Respond(LocalResponse::new(self.status).field("location", target)),
            None => RequestAction::Proceed,
        }
    }
}

impl Rule {
    fn target(&self, facts: &Facts) -> Option<String> {
        match self {
            Self::Https { .. } if facts.scheme() == "https" || facts.host().is_empty() => None,
            Self::Https { port } => {
                let port = port.map_or_else(String::new, |port| format!(":{port}"));
                Some(format!("https://{}{port}{}", facts.host(), facts.request_uri()))
            }
            Self::Slash(slash) => Some(with_query(local(slash.put(facts.path())?), facts.query())),
            Self::To { to, path, keep_query } => {
                let captures = match path {
                    Some(path) => Some(path.captures(facts.path())?),
                    None => None,
                };
                let group =
                    |number| captures.as_ref().and_then(|found| found.get(number)).map_or("", |group| group.as_str());
                let target = to.render_with(facts, group);
                // A path of the client's must not become a host: `//evil.example` would be one.
                let target = if to.beginning().starts_with("//") { target } else { local(target) };
                Some(if *keep_query { with_query(target, facts.query()) } else { target })
            }
        }
    }
}

impl Slash {
    /// The path as it should be, when it is not.
    fn put(self, path: &str) -> Option<String> {
        match self {
            // What looks like a file has no slash.
            Self::Add if path.ends_with('/') || path.rsplit('/').next().is_some_and(|file| file.contains('.')) => None,
            Self::Add => Some(format!("{path}/")),
            Self::Remove => {
                let bare = path.trim_end_matches('/');
                (bare.len() < path.len() && !bare.is_empty()).then(|| bare.to_owned())
            }
        }
    }
}

/// A reference that begins with slashes of either kind, which browsers take for one another, as a path of this host.
fn local(target: String) -> String {
    let bare = target.trim_start_matches(['/', '\\']);
    if target.len() > bare.len() + 1 { format!("/{bare}") } else { target }
}

fn with_query(target: String, query: &str) -> String {
    match query {
        "" => target,
        query if target.contains('?') => format!("{target}&{query}"),
        query => format!("{target}?{query}"),
    }
}

/// Whether a header can say it and a client can follow it.
fn is_uri(target: &str) -> bool {
    !target.is_empty() && target.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether it is what was asked for: to send a client there would send it round in a circle.
fn is_here(target: &str, facts: &Facts) -> bool {
    let path = match target.strip_prefix(facts.scheme()).and_then(|rest| rest.strip_prefix("://")) {
        Some(absolute) => match absolute.get(..facts.host().len()) {
            Some(host) if host.eq_ignore_ascii_case(facts.host()) => &absolute[host.len()..],
            _ => return false,
        },
        None => target,
    };
    path == facts.request_uri() || (path.is_empty() && facts.request_uri() == "/")
}

staunch_plugin::export!(rewriter: Redirect + request);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Request};

    use super::*;

    /// Where `scheme://host/path` is sent, with these settings; nowhere when it passes.
    fn location(settings: &[(&str, &str)], url: &str) -> Option<String> {
        let host = Host::new();
        settings.iter().for_each(|(name, value)| host.set(name, value));
        let mut rewriter: Redirect = host.rewriter().unwrap_or_else(|issues| panic!("{issues}"));
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let (authority, path) = rest.split_at(rest.find('/').expect("a path"));
        host.set_request(Request {
            scheme: scheme.into(),
            authority: authority.into(),
            path_and_query: path.into(),
            ..Request::default()
        });
        match rewriter.on_request(&Wanted::default()) {
            RequestAction::Respond(response) => {
                assert_eq!((response.status, &*response.fields[0].0), (308, "location"));
                Some(String::from_utf8(response.fields[0].1.clone()).expect("text"))
            }
            RequestAction::Proceed => None,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check<const N: usize>(settings: &[(&str, &str)], rows: [(&str, Option<&str>); N]) {
        for (url, expected) in rows {
            assert_eq!(location(settings, url).as_deref(), expected, "for {url} with {settings:?}");
        }
    }

    #[test]
    fn http_becomes_https_at_the_same_place() {
        check(
            &[("https", "true")],
            [
                ("http://Shop.test:8080/a//b?c=d", Some("https://shop.test/a//b?c=d")),
                ("http://[::1]:80/", Some("https://[::1]/")),
                ("https://shop.test/a", None),
            ],
        );
        check(&[("https", "true"), ("port", "8443")], [("http://a.test/", Some("https://a.test:8443/"))]);
        check(&[("https", "true"), ("port", "443")], [("http://a.test/", Some("https://a.test/"))]);
    }

    #[test]
    fn a_trailing_slash_is_added_but_to_files() {
        check(
            &[("trailing_slash", "add")],
            [
                ("http://a.test/docs?x=1", Some("/docs/?x=1")),
                ("http://a.test/docs/", None),
                ("http://a.test/", None),
                ("http://a.test/style.css", None),
                ("http://a.test/v1.2/docs", Some("/v1.2/docs/")),
            ],
        );
    }

    #[test]
    fn a_trailing_slash_is_removed_but_from_the_root() {
        check(
            &[("trailing_slash", "remove")],
            [
                ("http://a.test/docs/?x=1", Some("/docs?x=1")),
                ("http://a.test/docs//", Some("/docs")),
                ("http://a.test/docs", None),
                ("http://a.test/", None),
                ("http://a.test//", None),
            ],
        );
    }

    #[test]
    fn a_path_never_becomes_a_host() {
        check(
            &[("trailing_slash", "add")],
            [("http://a.test//evil", Some("/evil/")), ("http://a.test/\\evil", Some("/evil/"))],
        );
        check(&[("trailing_slash", "remove")], [("http://a.test//evil/", Some("/evil"))]);
        check(&[("to", "$path"), ("regex", "^//")], [("http://a.test//evil.test/x", Some("/evil.test/x"))]);
        check(&[("to", "/$1"), ("regex", "^/old/(.*)$")], [("http://a.test/old//evil.test", Some("/evil.test"))]);
        check(&[("to", "//cdn.test$path")], [("http://a.test/x", Some("//cdn.test/x"))]);
    }

    #[test]
    fn a_template_says_where_to_and_keeps_the_query_unless_it_has_one() {
        let rows =
            |with_query, without| [("http://a.test/x?y=1", Some(with_query)), ("http://a.test/x", Some(without))];
        check(&[("to", "https://b.test$path")], rows("https://b.test/x?y=1", "https://b.test/x"));
        check(&[("to", "https://b.test$request_uri")], rows("https://b.test/x?y=1", "https://b.test/x"));
        check(&[("to", "https://b.test/?from=$path")], rows("https://b.test/?from=/x", "https://b.test/?from=/x"));
        check(
            &[("to", "https://b.test/?from=$path"), ("keep_query", "true")],
            rows("https://b.test/?from=/x&y=1", "https://b.test/?from=/x"),
        );
        check(&[("to", "https://b.test/"), ("keep_query", "false")], rows("https://b.test/", "https://b.test/"));
    }

    #[test]
    fn a_regular_expression_says_who_is_meant_and_what_is_kept() {
        check(
            &[("regex", r"^/(?P<lang>[a-z]{2})/blog/(\d+)$"), ("to", "https://blog.test/$2?lang=${lang}")],
            [
                ("http://a.test/en/blog/17", Some("https://blog.test/17?lang=en")),
                ("http://a.test/en/blog/x", None),
                ("http://a.test/eng/blog/17", None),
            ],
        );
    }

    #[test]
    fn nobody_is_sent_to_where_they_are() {
        check(
            &[("to", "https://www.test$request_uri")],
            [("https://WWW.test/a?b", None), ("http://www.test/a?b", Some("https://www.test/a?b"))],
        );
        check(
            &[("to", "https://www.test")],
            [("https://www.test/", None), ("https://www.test.evil/", Some("https://www.test"))],
        );
        check(&[("to", "/new")], [("http://a.test/new", None), ("http://a.test/old", Some("/new"))]);
    }

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        for (settings, expected) in [
            (&[][..], "must have one of `to`, `https = true` and `trailing_slash`"),
            (&[("to", "/"), ("https", "true")], "must have one of `to`, `https = true` and `trailing_slash`"),
            (&[("to", "/"), ("port", "1")], "`port` is for `https` only"),
            (&[("https", "true"), ("regex", "x")], "`regex` is for `to` only"),
            (&[("to", "/"), ("status", "200")], "`status` must be 301, 302, 303, 307 or 308"),
            (&[("to", "/$2"), ("regex", "(a)")], "`to` has the unknown variable `$2`; did you mean `$0`?"),
            (
                &[("trailing_slash", "ad")],
                "`trailing_slash` cannot be `ad`; did you mean `add`?; must have one of `to`, `https = true` and `trailing_slash`",
            ),
        ] {
            let host = Host::new();
            settings.iter().for_each(|(name, value)| host.set(name, value));
            let issues = host.rewriter::<Redirect>().err().expect("they are refused");
            assert_eq!(issues.to_string(), expected, "for {settings:?}");
        }
        let host = Host::new();
        host.set("to", "/");
        host.set("regex", "(");
        assert!(
            host.rewriter::<Redirect>().err().expect("it is none").to_string().starts_with("`regex` is not right: ")
        );
    }
}
