//! SQL text made fit to be shown: literals replaced by `?`, comments left out, runs of blanks joined, long lists of `IN`
//! shortened; and what the text is about: operation, collection and a summary, by the semantic conventions.
//!
//! In: the text of a query as it was sent, perhaps cut off. Out: a [`Statement`]. Linear in the text, bounded, and
//! biased: what may be a literal is one. Not here: syntax trees, plans, validity. Limits: names are taken as they are
//! written; sets of characters whose later bytes may be quotes or backslashes (GBK, SJIS) are read as if they were not.

pub(crate) mod cache;
mod keyword;
mod lexer;
mod outline;

use crate::db_request::DbRequest;
use crate::sql::lexer::{Lexer, Token};
use crate::sql::outline::Outline;
use crate::text::Text;

/// How a database reads its text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Dialect {
    /// MySQL and MariaDB: `"` makes a string, `` ` `` a name, `#` a comment.
    pub(crate) mysql: bool,
    /// `\` escapes in ordinary strings.
    pub(crate) backslash: bool,
}

impl Dialect {
    pub(crate) const POSTGRESQL: Self = Self { mysql: false, backslash: false };
    pub(crate) const MYSQL: Self = Self { mysql: true, backslash: true };
}

/// What is kept of a query's text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statement {
    text: Text<4096>,
    summary: Text<255>,
    operation: Text<64>,
    collection: Text<256>,
    /// Statements in the text; 0 if it is empty.
    count: u32,
    /// No literal was in it: the same text may come again.
    constant: bool,
}

impl Statement {
    /// Reads a text; `cut` if its end is missing.
    pub(crate) fn read(&mut self, sql: &[u8], cut: bool, dialect: Dialect) {
        self.clear();
        self.constant = true;
        let mut outline = Outline::default();
        let mut lexer = Lexer::new(sql, dialect);
        // What is copied as it is: a run that reaches from here.
        let mut run = 0;
        while let Some((token, start)) = lexer.next() {
            let end = lexer.at;
            let instead = match token {
                Token::Blank => {
                    if sql[start..end] == *b" " {
                        continue;
                    }
                    " "
                }
                Token::Literal => {
                    outline.other(self, sql);
                    self.constant = false;
                    "?"
                }
                Token::Word | Token::Quoted => {
                    let literal = outline.word(&sql[start..end], start, token == Token::Quoted, self, sql);
                    if !literal {
                        continue;
                    }
                    self.constant = false;
                    "?"
                }
                Token::Open => {
                    outline.open(self, sql);
                    let Some(list_end) = outline.after_in().then(|| lexer.end_of_list()).flatten() else {
                        continue;
                    };
                    self.constant &= lexer.list_was_constant;
                    lexer.at = list_end;
                    self.text.push(&sql[run..end]);
                    self.text.push_clean("?");
                    run = lexer.at;
                    continue;
                }
                Token::Close => {
                    outline.close(self, sql);
                    continue;
                }
                Token::Other(byte) => {
                    outline.symbol(byte, self, sql);
                    continue;
                }
            };
            self.text.push(&sql[run..start]);
            if instead != " " || !self.text.is_empty() {
                self.text.push_clean(instead);
            }
            run = lexer.at;
        }
        self.text.push(&sql[run..]);
        outline.end(self, sql, cut);
    }

    /// Says in a request what is known.
    pub(crate) fn fill(&self, db: &mut DbRequest) {
        db.query_text.push_clean(self.text.as_str());
        db.query_summary.push_clean(self.summary.as_str());
        db.operation_name.push_clean(self.operation.as_str());
        db.collection_name.push_clean(self.collection.as_str());
        db.batch_size = (self.count > 1).then_some(u64::from(self.count));
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that it holds.
    pub(crate) fn cost(&self) -> usize {
        size_of::<Self>()
            + self.text.len()
            + self.summary.len()
            + self.operation.len()
            + self.collection.len()
    }

    fn clear(&mut self) {
        // Destructured, so that a new field cannot be forgotten here.
        let Self { text, summary, operation, collection, count, constant } = self;
        text.clear();
        summary.clear();
        operation.clear();
        collection.clear();
        (*count, *constant) = (0, false);
    }
}

#[cfg(test)]
mod tests;
