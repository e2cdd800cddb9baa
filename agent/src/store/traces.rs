//! The last traces, whole, within a bound.
//!
//! In: spans in any order. Out: traces. When the room is used up a trace goes, always with all its spans: the oldest
//! of the group that takes most room. A group is the root's service and name, and whether the trace is common, slow or
//! failed; so whatever is rare stays longest. Spans that come after their trace has gone are counted, not kept: a
//! trace is never torn.

use std::collections::VecDeque;

use rustc_hash::{FxHashMap, FxHashSet};

use super::arena::{Arena, Chain, NONE};

/// Spans of one trace; further ones are counted.
const MAX_SPANS: u16 = 1000;
/// Once something must go, so much more goes with it, so that the search for the largest group is rare.
const SLACK: usize = 64;

/// Why a trace is worth keeping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Class {
    Common,
    Slow,
    Failed,
}

impl Class {
    /// How much room counts: common ones go first.
    fn weight(self) -> usize {
        if self == Self::Common { 2 } else { 1 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct GroupKey {
    service: u16,
    name: u16,
    class: Class,
}

#[derive(Debug)]
struct Group {
    key: GroupKey,
    oldest: u32,
    newest: u32,
    blocks: usize,
}

/// The root of a trace, as far as it has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root {
    /// It has no parent, so nothing can be above it.
    pub(super) certain: bool,
    pub(super) service: u16,
    pub(super) name: u16,
    pub(super) kind: u8,
    pub(super) start_unix_ns: u64,
    pub(super) duration_ns: u64,
}

impl Root {
    fn above(&self, other: &Self) -> bool {
        (self.certain && !other.certain)
            || (self.certain == other.certain && self.start_unix_ns < other.start_unix_ns)
    }
}

/// A trace.
#[derive(Debug)]
pub(super) struct Trace {
    pub(super) id: [u8; 16],
    pub(super) chain: Chain,
    pub(super) spans: u16,
    /// Spans beyond the bound.
    pub(super) spans_dropped: u32,
    pub(super) failed: bool,
    pub(super) slow: bool,
    pub(super) root: Root,
    pub(super) start_unix_ns: u64,
    pub(super) end_unix_ns: u64,
    group: u32,
    older: u32,
    newer: u32,
    live: bool,
}

/// What was kept and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TraceCounts {
    /// Traces that are there.
    pub(super) traces: u64,
    /// Spans in them.
    pub(super) spans: u64,
    /// Traces that had to go.
    pub(super) traces_evicted: u64,
    /// Their spans.
    pub(super) spans_evicted: u64,
    /// Spans whose trace had gone already.
    pub(super) spans_late: u64,
    /// Spans of traces that had as many as are kept.
    pub(super) spans_over_cap: u64,
}

/// All traces.
#[derive(Debug)]
pub(super) struct Traces {
    arena: Arena,
    ids: FxHashMap<u64, u32>,
    slots: Vec<Trace>,
    free: Vec<u32>,
    groups: Vec<Group>,
    group_ids: FxHashMap<GroupKey, u32>,
    /// Traces that went last, so that no late span starts them anew; oldest first.
    gone_order: VecDeque<u64>,
    gone: FxHashSet<u64>,
    remembered: usize,
    max_traces: usize,
    pub(super) counts: TraceCounts,
}

/// One span for its trace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival<'a> {
    pub(super) trace_id: [u8; 16],
    /// What is kept of it.
    pub(super) bytes: &'a [u8],
    pub(super) failed: bool,
    pub(super) slow: bool,
    pub(super) root: Root,
}

impl Traces {
    pub(super) fn new(max_bytes: usize) -> Self {
        // A trace of one plain span takes three blocks, and a place in the tables, which grow by quarters.
        let max_traces = (max_bytes / 640).max(16);
        // Seven eighths of a power of two fill a hash set.
        let remembered = (max_bytes / 256).next_power_of_two() / 2 / 8 * 7;
        let tables = max_traces * (size_of::<Trace>() * 5 / 4 + 96) + remembered * 20;
        Self {
            arena: Arena::new(max_bytes.saturating_sub(tables).max(64 * 1024)),
            ids: FxHashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            groups: Vec::new(),
            group_ids: FxHashMap::default(),
            gone_order: VecDeque::new(),
            gone: FxHashSet::default(),
            remembered,
            max_traces,
            counts: TraceCounts::default(),
        }
    }

    /// Takes a span.
    pub(super) fn add(&mut self, span: &Arrival<'_>) {
        let hash = hash(&span.trace_id);
        let known =
            self.ids.get(&hash).copied().filter(|&slot| self.slots[slot as usize].id == span.trace_id);
        let Some(slot) = known else {
            if self.is_gone(hash) {
                self.counts.spans_late += 1;
                return;
            }
            self.begin(hash, span);
            return;
        };
        if self.slots[slot as usize].spans >= MAX_SPANS {
            self.slots[slot as usize].spans_dropped += 1;
            self.counts.spans_over_cap += 1;
            return;
        }
        let needed = Arena::blocks_for(&self.slots[slot as usize].chain, span.bytes.len());
        if needed > self.arena.room() {
            self.make_room(needed);
            if !self.slots[slot as usize].live || self.slots[slot as usize].id != span.trace_id {
                // It was the one that had to go.
                self.counts.spans_late += 1;
                return;
            }
        }
        let trace = &mut self.slots[slot as usize];
        self.arena.append(&mut trace.chain, span.bytes);
        trace.spans += 1;
        trace.start_unix_ns = trace.start_unix_ns.min(span.root.start_unix_ns);
        trace.end_unix_ns =
            trace.end_unix_ns.max(span.root.start_unix_ns.saturating_add(span.root.duration_ns));
        trace.failed |= span.failed;
        if span.root.above(&trace.root) {
            trace.root = span.root;
            trace.slow = span.slow;
        }
        self.counts.spans += 1;
        self.groups[trace.group as usize].blocks += needed;
        self.regroup(slot);
    }

    fn begin(&mut self, hash: u64, span: &Arrival<'_>) {
        let needed = Arena::blocks_for(&Chain::default(), span.bytes.len());
        if needed > self.arena.room() || self.ids.len() >= self.max_traces {
            self.make_room(needed);
        }
        let mut trace = Trace {
            id: span.trace_id,
            chain: Chain::default(),
            spans: 1,
            spans_dropped: 0,
            failed: span.failed,
            slow: span.slow,
            root: span.root,
            start_unix_ns: span.root.start_unix_ns,
            end_unix_ns: span.root.start_unix_ns.saturating_add(span.root.duration_ns),
            group: NONE,
            older: NONE,
            newer: NONE,
            live: true,
        };
        self.arena.append(&mut trace.chain, span.bytes);
        let key = group_key(&trace);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = trace;
                slot
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    self.slots.reserve_exact((self.slots.len() / 4).max(64));
                }
                self.slots.push(trace);
                (self.slots.len() - 1) as u32
            }
        };
        if let Some(other) = self.ids.insert(hash, slot) {
            // Two ids of the same hash: the older one has lost its place in the table.
            self.evict(other);
        }
        self.link(slot, key);
        self.counts.traces += 1;
        self.counts.spans += 1;
    }

    /// Moves a trace whose root or class is another one now.
    fn regroup(&mut self, slot: u32) {
        let trace = &self.slots[slot as usize];
        let key = group_key(trace);
        if self.groups[trace.group as usize].key != key {
            self.unlink(slot);
            self.link(slot, key);
        }
    }

    fn link(&mut self, slot: u32, key: GroupKey) {
        let group = match self.group_ids.get(&key) {
            Some(&group) => group,
            None => {
                let fresh = Group { key, oldest: NONE, newest: NONE, blocks: 0 };
                // An empty group's place is used again, so there are never more than traces.
                let group = match self.groups.iter().position(|group| group.oldest == NONE) {
                    Some(empty) => {
                        self.group_ids.remove(&self.groups[empty].key);
                        self.groups[empty] = fresh;
                        empty as u32
                    }
                    None => {
                        self.groups.push(fresh);
                        (self.groups.len() - 1) as u32
                    }
                };
                self.group_ids.insert(key, group);
                group
            }
        };
        let newest = self.groups[group as usize].newest;
        let trace = &mut self.slots[slot as usize];
        (trace.group, trace.older, trace.newer) = (group, newest, NONE);
        let blocks = trace.chain.blocks();
        if newest != NONE {
            self.slots[newest as usize].newer = slot;
        }
        let group = &mut self.groups[group as usize];
        group.newest = slot;
        if group.oldest == NONE {
            group.oldest = slot;
        }
        group.blocks += blocks;
    }

    fn unlink(&mut self, slot: u32) {
        let trace = &self.slots[slot as usize];
        let (older, newer, blocks) = (trace.older, trace.newer, trace.chain.blocks());
        let group = &mut self.groups[trace.group as usize];
        group.blocks -= blocks;
        if group.oldest == slot {
            group.oldest = newer;
        }
        if group.newest == slot {
            group.newest = older;
        }
        if older != NONE {
            self.slots[older as usize].newer = newer;
        }
        if newer != NONE {
            self.slots[newer as usize].older = older;
        }
    }

    /// Lets traces go until so many blocks and a place in the table are free.
    fn make_room(&mut self, needed: usize) {
        let wanted = needed + SLACK.min(self.arena.max_blocks() / 8);
        while self.arena.room() < wanted || self.ids.len() + 8 > self.max_traces {
            let Some((largest, limit)) = self.largest() else { return };
            // Down to the size of the second largest group, but at least one trace.
            loop {
                let group = &self.groups[largest];
                if group.oldest == NONE {
                    break;
                }
                self.evict(group.oldest);
                let group = &self.groups[largest];
                if group.blocks * group.key.class.weight() < limit
                    || (self.arena.room() >= wanted && self.ids.len() + 8 <= self.max_traces)
                {
                    break;
                }
            }
        }
    }

    /// The group that takes most room, and how much the second one takes.
    fn largest(&self) -> Option<(usize, usize)> {
        let (mut best, mut size, mut second) = (None, 0, 0);
        for (index, group) in self.groups.iter().enumerate().filter(|(_, group)| group.oldest != NONE) {
            let weighted = group.blocks * group.key.class.weight();
            if best.is_none() || weighted > size {
                second = size;
                (best, size) = (Some(index), weighted);
            } else {
                second = second.max(weighted);
            }
        }
        best.map(|best| (best, second))
    }

    fn evict(&mut self, slot: u32) {
        self.unlink(slot);
        let trace = &mut self.slots[slot as usize];
        self.arena.release(&mut trace.chain);
        trace.live = false;
        let (hash, spans) = (hash(&trace.id), u64::from(trace.spans));
        if self.ids.get(&hash) == Some(&slot) {
            self.ids.remove(&hash);
        }
        self.free.push(slot);
        if self.gone_order.capacity() == 0 {
            self.gone_order.reserve_exact(self.remembered);
        }
        if self.gone.insert(hash) {
            if self.gone_order.len() == self.remembered
                && let Some(oldest) = self.gone_order.pop_front()
            {
                self.gone.remove(&oldest);
            }
            self.gone_order.push_back(hash);
        }
        self.counts.traces -= 1;
        self.counts.spans -= spans;
        self.counts.traces_evicted += 1;
        self.counts.spans_evicted += spans;
    }

    fn is_gone(&self, hash: u64) -> bool {
        self.gone.contains(&hash)
    }

    pub(super) fn get(&self, id: &[u8; 16]) -> Option<&Trace> {
        let slot = *self.ids.get(&hash(id))?;
        Some(&self.slots[slot as usize]).filter(|trace| trace.id == *id)
    }

    /// All traces, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Trace> {
        self.slots.iter().filter(|trace| trace.live)
    }

    /// What was kept of a trace's spans.
    pub(super) fn read(&self, trace: &Trace, out: &mut Vec<u8>) {
        self.arena.read(&trace.chain, out);
    }

    pub(super) fn memory(&self) -> usize {
        self.arena.memory()
            + self.slots.capacity() * size_of::<Trace>()
            + self.ids.capacity() * 20
            + self.free.capacity() * 4
            + self.gone_order.capacity() * 8
            + self.gone.capacity() * 10
            + self.groups.capacity() * size_of::<Group>()
            + self.group_ids.capacity() * (size_of::<GroupKey>() + 6)
    }
}

fn group_key(trace: &Trace) -> GroupKey {
    let class = match (trace.failed, trace.slow) {
        (true, _) => Class::Failed,
        (false, true) => Class::Slow,
        (false, false) => Class::Common,
    };
    GroupKey { service: trace.root.service, name: trace.root.name, class }
}

/// Trace ids are random for the most part, but those from outside may not be.
fn hash(id: &[u8; 16]) -> u64 {
    let id = u128::from_be_bytes(*id);
    let mixed = (id as u64 ^ (id >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 32)
}
