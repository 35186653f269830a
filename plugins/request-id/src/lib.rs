//! The rewriter `request-id`: one name for an exchange, in the logs of everyone who takes part in it.

use staunch_plugin::{
    Config, FieldEdit, FieldName, Invalid, RequestAction, RequestRewriter, ResponseAction, ResponseRewriter, Rewriter,
    RewriterNeeds, Setting, Wanted, WantedField, request,
};

/// The longest identifier that is believed. Whatever logs it has to store it.
const MAX_LENGTH: usize = 128;

struct RequestId {
    header: FieldName,
    theirs: WantedField,
    trust: bool,
}

impl Rewriter for RequestId {
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["header", "trust", "response"]);
        let header = match config.get("header") {
            Some(header) => header,
            None => FieldName::from_text("x-request-id").map_err(|wrong| config.issue("header", wrong))?,
        };
        let theirs = needs.want_request_field(header.as_str());
        if !config.get_or("response", true) {
            needs.skip_responses();
        }
        Ok(Self { header, theirs, trust: config.get_or("trust", false) })
    }
}

impl RequestRewriter for RequestId {
    fn on_request(&mut self, wanted: &Wanted) -> RequestAction {
        if self.trust && wanted.get(self.theirs).is_some_and(is_identifier) {
            return RequestAction::Proceed;
        }
        RequestAction::Fields(vec![FieldEdit::set(self.header.as_str(), request::id())])
    }
}

impl ResponseRewriter for RequestId {
    fn on_response(&mut self, _: &Wanted) -> ResponseAction {
        // The request is seen as this rewriter left it.
        let id = request::field(self.header.as_str()).unwrap_or_else(|| request::id().into_bytes());
        ResponseAction::Fields(vec![FieldEdit::set(self.header.as_str(), id)])
    }
}

/// Whether a text of a client's can go into logs and headers without harm.
fn is_identifier(text: &[u8]) -> bool {
    let is_harmless = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:/+=@".contains(b);
    (1..=MAX_LENGTH).contains(&text.len()) && text.iter().all(is_harmless)
}

staunch_plugin::export!(rewriter: RequestId + request + response);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Request};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn on_request(host: &Host, request: Request) -> RequestAction {
        let mut rewriter: RequestId = host.rewriter().expect("the settings are right");
        host.set_request(request);
        rewriter.on_request(&host.wanted_of_request())
    }

    fn set(name: &str, value: &str) -> Vec<FieldEdit> {
        vec![FieldEdit::set(name, value)]
    }

    #[test]
    fn an_exchange_is_named_by_the_proxy_and_not_by_its_client() {
        let host = Host::new();

        for request in [Request::default(), Request::default().field("X-Request-Id", "mine")] {
            assert_eq!(on_request(&host, request), RequestAction::Fields(set("x-request-id", ID)));
        }
    }

    #[test]
    fn a_trusted_client_names_it_if_that_is_a_name() {
        let host = Host::new();
        host.set("trust", true);
        host.set("header", "X-Trace");

        for (theirs, is_kept) in [
            ("7b1f-4e/a:b", true),
            (&*"x".repeat(128), true),
            (&*"x".repeat(129), false),
            ("", false),
            ("two words", false),
            ("<script>", false),
        ] {
            let answer = on_request(&host, Request::default().field("x-trace", theirs));

            let expected = if is_kept { RequestAction::Proceed } else { RequestAction::Fields(set("X-Trace", ID)) };
            assert_eq!(answer, expected, "for {theirs}");
        }
    }

    #[test]
    fn the_response_has_the_name_that_the_endpoint_saw() {
        let host = Host::new();
        let mut rewriter: RequestId = host.rewriter().expect("the settings are right");

        host.set_request(Request::default().field("x-request-id", "seen"));
        assert_eq!(rewriter.on_response(&Wanted::default()), ResponseAction::Fields(set("x-request-id", "seen")));
        // Another rewriter took it away.
        host.set_request(Request::default());
        assert_eq!(rewriter.on_response(&Wanted::default()), ResponseAction::Fields(set("x-request-id", ID)));

        assert_eq!(host.skipped(), (false, false));
        host.set("response", false);
        assert!(host.rewriter::<RequestId>().is_ok());
        assert_eq!(host.skipped(), (false, true));
    }

    #[test]
    fn a_header_of_the_proxys_own_is_refused() {
        let host = Host::new();
        host.set("header", "connection");

        let issues = host.rewriter::<RequestId>().err().expect("it is refused");

        assert_eq!(issues.to_string(), "`header` is a header that only the proxy itself may write");
    }
}
