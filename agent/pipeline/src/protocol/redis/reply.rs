//! The direction that carries answers, and what the server pushes between them.
//!
//! In: its chunks. Out: one [`Answer`] at a time: its kind and its first word, nothing else of its content. Values
//! are counted, not built: an aggregate adds its elements to those that are awaited. Streamed aggregates and strings
//! of RESP3 are read, nested at most 8 deep.

use crate::event::Call;
use crate::protocol::redis::resp::{Lexer, Stop, Token, number};
use crate::stream::Chunk;

/// Streamed aggregates within each other.
const STREAMED_MAX: usize = 8;
/// Longest first word that is of interest.
const WORD_MAX: usize = 32;
/// More elements than any aggregate has: those of a streamed one, until its end comes.
const UNCOUNTED: u64 = u64::MAX / 4;

/// One answer, or one push.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// First byte of the value.
    pub(super) kind: u8,
    /// Of an aggregate: how many elements; -1: null.
    pub(super) count: i64,
    word: [u8; WORD_MAX],
    word_len: u8,
}

impl Answer {
    /// First word of an error or a status, or first element of an aggregate if it is a string.
    pub(super) fn word(&self) -> &[u8] {
        &self.word[..usize::from(self.word_len)]
    }

    pub(super) fn is_error(&self) -> bool {
        matches!(self.kind, b'-' | b'!')
    }

    pub(super) fn is_push(&self) -> bool {
        self.kind == b'>'
    }

    fn set_word(&mut self, text: &[u8]) {
        let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
        // A longer word is none that anything is told by.
        let word = if end <= WORD_MAX { &text[..end] } else { b"" };
        self.word[..word.len()].copy_from_slice(word);
        self.word_len = word.len() as u8;
    }
}

/// Reads answers.
#[derive(Debug, Default)]
pub(super) struct Replies {
    lexer: Lexer,
    answer: Answer,
    /// Values that are awaited, the top-level one included.
    awaited: u64,
    /// Those that were awaited around each streamed aggregate.
    streamed: [u64; STREAMED_MAX],
    depth: usize,
    /// The next value is the first element of the top-level aggregate.
    at_first: bool,
    /// An attribute was read: the value that it belongs to is the answer.
    attributed: bool,
    /// The body is a piece of a streamed string.
    in_piece: bool,
    /// Longest string so far.
    pub(super) longest: u64,
    /// When the last byte was moved, and in which turn.
    pub(super) last: Call,
}

impl Replies {
    /// Starts over before an answer.
    pub(super) fn reset(&mut self) {
        *self = Self { longest: self.longest, last: self.last, ..Self::default() };
    }

    /// Whether the next byte begins an answer.
    pub(super) fn is_between(&self) -> bool {
        self.awaited == 0 && self.lexer.is_between()
    }

    /// The answer that is being read, as far as it is known.
    pub(super) fn unfinished(&self) -> Answer {
        self.answer
    }

    /// Passes over lost bytes; false if they hold more than the rest of a string.
    pub(super) fn skip(&mut self, gap: u64) -> bool {
        self.lexer.skip(gap)
    }

    /// The next answer; its bytes leave the chunk.
    #[inline]
    pub(super) fn next(&mut self, chunk: &mut Chunk<'_>) -> Result<Answer, Stop> {
        loop {
            match self.lexer.next(chunk)? {
                Token::Line([kind, text @ ..], whole) => {
                    let kind = *kind;
                    let top = self.awaited == 0 || (self.attributed && self.awaited == 1 && self.depth == 0);
                    if top {
                        self.awaited = 1;
                        self.attributed = kind == b'|';
                        self.answer = Answer { kind, ..Answer::default() };
                    }
                    let first = std::mem::take(&mut self.at_first);
                    match kind {
                        b'+' | b'-' => {
                            if top || first {
                                self.answer.set_word(text);
                            }
                            self.awaited -= 1;
                        }
                        b':' | b',' | b'#' | b'_' | b'(' => self.awaited -= 1,
                        _ if !whole => return Err(Stop::Invalid),
                        b'$' | b'=' | b'!' if *text == b"?"[..] => {}
                        b'$' | b'=' | b'!' | b';' => {
                            let len = number(text).ok_or(Stop::Invalid)?;
                            self.in_piece = kind == b';';
                            if len == -1 || (len == 0 && self.in_piece) {
                                self.awaited -= 1;
                            } else {
                                let named = first || (top && kind == b'!');
                                let keep = if named { WORD_MAX + 1 } else { 0 };
                                self.longest = self.longest.max(len.unsigned_abs());
                                if !self.lexer.expect_body(len, keep) {
                                    return Err(Stop::Invalid);
                                }
                                self.at_first = first;
                            }
                        }
                        b'*' | b'~' | b'>' | b'%' | b'|' => {
                            let count =
                                if text == b"?" { None } else { Some(number(text).ok_or(Stop::Invalid)?) };
                            self.aggregate(kind, count, top)?;
                        }
                        b'.' if self.depth > 0 => {
                            self.depth -= 1;
                            self.awaited = self.streamed[self.depth];
                        }
                        _ => return Err(Stop::Invalid),
                    }
                }
                Token::Body(_, false) => return Err(Stop::Hole),
                Token::Body(text, true) if self.awaited > 0 => {
                    let first = std::mem::take(&mut self.at_first);
                    if first || (self.awaited == 1 && self.answer.kind == b'!') {
                        self.answer.set_word(text);
                    }
                    if !self.in_piece {
                        self.awaited -= 1;
                    }
                }
                Token::Line([], _) | Token::Body(..) => return Err(Stop::Invalid),
            }
            if self.awaited == 0 {
                return Ok(self.answer);
            }
        }
    }

    /// An aggregate of so many elements begins; `None`: it ends with a mark.
    fn aggregate(&mut self, kind: u8, count: Option<i64>, top: bool) -> Result<(), Stop> {
        let Some(count) = count else {
            if self.depth == STREAMED_MAX {
                return Err(Stop::Invalid);
            }
            self.streamed[self.depth] = self.awaited - u64::from(kind != b'|');
            self.depth += 1;
            self.awaited = UNCOUNTED;
            self.at_first = top && kind != b'|';
            return Ok(());
        };
        let each = if matches!(kind, b'%' | b'|') { 2 } else { 1 };
        let elements = u64::try_from(count.max(0)).unwrap_or(0).min(UNCOUNTED / 4) * each;
        // An attribute stands before the value that it belongs to, which is still awaited.
        if kind != b'|' {
            self.awaited -= 1;
        }
        self.awaited = self.awaited.saturating_add(elements);
        if top {
            self.answer.count = count;
            self.at_first = kind != b'|' && elements > 0;
        }
        Ok(())
    }
}
