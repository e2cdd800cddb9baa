//! gRPC, whichever HTTP carries it: length-prefixed messages, status and compression.
//!
//! In: payload of one direction of a call, with holes. Out: how many messages, their bytes, and whether they are
//! compressed. Nothing of them is kept. Spec: PROTOCOL-HTTP2.md of gRPC, PROTOCOL-WEB.md of gRPC-Web.

/// Bytes before each message: a flag and its length.
const PREFIX: usize = 5;
/// The message is compressed.
const COMPRESSED: u8 = 0x01;
/// gRPC-Web: not a message but trailers.
const TRAILERS: u8 = 0x80;

/// Which gRPC a content type says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// Over HTTP/2, trailers as such.
    Grpc,
    /// Trailers in the body.
    Web,
    /// As [`Self::Web`], in base64.
    WebText,
}

/// How messages are compressed (`grpc-encoding`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Encoding {
    #[default]
    Identity,
    Gzip,
    Deflate,
    Snappy,
    Zstd,
    Other,
}

/// Counts the messages of one direction.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MessageReader {
    /// Bytes of the prefix that were read.
    prefix: [u8; PREFIX],
    have: u8,
    /// Bytes of the message that are still to come.
    left: u32,
    count: u32,
    size: u64,
    compressed: bool,
    /// Nothing was missed.
    exact: bool,
    /// It holds trailers instead of a message.
    trailers: bool,
}

impl Flavour {
    /// From the content type of a request or an answer.
    pub(crate) fn of(content_type: &[u8]) -> Option<Self> {
        const BASE: &[u8] = b"application/grpc";
        let (base, rest) = content_type.split_at_checked(BASE.len())?;
        if !base.eq_ignore_ascii_case(BASE) {
            return None;
        }
        match rest.first() {
            None | Some(b'+' | b';' | b' ') => Some(Self::Grpc),
            _ if rest.len() >= 9 && rest[..9].eq_ignore_ascii_case(b"-web-text") => Some(Self::WebText),
            _ if rest.len() >= 4 && rest[..4].eq_ignore_ascii_case(b"-web") => Some(Self::Web),
            _ => None,
        }
    }
}

impl Encoding {
    /// From `grpc-encoding`.
    pub(crate) fn of(name: &[u8]) -> Self {
        match name {
            b"identity" | b"" => Self::Identity,
            b"gzip" => Self::Gzip,
            b"deflate" => Self::Deflate,
            b"snappy" => Self::Snappy,
            b"zstd" => Self::Zstd,
            _ => Self::Other,
        }
    }

    /// Its name.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Snappy => "snappy",
            Self::Zstd => "zstd",
            Self::Other => crate::semconv::OTHER,
        }
    }
}

impl Default for MessageReader {
    fn default() -> Self {
        Self {
            prefix: [0; PREFIX],
            have: 0,
            left: 0,
            count: 0,
            size: 0,
            compressed: false,
            exact: true,
            trailers: false,
        }
    }
}

impl MessageReader {
    /// Takes `len` bytes of payload, of which the first ones were seen. Shows bytes of trailers that lie in the payload.
    #[inline]
    pub(crate) fn take(&mut self, mut seen: &[u8], len: u64, trailers: &mut impl FnMut(&[u8])) {
        if !self.exact {
            return;
        }
        let unseen = len - seen.len() as u64;
        while !seen.is_empty() {
            if self.left > 0 {
                let count = seen.len().min(self.left as usize);
                if self.trailers {
                    trailers(&seen[..count]);
                }
                self.left -= count as u32;
                seen = &seen[count..];
                continue;
            }
            let have = usize::from(self.have);
            let count = seen.len().min(PREFIX - have);
            self.prefix[have..have + count].copy_from_slice(&seen[..count]);
            self.have += count as u8;
            seen = &seen[count..];
            if have + count == PREFIX {
                self.begin();
            }
        }
        if u64::from(self.left) >= unseen {
            self.left -= unseen as u32;
        } else {
            self.lose();
        }
    }

    /// Whether so many bytes lie inside the message that is being read.
    #[inline]
    pub(crate) fn swallows(&self, len: u64) -> bool {
        !self.exact || u64::from(self.left) >= len
    }

    /// Bytes were missed: what follows cannot be told apart.
    pub(crate) fn lose(&mut self) {
        self.exact = false;
    }

    /// How many messages there were, and their bytes; `None` if that is not exact, or the last one is not whole.
    pub(crate) fn counted(&self) -> Option<(u64, u64)> {
        (self.exact && self.left == 0 && self.have == 0).then_some((u64::from(self.count), self.size))
    }

    /// Whether a message was compressed.
    pub(crate) fn is_compressed(&self) -> bool {
        self.compressed
    }

    fn begin(&mut self) {
        let [flag, length @ ..] = self.prefix;
        self.have = 0;
        self.left = u32::from_be_bytes(length);
        self.trailers = flag & TRAILERS != 0;
        if flag & !(TRAILERS | COMPRESSED) != 0 {
            return self.lose();
        }
        if !self.trailers {
            self.count = self.count.saturating_add(1);
            self.size += u64::from(self.left);
            self.compressed |= flag & COMPRESSED != 0;
        }
    }
}

/// `grpc-status`: a number.
pub(crate) fn status(value: &[u8]) -> Option<u16> {
    if !(1..=4).contains(&value.len()) {
        return None;
    }
    value.iter().try_fold(0, |code: u16, byte| {
        let digit = char::from(*byte).to_digit(10)? as u16;
        Some(code * 10 + digit)
    })
}

/// `grpc-timeout`: at most eight digits and a unit.
pub(crate) fn timeout_ns(value: &[u8]) -> Option<u64> {
    let (&unit, digits) = value.split_last()?;
    if !(1..=8).contains(&digits.len()) {
        return None;
    }
    let unit_ns: u64 = match unit {
        b'H' => 3600 * 1_000_000_000,
        b'M' => 60 * 1_000_000_000,
        b'S' => 1_000_000_000,
        b'm' => 1_000_000,
        b'u' => 1000,
        b'n' => 1,
        _ => return None,
    };
    let count = digits.iter().try_fold(0u64, |count, byte| {
        let digit = char::from(*byte).to_digit(10)?;
        Some(count * 10 + u64::from(digit))
    })?;
    count.checked_mul(unit_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Payload in pieces; a number is so many bytes that were not seen.
    fn check(pieces: &[(&[u8], u64)], counted: Option<(u64, u64)>, compressed: bool) {
        let mut reader = MessageReader::default();
        for &(seen, unseen) in pieces {
            reader.take(seen, seen.len() as u64 + unseen, &mut |_| {});
        }
        assert_eq!((reader.counted(), reader.is_compressed()), (counted, compressed), "{pieces:?}");
    }

    #[test]
    fn messages_are_counted_however_they_are_cut() {
        check(&[], Some((0, 0)), false);
        check(&[(b"\0\0\0\0\x03abc\0\0\0\0\0", 0)], Some((2, 3)), false);
        check(&[(b"\0\0", 0), (b"\0\0\x03a", 0), (b"bc\x01\0\0\0\x01z", 0)], Some((2, 4)), true);
        check(&[(b"\0\0\0\0\x03a", 2), (b"\0\0\0\0\x01z", 0)], Some((2, 4)), false);
        check(&[(b"\0\0\0\0\x03a", 3)], None, false);
        check(&[(b"\0\0\0\0\x03a", 0)], None, false);
        check(&[(b"\x02\0\0\0\x00", 0)], None, false);
    }

    #[test]
    fn content_types_say_which_grpc_it_is() {
        for (content_type, expected) in [
            ("application/grpc", Some(Flavour::Grpc)),
            ("application/grpc+proto", Some(Flavour::Grpc)),
            ("Application/gRPC; charset=utf-8", Some(Flavour::Grpc)),
            ("application/grpc-web", Some(Flavour::Web)),
            ("application/grpc-web+proto", Some(Flavour::Web)),
            ("application/grpc-web-text+proto", Some(Flavour::WebText)),
            ("application/grpcx", None),
            ("application/json", None),
        ] {
            assert_eq!(Flavour::of(content_type.as_bytes()), expected, "{content_type}");
        }
    }

    #[test]
    fn numbers_are_numbers() {
        assert_eq!(
            (status(b"0"), status(b"16"), status(b""), status(b"1x")),
            (Some(0), Some(16), None, None)
        );
        assert_eq!(timeout_ns(b"100m"), Some(100_000_000));
        assert_eq!((timeout_ns(b"2H"), timeout_ns(b"99999999H")), (Some(7_200_000_000_000), None));
        assert_eq!((timeout_ns(b"m"), timeout_ns(b"1x"), timeout_ns(b"123456789S")), (None, None, None));
    }
}
