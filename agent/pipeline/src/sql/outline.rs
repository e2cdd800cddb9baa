//! What a text is about: its operations and the tables that they name, in the order in which they stand.
//!
//! In: words, names and brackets. Out: the summary, operation and collection of a [`Statement`]. A bracket opens a
//! level; `FROM` names tables only on a level with an operation (`EXTRACT(year FROM t)` does not), a name with a
//! bracket behind it is a function, and names that `WITH` introduces are no tables. Levels beyond the bound are
//! passed over.

use crate::sql::Statement;
use crate::sql::keyword::{Keyword, Named, Then, keyword};
use crate::text::Text;

/// Nested brackets that are looked into.
const LEVELS: usize = 24;
/// Names that `WITH` may introduce.
const CTES: usize = 8;

/// What the next word may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Expect {
    /// An operation: the statement begins.
    #[default]
    Operation,
    /// A bracket was opened: `WITH`. (`SELECT` may stand anywhere.)
    Query,
    /// A table; whether a bracket makes it a function.
    Target(bool),
    /// A procedure.
    Procedure,
    /// A kind of object.
    Object,
    /// A name that stands for a query.
    Cte,
    Nothing,
}

#[derive(Clone, Copy, Debug, Default)]
struct Level {
    expect: Expect,
    /// An operation that reads from tables stands here.
    reads: bool,
    /// A list of tables is under way.
    from: bool,
    /// Names of queries are under way.
    with: bool,
    /// The next `ON` is followed by a table.
    on: bool,
}

#[derive(Clone, Copy, Debug)]
struct Target {
    start: usize,
    end: usize,
    /// A bracket makes it a function.
    may_call: bool,
    is_table: bool,
}

#[derive(Debug, Default)]
pub(super) struct Outline {
    levels: [Level; LEVELS],
    depth: usize,
    /// A name that may be a table.
    target: Option<Target>,
    /// A dot: the name goes on.
    dotted: bool,
    last: Option<Keyword>,
    /// `IN` is the last word, and a bracket was opened.
    in_list: bool,
    ctes: [(usize, usize); CTES],
    cte_count: usize,
    /// The statement has an operation on its outermost level.
    has_operation: bool,
    /// A statement is under way.
    begun: bool,
    operations: u32,
    mixed_operations: bool,
    collections: u32,
}

impl Outline {
    /// A word or a quoted name; whether the word is a literal.
    #[inline]
    pub(super) fn word(
        &mut self,
        word: &[u8],
        start: usize,
        quoted: bool,
        out: &mut Statement,
        sql: &[u8],
    ) -> bool {
        self.begin(out);
        if std::mem::take(&mut self.dotted) {
            // Whatever the word is, behind a dot it is a name.
            if let Some(target) = &mut self.target {
                target.end = start + word.len();
            }
            self.last = None;
            return false;
        }
        self.end_target(false, out, sql);
        self.in_list = false;
        let keyword = if quoted { None } else { keyword(word) };
        let last = std::mem::replace(&mut self.last, keyword);
        let Some(keyword) = keyword else {
            self.name(start, start + word.len());
            return false;
        };
        if matches!(keyword, Keyword::True | Keyword::False) {
            return true;
        }
        let Some(level) = self.levels.get_mut(self.depth) else { return false };
        match (level.expect, keyword) {
            (_, Keyword::Select) => {
                *level = Level { reads: true, expect: Expect::Nothing, ..Level::default() };
                self.operation(word, out);
            }
            (Expect::Operation, Keyword::Operation(then)) => {
                *level = Level { reads: then == Then::From, ..Level::default() };
                (level.expect, level.from) = match then {
                    Then::Target => (Expect::Target(false), true),
                    Then::Call => (Expect::Procedure, false),
                    Then::Object => (Expect::Object, false),
                    Then::Objects => (Expect::Object, true),
                    Then::Statement => (Expect::Operation, false),
                    Then::Nothing | Then::EndsFrom | Then::From => (Expect::Nothing, false),
                };
                self.operation(word, out);
            }
            (Expect::Operation | Expect::Query, Keyword::With) => {
                (level.with, level.expect) = (true, Expect::Cte);
            }
            (Expect::Object, Keyword::Object(named)) => {
                (level.expect, level.on) = match named {
                    Named::Next => (Expect::Target(false), false),
                    Named::AfterOn => (Expect::Nothing, true),
                    Named::Nowhere => (Expect::Nothing, false),
                };
                self.add_object(word, out);
            }
            // What may stand before that which is looked for: `INTO`, `IF NOT EXISTS`, `OR REPLACE`, `TABLE`.
            (Expect::Operation | Expect::Target(_) | Expect::Object | Expect::Cte, Keyword::Skipped)
            | (Expect::Target(false), Keyword::Object(_))
            | (Expect::Object, Keyword::Operation(_)) => {}
            (_, Keyword::From) => {
                if level.reads && last != Some(Keyword::Distinct) {
                    (level.from, level.expect) = (true, Expect::Target(true));
                }
            }
            (_, Keyword::Join) => {
                if level.from {
                    level.expect = Expect::Target(true);
                }
            }
            (_, Keyword::On) if level.on => (level.on, level.expect) = (false, Expect::Target(false)),
            (_, Keyword::EndsFrom) => (level.from, level.expect) = (false, Expect::Nothing),
            (_, Keyword::Operation(Then::EndsFrom)) if level.expect == Expect::Nothing => level.from = false,
            // A word that means nothing here may be a name.
            (_, Keyword::Operation(_) | Keyword::Object(_) | Keyword::Skipped) => {
                self.name(start, start + word.len());
            }
            _ => level.expect = Expect::Nothing,
        }
        false
    }

    /// A literal.
    pub(super) fn other(&mut self, out: &mut Statement, sql: &[u8]) {
        self.begin(out);
        self.end_target(false, out, sql);
        (self.last, self.dotted, self.in_list) = (None, false, false);
        if let Some(level) = self.levels.get_mut(self.depth)
            && !matches!(level.expect, Expect::Object | Expect::Target(false))
        {
            // (`LOAD DATA INFILE '…' INTO TABLE t` has one before its table.)
            level.expect = Expect::Nothing;
        }
    }

    /// `(`
    pub(super) fn open(&mut self, out: &mut Statement, sql: &[u8]) {
        self.begin(out);
        self.end_target(true, out, sql);
        self.in_list = self.last.take() == Some(Keyword::In);
        self.dotted = false;
        let outer = self.levels.get_mut(self.depth);
        let mut inner = Level { expect: Expect::Query, ..Level::default() };
        if let Some(outer) = outer {
            match outer.expect {
                // `FROM (a JOIN b …)`, `FROM (SELECT …)`
                Expect::Target(true) => {
                    (inner.expect, inner.reads, inner.from) = (Expect::Target(true), true, true);
                }
                // `EXPLAIN (…) SELECT`
                Expect::Operation => {}
                _ if outer.with => inner.expect = Expect::Operation,
                _ => {}
            }
            if outer.expect != Expect::Operation {
                outer.expect = Expect::Nothing;
            }
        }
        self.depth += 1;
        if let Some(level) = self.levels.get_mut(self.depth) {
            *level = inner;
        }
    }

    /// Whether the bracket that was opened last is that of `IN (`.
    pub(super) fn after_in(&self) -> bool {
        self.in_list
    }

    /// `)`
    pub(super) fn close(&mut self, out: &mut Statement, sql: &[u8]) {
        self.begin(out);
        self.end_target(false, out, sql);
        (self.last, self.dotted, self.in_list) = (None, false, false);
        self.depth = self.depth.saturating_sub(1);
        if let Some(level) = self.levels.get_mut(self.depth)
            && level.with
        {
            // Behind `WITH x AS (…)`: the next query, or what is done with them.
            level.expect = Expect::Operation;
        }
    }

    /// Anything else.
    pub(super) fn symbol(&mut self, byte: u8, out: &mut Statement, sql: &[u8]) {
        if byte == b';' {
            self.end_statement(out, sql);
            return;
        }
        self.begin(out);
        if byte == b'.' && self.target.is_some() {
            self.dotted = true;
            return;
        }
        self.end_target(false, out, sql);
        (self.last, self.in_list) = (None, false);
        let Some(level) = self.levels.get_mut(self.depth) else { return };
        level.expect = match byte {
            b',' if level.from => Expect::Target(true),
            b',' if level.with && level.expect == Expect::Operation => Expect::Cte,
            _ => Expect::Nothing,
        };
        self.dotted = byte == b'.';
    }

    /// The text ends; `cut` if more of it was there.
    pub(super) fn end(&mut self, out: &mut Statement, sql: &[u8], cut: bool) {
        self.end_statement(out, sql);
        if out.count > 1 {
            let operation = out.operation.clone();
            out.operation.set(b"BATCH");
            if !self.mixed_operations && self.operations == out.count {
                out.operation.push_clean(" ");
                out.operation.push_clean(operation.as_str());
            }
        } else if self.mixed_operations {
            out.operation.clear();
        }
        if self.collections != 1 || cut {
            out.collection.clear();
        }
    }

    #[inline]
    fn begin(&mut self, out: &mut Statement) {
        if !self.begun {
            self.begun = true;
            out.count += 1;
        }
    }

    fn end_statement(&mut self, out: &mut Statement, sql: &[u8]) {
        self.end_target(false, out, sql);
        self.levels[0] = Level::default();
        (self.depth, self.last, self.dotted, self.in_list) = (0, None, false, false);
        (self.cte_count, self.has_operation, self.begun) = (0, false, false);
    }

    /// A name where a table or a query's name may stand.
    fn name(&mut self, start: usize, end: usize) {
        let Some(level) = self.levels.get_mut(self.depth) else { return };
        match level.expect {
            Expect::Target(may_call) => self.target = Some(Target { start, end, may_call, is_table: true }),
            Expect::Procedure => self.target = Some(Target { start, end, may_call: false, is_table: false }),
            Expect::Cte => {
                if let Some(cte) = self.ctes.get_mut(self.cte_count) {
                    *cte = (start, end);
                    self.cte_count += 1;
                }
            }
            _ => {}
        }
        level.expect = Expect::Nothing;
    }

    fn operation(&mut self, word: &[u8], out: &mut Statement) {
        append(&mut out.summary, word);
        let outermost = self.depth == 0 && !self.has_operation;
        if !outermost {
            return;
        }
        self.has_operation = true;
        self.operations += 1;
        if self.operations == 1 {
            out.operation.push(word);
        } else if !out.operation.as_str().as_bytes().eq_ignore_ascii_case(word) {
            self.mixed_operations = true;
        }
    }

    /// `CREATE` becomes `CREATE TABLE`.
    fn add_object(&mut self, word: &[u8], out: &mut Statement) {
        append(&mut out.summary, word);
        if self.depth == 0 && self.operations == 1 {
            out.operation.push_clean(" ");
            out.operation.push(word);
        }
    }

    #[inline]
    fn end_target(&mut self, bracket: bool, out: &mut Statement, sql: &[u8]) {
        let Some(target) = self.target.take() else { return };
        if bracket && target.may_call {
            return;
        }
        let name = &sql[target.start..target.end];
        let is_cte = |&(start, end): &(usize, usize)| sql[start..end].eq_ignore_ascii_case(name);
        if self.ctes[..self.cte_count].iter().any(is_cte) {
            return;
        }
        append(&mut out.summary, name);
        if !target.is_table {
            return;
        }
        if self.collections == 0 {
            set_unquoted(&mut out.collection, name);
            self.collections = 1;
        } else if self.collections == 1 {
            let mut other = Text::new();
            set_unquoted(&mut other, name);
            if other != out.collection {
                self.collections = 2;
            }
        }
    }
}

/// Appends a word; one that does not fit is left out whole, and all that follow.
fn append(summary: &mut Text<255>, word: &[u8]) {
    if summary.is_truncated() {
        return;
    }
    let blank = usize::from(!summary.is_empty());
    if summary.len() + blank + word.len() > 255 {
        summary.close();
        return;
    }
    if blank == 1 {
        summary.push_clean(" ");
    }
    summary.push(word);
}

/// `"a"."b c"` is `a.b c`.
fn set_unquoted(text: &mut Text<256>, name: &[u8]) {
    for part in name.split(|byte| matches!(byte, b'"' | b'`')) {
        text.push(part);
    }
}
