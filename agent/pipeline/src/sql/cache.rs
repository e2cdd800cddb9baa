//! Texts that come again and again, read once.
//!
//! In: a text. Out: its [`Statement`]. Only texts without literals are kept (the others hardly ever come twice, and hold
//! what must not be kept), so that memory holds no values. The table is bounded: a text takes the place of another.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::FxHasher;

use crate::db_request::DbRequest;
use crate::sql::{Dialect, Statement};

/// Texts that are kept.
const SLOTS: usize = 512;
/// Longest text that is kept.
const LONGEST: usize = 1024;

/// Reads SQL.
#[derive(Debug, Default)]
pub(crate) struct Sql {
    slots: Vec<Option<Cached>>,
    scratch: Statement,
}

#[derive(Debug)]
struct Cached {
    dialect: Dialect,
    text: Box<[u8]>,
    statement: Arc<Statement>,
}

impl Sql {
    /// Reads a text that is run once: says in `db` what it is about.
    #[inline]
    pub(crate) fn fill(&mut self, text: &[u8], cut: bool, dialect: Dialect, db: &mut DbRequest) {
        if let Some(statement) = self.find(text, cut, dialect) {
            statement.fill(db);
        } else {
            self.read(text, cut, dialect);
            self.scratch.fill(db);
        }
    }

    /// Reads a text that is prepared, to be run any number of times.
    pub(crate) fn prepare(&mut self, text: &[u8], cut: bool, dialect: Dialect) -> Arc<Statement> {
        match self.find(text, cut, dialect) {
            Some(statement) => Arc::clone(statement),
            None => self.read(text, cut, dialect).unwrap_or_else(|| Arc::new(self.scratch.clone())),
        }
    }

    /// Reads a text; what is kept of it, if it is kept.
    fn read(&mut self, text: &[u8], cut: bool, dialect: Dialect) -> Option<Arc<Statement>> {
        self.scratch.read(text, cut, dialect);
        if cut || text.len() > LONGEST || !self.scratch.constant {
            return None;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let statement = Arc::new(self.scratch.clone());
        self.slots[slot_of(text, dialect)] =
            Some(Cached { dialect, text: text.into(), statement: Arc::clone(&statement) });
        Some(statement)
    }

    #[cfg(test)]
    pub(super) fn holds(&self, text: &[u8], dialect: Dialect) -> bool {
        self.find(text, false, dialect).is_some()
    }

    #[inline]
    fn find(&self, text: &[u8], cut: bool, dialect: Dialect) -> Option<&Arc<Statement>> {
        if cut || text.len() > LONGEST || self.slots.is_empty() {
            return None;
        }
        let cached = self.slots[slot_of(text, dialect)].as_ref()?;
        (cached.dialect == dialect && *cached.text == *text).then_some(&cached.statement)
    }
}

#[inline]
fn slot_of(text: &[u8], dialect: Dialect) -> usize {
    let mut hasher = FxHasher::default();
    (text, dialect).hash(&mut hasher);
    // The upper bits are the good ones.
    (hasher.finish() >> 40) as usize % SLOTS
}
