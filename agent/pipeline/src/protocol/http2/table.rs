//! The tables of HPACK: RFC 7541, 2.3 and appendix A.
//!
//! In: fields that the encoder adds. Out: the field of an index, or that it is not known. Only fields that matter keep
//! their value; of the others the table knows the size alone, so that it holds far less than the two ends do. A
//! table that was joined in the middle, or that had to forget for lack of room, knows its newest entries and says of
//! older ones that it does not know them. That is always right: an index counts from the newest entry, and an encoder
//! refers only to entries that exist.

use std::collections::VecDeque;

use super::field::Field;

/// Bytes of values that a table holds, and entries.
const VALUES_MAX: usize = 64 * 1024;
const ENTRIES_MAX: usize = 4096;
/// Longest value that is kept whole: no field of a request is longer.
const VALUE_MAX: usize = 8 * 1024;
/// What an entry costs beside name and value (RFC 7541, 4.1).
const OVERHEAD: usize = 32;
/// Size until the encoder says otherwise.
const DEFAULT_SIZE: usize = 4096;
/// First index of the dynamic table.
const DYNAMIC: usize = STATIC.len() + 1;

/// Name and value by index, from 1 on.
#[rustfmt::skip]
const STATIC: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"), (":path", "/index.html"),
    (":scheme", "http"), (":scheme", "https"), (":status", "200"), (":status", "204"), (":status", "206"),
    (":status", "304"), (":status", "400"), (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""), ("accept", ""),
    ("access-control-allow-origin", ""), ("age", ""), ("allow", ""), ("authorization", ""), ("cache-control", ""),
    ("content-disposition", ""), ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""), ("date", ""), ("etag", ""),
    ("expect", ""), ("expires", ""), ("from", ""), ("host", ""), ("if-match", ""), ("if-modified-since", ""),
    ("if-none-match", ""), ("if-range", ""), ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""),
    ("location", ""), ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""), ("via", ""),
    ("www-authenticate", ""),
];

/// What stands at an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup<'a> {
    /// Length of the name, and the value as far as it is kept.
    Known(Field, usize, &'a [u8]),
    /// It was sent before this table began.
    Unknown,
    /// There is nothing.
    Invalid,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    field: Field,
    name_len: u32,
    /// Place of the value, counted from the first value ever kept.
    start: u64,
    len: u32,
    /// By the rules of HPACK.
    size: u32,
}

/// The dynamic table of one direction.
#[derive(Debug)]
pub(super) struct Table {
    /// Newest first.
    entries: VecDeque<Entry>,
    values: Vec<u8>,
    /// Place of the first byte of `values`.
    base: u64,
    size: usize,
    max: usize,
    /// Nothing is missing.
    complete: bool,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            values: Vec::new(),
            base: 0,
            size: 0,
            max: DEFAULT_SIZE,
            complete: true,
        }
    }
}

impl Table {
    /// What is in it is not known, and neither is how much fits.
    pub(super) fn forget(&mut self) {
        *self = Self { max: usize::MAX, complete: false, ..Self::default() };
    }

    /// What it takes in memory.
    pub(super) fn cost(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.values.capacity()
    }

    /// The field at an index.
    pub(super) fn get(&self, index: usize) -> Lookup<'_> {
        if index == 0 {
            return Lookup::Invalid;
        }
        if let Some(&(name, value)) = STATIC.get(index - 1) {
            return Lookup::Known(Field::of(name.as_bytes()), name.len(), value.as_bytes());
        }
        match self.entries.get(index - DYNAMIC) {
            Some(entry) if entry.field == Field::Unknown => Lookup::Unknown,
            Some(entry) => {
                let start = (entry.start - self.base) as usize;
                let value = &self.values[start..start + entry.len as usize];
                Lookup::Known(entry.field, entry.name_len as usize, value)
            }
            None if self.complete => Lookup::Invalid,
            None => Lookup::Unknown,
        }
    }

    /// The encoder uses so much from now on.
    pub(super) fn resize(&mut self, max: usize) {
        self.max = max;
        self.evict(0);
        if self.size == 0 {
            // Whatever was there is gone: nothing is missing any more.
            self.complete |= max == 0;
        }
    }

    /// Adds a field; the oldest ones make room.
    pub(super) fn add(&mut self, field: Field, name_len: usize, value: &[u8]) {
        let size = name_len.saturating_add(value.len()).saturating_add(OVERHEAD);
        self.evict(size);
        if size > self.max {
            return;
        }
        let kept = if field.matters() { &value[..value.len().min(VALUE_MAX)] } else { &[] };
        while self.live() + kept.len() > VALUES_MAX || self.entries.len() >= ENTRIES_MAX {
            self.pop();
            self.complete = false;
        }
        self.compact();
        let start = self.base + self.values.len() as u64;
        self.values.extend_from_slice(kept);
        self.entries.push_front(Entry {
            field,
            name_len: name_len as u32,
            start,
            len: kept.len() as u32,
            size: size as u32,
        });
        self.size += size;
    }

    /// Makes room for an entry of that size, as far as there is something to evict.
    fn evict(&mut self, size: usize) {
        while self.size.saturating_add(size) > self.max && !self.entries.is_empty() {
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(entry) = self.entries.pop_back() {
            self.size -= entry.size as usize;
        }
    }

    /// Bytes of values that entries refer to.
    fn live(&self) -> usize {
        let end = self.base + self.values.len() as u64;
        self.entries.back().map_or(0, |oldest| (end - oldest.start) as usize)
    }

    /// Drops values whose entries are gone, once they are more than the others.
    fn compact(&mut self) {
        let dead = self.values.len() - self.live();
        if dead > 512 && dead > self.values.len() / 2 {
            self.values.drain(..dead);
            self.base += dead as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(table: &Table, index: usize) -> Option<&[u8]> {
        match table.get(index) {
            Lookup::Known(Field::Path, 5, value) => Some(value),
            _ => None,
        }
    }

    #[test]
    fn the_newest_entry_comes_first_and_the_oldest_goes() {
        let mut table = Table::default();
        table.resize(2 * 39);
        for value in [b"/1", b"/2", b"/3"] {
            table.add(Field::Path, 5, value);
        }
        assert_eq!((path(&table, 62), path(&table, 63)), (Some(&b"/3"[..]), Some(&b"/2"[..])));
        assert_eq!(table.get(64), Lookup::Invalid);
        table.add(Field::Path, 5, &[b'a'; 100]);
        assert_eq!(table.get(62), Lookup::Invalid, "what does not fit empties the table");
    }

    #[test]
    fn a_table_joined_in_the_middle_knows_what_came_since() {
        let mut table = Table::default();
        table.forget();
        assert_eq!(table.get(62), Lookup::Unknown);
        table.add(Field::Path, 5, b"/1");
        assert_eq!((path(&table, 62), table.get(63)), (Some(&b"/1"[..]), Lookup::Unknown));
        table.resize(0);
        table.resize(4096);
        assert_eq!(table.get(62), Lookup::Invalid, "an emptied table is known again");
    }

    #[test]
    fn memory_is_bounded_whatever_the_encoder_may_use() {
        let mut table = Table::default();
        table.resize(usize::MAX);
        for _ in 0..10_000 {
            table.add(Field::Path, 5, &[b'a'; 9000]);
            table.add(Field::Other, 5, &[b'a'; 9000]);
        }
        assert!(table.cost() <= 4 * VALUES_MAX, "{}", table.cost());
        assert_eq!(table.get(62 + ENTRIES_MAX), Lookup::Unknown);
        let mut table = Table::default();
        table.resize(usize::MAX);
        for _ in 0..100_000 {
            table.add(Field::Other, 5, b"a");
        }
        assert!(table.cost() <= 4 * VALUES_MAX, "{}", table.cost());
    }
}
