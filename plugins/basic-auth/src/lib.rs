//! The rewriter `basic-auth`: asks for a user name and password (RFC 7617).

mod hash;
mod remembered;
mod users;

use std::time::Duration;

use base64ct::{Base64, Encoding};
use staunch_plugin::metrics::Counter;
use staunch_plugin::{
    Config, FieldEdit, FieldName, Instant, Invalid, LocalResponse, RequestAction, RequestRewriter, Rewriter,
    RewriterNeeds, Setting, Wanted, WantedField, clock,
};

use remembered::Remembered;
use users::Users;

/// The longest `authorization` that is looked at.
const MAX_LENGTH: usize = 1024;

struct BasicAuth {
    users: Users,
    remembered: Remembered,
    checks: Checks,
    challenge: String,
    theirs: WantedField,
    forward: bool,
    user_header: Option<FieldName>,
    checked: Counter,
    refused: Counter,
}

/// How many passwords may be checked in a second: each takes a worker's time, whoever sends them.
struct Checks {
    most: u32,
    left: u32,
    since: Option<Instant>,
}

impl Rewriter for BasicAuth {
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["users", "realm", "forward", "user_header", "remember", "remembered", "checks_per_second"]);
        let Realm(realm) = config.get_or("realm", Realm("restricted".to_owned()));
        let most = config.get_or("checks_per_second", 10);
        if most == 0 {
            config.issue("checks_per_second", "must be at least 1");
        }
        let remember = config.get_or("remember", Duration::from_secs(300));
        Ok(Self {
            users: Users::read(config),
            remembered: Remembered::new(remember, config.get_or("remembered", 1000)),
            checks: Checks { most, left: most, since: None },
            challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\""),
            theirs: needs.want_request_field("authorization"),
            forward: config.get_or("forward", false),
            user_header: config.get("user_header"),
            checked: Counter::new("checked"),
            refused: Counter::new("refused"),
        })
    }
}

impl RequestRewriter for BasicAuth {
    fn on_request(&mut self, wanted: &Wanted) -> RequestAction {
        let Some(credentials) = wanted.get(self.theirs).and_then(credentials) else { return self.refuse(401) };
        let Some((user, password)) = split(&credentials) else { return self.refuse(401) };
        let now = clock::monotonic();
        let is_right = match self.remembered.answer(&credentials, now) {
            Some(known) => known,
            None if !self.checks.take(now) => return self.refuse(429),
            None => {
                self.checked.add(1);
                let is_right = self.users.check(user, password);
                self.remembered.keep(&credentials, is_right, now);
                is_right
            }
        };
        if is_right { self.accept(user) } else { self.refuse(401) }
    }
}

impl BasicAuth {
    fn accept(&self, user: &str) -> RequestAction {
        let mut edits = Vec::new();
        if !self.forward {
            edits.push(FieldEdit::remove("authorization"));
        }
        // Set whatever the client sent: nobody but this rewriter says who it is.
        edits.extend(self.user_header.iter().map(|header| FieldEdit::set(header.as_str(), user)));
        if edits.is_empty() { RequestAction::Proceed } else { RequestAction::Fields(edits) }
    }

    fn refuse(&self, status: u16) -> RequestAction {
        self.refused.add(1);
        let answer = LocalResponse::new(status).field("content-type", "text/plain");
        RequestAction::Respond(match status {
            401 => answer.field("www-authenticate", &self.challenge).body("401 Unauthorized\n"),
            _ => answer.field("retry-after", "1").body("429 Too Many Requests\n"),
        })
    }
}

impl Checks {
    /// Takes one of those that are left in this second.
    fn take(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= Duration::from_secs(1)) {
            (self.left, self.since) = (self.most, Some(now));
        }
        let is_left = self.left > 0;
        self.left = self.left.saturating_sub(1);
        is_left
    }
}

/// What `authorization` says in the scheme `Basic`, decoded: `user:password`.
fn credentials(field: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(field).ok().filter(|text| text.len() <= MAX_LENGTH)?;
    let (scheme, token) = text.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    Base64::decode_vec(token.trim()).ok()
}

/// The user's name, which has no colon and no control characters, and the password.
fn split(credentials: &[u8]) -> Option<(&str, &[u8])> {
    let colon = credentials.iter().position(|&b| b == b':')?;
    let user = std::str::from_utf8(&credentials[..colon]).ok()?;
    (!user.chars().any(char::is_control)).then_some((user, &credentials[colon + 1..]))
}

/// What a browser asks the user about.
struct Realm(String);

impl Setting for Realm {
    fn from_text(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
            return Err("must have no quotes, backslashes and control characters".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

staunch_plugin::export!(rewriter: BasicAuth + request);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Request};

    use super::*;

    /// The password is `secret`.
    const ALICE: &str = "alice:$2b$04$.RAVuJFQPtcvkM4PJHQAcO.bezT7a9I/wySdQbcKTRsp5gSl0b3s6";

    fn host(settings: &[(&str, &str)]) -> Host {
        let host = Host::new();
        host.set("users", ALICE);
        settings.iter().for_each(|(name, value)| host.set(name, value));
        host
    }

    fn auth(host: &Host) -> BasicAuth {
        host.rewriter().unwrap_or_else(|issues| panic!("{issues}"))
    }

    fn ask(host: &Host, auth: &mut BasicAuth, authorization: &str) -> RequestAction {
        host.set_request(Request::default().field("Authorization", authorization).field("x-user", "root"));
        auth.on_request(&host.wanted_of_request())
    }

    fn basic(credentials: &str) -> String {
        format!("Basic {}", Base64::encode_string(credentials.as_bytes()))
    }

    fn status(action: &RequestAction) -> u16 {
        match action {
            RequestAction::Respond(response) => response.status,
            _ => 0,
        }
    }

    #[test]
    fn whoever_knows_the_password_passes_and_nobody_else_does() {
        let host = host(&[]);
        let mut auth = auth(&host);

        let passes = RequestAction::Fields(vec![FieldEdit::remove("authorization")]);
        assert_eq!(ask(&host, &mut auth, &basic("alice:secret")), passes);
        assert_eq!(ask(&host, &mut auth, &basic("alice:secret").replace("Basic", "bASIC ")), passes);
        for wrong in [
            &*basic("alice:secrets"),
            &basic("alice:"),
            &basic("Alice:secret"),
            &basic("bob:secret"),
            &basic(":secret"),
            &basic("alice"),
            &basic("al\nice:secret"),
            "Basic",
            "Basic !!!",
            "Bearer YWxpY2U6c2VjcmV0",
            "",
        ] {
            let answer = ask(&host, &mut auth, wrong);
            let RequestAction::Respond(response) = &answer else { panic!("{wrong} passes") };
            assert_eq!(response.status, 401, "for {wrong}");
            let challenge = ("www-authenticate".to_owned(), b"Basic realm=\"restricted\", charset=\"UTF-8\"".to_vec());
            assert!(response.fields.contains(&challenge), "for {wrong}: {response:?}");
        }
        host.set_request(Request::default());
        assert_eq!(status(&auth.on_request(&host.wanted_of_request())), 401);
    }

    #[test]
    fn the_endpoint_is_told_the_user_and_never_by_the_client() {
        let host = host(&[("user_header", "X-User"), ("forward", "true")]);
        let mut auth = auth(&host);

        assert_eq!(
            ask(&host, &mut auth, &basic("alice:secret")),
            RequestAction::Fields(vec![FieldEdit::set("X-User", "alice")])
        );
    }

    #[test]
    fn a_password_is_checked_once_and_remembered_for_a_while_right_or_wrong() {
        let host = host(&[("remember", "1m")]);
        let mut auth = auth(&host);

        for _ in 0..5 {
            assert_eq!(status(&ask(&host, &mut auth, &basic("alice:secret"))), 0);
            assert_eq!(status(&ask(&host, &mut auth, &basic("alice:wrong"))), 401);
        }
        assert_eq!(host.counter("checked"), Some(2));

        host.advance(Duration::from_secs(60));
        assert_eq!(status(&ask(&host, &mut auth, &basic("alice:secret"))), 0);
        assert_eq!(host.counter("checked"), Some(3));
    }

    #[test]
    fn guesses_are_slowed_down_and_those_who_are_known_pass_meanwhile() {
        let host = host(&[("checks_per_second", "3")]);
        let mut auth = auth(&host);
        assert_eq!(status(&ask(&host, &mut auth, &basic("alice:secret"))), 0);

        let guesses: Vec<u16> =
            (0..4).map(|guess| status(&ask(&host, &mut auth, &basic(&format!("alice:{guess}"))))).collect();
        assert_eq!(guesses, [401, 401, 429, 429]);
        assert_eq!(status(&ask(&host, &mut auth, &basic("alice:secret"))), 0);

        host.advance(Duration::from_secs(1));
        assert_eq!(status(&ask(&host, &mut auth, &basic("alice:another"))), 401);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let host = host(&[("user", "x"), ("realm", "a\"b"), ("user_header", "connection"), ("checks_per_second", "0")]);
        host.set_list("users", ["alice", "bob:$apr1$x$y", ":$2y$10$x", "carl:$2y$10$short", ALICE, ALICE]);

        let issues = host.rewriter::<BasicAuth>().err().expect("nothing is right");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`user` is unknown; did you mean `users`?",
                "`realm` must have no quotes, backslashes and control characters",
                "`checks_per_second` must be at least 1",
                "`users` has a line without `:` between user and hash",
                "`users` has for `bob` a hash that is neither argon2id (`$argon2id$…`) nor bcrypt (`$2y$…`, which `htpasswd -B` makes)",
                "`users` has a line without a user",
                "`users` has for `carl` a bcrypt hash that is not whole",
                "`users` has `alice` twice",
                "`user_header` is a header that only the proxy itself may write",
            ]
        );

        let host = Host::new();
        let issues = host.rewriter::<BasicAuth>().err().expect("there are no users");
        assert_eq!(issues.to_string(), "`users` is required");
    }
}
