//! What one call moved: counted on its connection, copied as far as the connection's mode says, submitted.
//! Every hook of a stream socket ends here or, for several segments, in `gather.rs` with the same plan.

use agent_common::{
    capture::{
        Caps, DEFAULT_CAPS, MAX_CALL_CAPTURE, MAX_RECORD_PAYLOAD, MODE_CAPPED, MODE_NONE, MODE_STREAM,
        MODE_UNDECIDED, TAIL_LEN, UNDECIDED_BUDGET, UNDECIDED_WAKE,
    },
    conn::EGRESS,
    counters::Counter,
    event::{DataRecord, EventKind, FLAG_EGRESS, FLAG_MORE, Waits},
};
use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::{
    emit::{self, Counters},
    forget::{below, forget},
    gather,
    globals::is_opening,
    kernel::read_user,
    maps::{CONN_ACCEPTED, CONN_CONNECTED, Conn, Scratch},
    slot::Slot,
    waits,
};

const PAYLOAD: u64 = MAX_RECORD_PAYLOAD as u64;
const TAIL: u64 = TAIL_LEN as u64;

/// A call of the current thread.
#[derive(Clone, Copy)]
pub struct Caller {
    pub tgid: u32,
    pub tid: u32,
    /// Nobody asks how often the process' threads wait.
    pub quiet: bool,
    /// Where its record is put together.
    pub slot: Slot,
}

impl Caller {
    /// How often the thread waited.
    #[inline(always)]
    pub fn waits(self) -> u32 {
        if self.quiet { Waits::UNKNOWN } else { waits::of(self.tid) }
    }
}

/// How much of a call is copied, and what every record of it says.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Plan {
    /// Stream offset of the call's first byte.
    pub offset: u64,
    /// Bytes that the call moved.
    pub len: u64,
    /// Bytes to copy from its start.
    pub capture: u64,
    /// What every record of the call carries.
    pub record: DataRecord,
    /// Not 0: the reader is woken with the call's last record.
    pub wake: u64,
    /// 1 for the first call of a turn.
    pub starts_turn: u64,
}

/// Counts a call on its stream connection and decides what to copy. `None`: no record is due.
#[inline(always)]
pub fn plan(conn: *mut Conn, caller: Caller, direction: usize, len: u64) -> Option<Plan> {
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    let counters = Counters::this_cpu()?;
    counters.add(Counter::BytesSeen, len);
    conn.tgid = caller.tgid;
    let starts_turn = conn.direction != direction as u8;
    if starts_turn {
        conn.direction = direction as u8;
        conn.turns += 1;
        conn.turn_bytes = 0;
        counters.add(Counter::Turns, 1);
    }
    let turn_before = conn.turn_bytes;
    conn.turn_bytes = turn_before.saturating_add(len as u32);
    let offset = conn.offset[direction];
    conn.offset[direction] = offset + len;
    let before = conn.copied[direction];
    let capture = to_copy(conn, direction, turn_before, len)?;
    let wake = u64::from(before < UNDECIDED_WAKE && conn.copied[direction] >= UNDECIDED_WAKE);
    let flags = if direction == EGRESS { FLAG_EGRESS } else { 0 };
    let record = DataRecord {
        header: emit::header(EventKind::DATA, flags, caller.tgid, conn.conn_id),
        offset,
        len: 0,
        head_len: 0,
        tail_len: 0,
        turn: conn.turns,
        tid: caller.tid,
        waits: caller.waits(),
    };
    Some(Plan { offset, len, capture, record, wake, starts_turn: u64::from(starts_turn) })
}

/// Bytes to copy from the start of a call; `None` where the connection is not recorded.
#[inline(always)]
fn to_copy(conn: &mut Conn, direction: usize, turn_before: u32, len: u64) -> Option<u64> {
    let bytes = match conn.mode.mode {
        MODE_NONE => return None,
        MODE_STREAM => len,
        MODE_CAPPED => capped(conn.mode.caps[direction], turn_before),
        _ => {
            let spent = conn.copied[direction];
            conn.copied[direction] = spent.saturating_add(len as u32);
            // The call that spends the budget is not cut shorter than it would be behind it.
            u64::from(UNDECIDED_BUDGET.saturating_sub(spent))
                .max(capped(default_caps(conn, direction), turn_before))
        }
    };
    Some(forget(bytes.min(len).min(u64::from(MAX_CALL_CAPTURE))))
}

/// Of an undecided connection behind its budget: requests are copied as far as their header blocks may go.
#[inline(always)]
fn default_caps(conn: &Conn, direction: usize) -> Caps {
    let asks = if direction == EGRESS { CONN_CONNECTED } else { CONN_ACCEPTED };
    if conn.flags & asks != 0 { Caps { turn_cap: UNDECIDED_BUDGET, ..DEFAULT_CAPS } } else { DEFAULT_CAPS }
}

#[inline(always)]
fn capped(caps: Caps, turn_before: u32) -> u64 {
    u64::from(caps.turn_cap.saturating_sub(turn_before).max(caps.call_cap))
}

/// A call with one buffer at `buffer`, which holds `held` of the `len` bytes that it moved. Where what is to be
/// copied needs more than one record, it is left in the gathering state, and the result is `true`: the caller goes on
/// with `gather::go_on` behind a tail call.
#[inline(always)]
pub fn buffer(conn: *mut Conn, caller: Caller, direction: usize, buffer: u64, len: u64, held: u64) -> bool {
    let Some(mut plan) = plan(conn, caller, direction, len) else { return false };
    look_at_opening(conn, &plan, buffer, held);
    if plan.capture > held {
        plan.capture = held;
    }
    if plan.capture > PAYLOAD {
        gather::begin(plan, caller.slot, buffer);
        return true;
    }
    let Some(scratch) = caller.slot.scratch() else { return false };
    let head = copy(scratch, 0, buffer, plan.capture);
    let mut tail = 0;
    if head == plan.capture && head < held {
        let rest = held - head;
        let want = if rest < TAIL { rest } else { TAIL };
        tail = copy(scratch, head, buffer + held - want, want);
    }
    submit(&plan, scratch, 0, head, tail, true);
    false
}

/// The first bytes of a direction may tell that the whole connection is wanted.
#[inline(always)]
pub fn look_at_opening(conn: *mut Conn, plan: &Plan, buffer: u64, held: u64) {
    if plan.offset != 0 || held < 16 {
        return;
    }
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    if conn.mode.mode == MODE_UNDECIDED
        && let Some(bytes) = read_user::<[u64; 2]>(buffer)
        && is_opening(bytes)
    {
        conn.mode.mode = MODE_STREAM;
    }
}

/// A call whose bytes never were in user memory, or are not read.
#[inline(always)]
pub fn unread(conn: *mut Conn, caller: Caller, direction: usize, len: u64) {
    let Some(plan) = plan(conn, caller, direction, len) else { return };
    let Some(scratch) = caller.slot.scratch() else { return };
    submit(&plan, scratch, 0, 0, 0, true);
}

/// Copies user memory to `at` of the record's payload; how much of it arrived.
#[inline(always)]
pub fn copy(scratch: *mut Scratch, at: u64, from: u64, len: u64) -> u64 {
    let len = below::<{ 2 * PAYLOAD }>(len);
    if len == 0 {
        return 0;
    }
    let at = below::<{ 2 * PAYLOAD }>(at);
    if at > PAYLOAD {
        return 0;
    }
    // SAFETY: at is at most PAYLOAD, len below twice that, and the scratch holds thrice that behind the record.
    let to = unsafe { scratch.cast::<u8>().add(size_of::<DataRecord>() + at as usize) };
    // SAFETY: the helper checks the user address; the destination was bounded above.
    if unsafe { bpf_probe_read_user(to.cast(), len as u32, from as *const _) } != 0 {
        emit::count(Counter::UserFault);
        return 0;
    }
    len
}

/// Submits the record that stands for the call's bytes from `done` on: `head` copied from there, `tail` from the end.
#[inline(always)]
pub fn submit(plan: &Plan, scratch: *mut Scratch, done: u64, head: u64, tail: u64, last: bool) {
    if head > PAYLOAD || tail > TAIL {
        return;
    }
    let len = if last { plan.len - done } else { head };
    let mut record = plan.record;
    record.offset = plan.offset + done;
    record.len = len as u32;
    record.head_len = head as u32;
    record.tail_len = tail as u32;
    if !last {
        record.header.flags |= FLAG_MORE;
    }
    // SAFETY: the scratch is larger than a record and aligned for it.
    unsafe { scratch.cast::<DataRecord>().write(record) };
    let size = size_of::<DataRecord>() + head as usize + tail as usize;
    // SAFETY: the size is below the scratch's length by the bounds above.
    let sent = unsafe { emit::bytes(scratch.cast(), size, last && plan.wake != 0) };
    let Some(counters) = Counters::this_cpu() else { return };
    if sent {
        emit::count(Counter::Events);
        counters.add(Counter::BytesCopied, head + tail);
    } else {
        counters.add(Counter::RingFullData, 1);
        counters.add(Counter::RingFullBytes, len);
        if done == 0 {
            counters.add(Counter::RingFullTurns, plan.starts_turn);
        }
    }
}
