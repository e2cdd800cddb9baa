//! The series: a bounded table, found by the bytes of their keys.
//!
//! In: keys. Out: the series' values, to be changed in place. What a reader holds is shared until the series changes:
//! then that series alone is copied, so that a snapshot costs a reference each and holds nothing up.

use std::hash::Hasher;
use std::sync::Arc;

use hashbrown::HashTable;
use rustc_hash::FxHasher;

use crate::metrics::distribution::Distribution;
use crate::metrics::key;

/// What does not change about a series.
#[derive(Debug)]
pub struct Series {
    /// Never used twice.
    pub id: u64,
    /// Index of its family.
    pub family: u8,
    /// Index of its resource.
    pub resource: u32,
    /// Since when it counts: before its first value, after its last one if it existed before.
    pub start_unix_ns: u64,
    /// It stands for all series beyond the limit and has no attributes.
    pub overflow: bool,
    key: Box<[u8]>,
}

/// The values of a series, one for each instrument of its family.
#[derive(Clone, Debug)]
pub struct Cells {
    /// By instrument.
    pub cells: Box<[Cell]>,
    /// Of the first instrument, at most one for each explicit bucket, the newest.
    pub exemplars: Vec<Exemplar>,
}

/// The value of one instrument.
#[derive(Clone, Debug)]
pub enum Cell {
    /// Of a histogram.
    Distribution(Distribution),
    /// Of a counter.
    Sum(f64),
    /// Of an up-down counter.
    Level(i64),
}

/// A measurement that stands for others in its bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exemplar {
    /// Explicit bucket.
    pub bucket: u8,
    /// Value.
    pub value: f64,
    /// When its request ended.
    pub unix_ns: u64,
    /// Trace.
    pub trace_id: [u8; 16],
    /// Span.
    pub span_id: [u8; 8],
}

/// A series in the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) series: Arc<Series>,
    pub(crate) cells: Arc<Cells>,
    /// When it last changed.
    pub(crate) last_ktime_ns: u64,
    /// Slot and id of the series that lives as long as this one.
    pub(crate) companion: Option<(u32, u64)>,
    hash: u64,
}

/// All series.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    index: HashTable<u32>,
    slots: Vec<Option<Row>>,
    free: Vec<u32>,
    next_id: u64,
    /// Series by family, those of overflow not counted.
    counts: Vec<usize>,
}

impl Series {
    /// Values of the family's attributes, in their order.
    pub fn values(&self) -> impl Iterator<Item = Option<key::AttributeValue<'_>>> {
        key::values(&self.key)
    }
}

impl Cells {
    /// Keeps a measurement of the first instrument, unless a newer one is there.
    #[inline]
    pub(crate) fn keep(&mut self, exemplar: Exemplar) {
        match self.exemplars.iter_mut().find(|kept| kept.bucket == exemplar.bucket) {
            Some(kept) => *kept = exemplar,
            None => self.exemplars.push(exemplar),
        }
    }
}

impl Rows {
    #[inline]
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        let slots = &self.slots;
        self.index.find(hash(key), |&slot| is(slots, slot, key)).copied()
    }

    /// The row in a slot that [`Self::find`] or [`Self::insert`] told.
    #[inline]
    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Row> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// How many series a family has.
    pub(crate) fn count(&self, family: u8) -> usize {
        self.counts.get(usize::from(family)).copied().unwrap_or(0)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// All of them, in the order of their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.slots.iter().flatten()
    }

    /// All of them.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        self.slots.iter_mut().flatten()
    }

    /// A new series; its key must not be there yet.
    pub(crate) fn insert(&mut self, key: &[u8], overflow: bool, start: (u64, u64), cells: Cells) -> u32 {
        let (family, resource) = key::head(key);
        let (start_unix_ns, last_ktime_ns) = start;
        let id = self.next_id;
        self.next_id += 1;
        let hash = hash(key);
        let series = Series { id, family, resource, start_unix_ns, overflow, key: key.into() };
        let row =
            Row { series: Arc::new(series), cells: Arc::new(cells), last_ktime_ns, companion: None, hash };
        if !overflow {
            let family = usize::from(family);
            if self.counts.len() <= family {
                self.counts.resize(family + 1, 0);
            }
            self.counts[family] += 1;
        }
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some(row);
                slot
            }
            None => {
                self.slots.push(Some(row));
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.index.insert_unique(hash, slot, |&slot| slots[slot as usize].as_ref().map_or(0, |row| row.hash));
        slot
    }

    /// Forgets the series that are not to be kept and tells their resources.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Row) -> bool, mut forgotten: impl FnMut(u32)) {
        for slot in 0..self.slots.len() {
            let Some(row) = self.slots[slot].as_ref().filter(|row| !keep(row)) else { continue };
            forgotten(row.series.resource);
            if !row.series.overflow {
                self.counts[usize::from(row.series.family)] -= 1;
            }
            if let Ok(entry) = self.index.find_entry(row.hash, |&other| other as usize == slot) {
                entry.remove();
            }
            self.slots[slot] = None;
            self.free.push(slot as u32);
        }
    }
}

fn is(slots: &[Option<Row>], slot: u32, key: &[u8]) -> bool {
    slots[slot as usize].as_ref().is_some_and(|row| *row.series.key == *key)
}

fn hash(key: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(key);
    hasher.finish()
}
