//! The rewriter `substitute`: replaces text in the bodies of responses while they pass.

mod media;
mod search;
mod stream;

use std::rc::Rc;

use staunch_plugin::metrics::Counter;
use staunch_plugin::{
    Config, FieldEdit, Invalid, RequestAction, RequestRewriter, ResponseAction, ResponseBodyRewriter, ResponseRewriter,
    Rewriter, RewriterNeeds, Wanted, response,
};

use media::MediaTypes;
use search::{Replacement, Search};
use stream::Stream;

/// Texts to look for.
const MOST: usize = 100;
/// Bytes of the longest of them: so much may be held back of a body.
const LONGEST: usize = 1024;
/// Bytes of the longest text that takes the place of one.
const LONGEST_TO: usize = 64 * 1024;

/// What tells of the bytes of a body, which are no longer the endpoint's.
const TELLING: [&str; 6] = ["last-modified", "accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"];

struct Substitute {
    search: Rc<Search>,
    once: bool,
    types: MediaTypes,
    replaced: Counter,
}

impl Rewriter for Substitute {
    fn configure(config: &Config, _: &mut RewriterNeeds) -> Result<Self, Invalid> {
        config.only(&["replace", "once", "ignore_case", "types"]);
        let replacements = replacements(config)?;
        let search = Search::new(replacements, config.get_or("ignore_case", false))
            .map_err(|error| config.issue("replace", format!("cannot be looked for: {error}")))?;
        Ok(Self {
            search: Rc::new(search),
            once: config.get_or("once", false),
            types: config.list("types").map_or_else(MediaTypes::default, MediaTypes::new),
            replaced: Counter::new("replaced"),
        })
    }
}

/// Reads `replace`.
fn replacements(config: &Config) -> Result<Vec<Replacement>, Invalid> {
    let list = config.at("replace");
    let mut read: Vec<Replacement> = Vec::new();
    for position in list.keys() {
        let entry = list.at(&position);
        entry.only(&["from", "to"]);
        let (Ok(from), to) = (entry.required::<String>("from"), entry.get_or("to", String::new())) else { continue };
        if !(1..=LONGEST).contains(&from.len()) {
            entry.issue("from", format!("must have from 1 to {LONGEST} bytes"));
        } else if read.iter().any(|earlier| earlier.from == from.as_bytes()) {
            entry.issue("from", "is looked for already");
        }
        if to.len() > LONGEST_TO {
            entry.issue("to", format!("must have at most {LONGEST_TO} bytes"));
        }
        read.push(Replacement { from: from.into_bytes(), to: to.into_bytes() });
    }
    match read.len() {
        0 => Err(config.issue("replace", "must be a list of tables with `from` and `to`")),
        1..=MOST => Ok(read),
        _ => Err(config.issue("replace", format!("may have {MOST} entries"))),
    }
}

impl RequestRewriter for Substitute {
    fn on_request(&mut self, _: &Wanted) -> RequestAction {
        // In what is compressed, nothing would be found.
        RequestAction::Fields(vec![FieldEdit::set("accept-encoding", "identity")])
    }
}

impl ResponseRewriter for Substitute {
    fn on_response(&mut self, _: &Wanted) -> ResponseAction {
        if !self.concerns_this() {
            return ResponseAction::Proceed;
        }
        let mut edits: Vec<FieldEdit> = TELLING.iter().map(|name| FieldEdit::remove(*name)).collect();
        // It says the same, in other bytes (RFC 9110 section 8.8.1).
        if let Some(etag) = response::field("etag").filter(|etag| !etag.starts_with(b"W/")) {
            edits.push(FieldEdit::set("etag", [b"W/", &etag[..]].concat()));
        }
        ResponseAction::Fields(edits)
    }
}

impl ResponseBodyRewriter for Substitute {
    type Body = Stream;

    fn begin(&mut self) -> Option<Stream> {
        self.concerns_this().then(|| Stream::new(self.search.clone(), self.once))
    }

    fn rewrite(&mut self, body: &mut Stream, piece: Vec<u8>, last: bool) -> Vec<u8> {
        let before = body.replaced();
        let rewritten = body.rewrite(piece, last);
        if body.replaced() > before {
            self.replaced.add(body.replaced() - before);
        }
        rewritten
    }
}

impl Substitute {
    /// Whether the response at hand has a text to look at: the whole of one, and not compressed.
    fn concerns_this(&self) -> bool {
        let coding = response::field("content-encoding");
        response::status() != 206
            && coding.is_none_or(|coding| coding.eq_ignore_ascii_case(b"identity"))
            && response::field("content-type").is_some_and(|media| self.types.have(&media))
    }
}

staunch_plugin::export!(rewriter: Substitute + request + response + response_body);

#[cfg(test)]
mod tests {
    use staunch_plugin::testing::{Host, Response};

    use super::*;

    fn host() -> Host {
        let host = Host::new();
        host.set("replace.0.from", "http://internal");
        host.set("replace.0.to", "https://shop.test");
        host
    }

    fn substitute(host: &Host) -> Substitute {
        host.rewriter().unwrap_or_else(|issues| panic!("{issues}"))
    }

    fn html() -> Response {
        Response::default().field("Content-Type", "text/html; charset=utf-8")
    }

    #[test]
    fn a_body_is_rewritten_piece_by_piece() {
        let host = host();
        let mut substitute = substitute(&host);
        host.set_response(html());

        let mut body = substitute.begin().expect("it is html");
        let pieces = ["<a href='http://", "internal/x'>http:/", "", "/other"];
        let mut rewritten: Vec<String> = pieces
            .iter()
            .map(|piece| {
                String::from_utf8(substitute.rewrite(&mut body, piece.as_bytes().to_vec(), false)).expect("text")
            })
            .collect();
        rewritten.push(String::from_utf8(substitute.rewrite(&mut body, Vec::new(), true)).expect("text"));

        assert_eq!(rewritten, ["<a href='", "https://shop.test/x'>", "", "http://other", ""]);
        assert_eq!(host.counter("replaced"), Some(1));
    }

    #[test]
    fn only_whole_texts_of_the_right_kind_that_are_not_compressed_are_looked_at() {
        let host = host();
        let mut by_default = substitute(&host);
        host.set_list("types", ["text/*", "Application/JSON"]);
        let mut listed = substitute(&host);

        for (response, default, list) in [
            (html(), true, true),
            (html().field("content-encoding", "identity"), true, true),
            (html().field("content-encoding", "gzip"), false, false),
            (Response { status: 206, ..html() }, false, false),
            (Response { status: 404, ..html() }, true, true),
            (Response::default(), false, false),
            (Response::default().field("content-type", "TEXT/HTML"), true, true),
            (Response::default().field("content-type", "text/css"), false, true),
            (Response::default().field("content-type", "application/json;a=b"), false, true),
            (Response::default().field("content-type", "image/png"), false, false),
        ] {
            host.set_response(response.clone());
            assert_eq!((by_default.begin().is_some(), listed.begin().is_some()), (default, list), "{response:?}");
            let edits = by_default.on_response(&Wanted::default());
            assert_eq!(edits != ResponseAction::Proceed, default, "{response:?}");
        }
    }

    #[test]
    fn headers_about_the_endpoints_bytes_go_and_the_etag_becomes_weak() {
        let host = host();
        let mut substitute = substitute(&host);

        for (theirs, ours) in [(Some("\"v1\""), Some("W/\"v1\"")), (Some("W/\"v1\""), None), (None, None)] {
            host.set_response(theirs.map_or_else(html, |etag| html().field("etag", etag)));
            let ResponseAction::Fields(edits) = substitute.on_response(&Wanted::default()) else {
                panic!("it is html")
            };

            assert!(TELLING.iter().all(|name| edits.contains(&FieldEdit::remove(*name))));
            assert_eq!(edits.get(TELLING.len()), ours.map(|etag| FieldEdit::set("etag", etag)).as_ref());
        }
    }

    #[test]
    fn endpoints_are_asked_for_plain_text() {
        let host = host();

        let action = substitute(&host).on_request(&Wanted::default());

        assert_eq!(action, RequestAction::Fields(vec![FieldEdit::set("accept-encoding", "identity")]));
    }

    #[test]
    fn every_mistake_is_named_with_its_place() {
        let host = host();
        host.set("replace.0.form", "x");
        host.set("replace.1.to", "x");
        host.set("replace.2.from", "");
        host.set("replace.3.from", "http://internal");
        host.set_list("types", ["html"]);

        let issues = host.rewriter::<Substitute>().err().expect("nothing is right");

        let texts: Vec<String> = issues.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "`replace.0.form` is unknown; did you mean `from`?",
                "`replace.1.from` is required",
                "`replace.2.from` must have from 1 to 1024 bytes",
                "`replace.3.from` is looked for already",
                "`types.0` must be a media type such as `text/html`, or `text/*`, or `*`",
            ]
        );

        let issues = Host::new().rewriter::<Substitute>().err().expect("there is nothing to do");
        assert_eq!(issues.to_string(), "`replace` must be a list of tables with `from` and `to`");
    }
}
