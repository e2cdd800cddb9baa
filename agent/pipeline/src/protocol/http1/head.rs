//! Header blocks: where they end and what they say. RFC 9112, 2 to 6.
//!
//! In: bytes from the first one of a message. Out: the request's fields, and how its body is framed. Lenient where
//! real servers are (bare line feeds, lines without a colon, folded lines), strict where two readings are possible
//! (two lengths that differ, a version that is not HTTP/1).

use crate::http_request::Version;
use crate::protocol::http1::body::{Chunk, Framing};
use crate::redact::QueryRedaction;
use crate::request::Request;

/// Longest method.
const METHOD_MAX: usize = 32;

/// What the parser needs of a request beside its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestHead {
    pub(super) framing: Framing,
    /// CONNECT, or an `Upgrade` header.
    pub(super) may_switch: bool,
    /// It asks to go on as HTTP/2.
    pub(super) to_http2: bool,
    pub(super) expects_continue: bool,
    pub(super) is_head: bool,
    pub(super) is_connect: bool,
}

/// What the parser needs of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ResponseHead {
    pub(super) status_code: u16,
    /// By the headers alone: what the request's method and the status say comes on top.
    pub(super) framing: Framing,
}

/// How much of a request line there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// This cannot be one.
    No,
    /// It may become one.
    Partial,
    /// It may become one, and looks like nothing else: a well-known method and a path.
    Likely,
    /// It is one, with its line end.
    Whole,
}

/// Length of the header block that `bytes` begin with, its empty line included, looking from `from` on.
#[inline]
pub(super) fn find_end(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(line_feed) = memchr::memchr(b'\n', &bytes[at..]) {
        at += line_feed + 1;
        match bytes[at..] {
            [b'\n', ..] => return Some(at + 1),
            [b'\r', b'\n', ..] => return Some(at + 2),
            _ => {}
        }
    }
    None
}

/// Whether bytes begin with a request line.
pub(super) fn request_line(bytes: &[u8]) -> Line {
    let bytes = &bytes[line_ends(bytes)..];
    let Some(method_len) = bytes.iter().take(METHOD_MAX + 1).position(|&byte| !is_token(byte)) else {
        return if bytes.len() <= METHOD_MAX { Line::Partial } else { Line::No };
    };
    if method_len == 0 || bytes[method_len] != b' ' {
        return Line::No;
    }
    let (method, rest) = (&bytes[..method_len], &bytes[method_len + 1..]);
    let Some(target_len) = rest.iter().position(|&byte| !is_target(byte)) else {
        return if rest.first() == Some(&b'/') && is_known(method) { Line::Likely } else { Line::Partial };
    };
    if target_len == 0 || rest[target_len] != b' ' {
        return Line::No;
    }
    let version = &rest[target_len + 1..];
    for (at, &byte) in version.iter().enumerate() {
        match at {
            0..=6 if byte != b"HTTP/1."[at] => return Line::No,
            7 if !byte.is_ascii_digit() => return Line::No,
            8 if byte == b'\n' => return Line::Whole,
            8 if byte != b'\r' => return Line::No,
            9 => return if byte == b'\n' { Line::Whole } else { Line::No },
            _ => {}
        }
    }
    if is_known(method) { Line::Likely } else { Line::Partial }
}

/// Whether bytes begin with a status line: `None` if there are too few to tell.
pub(super) fn status_line(bytes: &[u8]) -> Option<bool> {
    for (at, &byte) in bytes[line_ends(bytes)..].iter().take(12).enumerate() {
        let fits = match at {
            0..=6 => byte == b"HTTP/1."[at],
            7 => byte.is_ascii_digit(),
            8 => byte == b' ',
            9 => (b'1'..=b'9').contains(&byte),
            _ => byte.is_ascii_digit(),
        };
        if !fits {
            return Some(false);
        }
    }
    (bytes.len() - line_ends(bytes) >= 12).then_some(true)
}

/// Number of line ends before a message: RFC 9112, 2.2 lets a reader skip them.
#[inline]
pub(super) fn line_ends(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|&&byte| matches!(byte, b'\r' | b'\n')).count()
}

/// Result of reading a header block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parsed<T> {
    /// It is whole, and so long.
    Whole(T, usize),
    /// Its end is not here; what it says so far.
    Part(T),
    /// It is not one.
    Invalid,
}

/// Fills a request from the header block that `bytes` begin with.
#[inline]
pub(super) fn parse_request(bytes: &[u8], request: &mut Request) -> Parsed<RequestHead> {
    let mut lines = Lines { rest: &bytes[line_ends(bytes)..], ended: false };
    match parse_request_lines(&mut lines, request) {
        None => Parsed::Invalid,
        Some(head) if lines.ended => Parsed::Whole(head, bytes.len() - lines.rest.len()),
        Some(head) => Parsed::Part(head),
    }
}

/// Reads the response's header block that `bytes` begin with.
#[inline]
pub(super) fn parse_response(bytes: &[u8]) -> Parsed<ResponseHead> {
    let mut lines = Lines { rest: &bytes[line_ends(bytes)..], ended: false };
    match parse_response_lines(&mut lines) {
        None => Parsed::Invalid,
        Some(head) if lines.ended => Parsed::Whole(head, bytes.len() - lines.rest.len()),
        Some(head) => Parsed::Part(head),
    }
}

#[inline]
fn parse_request_lines(lines: &mut Lines<'_>, request: &mut Request) -> Option<RequestHead> {
    let line = lines.next()?;
    let method_len = line.iter().take(METHOD_MAX + 1).position(|&byte| byte == b' ')?;
    let (method, rest) = (&line[..method_len], &line[method_len + 1..]);
    let target_len = memchr::memchr(b' ', rest)?;
    let (target, version) = (&rest[..target_len], &rest[target_len + 1..]);
    if method.is_empty() || target.is_empty() || !method.iter().all(|&byte| is_token(byte)) {
        return None;
    }
    // As `request_line` has it, however the line was cut.
    if !target.iter().all(|&byte| is_target(byte)) {
        return None;
    }
    let http = request.http_mut();
    http.version = parse_version(version)?;
    http.set_method(method);
    http.set_target(target, QueryRedaction::default());

    let mut headers = Headers::default();
    let is_connect = method == b"CONNECT";
    let mut head = RequestHead {
        framing: Framing::Length(0),
        may_switch: is_connect,
        to_http2: false,
        expects_continue: false,
        is_head: method == b"HEAD",
        is_connect,
    };
    while let Some(line) = lines.next() {
        let Some((name, value)) = split_header(line) else { continue };
        match (line[0] | 0x20, name.len()) {
            (b'c' | b't', 14 | 17) if headers.observe(name, value) => {}
            (b'u', 7) if name.eq_ignore_ascii_case(b"upgrade") => {
                head.may_switch = true;
                head.to_http2 |= value.eq_ignore_ascii_case(b"h2c");
            }
            (b'e', 6) if name.eq_ignore_ascii_case(b"expect") => {
                head.expects_continue = value.eq_ignore_ascii_case(b"100-continue");
            }
            (b'c' | b'e', _) => {}
            _ => request.observe_header(name, value),
        }
    }
    head.framing = headers.framing(Framing::Length(0))?;
    if head.is_connect {
        head.framing = Framing::Length(0);
    }
    Some(head)
}

#[inline]
fn parse_response_lines(lines: &mut Lines<'_>) -> Option<ResponseHead> {
    let line = lines.next()?;
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0'..=b'9', b' ', digits @ ..] = line else {
        return None;
    };
    let [a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] = digits else { return None };
    let digit = |byte: &u8| u16::from(byte - b'0');
    let status_code = 100 * digit(a) + 10 * digit(b) + digit(c);
    let mut headers = Headers::default();
    while let Some(line) = lines.next() {
        if let b'c' | b't' = line[0] | 0x20
            && let Some((name, value)) = split_header(line)
        {
            headers.observe(name, value);
        }
    }
    Some(ResponseHead {
        status_code,
        framing: headers.framing(Framing::UntilClose).unwrap_or(Framing::UntilClose),
    })
}

/// The headers that say where a body ends.
#[derive(Clone, Copy, Debug, Default)]
struct Headers {
    length: Option<u64>,
    contradictory: bool,
    /// Some: there is a transfer coding; true: the last one is `chunked`.
    chunked: Option<bool>,
}

impl Headers {
    #[inline]
    fn observe(&mut self, name: &[u8], value: &[u8]) -> bool {
        if name.len() == 14 && name.eq_ignore_ascii_case(b"content-length") {
            for item in value.split(|&byte| byte == b',') {
                let length = parse_length(item.trim_ascii());
                self.contradictory |=
                    length.is_none() || self.length.is_some_and(|known| Some(known) != length);
                self.length = length;
            }
            true
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value.rsplit(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
            self.chunked = Some(last.eq_ignore_ascii_case(b"chunked"));
            true
        } else {
            false
        }
    }

    /// `None` if it cannot be known; RFC 9112, 6.3.
    fn framing(self, without: Framing) -> Option<Framing> {
        match (self.chunked, self.length) {
            (Some(true), _) => Some(Framing::Chunked(Chunk::Size(0, 0))),
            (Some(false), _) => Some(Framing::UntilClose),
            (None, _) if self.contradictory => None,
            (None, Some(length)) => Some(Framing::Length(length)),
            (None, None) => Some(without),
        }
    }
}

/// Lines of a header block, one after the other, without their ends; never empty.
struct Lines<'a> {
    rest: &'a [u8],
    /// The empty line was seen.
    ended: bool,
}

impl<'a> Lines<'a> {
    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        let mut len = memchr::memchr(b'\n', start)?;
        let mut rest = &start[len + 1..];
        if matches!(start[..len], [] | [b'\r']) {
            self.rest = rest;
            self.ended = true;
            return None;
        }
        // A folded line goes on in the next one. What lies between is white space to whoever trims or splits the
        // value; names that matter are not looked for there.
        while let [b' ' | b'\t', ..] = rest {
            let more = memchr::memchr(b'\n', rest)?;
            len += 1 + more;
            rest = &rest[more + 1..];
        }
        self.rest = rest;
        let line = &start[..len];
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// Name and value of a header line, if its name is as long as one that matters and begins with the same letter:
/// that spares a search for the colon.
#[inline]
fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let lengths: &[usize] = match line[0] | 0x20 {
        b'b' => &[2],                      // b3
        b'c' => &[14],                     // content-length
        b'e' => &[6],                      // expect
        b'f' => &[9],                      // forwarded
        b'h' => &[4],                      // host
        b't' => &[10, 11, 17],             // tracestate, traceparent, transfer-encoding
        b'u' => &[7, 10, 13],              // upgrade, user-agent, uber-trace-id
        b'x' => &[10, 11, 12, 15, 16, 17], // x-b3-…, x-forwarded-…
        _ => return None,
    };
    // Ascending: a colon inside a value must not hide the one behind the name.
    let colon = lengths.iter().copied().find(|&len| line.get(len) == Some(&b':'))?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

fn parse_version(version: &[u8]) -> Option<Version> {
    match version.strip_prefix(b"HTTP/1.") {
        Some(b"0") => Some(Version::Http10),
        Some([b'1'..=b'9']) => Some(Version::Http11),
        _ => None,
    }
}

fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |length, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        length.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

fn is_known(method: &[u8]) -> bool {
    const KNOWN: [&[u8]; 9] =
        [b"GET", b"POST", b"PUT", b"HEAD", b"DELETE", b"PATCH", b"OPTIONS", b"CONNECT", b"TRACE"];
    KNOWN.contains(&method)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_target(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(bytes: &str, expected: Line) {
        assert_eq!(request_line(bytes.as_bytes()), expected, "{bytes:?}");
    }

    #[test]
    fn request_lines_are_told_from_other_protocols() {
        check_line("G", Line::Partial);
        check_line("GET", Line::Partial);
        check_line("GET /", Line::Likely);
        check_line("GET /a HTTP/1.1\r", Line::Likely);
        check_line("GET /a HTTP/1.1\r\n", Line::Whole);
        check_line("\r\nGET /a HTTP/1.0\n", Line::Whole);
        check_line("PROPFIND /a HT", Line::Partial);
        check_line("* 1 2", Line::No);
        check_line("GET foo\r\n", Line::No); // Redis, inline
        check_line("*1\r\n", Line::No); // Redis
        check_line("SSH-2.0-OpenSSH_9.2p1 Debian\r\n", Line::No);
        check_line("PRI * HTTP/2.0\r\n", Line::No);
        check_line("EHLO host\r\n", Line::No);
        check_line("\u{16}\u{3}\u{1}", Line::No);
        check_line("GET /a HTTP/1.1x", Line::No);
        check_line("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJKL", Line::No);
    }

    #[test]
    fn a_target_with_control_bytes_is_refused_whole_as_it_is_in_pieces() {
        for head in ["TRACE /a\u{0} HTTP/1.0\n\n", "POST /1.0\r* HTTP/1.0\r\n\r\n"] {
            check_line(head, Line::No);
            assert_eq!(parse_request(head.as_bytes(), &mut Request::default()), Parsed::Invalid, "{head:?}");
        }
    }

    fn check_framing(headers: &str, expected: Option<Framing>) {
        let head = format!("POST / HTTP/1.1\r\n{headers}\r\n\r\n");
        let mut request = Request::default();
        let framing = match parse_request(head.as_bytes(), &mut request) {
            Parsed::Whole(parsed, len) if len == head.len() => Some(parsed.framing),
            _ => None,
        };
        assert_eq!(framing, expected, "{headers:?}");
    }

    #[test]
    fn framing_follows_the_headers() {
        check_framing("Host: a", Some(Framing::Length(0)));
        check_framing("Content-Length: 12", Some(Framing::Length(12)));
        check_framing("content-length:12\r\nContent-Length: 12 , 12", Some(Framing::Length(12)));
        check_framing("Content-Length: 12\r\nContent-Length: 13", None);
        check_framing("Content-Length: -1", None);
        check_framing("Content-Length: 99999999999999999999", None);
        check_framing("Content-Length:\r\n 7", Some(Framing::Length(7)));
        check_framing(
            "Content-Length: 12\r\nTransfer-Encoding: gzip, Chunked",
            Some(Framing::Chunked(Chunk::Size(0, 0))),
        );
    }

    #[test]
    fn header_blocks_end_at_the_empty_line() {
        assert_eq!(find_end(b"a\r\nb\r\n\r\nc", 0), Some(8));
        assert_eq!(find_end(b"a\nb\n\nc", 0), Some(5));
        assert_eq!(find_end(b"a\r\nb\r\n\r", 0), None);
        assert_eq!(find_end(b"a\r\nb\r\n\r\nc", 5), Some(8));
    }
}
