//! The direction that carries commands: arrays of strings, or words on a line (inline commands).
//!
//! In: its chunks. Out: one [`Asked`] at a time: which command, its first words, how many there are. Of what follows
//! the operation's name nothing is kept, but for the number that SELECT names.

use crate::event::Call;
use crate::protocol::redis::command::{Command, NAME_MAX, Role, is_name};
use crate::protocol::redis::resp::{Lexer, Stop, Token, number};
use crate::stream::Chunk;

/// Most words of a command; Redis' own limit.
const WORDS_MAX: i64 = 1 << 31;

/// A word of an operation's name, as it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Word {
    bytes: [u8; NAME_MAX],
    len: u8,
}

impl Word {
    fn set(&mut self, word: &[u8]) {
        self.len = 0;
        if is_name(word) {
            self.bytes[..word.len()].copy_from_slice(word);
            self.len = word.len() as u8;
        }
    }

    pub(super) fn get(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// A command.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) command: Command,
    /// Empty if it does not look like the name of a command.
    pub(super) name: Word,
    /// Second word of the operation's name, if it has one.
    pub(super) second: Word,
    /// How many words it has in all.
    pub(super) words: u64,
    /// Database that SELECT names.
    pub(super) database: Option<u16>,
    /// CLIENT REPLY OFF or SKIP: answers can no longer be counted.
    pub(super) silent: bool,
    /// It was not seen to its end.
    pub(super) cut: bool,
    pub(super) inline: bool,
}

/// Where in a command the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Before a command.
    Start,
    /// Before the line that announces a word.
    Length,
    /// In a word.
    Word,
}

/// Reads commands.
#[derive(Debug)]
pub(super) struct Requests {
    lexer: Lexer,
    at: At,
    asked: Asked,
    index: u64,
    /// The call that moved the command's first byte, and that byte's offset.
    pub(super) begun: Call,
    pub(super) offset: u64,
    /// Longest word so far.
    pub(super) longest: u64,
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            lexer: Lexer::default(),
            at: At::Start,
            asked: Asked::default(),
            index: 0,
            begun: Call::default(),
            offset: 0,
            longest: 0,
        }
    }
}

impl Requests {
    /// Starts over before a command.
    pub(super) fn reset(&mut self) {
        self.lexer = Lexer::default();
        self.at = At::Start;
    }

    pub(super) fn is_between(&self) -> bool {
        self.at == At::Start && self.lexer.is_between()
    }

    /// Passes over lost bytes; false if they hold more than the rest of a word.
    pub(super) fn skip(&mut self, gap: u64) -> bool {
        self.lexer.skip(gap)
    }

    /// The part of a command that came before its end went missing, if its operation is known.
    pub(super) fn cut_off(&mut self) -> Option<Asked> {
        let named =
            self.at != At::Start && self.index > u64::from(self.asked.command.known().words.min(2) - 1);
        self.reset();
        named.then_some(Asked { cut: true, ..self.asked })
    }

    /// The next command; its bytes leave the chunk.
    #[inline]
    pub(super) fn next(&mut self, chunk: &mut Chunk<'_>) -> Result<Asked, Stop> {
        loop {
            if self.at == At::Start && self.lexer.is_between() && !chunk.bytes().is_empty() {
                self.begun = chunk.call;
                self.offset = chunk.offset;
            }
            match (self.at, self.lexer.next(chunk)?) {
                (At::Start, Token::Line([], true)) => {}
                (At::Start, Token::Line([b'*', count @ ..], true)) => {
                    let count = number(count).filter(|&count| count <= WORDS_MAX).ok_or(Stop::Invalid)?;
                    // An empty array asks for nothing and is not answered.
                    if count > 0 {
                        self.asked = Asked { words: count as u64, ..Asked::default() };
                        self.index = 0;
                        self.at = At::Length;
                    }
                }
                (At::Start, Token::Line(line, whole)) => {
                    self.asked = inline(line, whole).ok_or(Stop::Invalid)?;
                    return Ok(self.asked);
                }
                (At::Length, Token::Line([b'$', len @ ..], true)) => {
                    let len = number(len).filter(|&len| len >= 0).ok_or(Stop::Invalid)?;
                    self.longest = self.longest.max(len as u64);
                    let keep = if self.index < 3 { NAME_MAX + 1 } else { 0 };
                    if !self.lexer.expect_body(len, keep) {
                        return Err(Stop::Invalid);
                    }
                    self.at = At::Word;
                }
                // What names the operation is missing.
                (At::Word, Token::Body(_, false)) if matters(&self.asked, self.index) => {
                    return Err(Stop::Hole);
                }
                (At::Word, Token::Body(word, _)) => {
                    note(&mut self.asked, self.index, word);
                    self.index += 1;
                    self.at = At::Length;
                    if self.index == self.asked.words {
                        self.at = At::Start;
                        return Ok(self.asked);
                    }
                }
                _ => return Err(Stop::Invalid),
            }
        }
    }
}

/// Whether a word of a command says more than that there is one.
fn matters(asked: &Asked, index: u64) -> bool {
    let known = asked.command.known();
    match index {
        0 => true,
        1 => known.words > 1 || known.role == Role::Select,
        2 => known.role == Role::Client,
        _ => false,
    }
}

/// Takes note of one word of a command.
#[inline]
fn note(asked: &mut Asked, index: u64, word: &[u8]) {
    match index {
        0 => {
            asked.command = Command::find(word);
            asked.name.set(word);
        }
        1 => {
            let known = asked.command.known();
            if known.words > 1 {
                asked.second.set(word);
            } else if known.role == Role::Select {
                asked.database = number(word).and_then(|number| u16::try_from(number).ok());
            }
        }
        2 if asked.command.known().role == Role::Client => {
            let reply = asked.second.get().eq_ignore_ascii_case(b"REPLY");
            asked.silent = reply && !word.eq_ignore_ascii_case(b"ON");
        }
        _ => {}
    }
}

/// A command on one line. Quoted words may hold spaces: then only the number of words is wrong.
fn inline(line: &[u8], whole: bool) -> Option<Asked> {
    let mut asked = Asked { inline: true, cut: !whole, ..Asked::default() };
    for word in line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        let index = asked.words;
        note(&mut asked, index, word);
        asked.words += 1;
    }
    (!asked.name.get().is_empty()).then_some(asked)
}
