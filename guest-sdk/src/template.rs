//! Text with variables, compiled once and filled in for each message.
//!
//! `"$scheme://${host}/"` names facts of the request by nginx's names; `$$` is a dollar sign.
//!
//! | variable | |
//! |---|---|
//! | `$remote_addr` | the client's address without its port; empty on a unix socket |
//! | `$scheme` | `http` or `https`, as the client used it |
//! | `$host` | the host the request is for, in lower case, without its port |
//! | `$request_method` | the method |
//! | `$request_uri` | the path with its query |
//! | `$path`, `$query` | the path without its query, and the query without `?` |
//! | `$http_NAME` | the first value of a header: `$http_user_agent` |
//! | `$cookie_NAME`, `$arg_NAME` | a cookie, and a parameter of the query (not decoded) |
//! | `$request_id` | the exchange's identifier |
//! | `$route`, `$upstream` | the names of the route and of the upstream it leads to |
//!
//! What is absent is empty. Rewriters see the request as those before them left it.
//!
//! ```
//! use staunch_plugin::Setting;
//! use staunch_plugin::template::{Facts, Template};
//! use staunch_plugin::testing::{Host, Request};
//!
//! let template = Template::from_text("$scheme://$host/from/$remote_addr").unwrap();
//!
//! let host = Host::new();
//! host.set_request(Request { authority: "Shop.example:8080".into(), ..Request::default() });
//! assert_eq!(template.render(&Facts::of_this_exchange()), "http://shop.example/from/192.0.2.1");
//! ```

use std::array;
use std::cell::OnceCell;

use crate::{Setting, nearest, request};

/// Text, perhaps with variables. As a setting it is a header value: blanks around it are not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Fact(Fact),
    /// A header, cookie or parameter of this name.
    Named(Kind, String),
    /// One of the plugin's own variables.
    Own(usize),
}

/// A fact of the request that has one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fact {
    RemoteAddr,
    Host,
    Scheme,
    RequestId,
    Upstream,
    Route,
    RequestMethod,
    RequestUri,
    Path,
    Query,
}

const FACTS: [(&str, Fact); 10] = [
    ("remote_addr", Fact::RemoteAddr),
    ("host", Fact::Host),
    ("scheme", Fact::Scheme),
    ("request_id", Fact::RequestId),
    ("upstream", Fact::Upstream),
    ("route", Fact::Route),
    ("request_method", Fact::RequestMethod),
    ("request_uri", Fact::RequestUri),
    ("path", Fact::Path),
    ("query", Fact::Query),
];

/// What a variable with a name of its own is looked for in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Header,
    Cookie,
    Parameter,
}

const KINDS: [(&str, Kind); 3] = [("http_", Kind::Header), ("cookie_", Kind::Cookie), ("arg_", Kind::Parameter)];

impl Template {
    /// Compiles a text that may also have variables of the plugin's own, by these names: what a regular expression
    /// captured, for example. They come before the others.
    ///
    /// # Errors
    ///
    /// What is wrong, to follow the setting's path.
    pub fn with_own(text: &str, own: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text.trim_matches([' ', '\t']);
        if rest.chars().any(|c| c.is_control() && c != '\t') {
            return Err("has a control character, which no header value may have".to_owned());
        }
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                plain.push('$');
                rest = after;
                continue;
            }
            let (name, after) = split_name(after)?;
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain)));
            }
            parts.push(variable(name, own)?);
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }

    /// Fills in the variables.
    pub fn render(&self, facts: &Facts) -> String {
        self.render_with(facts, |_| "")
    }

    /// Fills in the variables, those of the plugin's own by their positions.
    pub fn render_with<'a>(&self, facts: &Facts, own: impl Fn(usize) -> &'a str) -> String {
        if let [Part::Text(text)] = &self.0[..] {
            return text.clone();
        }
        let mut rendered = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => rendered.push_str(text),
                Part::Fact(fact) => rendered.push_str(facts.get(*fact)),
                Part::Named(kind, name) => rendered.push_str(&facts.named(*kind, name)),
                Part::Own(position) => rendered.push_str(own(*position)),
            }
        }
        rendered
    }

    /// The text before the first variable.
    pub fn beginning(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether it names a variable of the request: `mentions("query")`.
    pub fn mentions(&self, name: &str) -> bool {
        self.0.iter().any(|part| match part {
            Part::Fact(fact) => FACTS.contains(&(name, *fact)),
            _ => false,
        })
    }
}

impl Setting for Template {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::with_own(text, &[])
    }
}

/// The name of a variable, of what stands after the dollar sign, and the rest.
fn split_name(text: &str) -> Result<(&str, &str), String> {
    if let Some(text) = text.strip_prefix('{') {
        return text.split_once('}').ok_or_else(|| format!("has `${{{text}` without a closing brace"));
    }
    let is_named = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut end = text.find(|c| !is_named(c)).unwrap_or(text.len());
    // `$1st` is what was captured first, and "st".
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    }
    if end == 0 {
        return Err("has a `$` that names no variable; write `$$` for a dollar sign".to_owned());
    }
    Ok(text.split_at(end))
}

fn variable(name: &str, own: &[&str]) -> Result<Part, String> {
    if let Some(position) = own.iter().position(|known| *known == name) {
        return Ok(Part::Own(position));
    }
    if let Some(&(_, fact)) = FACTS.iter().find(|(known, _)| *known == name) {
        return Ok(Part::Fact(fact));
    }
    for (prefix, kind) in KINDS {
        if let Some(named) = name.strip_prefix(prefix).filter(|named| !named.is_empty()) {
            let named = if kind == Kind::Header { named.replace('_', "-") } else { named.to_owned() };
            return Ok(Part::Named(kind, named));
        }
    }
    let names = || own.iter().copied().chain(FACTS.iter().map(|&(known, _)| known));
    Err(match nearest(name, names()) {
        Some(meant) => format!("has the unknown variable `${name}`; did you mean `${meant}`?"),
        None => {
            let kinds = KINDS.iter().map(|(prefix, _)| format!("`${prefix}NAME`"));
            let names: Vec<String> = names().map(|name| format!("`${name}`")).chain(kinds).collect();
            format!("has the unknown variable `${name}`; there are {}", names.join(", "))
        }
    })
}

/// The facts of the message at hand, each read from the host when a template first needs it.
#[derive(Debug)]
pub struct Facts([OnceCell<String>; FACTS.len()]);

impl Facts {
    /// The facts of the exchange that the call under way is about.
    pub fn of_this_exchange() -> Self {
        Self(array::from_fn(|_| OnceCell::new()))
    }

    /// The host the request is for, in lower case, without its port.
    pub fn host(&self) -> &str {
        self.get(Fact::Host)
    }

    /// The path without its query.
    pub fn path(&self) -> &str {
        self.get(Fact::Path)
    }

    /// The query without its question mark; empty when there is none.
    pub fn query(&self) -> &str {
        self.get(Fact::Query)
    }

    /// The path with its query.
    pub fn request_uri(&self) -> &str {
        self.get(Fact::RequestUri)
    }

    /// The scheme the client used, `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.get(Fact::Scheme)
    }

    fn get(&self, fact: Fact) -> &str {
        self.0[fact as usize].get_or_init(|| match fact {
            Fact::RemoteAddr => request::client_address(),
            Fact::Host => host_of(&request::authority()),
            Fact::Scheme => request::scheme(),
            Fact::RequestId => request::id(),
            Fact::Upstream => request::upstream(),
            Fact::Route => request::route(),
            Fact::RequestMethod => request::method(),
            Fact::RequestUri => request::path_and_query(),
            Fact::Path => split_target(self.request_uri()).0.to_owned(),
            Fact::Query => split_target(self.request_uri()).1.to_owned(),
        })
    }

    fn named(&self, kind: Kind, name: &str) -> String {
        match kind {
            Kind::Header => request::field(name).map(|value| String::from_utf8_lossy(&value).into_owned()),
            Kind::Cookie => request::cookie(name),
            Kind::Parameter => parameter(self.query(), name).map(str::to_owned),
        }
        .unwrap_or_default()
    }
}

/// A target's path and its query.
fn split_target(target: &str) -> (&str, &str) {
    target.split_once('?').unwrap_or((target, ""))
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query.split('&').find_map(|pair| {
        let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
        (known == name).then_some(value)
    })
}

/// An authority in lower case without its port.
fn host_of(authority: &str) -> String {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => host,
        _ => authority,
    };
    host.to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Host, Request};

    fn rendered(text: &str) -> String {
        Template::from_text(text).expect(text).render(&Facts::of_this_exchange())
    }

    #[test]
    fn variables_are_filled_in() {
        let host = Host::new();
        host.set_request(
            Request {
                authority: "Shop.Example.com:8443".into(),
                scheme: "https".into(),
                upstream: "api".into(),
                path_and_query: "/a/b?x=1&y&x=2".into(),
                ..Request::default()
            }
            .field("User-Agent", "curl")
            .field("cookie", "a=1; sid=x y")
            .field("cookie", "b=2"),
        );

        for (template, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("$remote_addr", "192.0.2.1"),
            ("$scheme://$host/", "https://shop.example.com/"),
            ("${host}s-$upstream", "shop.example.coms-api"),
            ("$request_id", "0123456789abcdef0123456789abcdef"),
            ("$request_method $request_uri", "GET /a/b?x=1&y&x=2"),
            ("$path|$query|$route", "/a/b|x=1&y&x=2|default"),
            ("$arg_x|$arg_y|$arg_z", "1||"),
            ("$cookie_a|$cookie_b|$cookie_sid|$cookie_c", "1|2|x y|"),
            ("$http_user_agent|$http_none", "curl|"),
            ("$$host costs 5$$", "$host costs 5$"),
            ("  größer\tals  ", "größer\tals"),
        ] {
            assert_eq!(rendered(template), expected, "for {template}");
        }
    }

    #[test]
    fn a_plugin_may_have_variables_of_its_own() {
        Host::new();
        let template = Template::with_own("/$1st/${name}/$2/$host", &["1", "name", "2"]).expect("it is right");

        let own = ["one", "two"];
        let rendered =
            template.render_with(&Facts::of_this_exchange(), |position| own.get(position).copied().unwrap_or_default());

        assert_eq!(rendered, "/onest/two//example.com");
        let wrong = Template::with_own("$3", &["1"]).expect_err("there is no third");
        assert!(wrong.starts_with("has the unknown variable `$3`"), "{wrong}");
    }

    #[test]
    fn what_a_template_mentions_is_known() {
        let template = Template::from_text("https://x$request_uri$arg_a").expect("it is right");

        assert!(template.mentions("request_uri") && !template.mentions("query"));
        assert_eq!(template.beginning(), "https://x");
        assert_eq!(Template::from_text("$host/x").expect("it is right").beginning(), "");
    }

    #[test]
    fn a_host_has_no_port_and_is_in_lower_case() {
        for (authority, host) in
            [("A:80", "a"), ("a", "a"), ("[::1]:80", "[::1]"), ("[2001:DB8::1]", "[2001:db8::1]"), ("", "")]
        {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn each_fact_is_read_once_and_only_when_needed() {
        let host = Host::new();
        let template = Template::from_text("$host $host ${host} $scheme $path $query").expect("it is right");

        assert_eq!(host.calls(), [""; 0]);
        template.render(&Facts::of_this_exchange());

        assert_eq!(host.calls(), ["request.authority", "request.scheme", "request.path-and-query"]);
    }

    #[test]
    fn a_wrong_template_says_what_is_wrong() {
        for (template, wrong) in [
            ("$hots", "has the unknown variable `$hots`; did you mean `$host`?"),
            ("${remote_adr}", "has the unknown variable `$remote_adr`; did you mean `$remote_addr`?"),
            ("a ${host", "has `${host` without a closing brace"),
            ("100 $", "has a `$` that names no variable; write `$$` for a dollar sign"),
            ("$-", "has a `$` that names no variable; write `$$` for a dollar sign"),
            ("a\r\nb: c", "has a control character, which no header value may have"),
        ] {
            assert_eq!(Template::from_text(template), Err(wrong.to_owned()), "for {template}");
        }
        let unknown = Template::from_text("$geo_country").expect_err("there is no such variable");
        assert!(unknown.contains("there are `$remote_addr`, `$host`, "), "{unknown}");
        assert!(unknown.ends_with("`$http_NAME`, `$cookie_NAME`, `$arg_NAME`"), "{unknown}");
    }

    #[test]
    fn any_text_is_itself_once_its_dollars_are_doubled() {
        Host::new();
        for text in ["$", "$$", "a$b$$c", "${", "$}", "$1", "größer $ als"] {
            assert_eq!(rendered(&text.replace('$', "$$")), text);
        }
    }
}
