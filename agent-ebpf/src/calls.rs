//! What the hooks on the kernel's socket functions have in common, whatever attaches them (`fentry.rs`, `kprobe.rs`): a
//! finished call becomes the same records as the syscall back end makes.

use agent_common::{
    conn::{EGRESS, INGRESS},
    counters::Counter,
    event::{UNSEEN_KERNEL_TLS, Waits},
};
use aya_ebpf::helpers::bpf_get_current_pid_tgid;

use crate::{
    capture::{self, Caller},
    conn::{self, Sight},
    datagram::{self, Memory},
    emit::{self, Counters},
    forget::forget,
    gather::{self, Loop},
    globals::offset,
    iter::{self, Kind, Place},
    kernel::Kernel,
    maps::Conn,
    process::unseen,
    select,
    slot::Slot,
    sock::{self, AF_INET6, SOCK_STREAM, Sock},
    waits,
};

const MSG_OOB: u64 = 0x1;
const MSG_PEEK: u64 = 0x2;
const MSG_TRUNC: u64 = 0x20;
const MSG_ERRQUEUE: u64 = 0x2000;
const EINPROGRESS: i64 = 115;

/// What a function of a socket was called with, as far as its return needs it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Pending {
    /// `struct sock`, or `struct socket` where the function takes that.
    pub sk: u64,
    /// `struct msghdr`, or the second socket of an accept.
    pub msg: u64,
    /// Flags of a receiving call.
    pub flags: u64,
    /// Bytes asked for.
    pub size: u64,
    /// Bytes that were told already.
    pub seen: u64,
    /// Which function, `KIND_*`.
    pub kind: u64,
}

/// The current thread if its process is selected, with a place for its record, which is to be released.
#[inline(always)]
pub fn selected() -> Option<Caller> {
    let ids = bpf_get_current_pid_tgid();
    let (tgid, tid) = ((ids >> 32) as u32, ids as u32);
    let hint = select::hint(tgid)?;
    if !hint.is_selected(tgid) {
        return None;
    }
    let slot = Slot::claim(tid)?;
    Some(Caller { tgid, tid, quiet: hint.is_quiet(), slot })
}

/// Whether the current process is selected.
#[inline(always)]
pub fn is_selected() -> bool {
    select::is_selected((bpf_get_current_pid_tgid() >> 32) as u32)
}

/// The connection of a call that moved `len` bytes, and whether it is a stream.
#[inline(always)]
fn find(sock: &Sock, caller: Caller, direction: usize, len: u64) -> Option<(*mut Conn, bool)> {
    let conn = conn::find_or_make(sock, caller, Sight::Data { direction, len })?;
    conn::announce(sock, caller, conn);
    // SAFETY: the pointer is to a map value.
    Some((conn, unsafe { (*conn).sock_type } == SOCK_STREAM))
}

/// A send or receive on a stream socket that returned `ret`.
#[inline(always)]
pub fn stream(
    caller: Caller,
    sock: &Sock,
    call: &Pending,
    direction: usize,
    ret: i64,
    with: Loop,
) -> Option<()> {
    if direction == INGRESS && call.flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB) != 0 {
        return None;
    }
    if ret <= 0 {
        let ends = ret == 0 && direction == INGRESS && call.size != 0;
        if ends || conn::is_fatal(ret) {
            conn::no_bytes(sock, caller, direction, ret);
        }
        return None;
    }
    let len = ret as u64;
    let (conn, is_stream) = find(sock, caller, direction, len)?;
    if !is_stream {
        return None;
    }
    // With MSG_TRUNC the bytes are thrown away unread.
    let thrown_away = direction == INGRESS && call.flags & MSG_TRUNC != 0;
    let place = if thrown_away { Place::ELSEWHERE } else { iter::place(Kernel(call.msg), len, with)? };
    let address = forget(place.address);
    match place.kind {
        Kind::Buffer => {
            let held = forget(len);
            if capture::buffer(conn, caller, direction, address, len, held) {
                gather::go_on(caller.slot, with);
            }
        }
        Kind::Segments => {
            let skip = forget(place.skip);
            if gather::kernel_segments(conn, caller, direction, address, skip, len) {
                gather::go_on(caller.slot, with);
            }
        }
        Kind::Elsewhere => not_read(conn, caller, direction, len),
    }
    Some(())
}

/// A message that was sent or received on a datagram socket.
#[inline(always)]
pub fn message(
    caller: Caller,
    sock: &Sock,
    call: &Pending,
    direction: usize,
    ret: i64,
    with: Loop,
) -> Option<()> {
    if direction == INGRESS && call.flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB) != 0 || ret <= 0 {
        return None;
    }
    let len = ret as u64;
    let msg = Kernel(call.msg);
    // With MSG_TRUNC the length is the message's, not what the buffers hold.
    let held = if direction == INGRESS && len > call.size { call.size } else { len };
    let held = forget(held);
    let place = iter::place(msg, held, with)?;
    let name = Memory::Kernel(msg.read(offset!(msg_name))?);
    let (conn, is_stream) = find(sock, caller, direction, len)?;
    if is_stream {
        return None;
    }
    let address = forget(place.address);
    match place.kind {
        Kind::Buffer => datagram::message(conn, caller, direction, name, address, len, held),
        Kind::Segments => {
            let (iov, skip) = (Memory::Kernel(address), forget(place.skip));
            datagram::segments(conn, caller, direction, name, iov, skip, u64::MAX, len);
        }
        Kind::Elsewhere => datagram::message(conn, caller, direction, name, 0, len, 0),
    }
    Some(())
}

/// A call on a stream whose bytes never were in user memory.
#[inline(always)]
pub fn pages(caller: Caller, sock: &Sock, direction: usize, ret: i64) -> Option<()> {
    if ret <= 0 {
        return None;
    }
    let len = ret as u64;
    if let (conn, true) = find(sock, caller, direction, len)? {
        not_read(conn, caller, direction, len);
    }
    Some(())
}

#[inline(always)]
fn not_read(conn: *mut Conn, caller: Caller, direction: usize, len: u64) {
    if let Some(counters) = Counters::this_cpu() {
        counters.add(Counter::NotUserMemory, len);
    }
    capture::unread(conn, caller, direction, len);
}

/// A socket that accept has made.
#[inline(always)]
pub fn accepted(caller: Caller, new: Kernel) -> Option<()> {
    let sock = Sock::from_socket(new)?;
    let conn = conn::find_or_make(&sock, caller, Sight::Accepted)?;
    conn::announce(&sock, caller, conn);
    Some(())
}

/// A socket that connect was called on.
#[inline(always)]
pub fn connected(caller: Caller, socket: Kernel, ret: i64) -> Option<()> {
    if ret != 0 && ret != -EINPROGRESS {
        return None;
    }
    let sock = Sock::from_socket(socket)?;
    if sock.sock_type() == SOCK_STREAM {
        let conn = conn::find_or_make(&sock, caller, Sight::Connected)?;
        conn::announce(&sock, caller, conn);
    }
    Some(())
}

/// Whether an IPv6 function does the work for a socket: it calls the IPv4 one for mapped addresses, and one of the two
/// must not count.
#[inline(always)]
pub fn is_inet6(sk: u64) -> bool {
    sock::family(Kernel(sk)) == AF_INET6
}

/// A protocol on top of TCP was set.
#[inline(always)]
pub fn ulp_set(name: Kernel, ret: i64) {
    if ret != 0 || !is_selected() || name.read::<[u8; 4]>(0) != Some(*b"tls\0") {
        return;
    }
    emit::count(Counter::KernelTls);
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    unseen::<()>(tgid, UNSEEN_KERNEL_TLS);
}

/// The current thread waited for several descriptors.
#[inline(always)]
pub fn waited(event_loop: bool) {
    let ids = bpf_get_current_pid_tgid();
    let tgid = (ids >> 32) as u32;
    let Some(hint) = select::hint(tgid) else { return };
    if !hint.is_quiet() && hint.is_selected(tgid) {
        waits::waited(ids as u32, event_loop);
    }
}

pub const SENT: usize = EGRESS;
/// See [`SENT`].
pub const RECEIVED: usize = INGRESS;

const _: u32 = Waits::UNKNOWN;
