//! MySQL's packets: how they are framed, and what the few bytes that are looked at say.
//!
//! In: bytes of one packet, perhaps cut off. Out: numbers, names and texts, borrowed. What authenticates, values and rows
//! are framed and never looked at.

use crate::protocol::frames::{Layout, Shape};

/// Bytes of a query's text that are looked at.
pub(super) const TEXT_MAX: usize = 16 * 1024;
/// A packet of this length goes on in the next one.
pub(super) const FULL: u64 = 0xff_ffff;

/// Both directions: a length and a number that counts the packets of an exchange.
pub(super) struct Packets {
    /// Bytes of payload that are looked at.
    pub(super) keep: usize,
    pub(super) requests: bool,
}

impl Layout for Packets {
    const HEADER_LEN: usize = 4;

    #[inline]
    fn shape(&self, header: &[u8]) -> Option<Shape> {
        let len =
            header.first_chunk().map(|&[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]))?;
        Some(Shape { len: u64::from(len), keep: self.keep })
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        if self.requests { is_whole_command(bytes) } else { bytes.len() > 4 && bytes[3] == 1 }
    }
}

/// What a server greets with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Greeting {
    pub(super) is_mariadb: bool,
}

/// Whether a server's first bytes are a greeting; `None` if more are needed.
pub(super) fn begins_session(bytes: &[u8]) -> Option<bool> {
    // A length below 512, number 0, version 10, and a version such as 8.0.
    let fits: [fn(u8) -> bool; 6] = [
        |_| true,
        |byte| byte <= 1,
        |byte| byte == 0,
        |byte| byte == 0,
        |byte| byte == 10,
        |byte| byte.is_ascii_digit(),
    ];
    if !bytes.iter().zip(fits).all(|(&byte, fits)| fits(byte)) {
        return Some(false);
    }
    let version = bytes.get(5..)?;
    let end = version.iter().take(64).position(|byte| !(0x20..0x7f).contains(byte));
    match end {
        Some(end) => Some(version[end] == 0 && version[..end].contains(&b'.')),
        None if version.len() >= 64 => Some(false),
        None => None,
    }
}

/// Reads a greeting.
pub(super) fn greeting(payload: &[u8]) -> Option<Greeting> {
    let version = payload.strip_prefix(b"\x0a")?;
    let end = memchr::memchr(0, version)?;
    // MariaDB says 5.5.5 in front of its own version, for old replicas.
    let is_mariadb =
        memchr::memmem::find(&version[..end], b"MariaDB").is_some() || version.starts_with(b"5.5.5-");
    Some(Greeting { is_mariadb })
}

const CLIENT_CONNECT_WITH_DB: u32 = 1 << 3;
const CLIENT_COMPRESS: u32 = 1 << 5;
const CLIENT_PROTOCOL_41: u32 = 1 << 9;
const CLIENT_SSL: u32 = 1 << 11;
const CLIENT_SECURE_CONNECTION: u32 = 1 << 15;
const CLIENT_PLUGIN_AUTH_LENENC: u32 = 1 << 21;
const CLIENT_ZSTD: u32 = 1 << 26;
const CLIENT_QUERY_ATTRIBUTES: u32 = 1 << 27;

/// What a client answers the greeting with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Login<'a> {
    /// The session goes on encrypted.
    pub(super) encrypts: bool,
    pub(super) compresses: bool,
    /// Texts have parameters in front.
    pub(super) attributes: bool,
    pub(super) database: &'a [u8],
}

/// Reads a login, whose length on the wire is `len`.
pub(super) fn login(payload: &[u8], len: u64) -> Option<Login<'_>> {
    let flags = u32::from_le_bytes(*payload.first_chunk()?);
    if flags & CLIENT_PROTOCOL_41 == 0 {
        return None;
    }
    let mut login = Login {
        encrypts: flags & CLIENT_SSL != 0 && len == 32,
        compresses: flags & (CLIENT_COMPRESS | CLIENT_ZSTD) != 0,
        attributes: flags & CLIENT_QUERY_ATTRIBUTES != 0,
        database: &[],
    };
    if flags & CLIENT_CONNECT_WITH_DB != 0 {
        login.database = database(payload.get(32..)?, flags).unwrap_or_default();
    }
    Some(login)
}

/// Behind the user's name and what authenticates.
fn database(rest: &[u8], flags: u32) -> Option<&[u8]> {
    let (_, rest) = cstring(rest)?;
    let rest = if flags & CLIENT_PLUGIN_AUTH_LENENC != 0 {
        let (len, rest) = number(rest)?;
        rest.get(usize::try_from(len).ok()?..)?
    } else if flags & CLIENT_SECURE_CONNECTION != 0 {
        let (&len, rest) = rest.split_first()?;
        rest.get(usize::from(len)..)?
    } else {
        cstring(rest)?.1
    };
    cstring(rest).map(|(database, _)| database)
}

fn cstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// A length-encoded number, and what follows.
pub(super) fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let width = match first {
        0..=0xfa => return Some((u64::from(first), rest)),
        0xfc => 2,
        0xfd => 3,
        0xfe => 8,
        _ => return None,
    };
    let (digits, rest) = rest.split_at_checked(width)?;
    let mut number = [0; 8];
    number[..width].copy_from_slice(digits);
    Some((u64::from_le_bytes(number), rest))
}

/// What the end of a result says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Status(u16);

impl Status {
    pub(super) fn has_more_results(self) -> bool {
        self.0 & 0x08 != 0
    }

    pub(super) fn has_cursor(self) -> bool {
        self.0 & 0x40 != 0
    }

    pub(super) fn escapes(self) -> bool {
        self.0 & 0x200 == 0
    }
}

/// Reads an OK packet, or one that ends rows in its stead.
pub(super) fn ok(payload: &[u8]) -> Option<Status> {
    let (_, rest) = number(payload.get(1..)?)?;
    let (_, rest) = number(rest)?;
    rest.first_chunk().map(|&status| Status(u16::from_le_bytes(status)))
}

/// Whether a packet is an EOF packet; its status.
pub(super) fn eof(payload: &[u8], len: u64) -> Option<Status> {
    match payload {
        [0xfe, _, _, low, high, ..] if len == 5 => Some(Status(u16::from_le_bytes([*low, *high]))),
        _ => None,
    }
}

/// Number of an error.
pub(super) fn error(payload: &[u8]) -> Option<u16> {
    match payload {
        [0xff, low, high, ..] => Some(u16::from_le_bytes([*low, *high])),
        _ => None,
    }
}

/// What the end of a call says of rows that were not copied, if it is the end of a result.
pub(super) fn end_of_rows(bytes: &[u8]) -> Option<Status> {
    match bytes {
        [.., 5, 0, 0, _, 0xfe, _, _, low, high] | [.., 7, 0, 0, _, 0xfe, 0, 0, low, high, _, _] => {
            Some(Status(u16::from_le_bytes([*low, *high])))
        }
        _ => None,
    }
}

/// The text of a COM_QUERY behind its first byte.
pub(super) fn text(payload: &[u8], attributes: bool) -> Option<&[u8]> {
    if !attributes {
        return Some(payload);
    }
    // Without values, their number and that of their sets stand in front.
    match payload {
        [0, 1, text @ ..] => Some(text),
        _ => None,
    }
}

/// Whether bytes are one whole command with text that is SQL: the only thing that is believed in the middle.
pub(super) fn is_whole_command(bytes: &[u8]) -> bool {
    let [low, middle, high, 0, 3, text @ ..] = bytes else { return false };
    let len = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
    let word =
        text.iter().take(12).position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len().min(12));
    len == text.len() + 1 && WORDS.iter().any(|known| text[..word].eq_ignore_ascii_case(known))
}

const WORDS: &[&[u8]] = &[
    b"SELECT",
    b"INSERT",
    b"UPDATE",
    b"DELETE",
    b"REPLACE",
    b"BEGIN",
    b"START",
    b"COMMIT",
    b"ROLLBACK",
    b"SET",
    b"SHOW",
    b"WITH",
    b"CALL",
    b"CREATE",
    b"ALTER",
    b"DROP",
    b"TRUNCATE",
    b"USE",
    b"LOAD",
    b"DESCRIBE",
    b"EXPLAIN",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_and_logins_are_read() {
        assert_eq!(begins_session(b"J\0\0\0"), None);
        assert_eq!(begins_session(b"J\0\0\0\x0a8.0.36\0"), Some(true));
        assert_eq!(begins_session(b"J\0\0\x01\x0a8.0.36\0"), Some(false));
        assert_eq!(begins_session(b"GET /"), Some(false));
        assert_eq!(greeting(b"\x0a8.0.36\0"), Some(Greeting { is_mariadb: false }));
        assert_eq!(greeting(b"\x0a5.5.5-10.11.6-MariaDB\0"), Some(Greeting { is_mariadb: true }));
        let flags = CLIENT_PROTOCOL_41 | CLIENT_CONNECT_WITH_DB | CLIENT_PLUGIN_AUTH_LENENC | CLIENT_COMPRESS;
        let payload =
            [&flags.to_le_bytes()[..], &[0; 28], b"ada\0\x06secretshop\0mysql_native_password\0"].concat();
        let read = login(&payload, payload.len() as u64).unwrap();
        assert_eq!((read.database, read.compresses, read.encrypts), (&b"shop"[..], true, false));
        let flags = (CLIENT_PROTOCOL_41 | CLIENT_SSL).to_le_bytes();
        assert!(login(&[&flags[..], &[0; 28]].concat(), 32).unwrap().encrypts);
    }

    #[test]
    fn numbers_and_ends_are_read() {
        assert_eq!(number(b"\xfa"), Some((250, &b""[..])));
        assert_eq!(number(b"\xfc\x00\x01x"), Some((256, &b"x"[..])));
        assert_eq!(number(b"\xfd\x00"), None);
        assert_eq!(ok(b"\0\x01\0\x0a\0\0\0"), Some(Status(0x0a)));
        assert_eq!(eof(b"\xfe\0\0\x02\0", 5), Some(Status(2)));
        assert_eq!(eof(b"\xfe\0\0\x02\0\0\0", 7), None);
        assert_eq!(error(b"\xff\x7a\x04#42S02no"), Some(1146));
        assert_eq!(end_of_rows(b"xx\x05\0\0\x09\xfe\0\0\x02\0"), Some(Status(2)));
        assert_eq!(end_of_rows(b"x\x07\0\0\x09\xfe\0\0\x0a\0\0\0"), Some(Status(10)));
        assert_eq!(end_of_rows(b"abcdefghijklmnop"), None);
    }

    #[test]
    fn only_a_whole_query_is_believed_in_the_middle() {
        assert!(is_whole_command(b"\x09\0\0\0\x03SELECT 1"));
        assert!(!is_whole_command(b"\x09\0\0\0\x03SELECT "));
        assert!(!is_whole_command(b"\x09\0\0\x01\x03SELECT 1"));
        assert!(!is_whole_command(b"\x09\0\0\0\x03nothing1"));
    }
}
