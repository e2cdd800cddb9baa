//! Frames of HTTP/2: RFC 9113, 4 and 6. Which there are, how long they may be, and how much of each is wanted.

use crate::protocol::frames::{Layout, Shape};

use super::exchange::Exchanges;

/// Bytes of a frame's header.
const HEADER_LEN: usize = 9;
/// Longest header block that is read.
pub(super) const BLOCK_MAX: usize = 80 * 1024;
/// Longest frame that is read for its messages.
const MESSAGES_MAX: usize = 64 * 1024;
/// Longest frame that may be sent unasked: what is expected where the beginning of the connection was missed.
const FRAME_MAX: usize = 16 * 1024;
/// How far ahead of the newest stream another one may be, where frames are looked for.
const STREAMS_AHEAD: u32 = 4096;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 0x1;
pub(super) const END_HEADERS: u8 = 0x4;
pub(super) const PADDED: u8 = 0x8;
pub(super) const PRIORITIZED: u8 = 0x20;

/// What a frame's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

/// How the frames of one direction are read.
pub(super) struct Frames<'a> {
    /// Streams that are open.
    pub(super) exchanges: &'a Exchanges,
    /// The direction carries requests.
    pub(super) requests: bool,
    /// The newest stream.
    pub(super) last_stream: u32,
}

impl Header {
    /// Reads a header; `None` if no frame has one like that.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[a, b, c, kind, flags, s0, s1, s2, s3] = bytes.first_chunk::<HEADER_LEN>()?;
        let header = Self {
            len: usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c),
            kind,
            flags,
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        };
        header.is_valid().then_some(header)
    }

    fn is_valid(self) -> bool {
        let Self { len, kind, stream, .. } = self;
        match kind {
            DATA | HEADERS | CONTINUATION => stream != 0,
            PUSH_PROMISE => stream != 0 && len >= 4,
            PRIORITY => stream != 0 && len == 5,
            RST_STREAM => stream != 0 && len == 4,
            SETTINGS => stream == 0 && len % 6 == 0,
            PING => stream == 0 && len == 8,
            GOAWAY => stream == 0 && len >= 8,
            WINDOW_UPDATE => len == 4,
            _ => true,
        }
    }

    /// Whether chance would hardly make such a header: bits without a meaning are 0, and no frame is long.
    fn is_plausible(self) -> bool {
        let flags = match self.kind {
            DATA => END_STREAM | PADDED,
            HEADERS => END_STREAM | END_HEADERS | PADDED | PRIORITIZED,
            PUSH_PROMISE => END_HEADERS | PADDED,
            SETTINGS | PING => 1,
            CONTINUATION => END_HEADERS,
            PRIORITY | RST_STREAM | GOAWAY | WINDOW_UPDATE => 0,
            _ => return false,
        };
        self.flags & !flags == 0 && self.len <= FRAME_MAX
    }
}

impl Layout for Frames<'_> {
    const HEADER_LEN: usize = HEADER_LEN;

    #[inline]
    fn shape(&self, header: &[u8]) -> Option<Shape> {
        let header = Header::read(header)?;
        let keep = match header.kind {
            DATA => {
                let messages = self.exchanges.get(&header.stream).is_some_and(|exchange| {
                    exchange.half(self.requests).needs_payload(header.len, exchange.counts_messages())
                });
                if messages { MESSAGES_MAX } else { usize::from(header.flags & PADDED != 0) }
            }
            HEADERS | CONTINUATION | PUSH_PROMISE => BLOCK_MAX,
            RST_STREAM => 4,
            GOAWAY => 8,
            _ => 0,
        };
        Some(Shape { len: header.len as u64, keep })
    }

    fn begins(&self, bytes: &[u8]) -> bool {
        let mut count = 0;
        let mut found = false;
        for header in plausible(bytes) {
            let Some(header) = header else { return false };
            let known = self.exchanges.contains_key(&header.stream);
            if header.stream.saturating_sub(self.last_stream) > STREAMS_AHEAD
                && self.last_stream > 0
                && !known
            {
                return false;
            }
            count += 1;
            // A lone frame of data that goes on behind what is seen proves little: its stream must be open.
            found |= known || header.kind != DATA;
        }
        count > 0 && found
    }
}

/// The headers of the frames that follow each other from the first byte on; `None` where there is none.
pub(super) fn plausible(mut bytes: &[u8]) -> impl Iterator<Item = Option<Header>> {
    std::iter::from_fn(move || {
        if bytes.len() < HEADER_LEN {
            return None;
        }
        let header = Header::read(bytes).filter(|header| header.is_plausible());
        bytes = match header {
            Some(header) => bytes.get(HEADER_LEN + header.len..).unwrap_or(&[]),
            None => &[],
        };
        Some(header)
    })
}

/// In the middle of a connection: whether the bytes are frames, one of which begins with a field that only requests
/// have (`Some(true)`) or only answers (`Some(false)`).
pub(super) fn joins(bytes: &[u8]) -> Option<bool> {
    let mut at = 0;
    let mut found = None;
    for header in plausible(bytes) {
        let header = header?;
        if header.kind == HEADERS && header.stream % 2 == 1 {
            let mut block = at + HEADER_LEN;
            block += usize::from(header.flags & PADDED != 0);
            block += 5 * usize::from(header.flags & PRIORITIZED != 0);
            found = found.or(begins_with(bytes.get(block).copied()?));
        }
        at += HEADER_LEN + header.len;
    }
    found
}

/// What the first byte of a header block tells: requests and answers begin with pseudo-header fields of the static
/// table, unless those are unusual.
fn begins_with(byte: u8) -> Option<bool> {
    let index = match byte {
        0x80.. => byte & 0x7f,
        0x40.. => byte & 0x3f,
        0x20.. => return None,
        _ => byte & 0x0f,
    };
    match index {
        1..=7 => Some(true),
        8..=14 => Some(false),
        _ => None,
    }
}

/// The settings with which a server may begin before it has read anything: whether the bytes are such a frame, `None`
/// if there are too few of them.
pub(super) fn begins_with_settings(bytes: &[u8]) -> Option<bool> {
    const LONGEST: usize = 6 * 16;
    let start = [0, 0, 0, SETTINGS, 0, 0, 0, 0, 0];
    let is_prefix = bytes.iter().zip(start).enumerate().all(|(at, (&byte, expected))| match at {
        2 => usize::from(byte) <= LONGEST && byte % 6 == 0,
        _ => byte == expected,
    });
    if !is_prefix {
        return Some(false);
    }
    let &len = bytes.get(2)?;
    let settings = bytes.get(HEADER_LEN..HEADER_LEN + usize::from(len))?;
    // Registered ones, or those of gRPC (0xfe03) and other experiments.
    Some(
        settings
            .chunks(6)
            .all(|setting| setting[0] >= 0xf0 || setting[0] == 0 && (1..=16).contains(&setting[1])),
    )
}

/// The payload of a frame without padding, and how many bytes of it there are on the wire; `None` if the padding is
/// longer than the frame, or not seen.
pub(super) fn unpadded<'a>(header: &Header, payload: &'a [u8]) -> Option<(&'a [u8], usize)> {
    if header.flags & PADDED == 0 {
        return Some((payload, header.len));
    }
    let (&padding, rest) = payload.split_first()?;
    let len = (header.len - 1).checked_sub(usize::from(padding))?;
    Some((&rest[..len.min(rest.len())], len))
}

/// The header block of a HEADERS frame.
pub(super) fn block<'a>(header: &Header, payload: &'a [u8]) -> Option<&'a [u8]> {
    let (block, _) = unpadded(header, payload)?;
    block.get(if header.flags & PRIORITIZED != 0 { 5 } else { 0 }..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_may_begin_with_their_settings() {
        assert_eq!(begins_with_settings(b"\0\0\0\x04\0\0\0\0\0"), Some(true));
        assert_eq!(begins_with_settings(b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64rest"), Some(true));
        assert_eq!(begins_with_settings(b"\0\0\x06\x04\0\0\0\0\0\x01\x03\0\0\0\x64"), Some(false));
        assert_eq!(
            begins_with_settings(b"\0\0\x06\x04\0\0\0\0\0\xfe\x03\0\0\0\x01"),
            Some(true),
            "gRPC's own"
        );
        assert_eq!(begins_with_settings(b"\0\0\x06\x04"), None);
        assert_eq!(begins_with_settings(b"\0\0\x05\x04"), Some(false));
    }

    #[test]
    fn the_middle_of_a_connection_is_recognised_by_its_first_fields() {
        let request = b"\0\0\x02\x01\x05\0\0\0\x07\x82\x86";
        assert_eq!(joins(request), Some(true));
        assert_eq!(joins(b"\0\0\x01\x01\x05\0\0\0\x07\x88"), Some(false));
        assert_eq!(joins(&[&b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"[..], request].concat()), Some(true));
        assert_eq!(joins(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01"), None);
        assert_eq!(joins(b"\0\0\x02\x01\x05\0\0\0\x08\x82\x86"), None, "no client opens an even stream");
        assert_eq!(joins(b"GET / HTTP/1.1\r\n\r\n"), None);
        assert_eq!(joins(b"\0\0\x02\x01\xff\0\0\0\x07\x82\x86"), None);
    }
}
