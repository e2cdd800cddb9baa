//! Datagram sockets: one record for each message, with the other end's address where the call names it.

use agent_common::{
    capture::{MAX_RECORD_PAYLOAD, MODE_NONE},
    conn::{EGRESS, SockAddr},
    counters::Counter,
    event::{DatagramRecord, EventKind, FLAG_EGRESS},
};
use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::{
    capture::Caller,
    emit::{self, Counters},
    forget::{below, forget},
    gather::{MESSAGES, MMSGHDR, MMSGHDR_LEN},
    kernel::{Kernel, read_user},
    maps::{Conn, Scratch},
    sock::{AF_INET, AF_INET6},
};

const PAYLOAD: u64 = MAX_RECORD_PAYLOAD as u64;
/// Segments of a message that are read.
const SEGMENTS: u64 = 8;

/// Memory that a call names: the process' own, or the kernel's copy of it.
#[derive(Clone, Copy)]
pub enum Memory {
    User(u64),
    Kernel(u64),
}

impl Memory {
    /// Reads a `T` at `offset`.
    #[inline(always)]
    fn read<T>(self, offset: u64) -> Option<T> {
        match self {
            Self::User(address) => read_user(address + offset),
            Self::Kernel(address) => Kernel(address).read(offset),
        }
    }

    #[inline(always)]
    fn is_null(self) -> bool {
        matches!(self, Self::User(0) | Self::Kernel(0))
    }
}

/// What the records of one call have in common.
#[inline(always)]
fn begin(conn: *mut Conn, caller: Caller, direction: usize) -> DatagramRecord {
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    conn.tgid = caller.tgid;
    let flags = if direction == EGRESS { FLAG_EGRESS } else { 0 };
    DatagramRecord {
        header: emit::header(EventKind::DATAGRAM, flags, caller.tgid, conn.conn_id),
        peer: SockAddr::default(),
        len: 0,
        head_len: 0,
        tid: caller.tid,
        waits: caller.waits(),
    }
}

/// Counts a message and writes its record's head. `None`: no record is due.
#[inline(always)]
fn write_head(
    conn: *mut Conn,
    caller: Caller,
    record: &DatagramRecord,
    direction: usize,
    name: Memory,
    len: u64,
) -> Option<*mut Scratch> {
    Counters::this_cpu()?.add(Counter::BytesSeen, len);
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    conn.offset[direction] += len;
    if conn.mode.mode == MODE_NONE {
        return None;
    }
    let scratch = caller.slot.scratch()?;
    // SAFETY: the scratch is larger than the record and aligned for it.
    let head = unsafe { &mut *scratch.cast::<DatagramRecord>() };
    *head = *record;
    head.len = len as u32;
    read_peer(name, &mut head.peer);
    Some(scratch)
}

/// The address that a call names, as the process wrote it or was handed it.
#[inline(always)]
fn read_peer(name: Memory, peer: &mut SockAddr) {
    if name.is_null() {
        return;
    }
    let Some([family, port]) = name.read::<[u16; 2]>(0) else { return };
    if family == AF_INET {
        let Some(addr) = name.read::<[u8; 4]>(4) else { return };
        peer.addr[0] = addr[0];
        peer.addr[1] = addr[1];
        peer.addr[2] = addr[2];
        peer.addr[3] = addr[3];
    } else if family == AF_INET6 {
        let Some(addr) = name.read::<[u8; 16]>(8) else { return };
        peer.addr = addr;
    } else {
        return;
    }
    peer.family = family;
    peer.port = u16::from_be(port);
}

/// Copies behind the record's head; how much arrived.
#[inline(always)]
fn copy(scratch: *mut Scratch, at: u64, from: u64, len: u64) -> u64 {
    let len = below::<{ 2 * PAYLOAD }>(len);
    if len == 0 {
        return 0;
    }
    let at = below::<{ 2 * PAYLOAD }>(at);
    if at > PAYLOAD {
        return 0;
    }
    // SAFETY: at is at most PAYLOAD, len below twice that, and the scratch holds thrice that behind the head.
    let to = unsafe { scratch.cast::<u8>().add(size_of::<DatagramRecord>() + at as usize) };
    // SAFETY: the helper checks the user address; the destination was bounded above.
    if unsafe { bpf_probe_read_user(to.cast(), len as u32, from as *const _) } != 0 {
        emit::count(Counter::UserFault);
        return 0;
    }
    len
}

/// Submits the record with `head` bytes behind its head.
#[inline(always)]
fn submit(scratch: *mut Scratch, head: u64, len: u64) {
    if head > PAYLOAD {
        return;
    }
    // SAFETY: `begin` wrote the record there.
    unsafe { (*scratch.cast::<DatagramRecord>()).head_len = head as u32 };
    // SAFETY: the size is below the scratch's length.
    let sent = unsafe { emit::bytes(scratch.cast(), size_of::<DatagramRecord>() + head as usize, false) };
    if let Some(counters) = Counters::this_cpu() {
        if sent {
            emit::count(Counter::Events);
            counters.add(Counter::BytesCopied, head);
        } else {
            counters.add(Counter::RingFullData, 1);
            counters.add(Counter::RingFullBytes, len);
        }
    }
}

/// A message of `len` bytes, of which `held` lie at `address`.
#[inline(always)]
pub fn message(
    conn: *mut Conn,
    caller: Caller,
    direction: usize,
    name: Memory,
    address: u64,
    len: u64,
    held: u64,
) {
    let record = begin(conn, caller, direction);
    let Some(scratch) = write_head(conn, caller, &record, direction, name, len) else { return };
    let want = if held > PAYLOAD { PAYLOAD } else { held };
    submit(scratch, copy(scratch, 0, address, want), len);
}

/// A message of `len` bytes over `count` segments at `iov`; it began `skip` bytes behind the first one's start.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "registers, not a struct on the stack, for the verifier")]
pub fn segments(
    conn: *mut Conn,
    caller: Caller,
    direction: usize,
    name: Memory,
    iov: Memory,
    mut skip: u64,
    count: u64,
    len: u64,
) {
    let record = begin(conn, caller, direction);
    let Some(scratch) = write_head(conn, caller, &record, direction, name, len) else { return };
    let mut head = 0;
    for index in 0..SEGMENTS {
        if index >= count || head >= len || head >= PAYLOAD {
            break;
        }
        let Some([base, size]) = iov.read::<[u64; 2]>(index * 16) else { break };
        let skipped = if skip < size { skip } else { size };
        skip = 0;
        let (base, size) = (base + skipped, size - skipped);
        let mut want = if size < len - head { size } else { len - head };
        if want > PAYLOAD - head {
            want = PAYLOAD - head;
        }
        head = forget(head + copy(scratch, head, base, want));
    }
    submit(scratch, head, len);
}

/// The messages that recvmmsg or sendmmsg moved; of each, the first segment.
#[inline(always)]
pub fn messages(conn: *mut Conn, caller: Caller, direction: usize, vector: u64, count: u64) {
    let record = begin(conn, caller, direction);
    for index in 0..MESSAGES {
        if index >= count {
            return;
        }
        let at = vector + index * MMSGHDR;
        // msg_name, msg_namelen, msg_iov, msg_iovlen
        let Some([name, _, iov, _]) = read_user::<[u64; 4]>(at) else { return };
        let Some(len) = read_user::<u32>(at + MMSGHDR_LEN) else { return };
        let Some([base, size]) = read_user::<[u64; 2]>(iov) else { return };
        let len = u64::from(len);
        let Some(scratch) = write_head(conn, caller, &record, direction, Memory::User(name), len) else {
            return;
        };
        let held = if size < len { size } else { len };
        let want = if held > PAYLOAD { PAYLOAD } else { held };
        let head = forget(copy(scratch, 0, base, want));
        submit(scratch, head, len);
    }
    if let Some(counters) = Counters::this_cpu() {
        counters.add(Counter::MessagesSkipped, count.saturating_sub(MESSAGES));
    }
}
