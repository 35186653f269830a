//! The rewriter `security-headers`: headers that make browsers careful, and none that tell too much.

use std::time::Duration;

use staunch_plugin::{
    Config, FieldEdit, FieldName, Invalid, ResponseAction, ResponseRewriter, Rewriter, RewriterNeeds, Setting, Wanted,
    WantedField, request,
};

/// Settings with the headers they set, and what they are without a setting: nothing, where any value might break a
/// page.
const HEADERS: [(&str, &str, Option<&str>); 9] = [
    ("content_type_options", "x-content-type-options", Some("nosniff")),
    ("frame_options", "x-frame-options", Some("SAMEORIGIN")),
    ("referrer_policy", "referrer-policy", Some("strict-origin-when-cross-origin")),
    ("content_security_policy", "content-security-policy", None),
    ("content_security_policy_report_only", "content-security-policy-report-only", None),
    ("permissions_policy", "permissions-policy", None),
    ("cross_origin_opener_policy", "cross-origin-opener-policy", None),
    ("cross_origin_embedder_policy", "cross-origin-embedder-policy", None),
    ("cross_origin_resource_policy", "cross-origin-resource-policy", None),
];

/// What endpoints say of themselves.
const TELLTALES: [&str; 2] = ["server", "x-powered-by"];

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

struct SecurityHeaders {
    always: Vec<Header>,
    /// `strict-transport-security`, which browsers heed over https alone (RFC 6797 section 7.2).
    hsts: Option<Header>,
    remove: Vec<FieldName>,
    replace: bool,
}

struct Header {
    name: &'static str,
    value: String,
    /// What the endpoint says.
    theirs: WantedField,
}

/// The value of a header, or `false` for none.
enum Value {
    Off,
    Text(String),
}

impl Setting for Value {
    fn from_text(text: &str) -> Result<Self, String> {
        // A long policy may be written over several lines.
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        match &*text {
            "false" => Ok(Self::Off),
            "" | "true" => Err("must be the value of the header, or false".to_owned()),
            text if text.chars().any(char::is_control) => Err("has a control character".to_owned()),
            _ => Ok(Self::Text(text)),
        }
    }
}

/// How long a browser stays with https, or `false` for as long as it likes.
struct Hsts(Option<Duration>);

impl Setting for Hsts {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "false" => Ok(Self(None)),
            text => Duration::from_text(text).map(|age| Self(Some(age))),
        }
    }
}

impl Rewriter for SecurityHeaders {
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid> {
        let mut names: Vec<&str> = HEADERS.iter().map(|(setting, ..)| *setting).collect();
        names.extend(["hsts", "hsts_include_subdomains", "hsts_preload", "remove", "replace"]);
        config.only(&names);

        let mut always = Vec::new();
        for (setting, name, default) in HEADERS {
            let value = match config.get(setting) {
                Some(Value::Off) => None,
                Some(Value::Text(text)) => Some(text),
                None => default.map(str::to_owned),
            };
            always.extend(value.map(|value| Header { name, value, theirs: needs.want_response_field(name) }));
        }
        let hsts = hsts(config).map(|value| {
            let name = "strict-transport-security";
            Header { name, value, theirs: needs.want_response_field(name) }
        });
        let telltales = || TELLTALES.iter().filter_map(|name| FieldName::from_text(name).ok()).collect();
        let remove = if config.has("remove") { config.values("remove") } else { telltales() };
        Ok(Self { always, hsts, remove, replace: config.get_or("replace", false) })
    }
}

impl ResponseRewriter for SecurityHeaders {
    fn on_response(&mut self, wanted: &Wanted) -> ResponseAction {
        let mut edits: Vec<FieldEdit> = self.remove.iter().map(|name| FieldEdit::remove(name.as_str())).collect();
        let hsts = self.hsts.iter().filter(|_| request::scheme() == "https");
        for header in self.always.iter().chain(hsts) {
            if self.replace || wanted.get(header.theirs).is_none() {
                edits.push(FieldEdit::set(header.name, &header.value));
            }
        }
        if edits.is_empty() { ResponseAction::Proceed } else { ResponseAction::Fields(edits) }
    }
}

/// The value of `strict-transport-security`.
fn hsts(config: &Config) -> Option<String> {
    let Hsts(max_age) = config.get_or("hsts", Hsts(Some(YEAR)));
    let (subdomains, preload) = (config.get_or("hsts_include_subdomains", false), config.get_or("hsts_preload", false));
    if preload && (!subdomains || max_age < Some(YEAR)) {
        config.issue("hsts_preload", "needs `hsts_include_subdomains` and `hsts` of at least 365d (hstspreload.org)");
    }
    let mut value = format!("max-age={}", max_age?.as_secs());
    value.push_str(if subdomains { "; includeSubDomains" } else { "" });
    value.push_str(if preload { "; preload" } else { "" });
    Some(value)
}

staunch_plugin::export!(rewriter: SecurityHeaders + response);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Request, Response};

    use super::*;

    fn on_response(host: &Host) -> Vec<FieldEdit> {
        let mut rewriter: SecurityHeaders = host.rewriter().unwrap_or_else(|issues| panic!("{issues}"));
        match rewriter.on_response(&host.wanted_of_response()) {
            ResponseAction::Fields(edits) => edits,
            ResponseAction::Proceed => Vec::new(),
            other => panic!("{other:?}"),
        }
    }

    /// Has the client come over https.
    fn secure(host: &Host) {
        host.set_request(Request { scheme: "https".into(), ..Request::default() });
    }

    const DEFAULTS: [(&str, &str); 3] = [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("referrer-policy", "strict-origin-when-cross-origin"),
    ];

    #[test]
    fn the_defaults_break_no_page_and_tell_nothing() {
        let host = Host::new();

        let mut expected = vec![FieldEdit::remove("server"), FieldEdit::remove("x-powered-by")];
        expected.extend(DEFAULTS.map(|(name, value)| FieldEdit::set(name, value)));
        assert_eq!(on_response(&host), expected);
    }

    #[test]
    fn only_a_client_that_came_over_https_is_told_to_stay_there() {
        let host = Host::new();
        secure(&host);
        let hsts = FieldEdit::set("strict-transport-security", "max-age=31536000");
        assert_eq!(on_response(&host).pop(), Some(hsts));

        for (settings, expected) in [
            (
                &[("hsts", "730d"), ("hsts_include_subdomains", "true"), ("hsts_preload", "true")][..],
                "max-age=63072000; includeSubDomains; preload",
            ),
            (&[("hsts", "5m")], "max-age=300"),
        ] {
            let host = Host::new();
            secure(&host);
            settings.iter().for_each(|(name, value)| host.set(name, value));
            assert_eq!(on_response(&host).pop(), Some(FieldEdit::set("strict-transport-security", expected)));
        }

        let host = Host::new();
        secure(&host);
        host.set("hsts", false);
        assert!(
            on_response(&host)
                .iter()
                .all(|edit| !matches!(edit, FieldEdit::Set(name, _) if name.starts_with("strict")))
        );
    }

    #[test]
    fn what_an_endpoint_says_itself_stays_unless_it_is_to_be_replaced() {
        let host = Host::new();
        host.set_list("remove", [""; 0]);
        host.set_response(Response::default().field("X-Frame-Options", "DENY"));
        assert!(on_response(&host).iter().all(|edit| *edit != FieldEdit::set("x-frame-options", "SAMEORIGIN")));

        host.set("replace", true);
        assert!(on_response(&host).contains(&FieldEdit::set("x-frame-options", "SAMEORIGIN")));
    }

    #[test]
    fn a_policy_may_stand_on_several_lines_and_a_header_may_be_turned_off() {
        let host = Host::new();
        host.set_list("remove", ["x-generator"]);
        host.set("content_security_policy", "\n  default-src 'self';\n  img-src *\n");
        for (setting, ..) in &HEADERS[..3] {
            host.set(setting, false);
        }

        assert_eq!(
            on_response(&host),
            [
                FieldEdit::remove("x-generator"),
                FieldEdit::set("content-security-policy", "default-src 'self'; img-src *"),
            ]
        );
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let host = Host::new();
        host.set("frame_option", "DENY");
        host.set("frame_options", true);
        host.set("hsts_preload", true);
        host.set_list("remove", ["connection"]);

        let issues = host.rewriter::<SecurityHeaders>().err().expect("nothing is right");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`frame_option` is unknown; did you mean `frame_options`?",
                "`frame_options` must be the value of the header, or false",
                "`hsts_preload` needs `hsts_include_subdomains` and `hsts` of at least 365d (hstspreload.org)",
                "`remove.0` is a header that only the proxy itself may write",
            ]
        );
    }
}
