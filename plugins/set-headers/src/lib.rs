//! The rewriter `set-headers`: sets, appends and removes headers of requests and responses.

mod changes;

use staunch_plugin::template::Facts;
use staunch_plugin::{
    Config, Invalid, RequestAction, RequestRewriter, ResponseAction, ResponseRewriter, Rewriter, RewriterNeeds, Wanted,
};

use changes::{Changes, Side};

/// What is done on each side; nothing where nothing is configured.
struct SetHeaders {
    request: Option<Changes>,
    response: Option<Changes>,
}

impl Rewriter for SetHeaders {
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["request", "response"]);
        let read = |path, side| config.has(path).then(|| Changes::read(&config.at(path), side));
        let (request, response) = (read("request", Side::Request), read("response", Side::Response));
        if request.is_none() {
            needs.skip_requests();
        }
        if response.is_none() {
            needs.skip_responses();
        }
        Ok(Self { request, response })
    }
}

impl RequestRewriter for SetHeaders {
    fn on_request(&mut self, _: &Wanted) -> RequestAction {
        let Some(changes) = &self.request else { return RequestAction::Proceed };
        let facts = Facts::of_this_exchange();
        let (target, fields) = (changes.target(&facts), changes.fields(&facts));
        match (target.is_empty(), fields.is_empty()) {
            (true, true) => RequestAction::Proceed,
            (true, false) => RequestAction::Fields(fields),
            (false, _) => RequestAction::Rewrite(target, fields),
        }
    }
}

impl ResponseRewriter for SetHeaders {
    fn on_response(&mut self, _: &Wanted) -> ResponseAction {
        let Some(changes) = &self.response else { return ResponseAction::Proceed };
        let fields = changes.fields(&Facts::of_this_exchange());
        if fields.is_empty() { ResponseAction::Proceed } else { ResponseAction::Fields(fields) }
    }
}

staunch_plugin::export!(rewriter: SetHeaders + request + response);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Request};
    use staunch_plugin::{FieldEdit, TargetEdit};

    use super::*;

    fn on_request(host: &Host) -> RequestAction {
        let mut rewriter: SetHeaders = host.rewriter().expect("the settings are right");
        host.calls();
        rewriter.on_request(&host.wanted_of_request())
    }

    #[test]
    fn headers_are_removed_then_set_then_appended() {
        let host = Host::new();
        host.set_list("request.append.via", ["1.1 a", "1.1 $host"]);
        host.set("request.set.X-Real-IP", "$remote_addr");
        host.set_list("request.set.x-two", ["1", "2"]);
        host.set_list("request.remove", ["x-debug", "Accept-Encoding"]);

        assert_eq!(
            on_request(&host),
            RequestAction::Fields(vec![
                FieldEdit::remove("x-debug"),
                FieldEdit::remove("Accept-Encoding"),
                FieldEdit::set("X-Real-IP", "192.0.2.1"),
                FieldEdit::set("x-two", "1"),
                FieldEdit::append("x-two", "2"),
                FieldEdit::append("via", "1.1 a"),
                FieldEdit::append("via", "1.1 example.com"),
            ])
        );
        assert_eq!(host.calls(), ["request.client-address", "request.authority"]);
    }

    #[test]
    fn a_side_that_is_not_configured_passes_at_once() {
        let host = Host::new();
        host.set("response.set.server", "staunch for $upstream");
        let mut rewriter: SetHeaders = host.rewriter().expect("the settings are right");
        host.calls();

        assert_eq!(host.skipped(), (true, false));
        assert_eq!(rewriter.on_request(&host.wanted_of_request()), RequestAction::Proceed);
        assert_eq!(host.calls(), [""; 0]);
        assert_eq!(
            rewriter.on_response(&host.wanted_of_response()),
            ResponseAction::Fields(vec![FieldEdit::set("server", "staunch for default")])
        );
    }

    #[test]
    fn values_without_variables_ask_the_host_nothing() {
        let host = Host::new();
        host.set("request.set.x-proxy", "staunch");

        assert_eq!(on_request(&host), RequestAction::Fields(vec![FieldEdit::set("x-proxy", "staunch")]));
        assert_eq!(host.calls(), [""; 0]);
    }

    #[test]
    fn the_host_header_is_set_through_the_target() {
        let host = Host::new();
        host.set("request.set.Host", "internal.$host");

        assert_eq!(
            on_request(&host),
            RequestAction::Rewrite(vec![TargetEdit::Authority("internal.example.com".into())], vec![])
        );
    }

    #[test]
    fn an_empty_value_removes_and_is_never_appended() {
        let host = Host::new();
        host.set_request(Request { upstream: String::new(), authority: String::new(), ..Request::default() });
        host.set("request.set.x-upstream", "$upstream");
        host.set("request.set.host", "$host");
        host.set("request.append.x-trace", "$upstream");

        assert_eq!(on_request(&host), RequestAction::Fields(vec![FieldEdit::remove("x-upstream")]));
    }

    #[test]
    fn a_client_cannot_have_a_host_set_that_is_none() {
        let host = Host::new();
        host.set("request.set.host", "$http_x_tenant.internal");
        host.set_request(Request::default().field("x-tenant", "a b@c"));

        assert_eq!(on_request(&host), RequestAction::Proceed);
    }

    #[test]
    fn nothing_is_done_without_settings() {
        assert_eq!(on_request(&Host::new()), RequestAction::Proceed);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let host = Host::new();
        host.set("reqest.set.a", "1");
        host.set("request.sett.a", "1");
        host.set("request.set.x y", "1");
        host.set("request.set.Content-Length", "1");
        host.set(r"response.set.x\.a", "$hots");
        host.set_list("response.append.x", ["ok", "${host"]);
        host.set_list("request.append.host", ["b"]);
        host.set_list("response.remove", ["connection"]);

        let issues = host.rewriter::<SetHeaders>().err().expect("nothing is right");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`reqest` is unknown; did you mean `request`?",
                "`request.sett` is unknown; did you mean `set`?",
                "`request.set.x y` is not the name of a header (RFC 9110 section 5.6.2)",
                "`request.set.Content-Length` is a header that only the proxy itself may write",
                "`request` can only set `host`: every request has exactly one",
                "`response.remove` has `connection`, which is a header that only the proxy itself may write",
                "`response.append.x.1` has `${host` without a closing brace",
                r"`response.set.x\.a` has the unknown variable `$hots`; did you mean `$host`?",
            ]
        );
    }
}
