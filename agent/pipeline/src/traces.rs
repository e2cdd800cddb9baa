//! Trace ids that may still become one: a request's trace is known late, when its relatives are seen in any order.
//!
//! In: requests that begin, and which of them belong together. Out: the trace id, drawn when it is first given out
//! and never changed after that. A union-find forest of counted cells; a cell lives as long as a request needs it.

use crate::id::Ids;
use crate::trace_context::{RANDOM, SAMPLED};

const NONE: u32 = u32::MAX;

/// Number of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceRef(u32);

#[derive(Clone, Copy, Debug)]
struct Cell {
    id: Option<[u8; 16]>,
    flags: u8,
    /// The id came with a request's headers.
    remote: bool,
    /// Until when the trace may still turn out to be part of another one.
    pending_until_ktime_ns: u64,
    /// The cell that stands for this one, or the next free one.
    forward: u32,
    references: u32,
}

/// All traces of open requests.
#[derive(Debug)]
pub(crate) struct Traces {
    cells: Vec<Cell>,
    free: u32,
    ids: Ids,
}

impl Default for TraceRef {
    fn default() -> Self {
        Self(NONE)
    }
}

impl Traces {
    pub(crate) fn new(ids: Ids) -> Self {
        Self { cells: Vec::new(), free: NONE, ids }
    }

    pub(crate) fn span_id(&mut self) -> [u8; 8] {
        self.ids.span_id()
    }

    /// A trace of its own; named if its id came with the request.
    #[inline]
    pub(crate) fn begin(&mut self, named: Option<([u8; 16], u8)>) -> TraceRef {
        let cell = Cell {
            id: named.map(|(id, _)| id),
            flags: named.map_or(SAMPLED | RANDOM, |(_, flags)| flags),
            remote: named.is_some(),
            pending_until_ktime_ns: 0,
            forward: NONE,
            references: 1,
        };
        if self.free == NONE {
            self.cells.push(cell);
            return TraceRef((self.cells.len() - 1) as u32);
        }
        let free = self.free;
        self.free = self.cells[free as usize].forward;
        self.cells[free as usize] = cell;
        TraceRef(free)
    }

    /// Another reference to the same trace.
    pub(crate) fn share(&mut self, trace: TraceRef) -> TraceRef {
        let root = self.root(trace);
        self.cells[root as usize].references += 1;
        TraceRef(root)
    }

    /// Makes `trace` a part of `other`; false if its id was given out already.
    pub(crate) fn join(&mut self, trace: TraceRef, other: TraceRef) -> bool {
        let (root, other) = (self.root(trace), self.root(other));
        if root == other {
            return true;
        }
        if self.cells[root as usize].id.is_some() {
            return false;
        }
        self.cells[root as usize].forward = other;
        self.cells[other as usize].references += 1;
        true
    }

    /// The trace may become part of another one until then.
    pub(crate) fn wait_until(&mut self, trace: TraceRef, ktime_ns: u64) {
        let root = self.root(trace);
        self.cells[root as usize].pending_until_ktime_ns = ktime_ns;
    }

    /// Until when the id cannot be given out yet, if so.
    #[inline]
    pub(crate) fn pending(&self, trace: TraceRef, now_ktime_ns: u64) -> bool {
        let cell = &self.cells[self.root(trace) as usize];
        cell.id.is_none() && now_ktime_ns < cell.pending_until_ktime_ns
    }

    /// Id and flags, fixed from now on.
    #[inline]
    pub(crate) fn give_out(&mut self, trace: TraceRef) -> ([u8; 16], u8) {
        let root = self.root(trace) as usize;
        let cell = &mut self.cells[root];
        let id = *cell.id.get_or_insert_with(|| self.ids.trace_id());
        (id, cell.flags)
    }

    /// Whether id and flags came with a request's headers.
    #[inline]
    pub(crate) fn is_remote(&self, trace: TraceRef) -> bool {
        self.cells[self.root(trace) as usize].remote
    }

    /// Gives a reference back.
    #[inline]
    pub(crate) fn release(&mut self, trace: TraceRef) {
        let mut index = trace.0;
        while index != NONE {
            let cell = &mut self.cells[index as usize];
            cell.references -= 1;
            if cell.references > 0 {
                return;
            }
            let forward = cell.forward;
            cell.forward = self.free;
            self.free = index;
            index = forward;
        }
    }

    #[inline]
    fn root(&self, trace: TraceRef) -> u32 {
        let mut index = trace.0;
        while self.cells[index as usize].forward != NONE {
            index = self.cells[index as usize].forward;
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_traces_share_one_id_in_any_order() {
        let mut traces = Traces::new(Ids::new([1, 2]));
        let (first, second, third) = (traces.begin(None), traces.begin(None), traces.begin(None));
        let child = traces.share(third);
        assert!(traces.join(third, second) && traces.join(second, first));
        let (id, flags) = traces.give_out(child);
        assert_eq!(flags, SAMPLED | RANDOM);
        assert!([first, second, third].iter().all(|&trace| traces.give_out(trace).0 == id));
    }

    #[test]
    fn an_id_that_was_given_out_stays() {
        let mut traces = Traces::new(Ids::new([1, 2]));
        let (trace, other) = (traces.begin(None), traces.begin(Some(([7; 16], 0))));
        let (id, _) = traces.give_out(trace);
        assert!(!traces.join(trace, other));
        assert_eq!((traces.give_out(trace).0, traces.give_out(other)), (id, ([7; 16], 0)));
    }

    #[test]
    fn waits_only_while_the_id_is_open() {
        let mut traces = Traces::new(Ids::new([1, 2]));
        let trace = traces.begin(None);
        traces.wait_until(trace, 10);
        assert!(traces.pending(trace, 9) && !traces.pending(trace, 10));
        traces.give_out(trace);
        assert!(!traces.pending(trace, 9));
    }

    #[test]
    fn cells_are_used_again() {
        let mut traces = Traces::new(Ids::new([1, 2]));
        for _ in 0..100 {
            let (first, second) = (traces.begin(None), traces.begin(None));
            let child = traces.share(second);
            assert!(traces.join(second, first));
            for trace in [first, second, child] {
                traces.release(trace);
            }
        }
        assert!(traces.cells.len() <= 2);
    }
}
