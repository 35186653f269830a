//! The rewriter `cors`: which pages may read what comes back.

mod origins;

use std::time::Duration;

use staunch_plugin::{
    Config, FieldEdit, FieldName, Invalid, LocalResponse, RequestAction, RequestRewriter, ResponseAction,
    ResponseRewriter, Rewriter, RewriterNeeds, Wanted, WantedField, request,
};

use origins::Origins;

/// The methods that browsers send without asking, and those of an ordinary API.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// What a preflight's answer depends on.
const PREFLIGHT_VARY: &str = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

struct Cors {
    origins: Origins,
    methods: Vec<String>,
    headers: Headers,
    expose: String,
    credentials: bool,
    max_age: Option<Duration>,
    preflight: Preflight,
}

/// The headers that a page may send.
enum Headers {
    Any,
    These(String),
}

/// The parts of a preflight.
struct Preflight {
    origin: WantedField,
    method: WantedField,
    headers: WantedField,
}

impl Rewriter for Cors {
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&[
            "allow_origins",
            "allow_origins_regex",
            "allow_methods",
            "allow_headers",
            "expose_headers",
            "credentials",
            "max_age",
        ]);
        let origins = Origins::read(config);
        let credentials = config.get_or("credentials", false);
        if credentials && origins.are_any() {
            // With it, every page of the world could act as whoever is logged in.
            config.issue("credentials", "cannot be had by every origin: name those in `allow_origins`");
        }
        let methods = config.list("allow_methods").unwrap_or_else(|| METHODS.map(str::to_owned).to_vec());
        for method in methods.iter().filter(|method| !method.bytes().all(|b| b.is_ascii_alphabetic())) {
            config.issue("allow_methods", format!("has `{method}`, which is no method"));
        }
        let headers = match &config.values::<String>("allow_headers")[..] {
            [any] if any == "*" => Headers::Any,
            _ => Headers::These(names(config, "allow_headers")),
        };
        Ok(Self {
            origins,
            methods,
            headers,
            expose: names(config, "expose_headers"),
            credentials,
            max_age: config.get("max_age"),
            preflight: Preflight {
                origin: needs.want_request_field("origin"),
                method: needs.want_request_field("access-control-request-method"),
                headers: needs.want_request_field("access-control-request-headers"),
            },
        })
    }
}

/// A list of headers as a header has it.
fn names(config: &Config, setting: &str) -> String {
    let names: Vec<FieldName> = config.values(setting);
    names.iter().map(FieldName::as_str).collect::<Vec<_>>().join(", ")
}

impl RequestRewriter for Cors {
    fn on_request(&mut self, wanted: &Wanted) -> RequestAction {
        let (Some(origin), Some(method)) = (wanted.text(self.preflight.origin), wanted.text(self.preflight.method))
        else {
            return RequestAction::Proceed;
        };
        if request::method() != "OPTIONS" {
            return RequestAction::Proceed;
        }
        let mut answer = LocalResponse::new(204).field("vary", PREFLIGHT_VARY);
        // A browser that finds no permission in the answer goes no further.
        if self.origins.allow(origin) && self.methods.iter().any(|allowed| allowed == method) {
            answer = answer.field("access-control-allow-methods", self.methods.join(", "));
            answer.fields.extend(self.permission(origin));
            let asked = wanted.get(self.preflight.headers).unwrap_or_default();
            let headers = match &self.headers {
                // A `*` would not hold for requests with credentials, nor ever for `authorization`.
                Headers::Any => asked,
                Headers::These(names) => names.as_bytes(),
            };
            if !headers.is_empty() {
                answer = answer.field("access-control-allow-headers", headers);
            }
            if let Some(max_age) = self.max_age {
                answer = answer.field("access-control-max-age", max_age.as_secs().to_string());
            }
        }
        RequestAction::Respond(answer)
    }
}

impl ResponseRewriter for Cors {
    fn on_response(&mut self, _: &Wanted) -> ResponseAction {
        // What an endpoint says itself would contradict what is said here.
        let mut edits: Vec<FieldEdit> = ["origin", "credentials"]
            .map(|part| FieldEdit::remove(format!("access-control-allow-{part}")))
            .into_iter()
            .collect();
        if !self.origins.are_any() {
            // Even without a permission: a cache must not give this answer to a page of another origin.
            edits.push(FieldEdit::append("vary", "Origin"));
        }
        let origin = request::field("origin").and_then(|origin| String::from_utf8(origin).ok());
        if let Some(origin) = origin.filter(|origin| self.origins.allow(origin)) {
            edits.extend(self.permission(&origin).map(|(name, value)| FieldEdit::Set(name, value)));
            if !self.expose.is_empty() {
                edits.push(FieldEdit::set("access-control-expose-headers", &self.expose));
            }
        }
        ResponseAction::Fields(edits)
    }
}

impl Cors {
    /// What lets a page of this origin read a response.
    fn permission(&self, origin: &str) -> impl Iterator<Item = (String, Vec<u8>)> + use<> {
        let origin = if self.origins.are_any() { "*" } else { origin };
        let allow = |part, value: &str| (format!("access-control-allow-{part}"), value.as_bytes().to_vec());
        let credentials = self.credentials.then(|| allow("credentials", "true"));
        [allow("origin", origin)].into_iter().chain(credentials)
    }
}

staunch_plugin::export!(rewriter: Cors + request + response);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Request};

    use super::*;

    fn shop(settings: &[(&str, &str)]) -> (Host, Cors) {
        let host = Host::new();
        host.set_list("allow_origins", ["https://shop.test"]);
        host.set("max_age", "10m");
        host.set("credentials", true);
        settings.iter().for_each(|(name, value)| host.set(name, value));
        let cors = host.rewriter().unwrap_or_else(|issues| panic!("{issues}"));
        (host, cors)
    }

    fn preflight(origin: &str, method: &str) -> Request {
        Request { method: "OPTIONS".into(), ..Request::default() }
            .field("origin", origin)
            .field("access-control-request-method", method)
            .field("access-control-request-headers", "content-type,x-a")
    }

    /// The answer to a request, as lines; nothing when it goes on.
    fn answer(host: &Host, cors: &mut Cors, request: Request) -> Option<Vec<String>> {
        host.set_request(request);
        match cors.on_request(&host.wanted_of_request()) {
            RequestAction::Proceed => None,
            RequestAction::Respond(response) => {
                assert_eq!((response.status, response.body.len()), (204, 0));
                let line = |(name, value): (String, Vec<u8>)| format!("{name}: {}", String::from_utf8_lossy(&value));
                Some(response.fields.into_iter().map(line).collect())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_preflight_is_answered_here() {
        let (host, mut cors) = shop(&[("allow_headers", "*")]);

        assert_eq!(
            answer(&host, &mut cors, preflight("https://shop.test", "PUT")).expect("an answer"),
            [
                "vary: Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
                "access-control-allow-methods: GET, HEAD, POST, PUT, PATCH, DELETE",
                "access-control-allow-origin: https://shop.test",
                "access-control-allow-credentials: true",
                "access-control-allow-headers: content-type,x-a",
                "access-control-max-age: 600",
            ]
        );
    }

    #[test]
    fn a_preflight_of_a_stranger_or_for_a_method_that_is_not_allowed_gets_no_permission() {
        let (host, mut cors) = shop(&[]);

        for (origin, method) in [("https://evil.test", "GET"), ("https://shop.test", "PURGE"), ("null", "GET")] {
            let answer = answer(&host, &mut cors, preflight(origin, method)).expect("an answer");
            assert_eq!(answer.len(), 1, "{answer:?}");
        }
    }

    #[test]
    fn the_headers_that_may_be_sent_are_listed() {
        let (host, mut cors) = shop(&[("allow_headers", "x-token")]);

        let answer = answer(&host, &mut cors, preflight("https://shop.test", "GET")).expect("an answer");

        assert!(answer.contains(&"access-control-allow-headers: x-token".to_owned()), "{answer:?}");
    }

    #[test]
    fn what_is_no_preflight_goes_on() {
        let (host, mut cors) = shop(&[]);

        for request in [
            Request::default().field("origin", "https://shop.test"),
            Request { method: "OPTIONS".into(), ..Request::default() }.field("origin", "https://shop.test"),
            Request { method: "GET".into(), ..preflight("https://shop.test", "GET") },
            Request { method: "OPTIONS".into(), ..Request::default() },
        ] {
            assert_eq!(answer(&host, &mut cors, request), None);
        }
    }

    #[test]
    fn a_response_is_for_the_origins_that_are_allowed_and_varies_for_all() {
        let (host, mut cors) = shop(&[("expose_headers", "x-total")]);
        let removed = ["origin", "credentials"].map(|part| FieldEdit::remove(format!("access-control-allow-{part}")));
        let mut expected = removed.to_vec();
        expected.push(FieldEdit::append("vary", "Origin"));

        for origin in [None, Some("https://evil.test")] {
            let request = origin.map_or(Request::default(), |origin| Request::default().field("origin", origin));
            host.set_request(request);
            assert_eq!(cors.on_response(&Wanted::default()), ResponseAction::Fields(expected.clone()));
        }

        host.set_request(Request::default().field("origin", "https://shop.test"));
        expected.extend([
            FieldEdit::set("access-control-allow-origin", "https://shop.test"),
            FieldEdit::set("access-control-allow-credentials", "true"),
            FieldEdit::set("access-control-expose-headers", "x-total"),
        ]);
        assert_eq!(cors.on_response(&Wanted::default()), ResponseAction::Fields(expected));
    }

    #[test]
    fn what_everybody_may_read_varies_with_nobody() {
        let host = Host::new();
        host.set("allow_origins", "*");
        let mut cors: Cors = host.rewriter().expect("it is right");
        host.set_request(Request::default().field("origin", "https://a.test"));

        let ResponseAction::Fields(edits) = cors.on_response(&Wanted::default()) else { panic!("headers are set") };

        assert_eq!(edits.last(), Some(&FieldEdit::set("access-control-allow-origin", "*")));
        assert!(!edits.contains(&FieldEdit::append("vary", "Origin")));
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let host = Host::new();
        host.set_list("allow_origins", ["*"]);
        host.set("credentials", true);
        host.set_list("allow_methods", ["G T"]);
        host.set_list("allow_headers", ["x y"]);
        host.set("allow_origin", "x");

        let issues = host.rewriter::<Cors>().err().expect("nothing is right");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`allow_origin` is unknown; did you mean `allow_origins`?",
                "`credentials` cannot be had by every origin: name those in `allow_origins`",
                "`allow_methods` has `G T`, which is no method",
                "`allow_headers.0` is not the name of a header (RFC 9110 section 5.6.2)",
            ]
        );
    }
}
