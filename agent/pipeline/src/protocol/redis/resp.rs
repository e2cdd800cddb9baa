//! Tokens of RESP2 and RESP3: lines, and the bodies that they announce.
//!
//! In: chunks of one direction. Out: one token at a time, with at most [`KEPT`] of its bytes; a body's other bytes
//! are passed over, whether they were copied or not. Limits: lines of 64 KiB, bodies of 4 GiB.
//! Spec: <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use crate::stream::{Chunk, Front};

/// Bytes of a token that are kept.
pub(super) const KEPT: usize = 64;
/// Longest line; Redis refuses inline commands and headers beyond it.
const LINE_MAX: u64 = 64 * 1024;
/// Longest body; Redis' own default is 512 MiB.
const BODY_MAX: i64 = 1 << 32;

/// What the bytes are.
#[derive(Debug)]
pub(super) enum Token<'a> {
    /// A line without its end, or its first bytes; and whether that is all of it.
    Line(&'a [u8], bool),
    /// A body without its end, or as many of its first bytes as were asked for; and whether these were all copied.
    Body(&'a [u8], bool),
}

/// Why there is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More bytes are needed.
    More,
    /// Bytes that tell where the next token begins were not copied.
    Hole,
    /// This is not RESP.
    Invalid,
}

/// Reads the tokens of one direction.
#[derive(Debug)]
pub(super) struct Lexer {
    kept: [u8; KEPT],
    len: u8,
    /// How much of a body is to be kept.
    keep: u8,
    in_body: bool,
    /// Bytes of the body that were to be kept went missing.
    cut: bool,
    /// Bytes of the line so far.
    line_len: u64,
    /// Bytes of the body to come, its line end included.
    left: u64,
}

impl Default for Lexer {
    fn default() -> Self {
        Self { kept: [0; KEPT], len: 0, keep: 0, in_body: false, cut: false, line_len: 0, left: 0 }
    }
}

impl Lexer {
    /// Nothing of a token was read yet.
    pub(super) fn is_between(&self) -> bool {
        !self.in_body && self.line_len == 0
    }

    /// A body of `len` bytes comes next; its first `keep` bytes are of interest. False if it is too long.
    #[inline]
    pub(super) fn expect_body(&mut self, len: i64, keep: usize) -> bool {
        if !(0..=BODY_MAX).contains(&len) {
            return false;
        }
        self.in_body = true;
        self.cut = false;
        self.len = 0;
        self.keep = (keep.min(KEPT) as i64).min(len) as u8;
        self.left = len as u64 + 2;
        true
    }

    /// Passes over bytes that were lost; false if they are more than the rest of a body.
    pub(super) fn skip(&mut self, gap: u64) -> bool {
        let fits = self.in_body && gap <= self.left;
        if fits {
            self.pass_unseen(gap);
        }
        fits
    }

    fn pass_unseen(&mut self, count: u64) {
        self.left -= count;
        self.cut |= self.len < self.keep && count > 0;
        self.keep = self.len;
    }

    /// The next token; it leaves the chunk.
    #[inline]
    pub(super) fn next(&mut self, chunk: &mut Chunk<'_>) -> Result<Token<'_>, Stop> {
        if self.in_body { self.body(chunk) } else { self.line(chunk) }
    }

    #[inline]
    fn line(&mut self, chunk: &mut Chunk<'_>) -> Result<Token<'_>, Stop> {
        loop {
            let bytes = match chunk.front() {
                Front::Empty => return Err(Stop::More),
                Front::Hole(_) => return Err(Stop::Hole),
                Front::Bytes(bytes) => bytes,
            };
            if self.line_len == 0 {
                self.len = 0;
            }
            // Nearly all lines are a few bytes long: a call would cost more than it saves.
            let end = bytes.iter().take(KEPT).position(|&byte| byte == b'\n');
            let end = end.or_else(|| memchr::memchr(b'\n', bytes));
            let count = end.map_or(bytes.len(), |end| end + 1);
            self.keep_bytes(&bytes[..count], KEPT);
            self.line_len += count as u64;
            chunk.advance(count as u64);
            if self.line_len > LINE_MAX {
                return Err(Stop::Invalid);
            }
            if end.is_none() {
                continue;
            }
            let whole = std::mem::take(&mut self.line_len) <= KEPT as u64;
            let line = &self.kept[..usize::from(self.len)];
            return Ok(match line {
                [line @ .., b'\r', b'\n'] | [line @ .., b'\n'] if whole => Token::Line(line, true),
                _ => Token::Line(line, false),
            });
        }
    }

    #[inline]
    fn body(&mut self, chunk: &mut Chunk<'_>) -> Result<Token<'_>, Stop> {
        while self.left > 0 {
            match chunk.front() {
                Front::Empty => return Err(Stop::More),
                Front::Bytes(bytes) => {
                    let count = self.left.min(bytes.len() as u64);
                    let text = self.left.saturating_sub(2).min(count) as usize;
                    self.keep_bytes(&bytes[..text], usize::from(self.keep));
                    let ends = count == self.left;
                    if ends && bytes[count as usize - 1] != b'\n' {
                        return Err(Stop::Invalid);
                    }
                    self.left -= count;
                    chunk.advance(count);
                }
                Front::Hole(hole) => {
                    let count = self.left.min(hole);
                    self.pass_unseen(count);
                    chunk.advance(count);
                }
            }
        }
        self.in_body = false;
        Ok(Token::Body(&self.kept[..usize::from(self.len)], !self.cut))
    }

    #[inline]
    fn keep_bytes(&mut self, bytes: &[u8], most: usize) {
        let len = usize::from(self.len);
        let count = most.saturating_sub(len).min(bytes.len());
        self.kept[len..len + count].copy_from_slice(&bytes[..count]);
        self.len += count as u8;
    }
}

/// A number as RESP writes it, without its first byte; `None` if it is none.
#[inline]
pub(super) fn number(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers() {
        for (text, expected) in [
            (&b"0"[..], Some(0)),
            (b"-1", Some(-1)),
            (b"+12", Some(12)),
            (b"", None),
            (b"-", None),
            (b"1a", None),
            (b"9999999999999999999", None),
        ] {
            assert_eq!(number(text), expected, "{text:?}");
        }
    }
}
