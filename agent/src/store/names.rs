//! Texts that many things share (services, span names, peers), each once, by number. Bounded; what does not fit is
//! number 0, `(other)`, and counted.

use std::sync::Arc;

use rustc_hash::FxHashMap;

/// The number of what did not fit.
pub(super) const OTHER: u16 = 0;
const MAX_NAMES: usize = 4096;
/// What a name takes beside its bytes: two references, a slot of the map, the counts.
const EACH: usize = 64;

/// All texts.
#[derive(Debug)]
pub(super) struct Names {
    ids: FxHashMap<Arc<str>, u16>,
    texts: Vec<Option<Arc<str>>>,
    free: Vec<u16>,
    bytes: usize,
    max_bytes: usize,
    /// Texts that did not fit.
    pub(super) overflow: u64,
}

impl Names {
    pub(super) fn new(max_bytes: usize) -> Self {
        let other: Arc<str> = Arc::from("(other)");
        Self {
            ids: FxHashMap::from_iter([(Arc::clone(&other), OTHER)]),
            texts: vec![Some(other)],
            free: Vec::new(),
            bytes: 0,
            max_bytes,
            overflow: 0,
        }
    }

    pub(super) fn find(&self, text: &str) -> Option<u16> {
        self.ids.get(text).copied()
    }

    pub(super) fn intern(&mut self, text: &str) -> u16 {
        if let Some(&id) = self.ids.get(text) {
            return id;
        }
        if self.is_full() {
            self.overflow += 1;
            return OTHER;
        }
        let text: Arc<str> = Arc::from(text);
        self.bytes += text.len() + EACH;
        let id = match self.free.pop() {
            Some(id) => {
                self.texts[usize::from(id)] = Some(Arc::clone(&text));
                id
            }
            None => {
                self.texts.push(Some(Arc::clone(&text)));
                (self.texts.len() - 1) as u16
            }
        };
        self.ids.insert(text, id);
        id
    }

    pub(super) fn get(&self, id: u16) -> &str {
        self.texts.get(usize::from(id)).and_then(Option::as_deref).unwrap_or("(other)")
    }

    /// Whether the next new text would not fit.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= self.max_bytes || self.texts.len() - self.free.len() >= MAX_NAMES
    }

    /// Forgets all but these.
    pub(super) fn keep(&mut self, used: &[bool]) {
        for id in 1..self.texts.len() {
            if !used.get(id).copied().unwrap_or(false)
                && let Some(text) = self.texts[id].take()
            {
                self.bytes -= text.len() + EACH;
                self.ids.remove(&text);
                self.free.push(id as u16);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }

    pub(super) fn memory(&self) -> usize {
        self.bytes
    }
}
