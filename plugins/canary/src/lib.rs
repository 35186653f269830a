//! The rewriter `canary`: some requests go to another upstream, and those of one client all the same way.

mod share;

use std::time::Duration;

use staunch_plugin::metrics::Counter;
use staunch_plugin::template::{Facts, Template};
use staunch_plugin::{
    Config, FieldEdit, FieldName, Invalid, RequestAction, RequestRewriter, ResponseAction, ResponseRewriter, Rewriter,
    RewriterNeeds, Setting, Wanted, WantedField, random, request, routing,
};

use share::{Place, Share};

struct Canary {
    to: String,
    header: Option<Header>,
    cookie: Option<String>,
    share: Share,
    /// What a client is known by.
    by: Template,
    /// How long a client's place is kept in its cookie.
    remember: Option<Duration>,
    sent: Counter,
}

struct Header {
    name: WantedField,
    /// The value that decides for the canary; `always` when there is none.
    value: Option<String>,
}

impl Rewriter for Canary {
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["to", "header", "header_value", "cookie", "percent", "by", "remember"]);
        let to = config.required::<String>("to");
        if let Ok(to) = &to
            && !routing::has_upstream(to)
        {
            config.issue("to", format!("names the upstream `{to}`, which there is not"));
        }
        let header = config.get::<FieldName>("header");
        if header.is_none() && config.has("header_value") {
            config.issue("header_value", "needs a `header`");
        }
        let cookie = config.get::<CookieName>("cookie").map(|CookieName(name)| name);
        let remember = config.get("remember");
        if remember.is_some() && cookie.is_none() {
            config.issue("remember", "needs a `cookie`");
        }
        if remember.is_none() {
            needs.skip_responses();
        }
        let by = match config.get("by") {
            Some(by) => by,
            None => Template::from_text("$remote_addr").map_err(|wrong| config.issue("by", wrong))?,
        };
        let header = header
            .map(|name| Header { name: needs.want_request_field(name.as_str()), value: config.get("header_value") });
        let (share, sent) = (config.get_or("percent", Share::NONE), Counter::new("requests"));
        Ok(Self { to: to?, header, cookie, share, by, remember, sent })
    }
}

impl RequestRewriter for Canary {
    fn on_request(&mut self, wanted: &Wanted) -> RequestAction {
        let is_canary = self.header.as_ref().and_then(|header| header.decides(wanted)).unwrap_or_else(|| self.decide());
        if is_canary && routing::send_to(&self.to) {
            self.sent.add(1);
        }
        RequestAction::Proceed
    }
}

impl ResponseRewriter for Canary {
    fn on_response(&mut self, _: &Wanted) -> ResponseAction {
        let (Some(cookie), Some(remember)) = (&self.cookie, self.remember) else { return ResponseAction::Proceed };
        let Some(place) = request::note(&note(cookie)).and_then(|place| String::from_utf8(place).ok()) else {
            return ResponseAction::Proceed;
        };
        let secure = if request::scheme() == "https" { "; Secure" } else { "" };
        let seconds = remember.as_secs();
        let value = format!("{cookie}={place}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
        ResponseAction::Fields(vec![FieldEdit::append("set-cookie", value)])
    }
}

impl Canary {
    /// By the cookie, or else by where the client's place is.
    fn decide(&self) -> bool {
        let cookie = self.cookie.as_deref().and_then(request::cookie);
        match cookie.as_deref() {
            Some("always") => return true,
            Some("never") => return false,
            _ => {}
        }
        let place = match (&self.cookie, self.remember) {
            (Some(name), Some(_)) => cookie.and_then(|kept| Place::parse(&kept)).unwrap_or_else(|| {
                let drawn = Place::drawn(random::next());
                request::set_note(&note(name), drawn.to_string().as_bytes());
                drawn
            }),
            _ => match self.by.render(&Facts::of_this_exchange()) {
                // Of somebody who is known by nothing.
                key if key.is_empty() => Place::drawn(random::next()),
                key => Place::of(&self.to, &key),
            },
        };
        self.share.has(place)
    }
}

impl Header {
    fn decides(&self, wanted: &Wanted) -> Option<bool> {
        match (wanted.text(self.name)?, self.value.as_deref()) {
            (theirs, Some(value)) => (theirs == value).then_some(true),
            ("always", None) => Some(true),
            ("never", None) => Some(false),
            _ => None,
        }
    }
}

/// Under which name a client's new place goes from the request to the response.
fn note(cookie: &str) -> String {
    format!("canary {cookie}")
}

/// The name of a cookie.
struct CookieName(String);

impl Setting for CookieName {
    fn from_text(text: &str) -> Result<Self, String> {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if text.is_empty() || !text.bytes().all(is_token) {
            return Err("is not the name of a cookie (RFC 6265 section 4.1.1)".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

staunch_plugin::export!(rewriter: Canary + request + response);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Request};

    use super::*;

    fn host(settings: &[(&str, &str)]) -> Host {
        let host = Host::new();
        host.set_upstreams(&["shop", "shop-next"]);
        host.set("to", "shop-next");
        settings.iter().for_each(|(name, value)| host.set(name, value));
        host
    }

    fn canary(host: &Host) -> Canary {
        host.rewriter().unwrap_or_else(|issues| panic!("{issues}"))
    }

    /// Whether a request goes to the canary.
    fn is_sent(host: &Host, canary: &mut Canary, request: Request) -> bool {
        host.set_request(request);
        assert_eq!(canary.on_request(&host.wanted_of_request()), RequestAction::Proceed);
        host.sent_to().inspect(|to| assert_eq!(to, "shop-next")).is_some()
    }

    fn from(address: usize) -> Request {
        Request { client_address: format!("192.0.2.{address}"), ..Request::default() }
    }

    #[test]
    fn the_header_comes_before_the_cookie_and_that_before_the_share() {
        for percent in ["0", "100"] {
            let host = host(&[("header", "X-Canary"), ("cookie", "canary"), ("percent", percent)]);
            let mut canary = canary(&host);
            let share = percent == "100";

            for (header, cookie, expected) in [
                ("always", "canary=never", true),
                ("never", "canary=always", false),
                ("maybe", "a=b; canary=always", true),
                ("", "canary=never", false),
                ("Always", "canary=x", share),
                ("", "", share),
            ] {
                let request = Request::default().field("x-canary", header).field("cookie", cookie);
                assert_eq!(is_sent(&host, &mut canary, request), expected, "{header}, {cookie}, {percent} %");
            }
            assert_eq!(is_sent(&host, &mut canary, Request::default()), share);
        }
    }

    #[test]
    fn a_header_may_have_a_value_of_its_own() {
        let host = host(&[("header", "x-region"), ("header_value", "eu")]);
        let mut canary = canary(&host);

        for (value, expected) in [("eu", true), ("us", false), ("always", false)] {
            assert_eq!(is_sent(&host, &mut canary, Request::default().field("x-region", value)), expected, "{value}");
        }
    }

    #[test]
    fn a_client_goes_the_same_way_each_time_and_the_share_holds_among_many() {
        let host = host(&[("percent", "20")]);
        let (mut first, mut second) = (canary(&host), canary(&host));
        let mut sent = 0;

        for client in 0..1000 {
            let is_canary = is_sent(&host, &mut first, from(client));
            assert_eq!(is_sent(&host, &mut second, from(client)), is_canary);
            sent += usize::from(is_canary);
        }

        assert!((150..250).contains(&sent), "{sent} of 1000");
        assert_eq!(host.counter("requests"), Some(2 * sent as u64));
        assert_eq!(host.skipped(), (false, true));
    }

    #[test]
    fn a_greater_share_takes_nobody_away() {
        let (small, large) = (host(&[("percent", "5")]), |percent: &str| host(&[("percent", percent)]));
        let mut canaries = vec![canary(&small)];
        canaries.push(canary(&large("30")));
        let host = large("80");
        canaries.push(canary(&host));

        for client in 0..500 {
            let sent: Vec<bool> = canaries.iter_mut().map(|canary| is_sent(&host, canary, from(client))).collect();
            assert!(sent.is_sorted(), "client {client}: {sent:?}");
        }
    }

    #[test]
    fn a_place_is_drawn_once_and_kept_in_the_cookie() {
        let host = host(&[("percent", "50"), ("cookie", "canary"), ("remember", "1d")]);
        let mut canary = canary(&host);
        assert_eq!(host.skipped(), (false, false));

        let is_canary = is_sent(&host, &mut canary, Request::default());
        let ResponseAction::Fields(edits) = canary.on_response(&Wanted::default()) else { panic!("it is kept") };
        let FieldEdit::Append(name, cookie) = &edits[0] else { panic!("{edits:?}") };
        let cookie = std::str::from_utf8(cookie).expect("text");
        assert_eq!(name, "set-cookie");
        assert!(cookie.ends_with("; Path=/; Max-Age=86400; HttpOnly; SameSite=Lax"), "{cookie}");

        let kept = cookie.split(';').next().expect("a pair");
        for _ in 0..20 {
            let again = Request::default().field("cookie", kept);
            assert_eq!(is_sent(&host, &mut canary, again), is_canary);
        }
    }

    #[test]
    fn a_place_that_is_kept_is_not_set_again_and_moves_with_the_share() {
        let host = host(&[("percent", "30"), ("cookie", "canary"), ("remember", "1d")]);
        let mut canary = canary(&host);

        for (kept, expected) in [("29.99", true), ("30.00", false), ("0.00", true), ("99.99", false)] {
            let request = Request::default().field("cookie", format!("canary={kept}"));
            assert_eq!(is_sent(&host, &mut canary, request), expected, "{kept}");
            assert_eq!(canary.on_response(&Wanted::default()), ResponseAction::Proceed, "{kept}");
        }
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let host = host(&[
            ("to", "shop-nxt"),
            ("percent", "101"),
            ("header_value", "x"),
            ("remember", "1d"),
            ("by", "$clint"),
        ]);

        let issues = host.rewriter::<Canary>().err().expect("nothing is right");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`to` names the upstream `shop-nxt`, which there is not",
                "`header_value` needs a `header`",
                "`remember` needs a `cookie`",
                &*format!("`by` {}", Template::from_text("$clint").expect_err("unknown")),
                "`percent` must be a number from 0 to 100",
            ]
        );
    }
}
