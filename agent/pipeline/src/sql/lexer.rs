//! SQL text as tokens: what is a literal, a name, a blank (comments are blanks), a bracket, anything else.
//!
//! In: bytes. Out: tokens that follow each other without a hole; whatever the bytes are, each token is at least one
//! byte long. A literal whose end is missing reaches to the end of the text.

use crate::sql::Dialect;

/// Kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// White space and comments.
    Blank,
    /// String or number.
    Literal,
    /// Name or keyword; `@variables` and `:parameters` too.
    Word,
    /// Name in quotes.
    Quoted,
    /// `(`
    Open,
    /// `)`
    Close,
    /// Operators, `?`, `$1`, and the like: its first byte.
    Other(u8),
}

/// Cuts a text into tokens.
#[derive(Debug)]
pub(super) struct Lexer<'t> {
    text: &'t [u8],
    dialect: Dialect,
    /// End of the last token.
    pub(super) at: usize,
    /// The last list that was looked through held no literal.
    pub(super) list_was_constant: bool,
}

impl<'t> Lexer<'t> {
    pub(super) fn new(text: &'t [u8], dialect: Dialect) -> Self {
        Self { text, dialect, at: 0, list_was_constant: true }
    }

    /// The next token and where it begins.
    #[inline]
    pub(super) fn next(&mut self) -> Option<(Token, usize)> {
        let start = self.at;
        let &first = self.text.get(start)?;
        let token = match first {
            b' ' | b'\t'..=b'\r' => self.blank(),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'@' | 0x80.. => self.word(),
            b'0'..=b'9' => self.number(),
            b'\'' => self.string(start + 1, b'\'', self.dialect.backslash),
            b'"' if self.dialect.mysql => self.string(start + 1, b'"', self.dialect.backslash),
            b'"' => self.quoted(b'"'),
            b'`' if self.dialect.mysql => self.quoted(b'`'),
            b'(' => self.one(Token::Open),
            b')' => self.one(Token::Close),
            _ if self.pass_comment() => self.blank(),
            b'.' if self.byte(1).is_ascii_digit() && !self.is_behind_name() => self.number(),
            b'$' if !self.dialect.mysql => self.dollar(),
            b'$' => self.word(),
            b':' if is_name_start(self.byte(1)) => {
                self.at += 1;
                // Whatever it is, `:e'…'` holds a string.
                if self.word() == Token::Literal { Token::Literal } else { Token::Other(b':') }
            }
            // `::` is a cast, and what follows it a type.
            b':' if self.byte(1) == b':' => {
                self.at += 2;
                Token::Other(b':')
            }
            other => self.one(Token::Other(other)),
        };
        Some((token, start))
    }

    /// Behind `IN (`: where the list ends, in front of its `)`, if it holds only literals and placeholders, at least
    /// two of them. A text may be cut off in its middle.
    pub(super) fn end_of_list(&mut self) -> Option<usize> {
        let mut list = Self { text: self.text, dialect: self.dialect, at: self.at, list_was_constant: true };
        let (mut items, mut comma) = (0, true);
        let end = loop {
            let Some((token, start)) = list.next() else { break list.at };
            match token {
                Token::Blank => {}
                Token::Close => break start,
                Token::Other(b',') => comma = true,
                // A sign.
                Token::Other(b'-' | b'+') if comma => {}
                Token::Literal | Token::Other(b'?' | b'$' | b':' | b'%') if comma => {
                    list.list_was_constant &= token != Token::Literal;
                    // `%s`
                    if token == Token::Other(b'%') && is_name_start(list.byte(0)) {
                        list.word();
                    }
                    comma = false;
                    items += 1;
                }
                _ => return None,
            }
        };
        self.list_was_constant = list.list_was_constant;
        (items > 1).then_some(end)
    }

    fn byte(&self, ahead: usize) -> u8 {
        self.text.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn starts(&self, with: &[u8]) -> bool {
        self.text[self.at..].starts_with(with)
    }

    /// `t.5` is no number, ` .5` is.
    fn is_behind_name(&self) -> bool {
        self.at > 0 && (is_name(self.text[self.at - 1]) || matches!(self.text[self.at - 1], b'"' | b'`'))
    }

    fn one(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    /// White space and comments, to their last byte.
    fn blank(&mut self) -> Token {
        loop {
            match self.byte(0) {
                b' ' | b'\t'..=b'\r' => self.at += 1,
                _ if self.pass_comment() => {}
                _ => return Token::Blank,
            }
        }
    }

    /// Passes a comment, if there is one.
    #[inline]
    fn pass_comment(&mut self) -> bool {
        let mysql = self.dialect.mysql;
        match (self.byte(0), self.byte(1)) {
            // MySQL wants a blank behind the dashes: `5--3` is 8.
            (b'-', b'-') if !mysql || self.byte(2) <= b' ' => self.line_comment(),
            (b'#', _) if mysql => self.line_comment(),
            (b'/', b'*') => self.comment(),
            // The end of a comment that is code.
            (b'*', b'/') if mysql => self.at += 2,
            _ => return false,
        }
        true
    }

    #[inline]
    fn word(&mut self) -> Token {
        let start = self.at;
        while is_name(self.byte(0)) || self.byte(0) == b'@' {
            self.at += 1;
        }
        // Strings with a letter in front.
        let prefix = &self.text[start..self.at];
        let backslash = match prefix {
            [b'e' | b'E'] => true,
            [b'n' | b'N' | b'x' | b'X' | b'b' | b'B'] => self.dialect.backslash,
            [b'u' | b'U'] if self.starts(b"&'") => {
                self.at += 1;
                self.dialect.backslash
            }
            [b'u' | b'U'] if self.starts(b"&\"") => {
                self.at += 1;
                return self.quoted(b'"');
            }
            _ => return Token::Word,
        };
        match self.byte(0) {
            b'\'' => self.string(self.at + 1, b'\'', backslash),
            _ => Token::Word,
        }
    }

    /// Digits and what clings to them: `0xff`, `1e-5`, `1.5`, `12abc`.
    fn number(&mut self) -> Token {
        while is_name(self.byte(0)) || self.byte(0) == b'.' {
            let exponent = matches!(self.byte(0), b'e' | b'E') && matches!(self.byte(1), b'+' | b'-');
            self.at += if exponent { 2 } else { 1 };
        }
        self.at = self.at.min(self.text.len());
        Token::Literal
    }

    /// A string up to its closing quote; a doubled quote is part of it.
    fn string(&mut self, from: usize, quote: u8, backslash: bool) -> Token {
        self.at = self.end_of_quotes(from, quote, backslash);
        Token::Literal
    }

    fn quoted(&mut self, quote: u8) -> Token {
        self.at = self.end_of_quotes(self.at + 1, quote, false);
        Token::Quoted
    }

    fn end_of_quotes(&self, from: usize, quote: u8, backslash: bool) -> usize {
        let mut at = from;
        while let Some(&byte) = self.text.get(at) {
            if byte == quote {
                if self.text.get(at + 1) != Some(&quote) {
                    return at + 1;
                }
                at += 2;
            } else if byte == b'\\' && backslash {
                at += 2;
            } else {
                at += 1;
            }
        }
        self.text.len()
    }

    fn line_comment(&mut self) {
        let rest = &self.text[self.at..];
        let end = if self.dialect.mysql {
            memchr::memchr(b'\n', rest)
        } else {
            memchr::memchr2(b'\n', b'\r', rest)
        };
        self.at += end.map_or(rest.len(), |end| end + 1);
    }

    /// PostgreSQL's comments nest; MySQL's `/*! … */` are code.
    fn comment(&mut self) {
        self.at += 2;
        if self.dialect.mysql {
            if self.starts(b"!") || self.starts(b"M!") {
                while self.byte(0) == b'M' || self.byte(0) == b'!' || self.byte(0).is_ascii_digit() {
                    self.at += 1;
                }
                return;
            }
            let rest = &self.text[self.at..];
            self.at += memchr::memmem::find(rest, b"*/").map_or(rest.len(), |end| end + 2);
            return;
        }
        let mut depth = 1u32;
        while depth > 0 && self.at < self.text.len() {
            if self.starts(b"/*") {
                (depth, self.at) = (depth + 1, self.at + 2);
            } else if self.starts(b"*/") {
                (depth, self.at) = (depth - 1, self.at + 2);
            } else {
                self.at += 1;
            }
        }
    }

    /// `$1`, or `$tag$ … $tag$`.
    fn dollar(&mut self) -> Token {
        let start = self.at;
        self.at += 1;
        if self.byte(0).is_ascii_digit() {
            while self.byte(0).is_ascii_digit() {
                self.at += 1;
            }
            return Token::Other(b'$');
        }
        while is_name(self.byte(0)) && self.byte(0) != b'$' {
            self.at += 1;
        }
        if self.byte(0) != b'$' {
            // The text may have been cut off in the tag.
            return Token::Other(b'$');
        }
        self.at += 1;
        let (tag, rest) = (&self.text[start..self.at], &self.text[self.at..]);
        self.at += memchr::memmem::find(rest, tag).map_or(rest.len(), |end| end + tag.len());
        Token::Literal
    }
}

fn is_name_start(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

#[inline]
fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}
