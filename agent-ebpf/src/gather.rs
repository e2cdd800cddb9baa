//! Calls with several segments (iovec): gathered into the same records as a single buffer makes.
//!
//! The loop over the segments is bpf_loop's where the kernel has it (5.17), so that the verifier sees one step of it;
//! elsewhere a short one. What lies beyond its end is counted as skipped.

use agent_common::{capture::MAX_RECORD_PAYLOAD, capture::TAIL_LEN, counters::Counter};

use aya_ebpf::helpers::generated::bpf_loop;

use crate::{
    capture::{self, Caller, Plan},
    emit::Counters,
    kernel::{Kernel, read_user},
    maps::Conn,
    slot::Slot,
};

/// Steps of the loop: two for each segment, one for each message and record that is filled. IOV_MAX (1024) and some.
const STEPS: u32 = 2 * 1024 + 256;
/// Steps where the verifier walks through each of them.
const FEW_STEPS: u32 = 12;
const PAYLOAD: u64 = MAX_RECORD_PAYLOAD as u64;
const TAIL: u64 = TAIL_LEN as u64;

/// Messages of one call that are read.
pub const MESSAGES: u64 = 8;
/// Size of the kernel's `struct mmsghdr` of a 64-bit process.
pub const MMSGHDR: u64 = 64;
/// Offset of `msg_len` in it.
pub const MMSGHDR_LEN: u64 = 56;

/// The kernel's `struct iovec` of a 64-bit process.
#[repr(C)]
#[derive(Clone, Copy)]
struct IoVec {
    base: u64,
    len: u64,
}

/// How the loop is made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loop {
    /// `bpf_loop`
    Helper,
    /// A loop that the verifier unrolls.
    Unrolled,
}

/// A call over `count` segments at `iov` that moved `len` bytes.
#[inline(always)]
pub fn segments(
    conn: *mut Conn,
    caller: Caller,
    direction: usize,
    iov: u64,
    count: u64,
    len: u64,
    with: Loop,
) {
    let Some(plan) = capture::plan(conn, caller, direction, len) else { return };
    if plan.offset == 0
        && let Some(first) = read_user::<IoVec>(iov)
    {
        capture::look_at_opening(conn, &plan, first.base, first.len);
    }
    begin(plan, caller.slot, 0);
    let Some(state) = caller.slot.gather() else { return };
    // SAFETY: the pointer is to a map value, which only this program uses.
    let state = unsafe { &mut *state };
    (state.iov, state.count, state.left) = (iov, count, 0);
    go_on(caller.slot, with);
}

/// A call over segments of user memory that the kernel has copied to `iov`; the call began `skip` bytes behind the
/// first one's start.
#[inline(always)]
pub fn kernel_segments(
    conn: *mut Conn,
    caller: Caller,
    direction: usize,
    iov: u64,
    skip: u64,
    len: u64,
) -> bool {
    let Some(plan) = capture::plan(conn, caller, direction, len) else { return false };
    begin(plan, caller.slot, 0);
    let Some(state) = caller.slot.gather() else { return false };
    // SAFETY: the pointer is to a map value, which only this program uses.
    let state = unsafe { &mut *state };
    (state.iov, state.count, state.left) = (iov, u64::MAX, 0);
    (state.skip, state.iov_in_kernel) = (skip, 1);
    true
}

/// Bytes that the first [`MESSAGES`] of `count` messages moved.
#[inline(always)]
pub fn total(vector: u64, count: u64) -> u64 {
    let mut len = 0;
    for index in 0..MESSAGES {
        if index >= count {
            break;
        }
        // Not unwrap_or: what it selects from on a failed read, the verifier takes for arithmetic on a pointer.
        let Some(message) = read_user::<u32>(vector + index * MMSGHDR + MMSGHDR_LEN) else { break };
        len += u64::from(message);
    }
    len
}

/// A call over `count` messages at `vector` (recvmmsg, sendmmsg) on a stream, which moved `len` bytes.
#[inline(always)]
pub fn messages(
    conn: *mut Conn,
    caller: Caller,
    direction: usize,
    vector: u64,
    count: u64,
    len: u64,
    with: Loop,
) {
    let messages = if count < MESSAGES { count } else { MESSAGES };
    let Some(plan) = capture::plan(conn, caller, direction, len) else { return };
    if let Some(counters) = Counters::this_cpu() {
        counters.add(Counter::MessagesSkipped, count.saturating_sub(MESSAGES));
    }
    begin(plan, caller.slot, 0);
    let Some(state) = caller.slot.gather() else { return };
    // SAFETY: the pointer is to a map value, which only this program uses.
    let state = unsafe { &mut *state };
    (state.messages, state.left) = (Messages { next: vector, left: messages }, 0);
    go_on(caller.slot, with);
}

/// The messages to go on with when the segments are used up.
#[repr(C)]
#[derive(Clone, Copy)]
struct Messages {
    next: u64,
    left: u64,
}

/// State of the loop.
#[repr(C)]
pub struct Gather {
    plan: Plan,
    messages: Messages,
    /// Segments: where, how many, which is next.
    iov: u64,
    count: u64,
    index: u64,
    /// The rest of the present segment.
    base: u64,
    left: u64,
    /// Bytes of the call that were copied or passed over.
    seen: u64,
    /// Where the present record begins in the call, and what it holds.
    start: u64,
    head: u64,
    tail: u64,
    /// Bytes of the next segment that do not belong to the call.
    skip: u64,
    /// 1: the segments are described in kernel memory.
    iov_in_kernel: u64,
}

impl Gather {
    /// One step; whether there is another.
    #[inline(always)]
    fn step(&mut self, slot: Slot) -> bool {
        if self.seen >= self.plan.len {
            return false;
        }
        if self.left == 0 {
            return self.next_segment();
        }
        let Some(scratch) = slot.scratch() else { return false };
        let head = self.head;
        if head > PAYLOAD {
            return false;
        }
        if self.seen < self.plan.capture {
            let mut piece = self.plan.capture - self.seen;
            if piece > self.left {
                piece = self.left;
            }
            if piece > PAYLOAD - head {
                piece = PAYLOAD - head;
            }
            if capture::copy(scratch, head, self.base, piece) != piece {
                return false;
            }
            self.head = head + piece;
            self.base += piece;
            self.left -= piece;
            self.seen += piece;
            if self.head >= PAYLOAD && self.seen < self.plan.len {
                capture::submit(&self.plan, scratch, self.start, PAYLOAD, 0, false);
                self.start = self.seen;
                self.head = 0;
            }
        } else {
            self.seen += self.left;
            self.base += self.left;
            if self.seen >= self.plan.len {
                let want = if self.left < TAIL { self.left } else { TAIL };
                self.tail = capture::copy(scratch, head, self.base - want, want);
            }
            self.left = 0;
        }
        true
    }

    #[inline(always)]
    fn next_segment(&mut self) -> bool {
        if self.index < self.count {
            let at = self.iov + self.index * size_of::<IoVec>() as u64;
            let segment = if self.iov_in_kernel != 0 { Kernel(at).read(0) } else { read_user(at) };
            let Some(IoVec { base, len }) = segment else { return false };
            self.index += 1;
            let skip = if self.skip < len { self.skip } else { len };
            self.skip = 0;
            self.base = base + skip;
            let rest = self.plan.len - self.seen;
            self.left = if len - skip < rest { len - skip } else { rest };
            return true;
        }
        if self.messages.left == 0 {
            return false;
        }
        // msg_name, msg_namelen, msg_iov, msg_iovlen
        let Some([_, _, iov, count]) = read_user::<[u64; 4]>(self.messages.next) else { return false };
        (self.iov, self.count, self.index) = (iov, count, 0);
        self.messages.next += MMSGHDR;
        self.messages.left -= 1;
        true
    }
}

/// The callback of bpf_loop: 1 ends the loop. A function of its own elsewhere too, so that the verifier's paths meet
/// again behind each step.
#[inline(never)]
unsafe extern "C" fn step(_index: u64, context: *mut u64) -> i64 {
    // SAFETY: the context is the slot's number on the stack of `go_on`.
    let slot = Slot::from_number(unsafe { *context });
    let Some(state) = slot.gather() else { return 1 };
    // SAFETY: the pointer is to a map value, which only this program uses.
    i64::from(!unsafe { &mut *state }.step(slot))
}

/// Leaves one buffer as the only segment of a call.
#[inline(always)]
pub fn begin(plan: Plan, slot: Slot, base: u64) {
    let Some(state) = slot.gather() else { return };
    let left = plan.len;
    let messages = Messages { next: 0, left: 0 };
    // SAFETY: the pointer is to a map value, which only this program uses.
    unsafe {
        *state = Gather {
            plan,
            messages,
            iov: 0,
            count: 0,
            index: 0,
            base,
            left,
            seen: 0,
            start: 0,
            head: 0,
            tail: 0,
            skip: 0,
            iov_in_kernel: 0,
        };
    }
}

/// Copies what the gathering state names.
#[inline(always)]
pub fn go_on(slot: Slot, with: Loop) {
    let Some(state) = slot.gather() else { return };
    // SAFETY: the pointer is to a map value, which only this program uses.
    let state = unsafe { &mut *state };
    let mut number = slot.number();
    if with == Loop::Helper {
        let callback: unsafe extern "C" fn(u64, *mut u64) -> i64 = step;
        // SAFETY: the callback's context is the number, which outlives the loop.
        unsafe { bpf_loop(STEPS, callback as *mut _, (&raw mut number).cast(), 0) };
    } else {
        for _ in 0..FEW_STEPS {
            // SAFETY: the number outlives the call.
            if unsafe { step(0, &raw mut number) } != 0 {
                break;
            }
        }
    }
    if state.seen < state.plan.len
        && let Some(counters) = Counters::this_cpu()
    {
        counters.add(Counter::SegmentsSkipped, state.plan.len - state.seen);
    }
    let Some(scratch) = slot.scratch() else { return };
    capture::submit(&state.plan, scratch, state.start, state.head, state.tail, true);
}
