//! The rewriter `rate-limit`: nginx's `limit_req`, exact over all workers.

mod bucket;
mod headers;

use std::time::Duration;

use staunch_plugin::metrics::Counter;
use staunch_plugin::shared::{self, PutError};
use staunch_plugin::template::{Facts, Template};
use staunch_plugin::{
    Config, Instant, Invalid, LocalResponse, RequestAction, RequestRewriter, ResponseAction, ResponseRewriter,
    Rewriter, RewriterNeeds, Setting, Wanted, WantedField, clock, pace, request,
};

use bucket::{Bucket, Limit, REQUEST, Rate, Verdict};
use headers::Headers;

/// The longest that the host holds a request, in milliseconds.
const LONGEST_DELAY: u64 = 60_000;
/// A longer key is kept by its hash.
const LONGEST_KEY: usize = 128;
/// Each time another worker came first, so that somebody always gets on.
const TRIES: usize = 100;

struct RateLimit {
    limit: Limit,
    key: Template,
    status: u16,
    dry_run: bool,
    /// Under which name what a response says goes there; none when it says nothing.
    note: Option<String>,
    theirs: WantedField,
    passed: Counter,
    delayed: Counter,
    rejected: Counter,
}

impl Rewriter for RateLimit {
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["rate", "burst", "nodelay", "delay", "key", "status", "headers", "dry_run"]);
        let key: String = config.get_or("key", "$remote_addr".to_owned());
        let template = Template::from_text(&key).map_err(|wrong| config.issue("key", wrong))?;
        let limit = limit(config)?;
        let status = config.get_or("status", 429);
        if !(400..600).contains(&status) {
            config.issue("status", "must be from 400 to 599");
        }
        let dry_run = config.get_or("dry_run", false);
        let says = config.get_or("headers", true) && !dry_run;
        if !says {
            needs.skip_responses();
        }
        // Two limits of a route are not to take each other's notes.
        let note = says.then(|| format!("rate-limit {limit:?} {key}"));
        let suffix = if dry_run { "_dry_run" } else { "" };
        Ok(Self {
            limit,
            key: template,
            status,
            dry_run,
            note,
            theirs: needs.want_response_field("ratelimit-remaining"),
            passed: Counter::new("passed"),
            delayed: Counter::new(&format!("delayed{suffix}")),
            rejected: Counter::new(&format!("rejected{suffix}")),
        })
    }
}

/// Reads `rate`, `burst`, `nodelay` and `delay`.
fn limit(config: &Config) -> Result<Limit, Invalid> {
    let rate = config.required::<Rate>("rate");
    let burst = u64::from(config.get_or("burst", 0u32));
    let nodelay = config.get_or("nodelay", false);
    if nodelay && config.has("delay") {
        config.issue("delay", "has no meaning beside `nodelay`");
    }
    let delay = if nodelay { burst } else { config.get_or("delay", 0u32).into() };
    let limit = Limit { rate: rate?, burst: burst * REQUEST, delay: delay * REQUEST };
    if limit.longest_delay() > LONGEST_DELAY {
        let wrong = "would hold requests for more than 60 s at this rate; lower it, or set `delay` or `nodelay`";
        config.issue("burst", wrong);
    }
    Ok(limit)
}

impl RequestRewriter for RateLimit {
    fn on_request(&mut self, _: &Wanted) -> RequestAction {
        let key = self.key.render(&Facts::of_this_exchange());
        // As in nginx: who has no key is not limited.
        if key.is_empty() {
            return RequestAction::Proceed;
        }
        match self.take(&name(key), clock::monotonic()) {
            Verdict::Pass { delay, bucket } => {
                self.pass(delay);
                if let Some(note) = &self.note {
                    request::set_note(note, Headers::of(&self.limit, bucket.excess).to_string().as_bytes());
                }
                RequestAction::Proceed
            }
            Verdict::Refuse { .. } if self.dry_run => {
                self.rejected.add(1);
                RequestAction::Proceed
            }
            Verdict::Refuse { excess, wait } => {
                self.rejected.add(1);
                RequestAction::Respond(self.refusal(excess, wait))
            }
        }
    }
}

impl ResponseRewriter for RateLimit {
    fn on_response(&mut self, wanted: &Wanted) -> ResponseAction {
        let note = self.note.as_ref().and_then(|note| request::note(note));
        let Some(ours) = note.and_then(|note| Headers::parse(&note)) else { return ResponseAction::Proceed };
        // Of several limits, the client has to know the one that it will meet first.
        match wanted.text(self.theirs).and_then(|theirs| theirs.trim().parse().ok()) {
            Some(remaining) if ours.has_more_than(remaining) => ResponseAction::Proceed,
            _ => ResponseAction::Fields(ours.edits()),
        }
    }
}

impl RateLimit {
    /// Puts a request into the bucket of its key, which all workers share.
    fn take(&self, name: &str, now: Instant) -> Verdict {
        let now = now.as_nanos() / 1_000_000;
        for _ in 0..TRIES {
            let kept = shared::get(name);
            let (bytes, version) = kept.map_or((None, None), |kept| (Some(kept.bytes), Some(kept.version)));
            let verdict = self.limit.admit(bytes.as_deref().and_then(Bucket::from_bytes), now);
            let Verdict::Pass { bucket, .. } = verdict else { return verdict };
            // When it has run empty, it is as if it had never been.
            let max_age = Duration::from_millis(self.limit.rate.time_for(bucket.excess + REQUEST));
            match shared::remember(name, &bucket.to_bytes(), version, max_age) {
                Ok(_) => return verdict,
                Err(PutError::Conflict) => {}
                Err(PutError::Full) => break,
            }
        }
        // What cannot be counted does not pass: that would be no limit.
        Verdict::Refuse { excess: self.limit.burst + REQUEST, wait: 1000 }
    }

    fn pass(&self, delay: u64) {
        if delay == 0 {
            return self.passed.add(1);
        }
        self.delayed.add(1);
        if !self.dry_run {
            pace::delay(Duration::from_millis(delay));
        }
    }

    fn refusal(&self, excess: u64, wait: u64) -> LocalResponse {
        let seconds = wait.div_ceil(1000).max(1);
        let mut answer = LocalResponse::new(self.status)
            .field("content-type", "text/plain")
            .field("retry-after", seconds.to_string())
            .body("too many requests\n");
        if self.note.is_some() {
            answer.fields.extend(Headers::of(&self.limit, excess).fields());
        }
        answer
    }
}

/// The name that a key's bucket is shared by.
fn name(key: String) -> String {
    if key.len() <= LONGEST_KEY {
        return key;
    }
    // FNV-1a of 128 bits.
    let hash = key.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58du128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    let beginning: String = key.chars().take(LONGEST_KEY / 4).collect();
    format!("{beginning}…{hash:032x}")
}

staunch_plugin::export!(rewriter: RateLimit + request + response);

#[cfg(test)]
mod tests {
    use staunch_plugin::FieldEdit;
    use staunch_plugin::testing::{Host, Request, Response};

    use super::*;

    fn host(settings: &[(&str, &str)]) -> Host {
        let host = Host::new();
        host.set("rate", "10r/s");
        settings.iter().for_each(|(name, value)| host.set(name, value));
        host
    }

    fn limit(host: &Host) -> RateLimit {
        host.rewriter().unwrap_or_else(|issues| panic!("{issues}"))
    }

    fn from(address: &str) -> Request {
        Request { client_address: address.into(), ..Request::default() }
    }

    /// The status of a refusal, or 0 for a request that passes.
    fn ask(host: &Host, limit: &mut RateLimit, request: Request) -> u16 {
        host.set_request(request);
        match limit.on_request(&Wanted::default()) {
            RequestAction::Proceed => 0,
            RequestAction::Respond(response) => response.status,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_key_has_a_bucket_that_all_instances_share() {
        let host = host(&[]);
        let (mut one, mut other) = (limit(&host), limit(&host));

        assert_eq!(ask(&host, &mut one, from("192.0.2.1")), 0);
        assert_eq!(ask(&host, &mut other, from("192.0.2.1")), 429);
        assert_eq!(ask(&host, &mut other, from("192.0.2.2")), 0);
        host.advance(Duration::from_millis(100));
        assert_eq!(ask(&host, &mut other, from("192.0.2.1")), 0);
        assert_eq!((host.counter("passed"), host.counter("rejected")), (Some(3), Some(1)));
    }

    #[test]
    fn a_burst_is_held_back_by_the_host() {
        let host = host(&[("burst", "3"), ("delay", "1")]);
        let mut limit = limit(&host);

        let delays: Vec<_> = (0..4)
            .map(|_| {
                assert_eq!(ask(&host, &mut limit, Request::default()), 0);
                host.delay().map(|delay| delay.as_millis())
            })
            .collect();

        assert_eq!(delays, [None, None, Some(100), Some(200)]);
        assert_eq!(ask(&host, &mut limit, Request::default()), 429);
        assert_eq!(host.delay(), None);
        assert_eq!(host.counter("delayed"), Some(2));
    }

    #[test]
    fn several_facts_may_be_a_key_and_none_is_no_limit() {
        let host = host(&[("key", "$http_x_tenant$cookie_t")]);
        let mut limit = limit(&host);
        let tenant = |name: &str| Request::default().field("x-tenant", name);

        let answers = [tenant("a"), tenant("a"), tenant("b"), Request::default(), Request::default()]
            .map(|request| ask(&host, &mut limit, request));

        assert_eq!(answers, [0, 429, 0, 0, 0]);
    }

    #[test]
    fn a_long_key_is_kept_by_its_hash() {
        let host = host(&[("key", "$http_x")]);
        let mut limit = limit(&host);
        let long = |end: &str| Request::default().field("x", "ä".repeat(5000) + end);

        let answers = [long("a"), long("a"), long("b")].map(|request| ask(&host, &mut limit, request));

        assert_eq!(answers, [0, 429, 0]);
        assert!(name("ä".repeat(5000)).len() <= LONGEST_KEY);
    }

    #[test]
    fn a_refusal_says_when_to_come_back() {
        let host = host(&[("rate", "30r/m"), ("burst", "2"), ("nodelay", "true"), ("status", "503")]);
        let mut limit = limit(&host);
        for _ in 0..3 {
            assert_eq!(ask(&host, &mut limit, Request::default()), 0);
        }

        let RequestAction::Respond(response) = limit.on_request(&Wanted::default()) else { panic!("it is refused") };

        assert_eq!(response.status, 503);
        let fields: Vec<String> =
            response.fields.iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect();
        assert_eq!(
            fields[1..],
            ["retry-after: 2", "ratelimit-limit: 3", "ratelimit-remaining: 0", "ratelimit-reset: 6"]
        );
    }

    #[test]
    fn a_response_says_what_is_left_and_of_several_limits_the_nearest() {
        let host = host(&[("rate", "1r/s"), ("burst", "4"), ("nodelay", "true")]);
        let mut limit = limit(&host);
        ask(&host, &mut limit, Request::default());
        ask(&host, &mut limit, Request::default());
        let ours = ResponseAction::Fields(vec![
            FieldEdit::set("ratelimit-limit", "5"),
            FieldEdit::set("ratelimit-remaining", "3"),
            FieldEdit::set("ratelimit-reset", "1"),
        ]);

        for (theirs, expected) in
            [(None, &ours), (Some("9"), &ours), (Some("3"), &ours), (Some("2"), &ResponseAction::Proceed)]
        {
            host.set_response(
                theirs.map_or(Response::default(), |remaining| {
                    Response::default().field("RateLimit-Remaining", remaining)
                }),
            );
            assert_eq!(limit.on_response(&host.wanted_of_response()), *expected, "beside {theirs:?}");
        }
    }

    #[test]
    fn a_dry_run_counts_and_lets_everybody_pass() {
        let host = host(&[("burst", "1"), ("dry_run", "true")]);
        let mut limit = limit(&host);

        for _ in 0..4 {
            assert_eq!(ask(&host, &mut limit, Request::default()), 0);
        }

        assert_eq!(host.delay(), None);
        let counts = ["passed", "delayed_dry_run", "rejected_dry_run"].map(|name| host.counter(name));
        assert_eq!(counts, [Some(1), Some(1), Some(2)]);
        assert_eq!(host.skipped(), (false, true));
    }

    #[test]
    fn what_cannot_be_counted_does_not_pass() {
        let host = host(&[]);
        let mut limit = limit(&host);
        host.fill_shared();

        assert_eq!(ask(&host, &mut limit, Request::default()), 429);
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        for (settings, expected) in [
            (&[("rate", "10")][..], "`rate` must be a rate such as \"10r/s\" or \"30r/m\""),
            (&[("nodelay", "true"), ("delay", "1")], "`delay` has no meaning beside `nodelay`"),
            (&[("status", "200")], "`status` must be from 400 to 599"),
            (&[("key", "$remote_adr")], "`key` has the unknown variable `$remote_adr`; did you mean `$remote_addr`?"),
            (
                &[("burst", "601")],
                "`burst` would hold requests for more than 60 s at this rate; lower it, or set `delay` or `nodelay`",
            ),
        ] {
            let host = host(settings);
            let issues = host.rewriter::<RateLimit>().err().expect("it is refused");
            assert_eq!(issues.to_string(), expected, "for {settings:?}");
        }
        assert_eq!(Host::new().rewriter::<RateLimit>().err().expect("refused").to_string(), "`rate` is required");
    }
}
