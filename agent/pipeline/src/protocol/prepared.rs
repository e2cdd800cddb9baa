//! Statements that a connection prepared, by the name or number under which they are run: what is kept of their texts.
//!
//! In: texts when they are prepared. Out: the same, when they are run. Bounded: the statements of a connection, and
//! their bytes in the pipeline's buffers; a statement beyond that is counted, and its spans have no text.

use std::hash::Hash;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::sql::Statement;
use crate::state::State;
use crate::stats::Drop;

/// Statements of one connection.
const KEPT_MAX: usize = 2048;

/// Statements by name or number.
#[derive(Debug)]
pub(crate) struct Prepared<K> {
    by_key: FxHashMap<K, Kept>,
    cost: usize,
}

#[derive(Debug)]
struct Kept {
    statement: Arc<Statement>,
    cost: usize,
}

impl<K> Default for Prepared<K> {
    fn default() -> Self {
        Self { by_key: FxHashMap::default(), cost: 0 }
    }
}

impl<K: Eq + Hash> Prepared<K> {
    /// Keeps a statement, instead of the one of that name; `size` is that of the key.
    pub(crate) fn insert(&mut self, key: K, size: usize, statement: Arc<Statement>, state: &mut State) {
        self.remove(&key, state);
        let cost = size_of::<(K, Kept)>() + size + statement.cost();
        if self.by_key.len() >= KEPT_MAX || !state.reserve(cost) {
            state.stats.drop(Drop::DbStatementNotKept);
            return;
        }
        self.cost += cost;
        self.by_key.insert(key, Kept { statement, cost });
    }

    /// The statement of that name, if it is known.
    pub(crate) fn get<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&Arc<Statement>>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.by_key.get(key).map(|kept| &kept.statement)
    }

    pub(crate) fn remove<Q: Eq + Hash + ?Sized>(&mut self, key: &Q, state: &mut State)
    where
        K: std::borrow::Borrow<Q>,
    {
        if let Some(kept) = self.by_key.remove(key) {
            self.cost -= kept.cost;
            state.unreserve(kept.cost);
        }
    }

    pub(crate) fn clear(&mut self, state: &mut State) {
        state.unreserve(self.cost);
        self.by_key.clear();
        self.cost = 0;
    }
}
