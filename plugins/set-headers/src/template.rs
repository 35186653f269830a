//! Header values with variables, compiled once and filled in for each message.

use std::array;
use std::cell::OnceCell;

use staunch_plugin::{Setting, nearest, request};

/// A header value, perhaps with variables: `"$scheme://${host}/"`, where `$$` is a dollar sign.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Text(String),
    Variable(Variable),
}

/// A fact of the request. nginx's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Variable {
    RemoteAddr,
    Host,
    Scheme,
    RequestId,
    Upstream,
}

const VARIABLES: [(&str, Variable); 5] = [
    ("remote_addr", Variable::RemoteAddr),
    ("host", Variable::Host),
    ("scheme", Variable::Scheme),
    ("request_id", Variable::RequestId),
    ("upstream", Variable::Upstream),
];

impl Template {
    /// Fills in the variables.
    pub(crate) fn render(&self, facts: &Facts) -> String {
        match &self.0[..] {
            [Part::Text(text)] => text.clone(),
            parts => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text,
                    Part::Variable(variable) => facts.get(*variable),
                })
                .collect(),
        }
    }
}

impl Setting for Template {
    fn from_text(text: &str) -> Result<Self, String> {
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
            parts.push(Part::Variable(variable(name)?));
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self(parts))
    }
}

/// The name of a variable, of what stands after the dollar sign, and the rest.
fn split_name(text: &str) -> Result<(&str, &str), String> {
    if let Some(text) = text.strip_prefix('{') {
        return text.split_once('}').ok_or_else(|| format!("has `${{{text}` without a closing brace"));
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    if end == 0 {
        return Err("has a `$` that names no variable; write `$$` for a dollar sign".to_owned());
    }
    Ok(text.split_at(end))
}

fn variable(name: &str) -> Result<Variable, String> {
    if let Some(&(_, variable)) = VARIABLES.iter().find(|(known, _)| *known == name) {
        return Ok(variable);
    }
    let names = VARIABLES.iter().map(|&(known, _)| known);
    Err(match nearest(name, names.clone()) {
        Some(meant) => format!("has the unknown variable `${name}`; did you mean `${meant}`?"),
        None => {
            let names: Vec<String> = names.map(|name| format!("`${name}`")).collect();
            format!("has the unknown variable `${name}`; there are {}", names.join(", "))
        }
    })
}

/// The facts of the message at hand, each read from the host when a template first needs it.
pub(crate) struct Facts([OnceCell<String>; VARIABLES.len()]);

impl Facts {
    pub(crate) fn of_this_exchange() -> Self {
        Self(array::from_fn(|_| OnceCell::new()))
    }

    fn get(&self, variable: Variable) -> &str {
        self.0[variable as usize].get_or_init(|| match variable {
            Variable::RemoteAddr => request::client_address(),
            Variable::Host => host_of(&request::authority()),
            Variable::Scheme => request::scheme(),
            Variable::RequestId => request::id(),
            Variable::Upstream => request::upstream(),
        })
    }
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
    use proptest::prelude::*;
    use staunch_plugin::testing::{Host, Request};

    use super::*;

    fn rendered(text: &str) -> String {
        Template::from_text(text).expect(text).render(&Facts::of_this_exchange())
    }

    #[test]
    fn variables_are_filled_in() {
        let host = Host::new();
        host.set_request(Request {
            authority: "Shop.Example.com:8443".into(),
            scheme: "https".into(),
            upstream: "api".into(),
            ..Request::default()
        });

        for (template, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("$remote_addr", "192.0.2.1"),
            ("$scheme://$host/", "https://shop.example.com/"),
            ("${host}s-$upstream", "shop.example.coms-api"),
            ("$request_id", "0123456789abcdef0123456789abcdef"),
            ("$$host costs 5$$", "$host costs 5$"),
            ("  größer\tals  ", "größer\tals"),
        ] {
            assert_eq!(rendered(template), expected, "for {template}");
        }
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
        let template = Template::from_text("$host $host ${host} $scheme").expect("it is right");

        assert_eq!(host.calls(), [""; 0]);
        template.render(&Facts::of_this_exchange());

        assert_eq!(host.calls(), ["request.authority", "request.scheme"]);
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
        assert!(unknown.ends_with("there are `$remote_addr`, `$host`, `$scheme`, `$request_id`, `$upstream`"));
    }

    proptest! {
        #[test]
        fn any_text_is_itself_once_its_dollars_are_doubled(text in "[^\\pC\t ]([^\\pC]*[^\\pC\t ])?") {
            prop_assert_eq!(rendered(&text.replace('$', "$$")), text);
        }

        #[test]
        fn no_text_panics(text in any::<String>()) {
            let _ = Template::from_text(&text).map(|template| template.render(&Facts::of_this_exchange()));
        }
    }
}
