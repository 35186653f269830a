//! Changes to a message's head: checked as a whole, then applied in order.
//!
//! # What about `host`?
//!
//! A request's authority and its `host` field say the same thing, so they change together: to set either is to set
//! both, and `host` can neither be removed nor be given a second value.

use crate::filters::LocalResponse;
use crate::http::h1;
use crate::http::head::{Fields, Known, RequestHead, ResponseHead};

/// Changes in one list.
const MAX_EDITS: usize = 1000;
/// Bytes of one list of changes, or of the fields of a response made here.
const MAX_EDIT_BYTES: usize = 64 * 1024;
/// Bytes of the body of a response made here.
const MAX_LOCAL_BODY: usize = 1024 * 1024;

/// One change of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldEdit {
    /// Replaces every value of a field with one.
    Set(String, Vec<u8>),
    /// Adds a value after all others.
    Append(String, Vec<u8>),
    Remove(String),
}

/// One change of the request line.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetEdit {
    /// The path with its query; begins with `/`.
    PathAndQuery(String),
    /// The host with its port, and with it the `host` field.
    Authority(String),
    Method(String),
}

/// Why a list of changes was refused, none of it applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEdit {
    #[error("{0} changes, of which there may be 1000")]
    TooMany(usize),
    #[error("more than 64 KiB of changes")]
    TooLong,
    #[error("the header name `{0}`, which HTTP does not allow")]
    Name(String),
    #[error("the header `{0}`, which frames the message or belongs to the connection")]
    Forbidden(String),
    #[error("a value for the header `{0}` with bytes that HTTP does not allow")]
    Value(String),
    #[error("a change of `host` other than to set it to a host with a port")]
    Host,
    #[error("the path `{0}`, which must begin with `/` and have visible ASCII characters only, without `#`")]
    Path(String),
    #[error("the authority `{0}`, which is no host with a port")]
    Authority(String),
    #[error("the method `{0}`, which HTTP does not allow, is too long, or changes how the response is framed")]
    Method(String),
    #[error("the status {0}, which is none or changes whether there is a body")]
    Status(u16),
    #[error("a body that its status does not allow")]
    Body,
    #[error("a body of more than 1 MiB")]
    LongBody,
}

/// Changes a request's line and fields, or nothing at all.
///
/// # Errors
/// When any of the changes is not allowed.
pub fn rewrite_request(head: &mut RequestHead, target: &[TargetEdit], fields: &[FieldEdit]) -> Result<(), BadEdit> {
    check_size(
        target.len() + fields.len(),
        target.iter().map(TargetEdit::size).chain(fields.iter().map(FieldEdit::size)),
    )?;
    for edit in target {
        edit.check(head.method())?;
    }
    for edit in fields {
        if Known::of(edit.name().as_bytes()) == Known::Host { edit.check_host()? } else { edit.check()? }
    }

    for edit in target {
        match edit {
            TargetEdit::PathAndQuery(path) => head.set_path_and_query(path),
            TargetEdit::Method(method) => head.set_method(method),
            TargetEdit::Authority(authority) => {
                head.set_authority(authority);
                head.fields.set(b"host", authority.as_bytes());
            }
        }
    }
    for edit in fields {
        if let FieldEdit::Set(name, value) = edit
            && Known::of(name.as_bytes()) == Known::Host
            && let Ok(authority) = std::str::from_utf8(value)
        {
            head.set_authority(authority);
        }
        edit.apply(&mut head.fields);
    }
    Ok(())
}

/// Changes a response's status and fields, or nothing at all. A status that changes loses its reason phrase.
///
/// # Errors
/// When any of the changes is not allowed.
pub fn rewrite_response(head: &mut ResponseHead, status: Option<u16>, fields: &[FieldEdit]) -> Result<(), BadEdit> {
    check_size(fields.len(), fields.iter().map(FieldEdit::size))?;
    if let Some(status) = status
        && status != head.status
        && (!(200..=599).contains(&status) || head.status < 200 || has_no_body(status) != has_no_body(head.status))
    {
        return Err(BadEdit::Status(status));
    }
    for edit in fields {
        edit.check()?;
    }

    if let Some(status) = status.filter(|status| *status != head.status) {
        head.status = status;
        head.set_reason(b"");
    }
    for edit in fields {
        edit.apply(&mut head.fields);
    }
    Ok(())
}

/// Checks a response that was made here.
///
/// # Errors
/// When it cannot be sent as it is.
pub fn check_response(response: &LocalResponse) -> Result<(), BadEdit> {
    if !(200..=599).contains(&response.status) {
        return Err(BadEdit::Status(response.status));
    }
    if has_no_body(response.status) && !response.body.is_empty() {
        return Err(BadEdit::Body);
    }
    if response.body.len() > MAX_LOCAL_BODY {
        return Err(BadEdit::LongBody);
    }
    check_size(response.fields.len(), response.fields.iter().map(|(name, value)| name.len() + value.len()))?;
    for (name, value) in &response.fields {
        check_name(name)?;
        check_value(name, value)?;
    }
    Ok(())
}

/// Whether bytes are a token: what a method or a field's name is made of (RFC 9110 section 5.6.2).
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| h1::is_token_byte(byte))
}

impl FieldEdit {
    fn name(&self) -> &str {
        match self {
            Self::Set(name, _) | Self::Append(name, _) | Self::Remove(name) => name,
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::Set(name, value) | Self::Append(name, value) => name.len() + value.len(),
            Self::Remove(name) => name.len(),
        }
    }

    /// Whether HTTP allows it, for a field that neither frames the message nor belongs to the connection.
    ///
    /// # Errors
    /// When it does not.
    pub fn check(&self) -> Result<(), BadEdit> {
        check_name(self.name())?;
        match self {
            Self::Set(name, value) | Self::Append(name, value) => check_value(name, value),
            Self::Remove(_) => Ok(()),
        }
    }

    fn check_host(&self) -> Result<(), BadEdit> {
        match self {
            Self::Set(_, value) if h1::is_authority(value) => Ok(()),
            _ => Err(BadEdit::Host),
        }
    }

    fn apply(&self, fields: &mut Fields) {
        match self {
            Self::Set(name, value) => fields.set(name.as_bytes(), value),
            Self::Append(name, value) => fields.append(name.as_bytes(), value),
            Self::Remove(name) => fields.remove(name.as_bytes()),
        }
    }
}

impl TargetEdit {
    fn size(&self) -> usize {
        let (Self::PathAndQuery(text) | Self::Authority(text) | Self::Method(text)) = self;
        text.len()
    }

    /// `method` is the request's now.
    fn check(&self, method: &str) -> Result<(), BadEdit> {
        match self {
            Self::PathAndQuery(path) if !is_path(path.as_bytes()) => Err(BadEdit::Path(shown(path))),
            Self::Authority(authority) if !h1::is_authority(authority.as_bytes()) => {
                Err(BadEdit::Authority(shown(authority)))
            }
            Self::Method(new)
                if !is_token(new.as_bytes()) || new.len() > h1::MAX_METHOD || !frames_alike(method, new) =>
            {
                Err(BadEdit::Method(shown(new)))
            }
            _ => Ok(()),
        }
    }
}

fn check_size(edits: usize, mut sizes: impl Iterator<Item = usize>) -> Result<(), BadEdit> {
    if edits > MAX_EDITS {
        return Err(BadEdit::TooMany(edits));
    }
    sizes
        .try_fold(0usize, |sum, size| sum.checked_add(size).filter(|&sum| sum <= MAX_EDIT_BYTES))
        .map(|_| ())
        .ok_or(BadEdit::TooLong)
}

fn check_name(name: &str) -> Result<(), BadEdit> {
    if !is_token(name.as_bytes()) {
        return Err(BadEdit::Name(shown(name)));
    }
    let known = Known::of(name.as_bytes());
    let frames = known.is_hop_by_hop() || matches!(known, Known::Trailer | Known::Expect);
    if frames {
        return Err(BadEdit::Forbidden(shown(name)));
    }
    Ok(())
}

/// RFC 9110 section 5.5: visible characters, spaces, tabs and the bytes above ASCII.
fn check_value(name: &str, value: &[u8]) -> Result<(), BadEdit> {
    if value.iter().all(|&byte| h1::is_text_byte(byte)) { Ok(()) } else { Err(BadEdit::Value(shown(name))) }
}

fn is_path(path: &[u8]) -> bool {
    path.first() == Some(&b'/') && path.iter().all(|&b| b.is_ascii_graphic() && b != b'#')
}

/// Whether a response to either method has its body framed in the same way.
fn frames_alike(before: &str, after: &str) -> bool {
    before == after || !["HEAD", "CONNECT"].iter().any(|special| [before, after].contains(special))
}

fn has_no_body(status: u16) -> bool {
    matches!(status, 204 | 304)
}

/// The beginning of a text, fit for a log line.
fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> RequestHead {
        let mut head = RequestHead::default();
        head.set_method("GET");
        head.set_path_and_query("/a");
        head.set_authority("a.test");
        head.fields.append(b"Host", b"a.test");
        head.fields.append(b"X-Old", b"1");
        head
    }

    fn set(name: &str, value: &[u8]) -> FieldEdit {
        FieldEdit::Set(name.into(), value.to_vec())
    }

    #[test]
    fn edits_are_applied_in_order() {
        let mut head = request();

        let edits = [
            set("x-a", b"1"),
            FieldEdit::Append("x-a".into(), b"2".to_vec()),
            FieldEdit::Remove("X-OLD".into()),
            set("x-old", b"new"),
        ];
        rewrite_request(&mut head, &[], &edits).expect("allowed");

        let left: Vec<_> = head.fields.iter().map(|f| (f.name, f.value)).collect();
        assert_eq!(left, [(&b"Host"[..], &b"a.test"[..]), (b"x-a", b"1"), (b"x-a", b"2"), (b"x-old", b"new")]);
    }

    #[test]
    fn one_bad_edit_keeps_all_of_them_from_being_applied() {
        let mut head = request();

        let target = [TargetEdit::PathAndQuery("/b".into())];
        let answer = rewrite_request(&mut head, &target, &[set("x-a", b"1"), set("connection", b"close")]);

        assert_eq!(answer, Err(BadEdit::Forbidden("connection".into())));
        assert_eq!((head.path_and_query(), head.fields.len()), ("/a", 2));
    }

    #[test]
    fn names_that_frame_or_cannot_be_are_refused() {
        for name in ["", "a b", "a:", "é", "x\r\ny"] {
            assert!(matches!(set(name, b"").check(), Err(BadEdit::Name(_))), "{name:?}");
        }
        for name in [
            "Connection",
            "content-length",
            "TE",
            "Trailer",
            "transfer-encoding",
            "upgrade",
            "expect",
            "HTTP2-Settings",
        ] {
            for edit in [set(name, b""), FieldEdit::Append(name.into(), vec![]), FieldEdit::Remove(name.into())] {
                assert!(matches!(edit.check(), Err(BadEdit::Forbidden(_))), "{name}");
            }
        }
    }

    #[test]
    fn values_may_have_tabs_and_high_bytes_but_no_controls() {
        assert_eq!(set("a", b"one\ttwo \xff\x80").check(), Ok(()));
        for value in [&b"\r\n"[..], b"a\nb", b"\0", b"\x7f", b"\x1b"] {
            assert!(matches!(set("a", value).check(), Err(BadEdit::Value(_))), "{value:?}");
        }
    }

    #[test]
    fn lists_have_a_limit_of_number_and_of_bytes() {
        let (mut head, many) = (request(), vec![set("a", b""); MAX_EDITS + 1]);

        assert_eq!(rewrite_request(&mut head, &[], &many), Err(BadEdit::TooMany(1001)));
        assert_eq!(rewrite_request(&mut head, &[], &many[..MAX_EDITS]), Ok(()));
        assert_eq!(rewrite_request(&mut head, &[], &[set("a", &vec![b'x'; MAX_EDIT_BYTES])]), Err(BadEdit::TooLong));
        assert_eq!(rewrite_request(&mut head, &[], &[set("a", &vec![b'x'; MAX_EDIT_BYTES - 1])]), Ok(()));
    }

    #[test]
    fn authority_and_host_change_together() {
        let mut head = request();
        rewrite_request(&mut head, &[TargetEdit::Authority("b.test:81".into())], &[]).expect("allowed");
        assert_eq!((head.authority(), head.fields.get(b"host")), ("b.test:81", Some(&b"b.test:81"[..])));

        rewrite_request(&mut head, &[], &[set("HOST", b"c.test")]).expect("allowed");
        assert_eq!((head.authority(), head.fields.get(b"host")), ("c.test", Some(&b"c.test"[..])));

        for edit in [
            set("host", b"a b"),
            set("host", b""),
            FieldEdit::Remove("host".into()),
            FieldEdit::Append("Host".into(), b"d.test".to_vec()),
        ] {
            assert_eq!(rewrite_request(&mut head, &[], &[edit]), Err(BadEdit::Host));
        }
    }

    #[test]
    fn a_target_is_checked_by_its_syntax() {
        let allowed = |edit: TargetEdit| rewrite_request(&mut request(), &[edit], &[]).is_ok();

        for (path, ok) in [
            ("/", true),
            ("/a?b=%20", true),
            ("", false),
            ("a", false),
            ("*", false),
            ("/a b", false),
            ("/a#b", false),
            ("/\n", false),
            ("/é", false),
        ] {
            assert_eq!(allowed(TargetEdit::PathAndQuery(path.into())), ok, "{path:?}");
        }
        for (authority, ok) in [
            ("a", true),
            ("a:80", true),
            ("[::1]:80", true),
            ("[::1]", true),
            ("", false),
            (":80", false),
            ("a:", true),
            ("a:65536", false),
            ("u@a", false),
            ("a/b", false),
            ("[::1", false),
            ("::1", false),
            ("[x]", false),
        ] {
            assert_eq!(allowed(TargetEdit::Authority(authority.into())), ok, "{authority:?}");
        }
        for (method, ok) in [
            ("POST", true),
            ("PURGE", true),
            ("A-METHOD-THAT-IS-MUCH-TOO-LONG-FOR-ANYBODY", false),
            ("GET", true),
            ("HEAD", false),
            ("CONNECT", false),
            ("", false),
            ("A B", false),
        ] {
            assert_eq!(allowed(TargetEdit::Method(method.into())), ok, "{method:?}");
        }
    }

    #[test]
    fn a_status_may_change_only_while_the_body_stays() {
        for (before, after, ok) in [
            (200, 404, true),
            (200, 204, false),
            (204, 200, false),
            (304, 204, true),
            (304, 304, true),
            (200, 101, false),
            (200, 600, false),
            (101, 200, false),
        ] {
            let mut head = ResponseHead::default();
            head.status = before;
            assert_eq!(rewrite_response(&mut head, Some(after), &[]).is_ok(), ok, "{before} to {after}");
            assert_eq!(head.status, if ok { after } else { before });
        }
    }

    #[test]
    fn a_response_made_here_is_checked_whole() {
        let good = LocalResponse { status: 403, fields: vec![("x-why".into(), b"no".to_vec())], body: "no".into() };
        assert_eq!(check_response(&good), Ok(()));

        let bad = [
            (LocalResponse { status: 199, ..good.clone() }, BadEdit::Status(199)),
            (LocalResponse { status: 204, ..good.clone() }, BadEdit::Body),
            (LocalResponse { body: vec![0; MAX_LOCAL_BODY + 1].into(), ..good.clone() }, BadEdit::LongBody),
            (
                LocalResponse { fields: vec![("content-length".into(), b"2".to_vec())], ..good.clone() },
                BadEdit::Forbidden("content-length".into()),
            ),
            (LocalResponse { fields: vec![("a".into(), b"\n".to_vec())], ..good }, BadEdit::Value("a".into())),
        ];
        for (response, why) in bad {
            assert_eq!(check_response(&response), Err(why));
        }
    }
}
