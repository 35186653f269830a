//! The heads of messages, the same for every version of HTTP.
//!
//! A head is one buffer of bytes and spans into it. Parsing copies a head in once; whoever changes a field
//! appends its new bytes to the same buffer; whoever sends it walks the spans. A head that is used again for the
//! next message keeps its memory.

use std::fmt;

/// A version of HTTP a message was received with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    Http10,
    #[default]
    Http11,
    Http2,
    Http3,
}

/// A part of a head's buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// From `start` up to `end`, of less than 4 GiB.
    pub(in crate::http) fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// Where `part` stands in `whole`, which it must be a slice of.
    pub(in crate::http) fn locate(whole: &[u8], part: &[u8]) -> Self {
        let start = (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize);
        debug_assert!(start + part.len() <= whole.len());
        Self::new(start, start + part.len())
    }

    fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// A field that the proxy itself reads, drops or writes, recognised once when it is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    Connection,
    ContentLength,
    ContentType,
    Date,
    Expect,
    Forwarded,
    Host,
    Http2Settings,
    KeepAlive,
    ProxyAuthenticate,
    ProxyAuthorization,
    ProxyConnection,
    RetryAfter,
    Te,
    Trailer,
    TransferEncoding,
    Upgrade,
    XForwardedFor,
    XForwardedHost,
    XForwardedProto,
    Other,
}

impl Known {
    /// Recognises a name in any case.
    pub fn of(name: &[u8]) -> Self {
        match (name.len(), name.first().map_or(0, u8::to_ascii_lowercase)) {
            (2, b't') if is(name, b"te") => Self::Te,
            (4, b'd') if is(name, b"date") => Self::Date,
            (4, b'h') if is(name, b"host") => Self::Host,
            (6, b'e') if is(name, b"expect") => Self::Expect,
            (7, b't') if is(name, b"trailer") => Self::Trailer,
            (7, b'u') if is(name, b"upgrade") => Self::Upgrade,
            (9, b'f') if is(name, b"forwarded") => Self::Forwarded,
            (10, b'c') if is(name, b"connection") => Self::Connection,
            (10, b'k') if is(name, b"keep-alive") => Self::KeepAlive,
            (11, b'r') if is(name, b"retry-after") => Self::RetryAfter,
            (12, b'c') if is(name, b"content-type") => Self::ContentType,
            (14, b'c') if is(name, b"content-length") => Self::ContentLength,
            (14, b'h') if is(name, b"http2-settings") => Self::Http2Settings,
            (15, b'x') if is(name, b"x-forwarded-for") => Self::XForwardedFor,
            (16, b'p') if is(name, b"proxy-connection") => Self::ProxyConnection,
            (16, b'x') if is(name, b"x-forwarded-host") => Self::XForwardedHost,
            (17, b't') if is(name, b"transfer-encoding") => Self::TransferEncoding,
            (17, b'x') if is(name, b"x-forwarded-proto") => Self::XForwardedProto,
            (18, b'p') if is(name, b"proxy-authenticate") => Self::ProxyAuthenticate,
            (19, b'p') if is(name, b"proxy-authorization") => Self::ProxyAuthorization,
            _ => Self::Other,
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// Whether the field concerns one connection only and is never forwarded (RFC 9110 section 7.6.1), or frames
    /// the message, which each side does for itself.
    pub fn is_hop_by_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::ContentLength
                | Self::Http2Settings
                | Self::KeepAlive
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::ProxyConnection
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }
}

/// Whether a name is this one, which has letters in lower case, digits and hyphens only, in any case. Every name of every
/// message is looked at, so up to eight bytes at a time.
#[inline(always)]
fn is<const N: usize>(name: &[u8], spelled: &[u8; N]) -> bool {
    let Ok(name) = <&[u8; N]>::try_from(name) else { return false };
    match N {
        0..4 => is_part::<2>(name, spelled, 0) && is_part::<2>(name, spelled, N - 2),
        4..8 => is_part::<4>(name, spelled, 0) && is_part::<4>(name, spelled, N - 4),
        // Of the last eight, some have been looked at already.
        _ => (0..N / 8).all(|eight| is_part::<8>(name, spelled, 8 * eight)) && is_part::<8>(name, spelled, N - 8),
    }
}

/// The same of `W` bytes.
#[inline(always)]
fn is_part<const W: usize>(name: &[u8], spelled: &[u8], at: usize) -> bool {
    let (Some(name), Some(spelled)) = (word::<W>(name, at), word::<W>(spelled, at)) else { return false };
    // The bit that makes capitals small, for each byte that is a letter.
    let case = (spelled & 0x4040_4040_4040_4040) >> 1;
    name | case == spelled
}

#[inline(always)]
fn word<const W: usize>(bytes: &[u8], at: usize) -> Option<u64> {
    let mut word = [0; 8];
    *word.first_chunk_mut::<W>()? = *bytes.get(at..)?.first_chunk::<W>()?;
    Some(u64::from_le_bytes(word))
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    name: Span,
    value: Span,
    known: Known,
    /// Whether both stand in one line as HTTP/1 writes it: a colon and a space between them, CRLF behind.
    is_line: bool,
}

impl Entry {
    /// Whether it has this name, which is known as `known`.
    fn is(&self, known: Known, name: &[u8], bytes: &[u8]) -> bool {
        self.known == known && (known != Known::Other || self.name.of(bytes).eq_ignore_ascii_case(name))
    }
}

/// One field, borrowed from its head.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// As it was written, in any case.
    pub name: &'a [u8],
    pub value: &'a [u8],
    pub known: Known,
}

/// The fields of a head or a trailer section, in order.
#[derive(Clone, Default)]
pub struct Fields {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    /// A bit for each kind of field that was added since there was none. Most questions are about one that was not.
    kinds: u32,
}

impl Fields {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.entries.clear();
        self.kinds = 0;
    }

    fn push(&mut self, entry: Entry) {
        self.kinds |= entry.known.bit();
        self.entries.push(entry);
    }

    /// Whether there may be a field of this kind.
    fn may_have(&self, known: Known) -> bool {
        self.kinds & known.bit() != 0
    }

    /// The entries among which those of this kind are: all, or none.
    fn among(&self, known: Known) -> &[Entry] {
        if self.may_have(known) { &self.entries } else { &[] }
    }

    /// Adds a field after all others.
    pub fn append(&mut self, name: &[u8], value: &[u8]) {
        self.append_written(name, |out| out.extend_from_slice(value));
    }

    /// The same with the value that `write` adds to what it is given.
    pub(in crate::http) fn append_written(&mut self, name: &[u8], write: impl FnOnce(&mut Vec<u8>)) {
        let known = Known::of(name);
        let name = self.store(name);
        self.bytes.extend_from_slice(b": ");
        let start = self.bytes.len() as u32;
        write(&mut self.bytes);
        let value = Span { start, end: self.bytes.len() as u32 };
        self.bytes.extend_from_slice(b"\r\n");
        self.push(Entry { name, value, known, is_line: true });
    }

    /// Takes in the bytes of a whole head, for which [`Span::locate`] then tells where its parts stand. The caller
    /// has made sure that there are fewer than 4 GiB of them.
    pub(in crate::http) fn load(&mut self, bytes: &[u8]) {
        self.clear();
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds a field whose bytes were loaded. `is_line`: with a colon and a space between them, and CRLF behind.
    pub(in crate::http) fn append_loaded(&mut self, name: Span, value: Span, known: Known, is_line: bool) {
        self.push(Entry { name, value, known, is_line });
    }

    /// Writes the fields of the kinds that `keep` wants, a line for each. Those that stand behind each other as they came
    /// are copied in one go.
    pub(in crate::http) fn write_lines(&self, out: &mut Vec<u8>, keep: impl Fn(Known) -> bool) {
        let mut run = Span::default();
        for entry in self.entries.iter().filter(|entry| keep(entry.known)) {
            let line = Span { start: entry.name.start, end: entry.value.end + 2 };
            match (entry.is_line, line.start == run.end) {
                (true, true) => run.end = line.end,
                (true, false) => out.extend_from_slice(std::mem::replace(&mut run, line).of(&self.bytes)),
                (false, _) => {
                    out.extend_from_slice(std::mem::take(&mut run).of(&self.bytes));
                    for part in [entry.name.of(&self.bytes), b": ", entry.value.of(&self.bytes), b"\r\n"] {
                        out.extend_from_slice(part);
                    }
                }
            }
        }
        out.extend_from_slice(run.of(&self.bytes));
    }

    /// Gives a known field a value whose bytes were loaded: its first entry, or a new one after all others.
    pub(in crate::http) fn set_loaded(&mut self, known: Known, name: &[u8], value: Span) {
        match self.entries.iter_mut().find(|e| e.known == known) {
            Some(entry) => (entry.value, entry.is_line) = (value, false),
            None => {
                let name = self.store(name);
                self.push(Entry { name, value, known, is_line: false });
            }
        }
    }

    /// Where the first value of a known field stands.
    pub(in crate::http) fn span(&self, known: Known) -> Option<Span> {
        self.among(known).iter().find(|e| e.known == known).map(|e| e.value)
    }

    /// Bytes a head with these fields takes about when it is written.
    pub(in crate::http) fn size_hint(&self) -> usize {
        self.bytes.len()
    }

    /// Replaces every value of a field with one, in the place of the first.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let known = Known::of(name);
        let Some(first) = self.among(known).iter().position(|e| e.is(known, name, &self.bytes)) else {
            return self.append(name, value);
        };
        let value = self.store(value);
        let entry = &mut self.entries[first];
        (entry.value, entry.is_line) = (value, false);
        let mut position = 0;
        let bytes = &self.bytes;
        self.entries.retain(|e| {
            position += 1;
            position <= first + 1 || !e.is(known, name, bytes)
        });
    }

    pub fn remove(&mut self, name: &[u8]) {
        let (known, bytes) = (Known::of(name), &self.bytes);
        if self.may_have(known) {
            self.entries.retain(|e| !e.is(known, name, bytes));
        }
    }

    pub fn retain(&mut self, mut keep: impl FnMut(Field<'_>) -> bool) {
        let bytes = &self.bytes;
        self.entries.retain(|e| keep(Field { name: e.name.of(bytes), value: e.value.of(bytes), known: e.known }));
    }

    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> + Clone {
        self.entries.iter().map(|e| Field {
            name: e.name.of(&self.bytes),
            value: e.value.of(&self.bytes),
            known: e.known,
        })
    }

    /// The first value of a field, named in any case.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        let (known, bytes) = (Known::of(name), &self.bytes);
        self.among(known).iter().find(|e| e.is(known, name, bytes)).map(|e| e.value.of(bytes))
    }

    pub fn get_all<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let (known, bytes) = (Known::of(name), &self.bytes);
        self.among(known).iter().filter(move |e| e.is(known, name, bytes)).map(|e| e.value.of(bytes))
    }

    /// The first value of a known field.
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        self.all_known(known).next()
    }

    pub fn all_known(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.among(known).iter().filter(move |e| e.known == known).map(|e| e.value.of(&self.bytes))
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether any value of a known field lists `token`, in any case (RFC 9110 section 5.6.1).
    pub fn lists(&self, known: Known, token: &[u8]) -> bool {
        self.all_known(known).any(|value| tokens(value).any(|t| t.eq_ignore_ascii_case(token)))
    }

    fn store(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, end: self.bytes.len() as u32 }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .map(|field| (field.name.escape_ascii().to_string(), field.value.escape_ascii().to_string())),
            )
            .finish()
    }
}

/// The elements of a comma-separated list, without the white space around them and without empty ones.
pub fn tokens(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|t| !t.is_empty())
}

/// The head of a request. The target is kept in parts: an origin-form path with its query (or `*`), and an
/// authority, taken from an absolute target or from `host`.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    pub fields: Fields,
    pub version: Version,
    method: Span,
    path_and_query: Span,
    authority: Span,
    received: Received,
}

/// Parts of a head as they came, before anybody changed them.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    method: Span,
    path_and_query: Span,
}

impl RequestHead {
    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.version = Version::default();
        (self.method, self.path_and_query, self.authority) = (Span::default(), Span::default(), Span::default());
        self.received = Received::default();
    }

    /// Whether this is the method, without looking at more of it than that takes.
    pub fn has_method(&self, method: &str) -> bool {
        self.method_bytes() == method.as_bytes()
    }

    pub(in crate::http) fn method_bytes(&self) -> &[u8] {
        self.method.of(&self.fields.bytes)
    }

    pub(in crate::http) fn target_bytes(&self) -> &[u8] {
        self.path_and_query.of(&self.fields.bytes)
    }

    pub(in crate::http) fn authority_bytes(&self) -> &[u8] {
        self.authority.of(&self.fields.bytes)
    }

    pub fn method(&self) -> &str {
        self.text(self.method)
    }

    /// Remembers method and target as they are now, for the access log.
    pub fn mark_received(&mut self) {
        self.received = Received { method: self.method, path_and_query: self.path_and_query };
    }

    /// The method as it came.
    pub fn received_method(&self) -> &str {
        self.text(self.received.method)
    }

    /// The path with its query as it came.
    pub fn received_path_and_query(&self) -> &str {
        self.text(self.received.path_and_query)
    }

    /// The path with its query, or `*`.
    pub fn path_and_query(&self) -> &str {
        self.text(self.path_and_query)
    }

    pub fn path(&self) -> &str {
        let target = self.path_and_query();
        target.split_once('?').map_or(target, |(path, _)| path)
    }

    /// Without the question mark.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query().split_once('?').map(|(_, query)| query)
    }

    /// The host with its port as the client wrote it; empty for an HTTP/1.0 request that names none.
    pub fn authority(&self) -> &str {
        self.text(self.authority)
    }

    /// The authority without its port, still in the client's case.
    pub fn host(&self) -> &str {
        let authority = self.authority();
        match authority.rfind(':') {
            Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
            _ => authority,
        }
    }

    pub fn set_method(&mut self, method: &str) {
        self.method = self.fields.store(method.as_bytes());
    }

    pub fn set_path_and_query(&mut self, target: &str) {
        self.path_and_query = self.fields.store(target.as_bytes());
    }

    /// Sets the authority; the `host` field is left alone.
    pub fn set_authority(&mut self, authority: &str) {
        self.authority = self.fields.store(authority.as_bytes());
    }

    /// Gives a known field the authority for its only value, behind all other fields.
    pub(in crate::http) fn append_authority(&mut self, known: Known, name: &[u8]) {
        if self.fields.may_have(known) {
            self.fields.entries.retain(|e| e.known != known);
        }
        let Span { start, end } = self.authority;
        self.fields.append_written(name, |out| out.extend_from_within(start as usize..end as usize));
    }

    /// Says where the method stands in the loaded bytes. It is ASCII, as are the other two.
    pub(in crate::http) fn place_method(&mut self, method: Span) {
        self.method = method;
    }

    /// Says where the target's path and query stand in the loaded bytes.
    pub(in crate::http) fn place_path_and_query(&mut self, target: Span) {
        self.path_and_query = target;
    }

    /// Says where the authority stands in the loaded bytes.
    pub(in crate::http) fn place_authority(&mut self, authority: Span) {
        self.authority = authority;
    }

    fn text(&self, span: Span) -> &str {
        // What is stored came in as `&str`.
        std::str::from_utf8(span.of(&self.fields.bytes)).unwrap_or_default()
    }
}

/// The head of a response.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    pub fields: Fields,
    pub version: Version,
    pub status: u16,
    reason: Span,
}

impl ResponseHead {
    /// Forgets everything but the memory.
    pub fn clear(&mut self) {
        self.fields.clear();
        self.version = Version::default();
        self.status = 0;
        self.reason = Span::default();
    }

    /// The reason phrase as received, perhaps empty.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.fields.bytes)
    }

    pub fn set_reason(&mut self, reason: &[u8]) {
        self.reason = self.fields.store(reason);
    }

    /// Says where the reason phrase stands in the loaded bytes.
    pub(in crate::http) fn place_reason(&mut self, reason: Span) {
        self.reason = reason;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of fields, each written by itself.
    fn one_by_one(fields: &Fields, keep: impl Fn(Known) -> bool) -> Vec<u8> {
        let kept = fields.iter().filter(|field| keep(field.known));
        kept.flat_map(|field| [field.name, b": ", field.value, b"\r\n"].concat()).collect()
    }

    proptest! {
        #[test]
        fn lines_are_the_same_whether_copied_together_or_one_by_one(
            steps in prop::collection::vec((0usize..5, 0usize..4, 0u8..4), 0..30)
        ) {
            const NAMES: [&[u8]; 5] = [b"host", b"Content-Length", b"x-a", b"X-B", b"te"];
            const RECEIVED: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nx-a:b \r\nX-B: c\r\n\r\n";
            let mut fields = Fields::default();
            fields.load(RECEIVED);
            for (name, value, is_line) in
                [(16..20, 22..23, true), (25..28, 29..30, false), (33..36, 38..39, true)]
            {
                let span = |at: std::ops::Range<u32>| Span { start: at.start, end: at.end };
                let known = Known::of(&RECEIVED[name.start as usize..name.end as usize]);
                fields.append_loaded(span(name), span(value), known, is_line);
            }
            for (name, length, what) in steps {
                let (name, value) = (NAMES[name], &b"123"[..length]);
                match what {
                    0 => fields.append(name, value),
                    1 => fields.set(name, value),
                    2 => fields.remove(name),
                    _ => fields.append_written(name, |out| out.extend_from_slice(value)),
                }
            }
            for keep in [|_| true, |known: Known| !known.is_hop_by_hop(), |known| known == Known::Other] {
                let mut out = Vec::new();
                fields.write_lines(&mut out, keep);
                prop_assert_eq!(out, one_by_one(&fields, keep));
            }
        }
    }

    #[test]
    fn setting_a_field_replaces_every_value_in_the_place_of_the_first() {
        let mut fields = Fields::default();
        for (name, value) in [("a", "1"), ("B", "2"), ("c", "3"), ("b", "4")] {
            fields.append(name.as_bytes(), value.as_bytes());
        }

        fields.set(b"b", b"new");

        let left: Vec<_> = fields.iter().map(|f| (f.name, f.value)).collect();
        assert_eq!(left, [(&b"a"[..], &b"1"[..]), (b"B", b"new"), (b"c", b"3")]);
    }

    #[test]
    fn every_known_name_is_recognised_in_any_case_and_no_other() {
        for name in ["Transfer-Encoding", "CONTENT-LENGTH", "te", "X-Forwarded-For", "Proxy-Authorization"] {
            assert_ne!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
        for name in ["", "tf", "hosts", "content-lengthy", "x-forwarded-bar", "content\rlength", "CONTENT\rLENGTH"] {
            assert_eq!(Known::of(name.as_bytes()), Known::Other, "{name}");
        }
    }

    #[test]
    fn a_host_is_the_authority_without_its_port() {
        for (authority, host) in
            [("a.b:80", "a.b"), ("a.b", "a.b"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("", "")]
        {
            let mut head = RequestHead::default();
            head.set_authority(authority);
            assert_eq!(head.host(), host, "for {authority}");
        }
    }
}
