//! Rate, errors and duration of the last hour, per service, span kind, span name and peer.
//!
//! In: one call per request. Out: the figures of any stretch of time. Slots of five seconds; those of more than ten
//! minutes ago are merged to minutes. The two newest slots are open, so that a request that is told late still counts
//! where it ended; closed ones are compact bytes. When these pass their bound the oldest are dropped and counted.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::histogram::{BUCKETS, Figures};

/// Seconds of a fine slot.
pub(super) const FINE_S: u64 = 5;
/// Seconds of a coarse slot.
pub(super) const COARSE_S: u64 = 60;
/// How far back fine slots reach.
pub(super) const FINE_SPAN_S: u64 = 600;
/// How far back anything reaches.
pub(super) const SPAN_S: u64 = 3600;
const OPEN_SLOTS: usize = 2;
/// Requests of a slot from which its 95th percentile says something.
const TELLING: u64 = 20;

/// What a series is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) service: u16,
    /// As in `record.rs`: 1 server, 2 client, 3 producer, 4 consumer.
    pub(super) kind: u8,
    pub(super) name: u16,
    /// Clients and producers: number of the peer. Servers: 1 if nobody is known to have asked.
    pub(super) peer: u16,
}

#[derive(Debug)]
struct Series {
    key: Key,
    last_s: u64,
    /// From here on a request is slow for its kind; about the 95th percentile.
    slow_ns: u64,
}

#[derive(Debug)]
struct Open {
    start_s: u64,
    figures: FxHashMap<u16, Figures>,
}

#[derive(Debug)]
struct Closed {
    start_s: u64,
    width_s: u64,
    bytes: Box<[u8]>,
}

/// All series.
#[derive(Debug)]
pub(super) struct SeriesTable {
    ids: FxHashMap<Key, u16>,
    series: Vec<Option<Series>>,
    free: Vec<u16>,
    open: VecDeque<Open>,
    closed: VecDeque<Closed>,
    closed_bytes: usize,
    max_closed_bytes: usize,
    /// Series at the same time; further ones are counted together as `(other)`.
    max_series: usize,
    spare: Vec<Figures>,
    /// Requests that were counted under `(other)`.
    pub(super) overflow: u64,
    /// Closed slots dropped before their time.
    pub(super) slots_dropped: u64,
}

impl SeriesTable {
    pub(super) fn new(max_closed_bytes: usize, max_series: usize) -> Self {
        Self {
            ids: FxHashMap::default(),
            series: Vec::new(),
            free: Vec::new(),
            open: VecDeque::new(),
            closed: VecDeque::new(),
            closed_bytes: 0,
            max_closed_bytes,
            max_series,
            spare: Vec::new(),
            overflow: 0,
            slots_dropped: 0,
        }
    }

    /// The series of a key. Beyond the bound: that of `other`, which always fits.
    pub(super) fn id(&mut self, key: Key, other: Key, now_s: u64) -> u16 {
        if let Some(&id) = self.ids.get(&key) {
            return id;
        }
        // A few places are left for the `(other)` of each kind.
        if self.ids.len() >= self.max_series && key != other {
            self.overflow += 1;
            return self.id(other, other, now_s);
        }
        let series = Some(Series { key, last_s: now_s, slow_ns: u64::MAX });
        let id = match self.free.pop() {
            Some(id) => {
                self.series[usize::from(id)] = series;
                id
            }
            None => {
                self.series.push(series);
                (self.series.len() - 1) as u16
            }
        };
        self.ids.insert(key, id);
        id
    }

    /// Takes one request. Time has been told by [`Self::tick`] before.
    pub(super) fn add(&mut self, id: u16, end_s: u64, duration_ns: u64, failed: bool) {
        let Some(newest) = self.open.back().map(|slot| slot.start_s) else { return };
        let index = self.open.iter().rposition(|slot| slot.start_s <= end_s).unwrap_or(0);
        if let Some(series) = self.series[usize::from(id)].as_mut() {
            series.last_s = newest;
        }
        let spare = &mut self.spare;
        let figures = self.open[index].figures.entry(id).or_insert_with(|| spare.pop().unwrap_or_default());
        figures.add(duration_ns, failed);
    }

    pub(super) fn slow_ns(&self, id: u16) -> u64 {
        self.series[usize::from(id)].as_ref().map_or(u64::MAX, |series| series.slow_ns)
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.series.iter().flatten().map(|series| series.key)
    }

    /// Time goes on: slots open and close.
    pub(super) fn tick(&mut self, now_s: u64) {
        let start_s = now_s / FINE_S * FINE_S;
        // A clock that was set back keeps writing into the newest slot.
        if self.open.back().is_none_or(|slot| slot.start_s < start_s) {
            self.open.push_back(Open { start_s, figures: FxHashMap::default() });
            while self.open.len() > OPEN_SLOTS {
                self.close();
            }
            self.merge(now_s);
            self.forget(now_s);
        }
    }

    fn close(&mut self) {
        let Some(mut slot) = self.open.pop_front() else { return };
        if slot.figures.is_empty() {
            return;
        }
        let mut ids: Vec<u16> = slot.figures.keys().copied().collect();
        ids.sort_unstable();
        let mut bytes = Vec::new();
        for id in ids {
            let Some(mut figures) = slot.figures.remove(&id) else { continue };
            if figures.count >= TELLING
                && let Some(series) = self.series[usize::from(id)].as_mut()
            {
                let now = figures.quantile_ns(0.95);
                series.slow_ns =
                    if series.slow_ns == u64::MAX { now } else { (series.slow_ns * 3 + now) / 4 };
            }
            encode(&mut bytes, id, &figures);
            figures.clear();
            if self.spare.len() < self.max_series / 4 {
                self.spare.push(figures);
            }
        }
        self.closed_bytes += bytes.len();
        self.closed.push_back(Closed { start_s: slot.start_s, width_s: FINE_S, bytes: bytes.into() });
        while self.closed_bytes > self.max_closed_bytes {
            self.drop_oldest();
            self.slots_dropped += 1;
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(slot) = self.closed.pop_front() {
            self.closed_bytes -= slot.bytes.len();
        }
    }

    /// Merges the fine slots of minutes that are long over.
    fn merge(&mut self, now_s: u64) {
        let limit_s = now_s.saturating_sub(FINE_SPAN_S) / COARSE_S * COARSE_S;
        while let Some(first) = self.closed.iter().position(|slot| slot.width_s < COARSE_S) {
            let minute_s = self.closed[first].start_s / COARSE_S * COARSE_S;
            if minute_s + COARSE_S > limit_s {
                return;
            }
            let count =
                self.closed.range(first..).take_while(|slot| slot.start_s < minute_s + COARSE_S).count();
            let mut merged: FxHashMap<u16, Figures> = FxHashMap::default();
            let mut scratch = Figures::default();
            for slot in self.closed.range(first..first + count) {
                let mut bytes = &slot.bytes[..];
                while let Some(id) = decode(&mut bytes, &mut scratch) {
                    merged.entry(id).or_default().merge(&scratch);
                }
            }
            let mut ids: Vec<u16> = merged.keys().copied().collect();
            ids.sort_unstable();
            let mut bytes = Vec::new();
            for id in ids {
                encode(&mut bytes, id, &merged[&id]);
            }
            let old: usize = self.closed.range(first..first + count).map(|slot| slot.bytes.len()).sum();
            self.closed_bytes = self.closed_bytes - old + bytes.len();
            self.closed.drain(first + 1..first + count);
            self.closed[first] = Closed { start_s: minute_s, width_s: COARSE_S, bytes: bytes.into() };
        }
    }

    fn forget(&mut self, now_s: u64) {
        while self.closed.front().is_some_and(|slot| slot.start_s + slot.width_s + SPAN_S < now_s) {
            self.drop_oldest();
        }
        for id in 0..self.series.len() {
            // Long enough for no slot to name it any more.
            if self.series[id].as_ref().is_some_and(|series| series.last_s + SPAN_S + 3 * COARSE_S < now_s)
                && let Some(series) = self.series[id].take()
            {
                self.ids.remove(&series.key);
                self.free.push(id as u16);
            }
        }
    }

    /// Shows the figures of every slot and series that begins in `from_s..to_s`: start, width, key, figures.
    pub(super) fn walk(
        &self,
        from_s: u64,
        to_s: u64,
        mut wanted: impl FnMut(Key) -> bool,
        mut visit: impl FnMut(u64, u64, Key, &Figures),
    ) {
        let mut want: Vec<Option<Key>> = Vec::with_capacity(self.series.len());
        want.extend(self.series.iter().map(|series| Some(series.as_ref()?.key).filter(|&key| wanted(key))));
        let mut scratch = Figures::default();
        for slot in &self.closed {
            if slot.start_s < from_s || slot.start_s >= to_s {
                continue;
            }
            let mut bytes = &slot.bytes[..];
            while let Some(id) = decode(&mut bytes, &mut scratch) {
                if let Some(key) = want.get(usize::from(id)).copied().flatten() {
                    visit(slot.start_s, slot.width_s, key, &scratch);
                }
            }
        }
        for slot in &self.open {
            if slot.start_s < from_s || slot.start_s >= to_s {
                continue;
            }
            for (&id, figures) in &slot.figures {
                if let Some(key) = want.get(usize::from(id)).copied().flatten() {
                    visit(slot.start_s, FINE_S, key, figures);
                }
            }
        }
    }

    /// Begin of the oldest slot that is still there.
    pub(super) fn oldest_s(&self) -> Option<u64> {
        let closed = self.closed.front().map(|slot| slot.start_s);
        closed.or_else(|| self.open.front().map(|slot| slot.start_s))
    }

    pub(super) fn memory(&self) -> usize {
        let figures = size_of::<Figures>() + BUCKETS * 4 + 16;
        let open: usize =
            self.open.iter().map(|slot| slot.figures.capacity() * (size_of::<Figures>() + 4)).sum();
        let live: usize = self.open.iter().map(|slot| slot.figures.len()).sum();
        self.closed_bytes
            + self.closed.capacity() * size_of::<Closed>()
            + open
            + (live + self.spare.len()) * figures
            + self.series.capacity() * size_of::<Option<Series>>()
            + self.ids.capacity() * (size_of::<Key>() + 4)
    }
}

fn encode(out: &mut Vec<u8>, id: u16, figures: &Figures) {
    varint(out, id.into());
    for number in [figures.count, figures.errors, figures.sum_us, figures.max_us] {
        varint(out, number);
    }
    out.push(figures.buckets.iter().filter(|&&count| count != 0).count() as u8);
    for (index, &count) in figures.buckets.iter().enumerate() {
        if count != 0 {
            out.push(index as u8);
            varint(out, count.into());
        }
    }
}

fn decode(bytes: &mut &[u8], figures: &mut Figures) -> Option<u16> {
    let id = read_varint(bytes)?;
    figures.buckets.fill(0);
    figures.count = read_varint(bytes)?;
    figures.errors = read_varint(bytes)?;
    figures.sum_us = read_varint(bytes)?;
    figures.max_us = read_varint(bytes)?;
    let (&buckets, rest) = bytes.split_first()?;
    *bytes = rest;
    for _ in 0..buckets {
        let (&index, rest) = bytes.split_first()?;
        *bytes = rest;
        *figures.buckets.get_mut(usize::from(index))? = read_varint(bytes)? as u32;
    }
    Some(id as u16)
}

fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: u16) -> Key {
        Key { service: 1, kind: 1, name, peer: 0 }
    }

    fn total(table: &SeriesTable, from_s: u64, to_s: u64) -> (u64, u64) {
        let mut sum = (0, 0);
        table.walk(
            from_s,
            to_s,
            |_| true,
            |_, _, _, figures| {
                sum.0 += figures.count;
                sum.1 += figures.errors;
            },
        );
        sum
    }

    #[test]
    fn an_hour_is_counted_exactly_and_then_forgotten() {
        let mut table = SeriesTable::new(1 << 20, 100);
        let begin = 1_000_000_020;
        for second in 0..3600_u64 {
            table.tick(begin + second);
            let id = table.id(key(1 + (second % 3) as u16), key(0), begin + second);
            table.add(id, begin + second, second * 1_000_000, second % 4 == 0);
        }
        assert_eq!(total(&table, 0, u64::MAX), (3600, 900));
        assert_eq!(total(&table, begin + 3600 - 300, u64::MAX), (300, 75));
        table.tick(begin + 2 * 3600 + 120);
        assert!(total(&table, 0, u64::MAX).0 <= 10);
        table.tick(begin + 3 * 3600 + 1000);
        assert_eq!((total(&table, 0, u64::MAX), table.ids.len()), ((0, 0), 0));
    }

    #[test]
    fn a_late_request_counts_where_it_ended() {
        let mut table = SeriesTable::new(1 << 20, 100);
        table.tick(100);
        table.tick(106);
        let id = table.id(key(1), key(0), 106);
        for end_s in [103, 107, 20, 900] {
            table.add(id, end_s, 1, false);
        }
        assert_eq!((total(&table, 100, 105), total(&table, 105, 110)), ((2, 0), (2, 0)));
    }

    #[test]
    fn series_and_bytes_are_bounded_and_nothing_is_lost_in_silence() {
        let mut table = SeriesTable::new(20_000, 100);
        for round in 0..2000_u64 {
            table.tick(1000 + round);
            let id = table.id(key(1 + round as u16), key(0), 1000);
            table.add(id, 1000 + round, round * 3000, false);
        }
        assert!(table.ids.len() <= 101);
        // Half an hour: none has been forgotten yet.
        assert_eq!(table.overflow, 2000 - 100);
        assert!(table.closed_bytes <= 20_000);
        assert!(table.slots_dropped > 0 || total(&table, 0, u64::MAX).0 == 2000);
    }

    #[test]
    fn numbers_of_any_size_survive() {
        for number in [0, 1, 127, 128, 300, 1 << 20, u64::MAX] {
            let mut bytes = Vec::new();
            varint(&mut bytes, number);
            assert_eq!(read_varint(&mut &bytes[..]), Some(number));
        }
        assert_eq!(read_varint(&mut &[0xff; 11][..]), None);
    }
}
