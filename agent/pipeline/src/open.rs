//! Requests that are open: a bounded table of reusable slots, and the queues that connections make of them.
//!
//! In: a parser takes a slot for each request that begins. Out: the slot, until its span is emitted. Slots keep
//! their allocations, and each kind of operation has its own free ones, so that the common path allocates nothing.

use crate::context::Identity;
use crate::request::{OperationKind, Request};

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;

/// Number of a slot.
pub(crate) type Slot = u32;

/// One request, from its first byte until its span is emitted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open {
    /// What is known of it so far.
    pub(crate) request: Request,
    /// Its place in traces.
    pub(crate) identity: Identity,
    /// Stream offset of its first byte.
    pub(crate) offset: u64,
    /// The whole request was seen, or where it ends cannot be known.
    pub(crate) asked: bool,
    /// The whole answer was seen.
    pub(crate) answered: bool,
    /// It asks to leave HTTP: what follows is not HTTP if the answer agrees.
    pub(crate) may_switch: bool,
    /// It asks to go on as HTTP/2.
    pub(crate) to_http2: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub(crate) expects_continue: bool,
    /// Part of the header block was not seen.
    pub(crate) truncated: bool,
    /// HEAD: the answer has no body, whatever its headers say.
    pub(crate) is_head: bool,
    /// CONNECT: a successful answer ends HTTP.
    pub(crate) is_connect: bool,
    /// It is over, and only its span waits.
    pub(crate) finished: bool,
    next: Slot,
}

/// All open requests.
#[derive(Debug)]
pub(crate) struct OpenRequests {
    slots: Vec<Open>,
    /// First free slot by [`OperationKind`].
    free: [Slot; OperationKind::COUNT],
    taken: usize,
    max: usize,
}

/// Open requests of one connection, in the order in which they are to be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queue {
    first: Slot,
    last: Slot,
    len: u32,
}

impl OpenRequests {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            slots: Vec::new(),
            free: [NONE; OperationKind::COUNT],
            taken: 0,
            max: max.min(NONE as usize - 1),
        }
    }

    /// A cleared slot for a request of this kind, unless all are taken.
    #[inline]
    pub(crate) fn take(&mut self, kind: OperationKind) -> Option<Slot> {
        let slot = self.take_free(kind as usize).or_else(|| self.take_other(kind))?;
        self.taken += 1;
        Some(slot)
    }

    #[inline]
    fn take_free(&mut self, list: usize) -> Option<Slot> {
        let slot = self.free[list];
        if slot == NONE {
            return None;
        }
        self.free[list] = self.slots[slot as usize].next;
        Some(slot)
    }

    /// A new slot, or one that was of another kind.
    fn take_other(&mut self, kind: OperationKind) -> Option<Slot> {
        let slot = if self.slots.len() < self.max {
            self.slots.push(Open::default());
            (self.slots.len() - 1) as Slot
        } else {
            (0..OperationKind::COUNT).find_map(|list| self.take_free(list))?
        };
        self.slots[slot as usize].request.make(kind);
        Some(slot)
    }

    /// Gives a slot back.
    #[inline]
    pub(crate) fn give_back(&mut self, slot: Slot) {
        // Destructured, so that a new field cannot be forgotten here; in place, because a request is large.
        let Open {
            request,
            identity,
            offset,
            asked,
            answered,
            may_switch,
            to_http2,
            expects_continue,
            truncated,
            is_head,
            is_connect,
            finished,
            next,
        } = &mut self.slots[slot as usize];
        request.clear();
        *identity = Identity::default();
        *offset = 0;
        (*asked, *answered, *may_switch, *expects_continue) = (false, false, false, false);
        *to_http2 = false;
        (*truncated, *is_head, *is_connect, *finished) = (false, false, false, false);
        let free = &mut self.free[request.operation.kind() as usize];
        *next = *free;
        *free = slot;
        self.taken -= 1;
    }

    /// Those that are under way: begun and not finished.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Request> {
        // A slot that nobody uses has no span id.
        let under_way = |open: &&Open| open.identity.span_id != [0; 8] && !open.finished;
        self.slots.iter().filter(under_way).map(|open| &open.request)
    }

    /// How many are taken.
    pub(crate) fn len(&self) -> usize {
        self.taken
    }

    #[inline]
    pub(crate) fn get(&self, slot: Slot) -> &Open {
        &self.slots[slot as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut Open {
        &mut self.slots[slot as usize]
    }
}

impl Queue {
    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<Slot> {
        (self.len > 0).then_some(self.first)
    }

    #[inline]
    pub(crate) fn back(&self) -> Option<Slot> {
        (self.len > 0).then_some(self.last)
    }

    /// All of them, oldest first.
    pub(crate) fn for_each(&self, open: &mut OpenRequests, mut visit: impl FnMut(Slot, &mut OpenRequests)) {
        let mut slot = self.first;
        for _ in 0..self.len {
            let next = open.get(slot).next;
            visit(slot, open);
            slot = next;
        }
    }

    #[inline]
    pub(crate) fn push(&mut self, slot: Slot, open: &mut OpenRequests) {
        open.get_mut(slot).next = NONE;
        if self.len == 0 {
            self.first = slot;
        } else {
            open.get_mut(self.last).next = slot;
        }
        self.last = slot;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self, open: &OpenRequests) -> Option<Slot> {
        let slot = self.front()?;
        self.first = open.get(slot).next;
        self.len -= 1;
        Some(slot)
    }
}

impl Default for Queue {
    fn default() -> Self {
        Self { first: NONE, last: NONE, len: 0 }
    }
}
