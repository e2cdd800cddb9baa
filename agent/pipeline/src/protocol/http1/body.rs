//! Where a message body ends, and how many payload bytes it has: RFC 9112, 6 and 7.
//!
//! In: the bytes behind a header block, and holes of known length between them. Out: how many belong to the body.
//! Sizes are exact or absent: once a hole swallowed chunk framing, there is none.

/// How a body is delimited, as far as it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    /// The chunked coding.
    Chunked(Chunk),
    /// The connection's end is the body's end.
    UntilClose,
    /// Chunk framing went missing in a hole; true if the last bytes look like its end.
    Lost(bool),
    /// The header block was cut off, so that nothing is known.
    Unknown,
}

/// Place in the chunked coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// In the hexadecimal size; digits so far.
    Size(u64, u8),
    /// In what follows the size; the size.
    Extension(u64),
    /// So many bytes of data are still to come.
    Data(u64),
    /// Behind the data, before the line end.
    DataEnd,
    /// In the trailers, at the start of a line.
    TrailerStart,
    /// In a trailer line.
    Trailer,
    /// At the line feed that ends the body.
    LastLineFeed,
    /// Behind the body.
    Done,
}

/// A body that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) framing: Framing,
    payload: u64,
}

impl Body {
    pub(super) fn new(framing: Framing) -> Self {
        Self { framing, payload: 0 }
    }

    /// Whether all of it was seen.
    #[inline]
    pub(super) fn is_done(&self) -> bool {
        matches!(self.framing, Framing::Length(0) | Framing::Chunked(Chunk::Done))
    }

    /// Whether only time or the next message can tell where it ends.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.framing, Framing::Lost(_) | Framing::Unknown)
    }

    /// Whether nothing of it was seen yet.
    pub(super) fn is_untouched(&self) -> bool {
        self.payload == 0
    }

    /// Payload bytes, if they are known exactly.
    #[inline]
    pub(super) fn size(&self) -> Option<u64> {
        (!self.is_open()).then_some(self.payload)
    }

    /// Takes bytes; returns how many belong to the body.
    #[inline]
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        match &mut self.framing {
            Framing::Length(left) => {
                let count = (*left).min(bytes.len() as u64);
                *left -= count;
                self.payload = self.payload.saturating_add(count);
                count as usize
            }
            Framing::Chunked(_) => self.take_chunked(bytes),
            Framing::UntilClose => {
                self.payload = self.payload.saturating_add(bytes.len() as u64);
                bytes.len()
            }
            Framing::Lost(_) | Framing::Unknown => bytes.len(),
        }
    }

    /// Passes over bytes that were not seen; returns how many belong to the body.
    pub(super) fn skip(&mut self, count: u64) -> u64 {
        if count == 0 {
            return 0;
        }
        match &mut self.framing {
            Framing::Length(left) => {
                let count = count.min(*left);
                *left -= count;
                self.payload = self.payload.saturating_add(count);
                return count;
            }
            Framing::Chunked(Chunk::Data(left)) if count < *left => {
                *left -= count;
                self.payload = self.payload.saturating_add(count);
            }
            Framing::Chunked(Chunk::Data(left)) if count == *left => {
                self.payload = self.payload.saturating_add(count);
                self.framing = Framing::Chunked(Chunk::DataEnd);
            }
            Framing::Chunked(_) => self.framing = Framing::Lost(false),
            Framing::UntilClose => self.payload = self.payload.saturating_add(count),
            Framing::Lost(_) | Framing::Unknown => {}
        }
        count
    }

    /// Looks whether the last bytes of a call may be the end of a body whose framing went missing.
    pub(super) fn look_at_end(&mut self, last_bytes: &[u8]) {
        if let Framing::Lost(ended) = &mut self.framing {
            *ended = last_bytes.ends_with(b"\r\n0\r\n\r\n") || last_bytes == b"0\r\n\r\n";
        }
    }

    fn take_chunked(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while let (Framing::Chunked(chunk), Some(&byte)) = (self.framing, bytes.get(at)) {
            let next = match chunk {
                Chunk::Done => break,
                Chunk::Data(left) => {
                    let count = left.min((bytes.len() - at) as u64);
                    self.payload = self.payload.saturating_add(count);
                    at += count as usize;
                    self.framing = Framing::Chunked(match left - count {
                        0 => Chunk::DataEnd,
                        left => Chunk::Data(left),
                    });
                    continue;
                }
                Chunk::Extension(_) | Chunk::Trailer => match memchr::memchr(b'\n', &bytes[at..]) {
                    None => return bytes.len(),
                    Some(line_feed) => {
                        at += line_feed;
                        if let Chunk::Extension(size) = chunk {
                            after_size(size)
                        } else {
                            Chunk::TrailerStart
                        }
                    }
                },
                Chunk::Size(size, digits) => match (char::from(byte).to_digit(16), byte) {
                    (Some(digit), _) if digits < 16 => Chunk::Size(size << 4 | u64::from(digit), digits + 1),
                    (None, b'\n') if digits > 0 => after_size(size),
                    (None, b'\r' | b';' | b' ' | b'\t') if digits > 0 => Chunk::Extension(size),
                    _ => {
                        self.framing = Framing::Lost(false);
                        return bytes.len();
                    }
                },
                Chunk::DataEnd => match byte {
                    b'\r' => Chunk::DataEnd,
                    b'\n' => Chunk::Size(0, 0),
                    _ => {
                        self.framing = Framing::Lost(false);
                        return bytes.len();
                    }
                },
                Chunk::TrailerStart => match byte {
                    b'\r' => Chunk::LastLineFeed,
                    b'\n' => Chunk::Done,
                    _ => Chunk::Trailer,
                },
                Chunk::LastLineFeed => match byte {
                    b'\n' => Chunk::Done,
                    _ => Chunk::Trailer,
                },
            };
            self.framing = Framing::Chunked(next);
            at += 1;
        }
        at
    }
}

fn after_size(size: u64) -> Chunk {
    if size == 0 { Chunk::TrailerStart } else { Chunk::Data(size) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a chunked body, whole and byte by byte.
    fn check(bytes: &str, consumed: usize, size: Option<u64>, done: bool) {
        let mut whole = Body::new(Framing::Chunked(Chunk::Size(0, 0)));
        assert_eq!(
            (whole.take(bytes.as_bytes()), whole.size(), whole.is_done()),
            (consumed, size, done),
            "{bytes:?}"
        );
        let mut single = Body::new(Framing::Chunked(Chunk::Size(0, 0)));
        let count: usize = bytes.as_bytes().iter().map(|&byte| single.take(&[byte])).sum();
        assert_eq!(
            (count, single.size(), single.is_done()),
            (consumed, size, done),
            "{bytes:?} byte by byte"
        );
    }

    #[test]
    fn chunked_bodies_end_where_they_say() {
        check("0\r\n\r\n", 5, Some(0), true);
        check("3\r\nabc\r\n0\r\n\r\nHTTP", 13, Some(3), true);
        check("A;name=\"v;x\"\r\n0123456789\r\n000\r\nDigest: x\r\n\r\n", 44, Some(10), true);
        check("3 \r\nabc\r\n0\r\n\r\n", 14, Some(3), true);
        check("3\nabc\n0\n\n", 9, Some(3), true);
        check("3\r\nab", 5, Some(2), false);
        check("3\r\nabcX", 7, None, false);
        check("x", 1, None, false);
        check("11111111111111111\r\n", 19, None, false);
    }

    #[test]
    fn a_hole_inside_a_chunk_keeps_the_size() {
        let mut body = Body::new(Framing::Chunked(Chunk::Size(0, 0)));
        body.take(b"10\r\nab");
        assert_eq!(body.skip(14), 14);
        body.take(b"\r\n0\r\n\r\n");
        assert_eq!((body.size(), body.is_done()), (Some(16), true));
    }

    #[test]
    fn a_hole_over_framing_loses_the_size() {
        let mut body = Body::new(Framing::Chunked(Chunk::Size(0, 0)));
        body.take(b"10\r\nab");
        body.skip(15);
        body.look_at_end(b"x\r\n0\r\n\r\n");
        assert_eq!((body.size(), body.framing), (None, Framing::Lost(true)));
        body.look_at_end(b"more");
        assert_eq!(body.framing, Framing::Lost(false));
    }
}
