//! PostgreSQL's messages: how they are framed, which of their bytes are looked at, and what those say.
//!
//! In: bytes of one message, perhaps cut off. Out: names, texts, codes and counts, borrowed. Authentication, values of
//! parameters, rows and notices are framed and never looked at.

use agent_common::capture::TAIL_LEN;

use crate::protocol::frames::{Layout, Shape};

/// Bytes of a query's text that are looked at.
pub(super) const TEXT_MAX: usize = 16 * 1024;
/// Names of statements and portals are shorter than 64 bytes in the server; two of them, and what stands around.
const NAMES: usize = 520;
/// Longest message: 1 GiB.
const LONGEST: u32 = 1 << 30;
/// Longest first message (MAX_STARTUP_PACKET_LENGTH).
const LONGEST_STARTUP: u32 = 10_000;

/// What a client sends before anything else has a length and no type.
pub(super) struct Startup;
/// What a client sends.
pub(super) struct Client;
/// What a server sends.
pub(super) struct Server;
/// What a server says to a wish for encryption: one byte.
pub(super) struct Consent;

impl Layout for Startup {
    const HEADER_LEN: usize = 4;

    fn shape(&self, header: &[u8]) -> Option<Shape> {
        let len = be32(header)?;
        (8..=LONGEST_STARTUP).contains(&len).then(|| Shape { len: u64::from(len - 4), keep: 1024 })
    }

    fn begins(&self, _bytes: &[u8]) -> bool {
        false
    }
}

impl Layout for Consent {
    const HEADER_LEN: usize = 1;

    fn shape(&self, _header: &[u8]) -> Option<Shape> {
        Some(Shape { len: 0, keep: 0 })
    }

    fn begins(&self, _bytes: &[u8]) -> bool {
        false
    }
}

impl Layout for Client {
    const HEADER_LEN: usize = 5;

    #[inline]
    fn shape(&self, header: &[u8]) -> Option<Shape> {
        let (kind, len) = typed(header)?;
        let keep = match kind {
            b'Q' | b'P' => TEXT_MAX,
            b'B' | b'E' | b'D' | b'C' => NAMES,
            b'd' | b'f' | b'p' | b'F' => 0,
            b'S' | b'H' | b'c' | b'X' if len == 0 => 0,
            _ => return None,
        };
        Some(Shape { len: u64::from(len), keep })
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        is_whole_turn(bytes)
    }
}

impl Layout for Server {
    const HEADER_LEN: usize = 5;

    #[inline]
    fn shape(&self, header: &[u8]) -> Option<Shape> {
        let (kind, len) = typed(header)?;
        let keep = match kind {
            b'D' | b'T' | b'd' | b't' | b'N' | b'A' | b'R' | b'K' | b'V' | b'v' | b'G' | b'H' | b'W' => 0,
            b'C' => 64,
            b'E' => 256,
            b'S' => 128,
            b'Z' if len == 1 => 1,
            b'1' | b'2' | b'3' | b'n' | b's' | b'I' | b'c' if len == 0 => 0,
            _ => return None,
        };
        Some(Shape { len: u64::from(len), keep })
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        let Some((header, _)) = bytes.split_at_checked(Self::HEADER_LEN) else { return false };
        self.shape(header).is_some_and(|shape| header[0] == b'D' || shape.len < 1 << 16)
    }
}

/// What a first message asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening<'a> {
    /// TLS, or GSSAPI encryption.
    Encryption,
    Cancel,
    /// A session: its database, and whether it replicates.
    Session {
        database: &'a [u8],
        replicates: bool,
    },
    Unknown,
}

/// Reads a first message, its length aside.
pub(super) fn opening(payload: &[u8]) -> Opening<'_> {
    match be32(payload) {
        Some(80_877_103 | 80_877_104) if payload.len() == 4 => Opening::Encryption,
        Some(80_877_102) => Opening::Cancel,
        Some(version) if version >> 16 == 3 => {
            let (mut database, mut user, mut replicates) = (&[][..], &[][..], false);
            let mut rest = &payload[4..];
            while let Some((name, after)) = cstring(rest) {
                let Some((value, after)) = cstring(after) else { break };
                match name {
                    b"" => break,
                    b"database" => database = value,
                    b"user" => user = value,
                    b"replication" => {
                        replicates = !matches!(value, b"false" | b"off" | b"no" | b"0");
                    }
                    _ => {}
                }
                rest = after;
            }
            let database = if database.is_empty() { user } else { database };
            Opening::Session { database, replicates }
        }
        _ => Opening::Unknown,
    }
}

/// Text up to its 0, and what follows; a text that is cut off has none.
pub(super) fn cstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// SQLSTATE of an ErrorResponse.
pub(super) fn sqlstate(mut fields: &[u8]) -> &[u8] {
    while let [kind, rest @ ..] = fields {
        let Some((value, after)) = cstring(rest) else { break };
        if *kind == b'C' {
            return value;
        }
        fields = after;
    }
    &[]
}

/// First word and last number of a CommandComplete's tag: `SELECT 5`, `INSERT 0 1`, `CREATE TABLE`.
pub(super) fn tag(payload: &[u8]) -> (&[u8], Option<u64>) {
    let tag = payload.strip_suffix(b"\0").unwrap_or(payload);
    let mut words = tag.split(|&byte| byte == b' ');
    let first = words.next().unwrap_or_default();
    let last = words.next_back().and_then(number);
    (first, last)
}

/// What the end of a call says of an answer whose middle was not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    /// Rows, if the last tag can be read.
    pub(super) rows: Option<u64>,
    /// The last message is an error, whose code was not copied.
    pub(super) failed: bool,
}

/// Reads the end of a call that ends with ReadyForQuery; `previous` is the end of the call before.
pub(super) fn tail(bytes: &[u8], previous: &[u8]) -> Option<Tail> {
    let [before @ .., b'Z', 0, 0, 0, 5, b'I' | b'T' | b'E'] = bytes else { return None };
    // A message may have been cut anywhere, but not more than once.
    let mut joined = [0; 2 * TAIL_LEN as usize];
    let previous = if before.len() < TAIL_LEN as usize { previous } else { &[] };
    let (previous, before) = (end_of(previous), end_of(before));
    joined[..previous.len()].copy_from_slice(previous);
    joined[previous.len()..][..before.len()].copy_from_slice(before);
    let end = &joined[..previous.len() + before.len()];
    // Fields of an error end with an empty one, a tag with its text.
    let failed = end.ends_with(&[0, 0]);
    let digits = end.strip_suffix(b"\0").unwrap_or_default();
    let rows = digits.iter().rposition(|&byte| byte == b' ').and_then(|space| number(&digits[space + 1..]));
    Some(Tail { rows, failed })
}

fn end_of(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(TAIL_LEN as usize)..]
}

/// Whether a session begins with these bytes; `None` if more are needed.
pub(super) fn begins_session(bytes: &[u8]) -> Option<bool> {
    let fits = |at: usize, bytes: &[u8]| bytes.get(at).copied();
    let known = [[0x00, 0x03], [0x04, 0xd2]];
    if fits(0, bytes).is_some_and(|byte| byte != 0) || fits(1, bytes).is_some_and(|byte| byte != 0) {
        return Some(false);
    }
    if let Some(code) = bytes.get(4..bytes.len().min(6))
        && !known.iter().any(|known| known.starts_with(code))
    {
        return Some(false);
    }
    let (Some(len), Some(code)) = (be32(bytes), bytes.get(4..).and_then(be32)) else { return None };
    Some(match code {
        80_877_103 | 80_877_104 => len == 8,
        80_877_102 => (16..=LONGEST_STARTUP).contains(&len),
        // 3.0, 3.2 and whatever comes.
        code => code >> 16 == 3 && code & 0xffff < 16 && (9..=LONGEST_STARTUP).contains(&len),
    })
}

/// Whether bytes are the messages of a client, whole and to the end of a question: the only thing that is believed in
/// the middle of a connection.
pub(super) fn is_whole_turn(mut bytes: &[u8]) -> bool {
    let mut last = 0;
    while !bytes.is_empty() {
        let Some((header, rest)) = bytes.split_at_checked(Client::HEADER_LEN) else { return false };
        let Some(shape) = Client.shape(header) else { return false };
        let Some(payload) = usize::try_from(shape.len).ok().and_then(|len| rest.get(..len)) else {
            return false;
        };
        if !is_plausible(header[0], payload) {
            return false;
        }
        last = header[0];
        bytes = &rest[payload.len()..];
    }
    matches!(last, b'Q' | b'S' | b'H')
}

fn is_plausible(kind: u8, payload: &[u8]) -> bool {
    let names = |payload| cstring(payload).and_then(|(_, rest)| cstring(rest));
    match kind {
        b'Q' => {
            let starts = payload.first().is_some_and(|&byte| {
                byte.is_ascii_alphabetic() || byte.is_ascii_whitespace() || b"(/-;\0".contains(&byte)
            });
            starts && memchr::memchr(0, payload) == Some(payload.len() - 1)
        }
        b'P' => names(payload).is_some_and(|(_, rest)| {
            rest.first_chunk()
                .is_some_and(|&count| rest.len() == 2 + 4 * usize::from(u16::from_be_bytes(count)))
        }),
        b'B' => names(payload).is_some_and(|(_, rest)| rest.len() >= 6),
        b'E' => cstring(payload).is_some_and(|(_, rest)| rest.len() == 4),
        b'D' | b'C' => match payload {
            [b'S' | b'P', rest @ ..] => cstring(rest).is_some_and(|(_, rest)| rest.is_empty()),
            _ => false,
        },
        b'S' | b'H' => true,
        _ => false,
    }
}

/// Type and length of a payload.
#[inline]
fn typed(header: &[u8]) -> Option<(u8, u32)> {
    let len = be32(header.get(1..)?)?;
    (4..=LONGEST).contains(&len).then(|| (header[0], len - 4))
}

fn be32(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|&bytes| u32::from_be_bytes(bytes))
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_messages_are_told_apart() {
        let session = b"\0\x03\0\0user\0ada\0database\0shop\0\0";
        assert_eq!(opening(session), Opening::Session { database: b"shop", replicates: false });
        let session = b"\0\x03\0\0user\0ada\0replication\0database\0\0";
        assert_eq!(opening(session), Opening::Session { database: b"ada", replicates: true });
        assert_eq!(opening(&[0x04, 0xd2, 0x16, 0x2f]), Opening::Encryption);
        assert_eq!(opening(&[0x04, 0xd2, 0x16, 0x30]), Opening::Encryption);
        assert_eq!(opening(&[0x04, 0xd2, 0x16, 0x2e, 0, 0, 0, 1, 0, 0, 0, 2]), Opening::Cancel);
        assert_eq!(opening(b"\0\x02\0\0user\0"), Opening::Unknown);
        assert_eq!(begins_session(b"\0\0"), None);
        assert_eq!(begins_session(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]), Some(true));
        assert_eq!(begins_session(&[0, 0, 0, 9, 0x04, 0xd2, 0x16, 0x2f]), Some(false));
        assert_eq!(begins_session(b"GET "), Some(false));
        assert_eq!(begins_session(b"\0\0\0\x20\0\x03\0\0"), Some(true));
        assert_eq!(begins_session(b"\0\0\0\x20\0\x01"), Some(false));
    }

    #[test]
    fn codes_tags_and_tails_are_read() {
        assert_eq!(sqlstate(b"SERROR\0VERROR\0C42P01\0Mno\0\0"), b"42P01");
        assert_eq!(sqlstate(b"SERROR\0VERR"), b"");
        assert_eq!(tag(b"SELECT 5\0"), (&b"SELECT"[..], Some(5)));
        assert_eq!(tag(b"INSERT 0 3\0"), (&b"INSERT"[..], Some(3)));
        assert_eq!(tag(b"CREATE TABLE\0"), (&b"CREATE"[..], None));
        assert_eq!(tail(b"ELECT 123\0Z\0\0\0\x05I", b""), Some(Tail { rows: Some(123), failed: false }));
        assert_eq!(tail(b"1234567890\0Z\0\0\0\x05T", b""), Some(Tail { rows: None, failed: false }));
        assert_eq!(tail(b"_relation\0\0Z\0\0\0\x05E", b""), Some(Tail { rows: None, failed: true }));
        assert_eq!(tail(b"Z\0\0\0\x05T", b"xxCOPY 7\0"), Some(Tail { rows: Some(7), failed: false }));
        assert_eq!(tail(b"04\0Z\0\0\0\x05T", b"COPY 10"), Some(Tail { rows: Some(1004), failed: false }));
        assert_eq!(tail(b"Z\0\0\0\x05X", b""), None);
    }

    #[test]
    fn only_whole_questions_are_believed_in_the_middle() {
        assert!(is_whole_turn(b"Q\0\0\0\x0dSELECT 1\0"));
        assert!(!is_whole_turn(b"Q\0\0\0\x0dSELECT 1"));
        assert!(!is_whole_turn(b"Q\0\0\0\x0dSEL\0CT 1\0"));
        assert!(is_whole_turn(b"B\0\0\0\x0c\0\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04"));
        assert!(!is_whole_turn(b"E\0\0\0\x09\0\0\0\0\0"));
        assert!(!is_whole_turn(b"X\0\0\0\x04"));
        assert!(!is_whole_turn(b""));
    }
}
