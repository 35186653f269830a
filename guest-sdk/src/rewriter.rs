//! Rewriters: how heads are changed on their way.

use crate::{Config, Invalid, host};

/// What every rewriter has. Exported with `export!(rewriter: MyType + request)`, `+ response`, or both.
pub trait Rewriter: Sized + 'static {
    /// Reads the configuration and asks for what later calls need. Has 2 s of CPU time.
    ///
    /// # Errors
    ///
    /// A wrong setting keeps the configuration that ran before in force, or the proxy from starting. Every issue
    /// that `config` noticed is reported, whether this answers `Ok` or not.
    fn configure(config: &Config, needs: &mut RewriterNeeds) -> Result<Self, Invalid>;
}

/// Rewrites requests before an endpoint is picked.
pub trait RequestRewriter: Rewriter {
    /// Handles a request. `wanted` has the headers asked for with [`RewriterNeeds::want_request_field`]; all else
    /// is read through [`crate::request`]. Has 20 ms of CPU time.
    fn on_request(&mut self, wanted: &Wanted) -> RequestAction;
}

/// Rewrites responses before they go to the client. Interim responses (1xx) and those that the proxy makes itself
/// are not shown.
pub trait ResponseRewriter: Rewriter {
    /// Handles a response. `wanted` has the headers asked for with [`RewriterNeeds::want_response_field`]; all
    /// else is read through [`crate::request`] and [`crate::response`]. Has 20 ms of CPU time. Another instance
    /// may have handled the request: [`crate::request::set_note`] carries what this one must know.
    fn on_response(&mut self, wanted: &Wanted) -> ResponseAction;
}

/// Rewrites the bodies of requests, piece by piece as they come. Exported with
/// `export!(rewriter: MyType + request + request_body)`.
///
/// What a piece becomes goes on at once: what has to be seen together with the piece that follows is kept in `Body`,
/// as little of it as can be. Many bodies may be under way at once.
///
/// Squeezes runs of blanks in text into one, also where a run is cut by the end of a piece:
///
/// ```
/// use staunch_plugin::{
///     Config, Invalid, RequestAction, RequestBodyRewriter, RequestRewriter, Rewriter, RewriterNeeds, Wanted, request,
/// };
///
/// struct Squeeze;
///
/// impl Rewriter for Squeeze {
///     fn configure(_: &Config, _: &mut RewriterNeeds) -> Result<Self, Invalid> {
///         Ok(Self)
///     }
/// }
///
/// impl RequestRewriter for Squeeze {
///     fn on_request(&mut self, _: &Wanted) -> RequestAction {
///         RequestAction::Proceed
///     }
/// }
///
/// impl RequestBodyRewriter for Squeeze {
///     /// Whether the piece before ended with a blank.
///     type Body = bool;
///
///     fn begin(&mut self) -> Option<bool> {
///         request::field("content-type")?.starts_with(b"text/plain").then_some(false)
///     }
///
///     fn rewrite(&mut self, after_blank: &mut bool, mut piece: Vec<u8>, _last: bool) -> Vec<u8> {
///         piece.retain(|&byte| {
///             let is_kept = byte != b' ' || !*after_blank;
///             *after_blank = byte == b' ';
///             is_kept
///         });
///         piece
///     }
/// }
///
/// staunch_plugin::export!(rewriter: Squeeze + request + request_body);
///
/// use staunch_plugin::testing::{Host, Request};
///
/// let host = Host::new();
/// let mut rewriter = host.rewriter::<Squeeze>().unwrap();
/// assert!(rewriter.begin().is_none());
/// host.set_request(Request::default().field("content-type", "text/plain"));
/// let mut body = rewriter.begin().unwrap();
///
/// assert_eq!(rewriter.rewrite(&mut body, b"a  b ".to_vec(), false), b"a b ");
/// assert_eq!(rewriter.rewrite(&mut body, b"  c".to_vec(), true), b"c");
/// ```
pub trait RequestBodyRewriter: RequestRewriter {
    /// What is kept of one body while it is under way.
    type Body: 'static;

    /// Looks at a request with a body, after `on_request`; all is read through [`crate::request`]. `None` lets the
    /// body pass as it is, which costs nothing further. Otherwise it goes on without `content-length`.
    fn begin(&mut self) -> Option<Self::Body>;

    /// What a piece of the body, at most 64 KiB, becomes, at most 1 MiB; with `last`, when the piece may be empty,
    /// all that is still to come. Has 20 ms of CPU time. A body that breaks off is dropped instead.
    fn rewrite(&mut self, body: &mut Self::Body, piece: Vec<u8>, last: bool) -> Vec<u8>;
}

/// Rewrites the bodies of responses as [`RequestBodyRewriter`] does those of requests. Exported with
/// `export!(rewriter: MyType + response + response_body)`.
///
/// Responses without a body, and those that the proxy or a rewriter makes, are not shown.
pub trait ResponseBodyRewriter: ResponseRewriter {
    /// What is kept of one body while it is under way.
    type Body: 'static;

    /// Looks at a response with a body, after `on_response`; all is read through [`crate::request`] and
    /// [`crate::response`]. `None` lets it pass.
    fn begin(&mut self) -> Option<Self::Body>;

    /// What a piece becomes.
    fn rewrite(&mut self, body: &mut Self::Body, piece: Vec<u8>, last: bool) -> Vec<u8>;
}

/// What a rewriter may ask for while it is configured.
#[derive(Debug)]
pub struct RewriterNeeds(());

impl RewriterNeeds {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// Has the first value of a request header passed to `on_request`: cheaper than to read it in each call.
    pub fn want_request_field(&mut self, name: &str) -> WantedField {
        WantedField(host::registration::want_request_field(name))
    }

    /// Has the first value of a response header passed to `on_response`.
    pub fn want_response_field(&mut self, name: &str) -> WantedField {
        WantedField(host::registration::want_response_field(name))
    }

    /// Has `on_request` not called, for settings that leave nothing to do there.
    pub fn skip_requests(&mut self) {
        host::registration::skip_requests();
    }

    /// Has `on_response` not called.
    pub fn skip_responses(&mut self) {
        host::registration::skip_responses();
    }
}

/// A header that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedField(u32);

/// The values of the headers that were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted(Vec<Option<Vec<u8>>>);

impl Wanted {
    pub(crate) fn new(values: Vec<Option<Vec<u8>>>) -> Self {
        Self(values)
    }

    /// The value of a header, unless it is absent.
    pub fn get(&self, field: WantedField) -> Option<&[u8]> {
        self.0.get(field.0 as usize)?.as_deref()
    }

    /// The same as text, unless it is not UTF-8.
    pub fn text(&self, field: WantedField) -> Option<&str> {
        std::str::from_utf8(self.get(field)?).ok()
    }
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestAction {
    /// Pass it on as it is.
    Proceed,
    /// Pass it on with these headers changed.
    Fields(Vec<FieldEdit>),
    /// Pass it on with the request line and headers changed.
    Rewrite(Vec<TargetEdit>, Vec<FieldEdit>),
    /// Answer it here.
    Respond(LocalResponse),
}

/// What to do with a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseAction {
    /// Pass it on as it is.
    Proceed,
    /// Pass it on with these headers changed.
    Fields(Vec<FieldEdit>),
    /// Pass it on with the status and headers changed. A status that changes whether there is a body (204, 304) is
    /// a fault.
    Rewrite(u16, Vec<FieldEdit>),
    /// Send this in its place.
    Replace(LocalResponse),
}

/// One change of a header. Names and values that HTTP does not allow, and names that frame the message or belong to
/// the connection (`connection`, `content-length`, `transfer-encoding`, `upgrade`, …), are a fault of the plugin, and
/// so are more than 1000 changes or 64 KiB of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldEdit {
    /// Replaces every value of a header with one.
    Set(String, Vec<u8>),
    /// Adds a value.
    Append(String, Vec<u8>),
    /// Removes a header.
    Remove(String),
}

impl FieldEdit {
    /// Replaces every value of a header with one.
    pub fn set(name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        Self::Set(name.into(), value.as_ref().to_vec())
    }

    /// Adds a value.
    pub fn append(name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        Self::Append(name.into(), value.as_ref().to_vec())
    }

    /// Removes a header.
    pub fn remove(name: impl Into<String>) -> Self {
        Self::Remove(name.into())
    }
}

/// One change of the request line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetEdit {
    /// Sets the path with its query. It begins with `/`.
    PathAndQuery(String),
    /// Sets the authority, and with it the `host` header.
    Authority(String),
    /// Sets the method.
    Method(String),
}

impl TargetEdit {
    /// Sets the path with its query, unless it is none: what comes from a client should not become a fault.
    pub fn path_and_query(target: impl Into<String>) -> Option<Self> {
        let target = target.into();
        let is_target = target.starts_with('/') && target.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
        is_target.then_some(Self::PathAndQuery(target))
    }

    /// Sets the authority, unless it is no host with an optional port.
    pub fn authority(authority: impl Into<String>) -> Option<Self> {
        let authority = authority.into();
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (&*authority, None),
        };
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)),
        };
        let is_port = |port: &str| port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok();
        (is_host && port.is_none_or(is_port)).then_some(Self::Authority(authority))
    }
}

/// A response the plugin makes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalResponse {
    /// 200 to 599.
    pub status: u16,
    /// Its headers; the host adds `content-length` and `date`.
    pub fields: Vec<(String, Vec<u8>)>,
    /// At most 1 MiB.
    pub body: Vec<u8>,
}

impl LocalResponse {
    /// A response without headers and body.
    pub fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new() }
    }

    /// Adds a header.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.into(), value.as_ref().to_vec()));
        self
    }

    /// Gives it a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_http_does_not_allow_is_not_made() {
        for (target, is_right) in
            [("/", true), ("/a?b=%20", true), ("", false), ("a", false), ("/a b", false), ("/#", false)]
        {
            assert_eq!(TargetEdit::path_and_query(target).is_some(), is_right, "for {target}");
        }
        for (authority, is_right) in [
            ("a", true),
            ("a.b:65535", true),
            ("[::1]:80", true),
            ("", false),
            ("a:", false),
            ("a:+8", false),
            ("a:65536", false),
            ("::1", false),
            ("[x]", false),
            ("u@a", false),
            ("a b", false),
        ] {
            assert_eq!(TargetEdit::authority(authority).is_some(), is_right, "for {authority}");
        }
    }
}
