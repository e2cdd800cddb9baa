//! Connections: found by their sock, made at first sight, closed by the socket tracepoints.
//!
//! Hooks: `inet_sock_set_state`, `tcp_destroy_sock` (raw tracepoints). Events: ConnOpened, ConnClosed, ConnEof,
//! ProcessListen. Unix and datagram sockets have no such tracepoint: user space reaps them (`control.rs`).

use agent_common::{
    capture::CaptureMode,
    conn::{EGRESS, INGRESS},
    counters::Counter,
    event::{
        ConnClosed, ConnEof, ConnError, ConnOpened, EventKind, FLAG_ACCEPTED, FLAG_CONNECTED, FLAG_DATAGRAM,
        FLAG_EGRESS, FLAG_FROM_START, FLAG_RESET, ProcessListen,
    },
};
use aya_ebpf::{macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    capture::Caller,
    emit,
    forget::forget,
    globals::{offset, port_selected},
    kernel::Kernel,
    maps::{
        CONN_ACCEPTED, CONN_ANNOUNCED, CONN_BY_SOCK, CONN_CLOSED, CONN_CONNECTED, CONN_EOF_EGRESS,
        CONN_FROM_START, Conn,
    },
    select,
    sock::{self, IPPROTO_TCP, SOCK_DGRAM, SOCK_STREAM, Sock},
};

const TCP_ESTABLISHED: u64 = 1;
const TCP_FIN_WAIT1: u64 = 4;
const TCP_CLOSE: u64 = 7;
const TCP_CLOSE_WAIT: u64 = 8;
const TCP_LAST_ACK: u64 = 9;
const TCP_LISTEN: u64 = 10;
const EPIPE: i64 = 32;
const ECONNRESET: i64 = 104;
const ETIMEDOUT: i64 = 110;
const SEND_SHUTDOWN: u8 = 2;
const SHUTDOWN_MASK: u8 = 3;

/// How a connection came into sight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// accept returned it.
    Accepted,
    /// connect was called on it.
    Connected,
    /// A call has just moved `len` bytes in `direction`.
    Data { direction: usize, len: u64 },
}

/// The connection of a socket, made if it is new. `None` when the table is full or it is no stream or datagram
/// socket of a known family.
#[inline(always)]
pub fn find_or_make(sock: &Sock, caller: Caller, sight: Sight) -> Option<*mut Conn> {
    if let Some(conn) = CONN_BY_SOCK.get_ptr_mut(sock.sk.0) {
        // SAFETY: the pointer is to a map value.
        if unsafe { (*conn).inode } == sock.inode {
            return Some(conn);
        }
        emit::count(Counter::SockReused);
        let _ = CONN_BY_SOCK.remove(sock.sk.0);
    }
    make(sock, caller, sight)
}

#[inline(always)]
fn make(sock: &Sock, caller: Caller, sight: Sight) -> Option<*mut Conn> {
    let sock_type = sock.sock_type();
    if sock_type != SOCK_STREAM && sock_type != SOCK_DGRAM {
        return None;
    }
    let family = sock::family(sock.sk);
    let inet = family == sock::AF_INET || family == sock::AF_INET6;
    if !inet && family != sock::AF_UNIX {
        return None;
    }
    let scratch = caller.slot.scratch()?.cast::<Conn>();
    // SAFETY: the scratch is larger than a connection, aligned for it, and not in use before a record is begun.
    let conn = unsafe { &mut *scratch };
    *conn = Conn {
        conn_id: 0,
        inode: sock.inode,
        offset: [0; 2],
        copied: [0; 2],
        mode: CaptureMode::default(),
        turns: 0,
        turn_bytes: 0,
        tgid: caller.tgid,
        direction: u8::MAX,
        flags: 0,
        sock_type,
    };
    // An id that is never used twice: inode numbers are, one after the other, so the time of making is part of it.
    // SAFETY: no arguments.
    conn.conn_id = unsafe { aya_ebpf::helpers::bpf_ktime_get_ns() } << 16 | (sock.sk.0 >> 6 & 0xffff);
    match sight {
        Sight::Accepted => conn.flags = CONN_ACCEPTED | CONN_FROM_START,
        Sight::Connected => conn.flags = CONN_CONNECTED | CONN_FROM_START,
        Sight::Data { direction, len } => {
            if inet && sock_type == SOCK_STREAM && sock::protocol(sock.sk) == IPPROTO_TCP {
                resume_tcp(sock.sk, conn, direction, len);
            }
        }
    }
    let made: &Conn = conn;
    if CONN_BY_SOCK.insert(sock.sk.0, made, 0).is_err() {
        emit::count(Counter::ConnTableFull);
        return None;
    }
    emit::count(Counter::Connections);
    CONN_BY_SOCK.get_ptr_mut(sock.sk.0)
}

/// Takes up a TCP connection that was open before: the kernel knows how much has passed.
#[inline(always)]
fn resume_tcp(sk: Kernel, conn: &mut Conn, direction: usize, len: u64) {
    let mut read = sock::tcp_bytes_read(sk);
    let mut written = sock::tcp_bytes_written(sk);
    if direction == INGRESS {
        read = read.saturating_sub(len);
    } else {
        written = written.saturating_sub(len);
    }
    if read == 0 && written <= 1 {
        // One byte is the SYN of the end that opened the connection.
        conn.flags = CONN_FROM_START;
        written = 0;
    }
    conn.offset[INGRESS] = read;
    conn.offset[EGRESS] = written;
}

/// Tells user space of a connection, once.
#[inline(always)]
pub fn announce(sock: &Sock, caller: Caller, conn: *mut Conn) {
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    if conn.flags & CONN_ANNOUNCED != 0 {
        return;
    }
    let mut flags = 0;
    if conn.flags & CONN_ACCEPTED != 0 {
        flags |= FLAG_ACCEPTED;
    }
    if conn.flags & CONN_CONNECTED != 0 {
        flags |= FLAG_CONNECTED;
    }
    if conn.flags & CONN_FROM_START != 0 {
        flags |= FLAG_FROM_START;
    }
    if conn.sock_type == SOCK_DGRAM {
        flags |= FLAG_DATAGRAM;
    }
    let flags = forget(u64::from(flags));
    let Some(scratch) = caller.slot.scratch() else { return };
    // SAFETY: the scratch is larger than the record, aligned for it, and not in use before a record is begun.
    let opened = unsafe { &mut *scratch.cast::<ConnOpened>() };
    *opened = ConnOpened {
        header: emit::header(EventKind::CONN_OPENED, flags as u16, conn.tgid, conn.conn_id),
        sock: sock.sk.0,
        ingress_offset: conn.offset[INGRESS],
        egress_offset: conn.offset[EGRESS],
        ..ConnOpened::default()
    };
    sock::read_tuple(sock.sk, conn.sock_type, &mut opened.tuple);
    if emit::record(&*opened, false, Counter::RingFullConn) {
        conn.flags |= CONN_ANNOUNCED;
    }
}

/// Sends the last record of a connection, once.
#[inline(always)]
pub fn close(sk: Kernel, conn: *mut Conn, flags: u16) {
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    if conn.flags & CONN_CLOSED != 0 {
        return;
    }
    conn.flags |= CONN_CLOSED;
    let closed = ConnClosed {
        header: emit::header(EventKind::CONN_CLOSED, flags, conn.tgid, conn.conn_id),
        ingress_offset: conn.offset[INGRESS],
        egress_offset: conn.offset[EGRESS],
        turns: conn.turns,
        error: sk.read(offset!(sk_err)).unwrap_or(0),
    };
    emit::record(&closed, false, Counter::RingFullConn);
}

/// match-proto: void inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: RawTracePointContext) -> i32 {
    let sk = Kernel(ctx.arg(0));
    let old: u64 = ctx.arg(1);
    let new: u64 = ctx.arg(2);
    if new == TCP_LISTEN {
        listen(sk);
    } else {
        set_state(sk, old & 0xff, new & 0xff);
    }
    0
}

/// Tells the close of an open connection by a process from what the network does. `tcp_close` and shutdown set
/// `sk_shutdown` before the state, a reset after it; tcp_close passes through here even when the state stays.
#[inline(always)]
fn set_state(sk: Kernel, old: u64, new: u64) {
    let Some(conn) = CONN_BY_SOCK.get_ptr_mut(sk.0) else { return };
    let shutdown: u8 = sk.read(offset!(sk_shutdown)).unwrap_or(0);
    let by_process = new == TCP_FIN_WAIT1 || new == TCP_LAST_ACK;
    if shutdown & SHUTDOWN_MASK == SHUTDOWN_MASK {
        let unread = new == TCP_CLOSE && (old == TCP_ESTABLISHED || old == TCP_CLOSE_WAIT);
        if by_process || unread || old == new {
            close(sk, conn, if unread { FLAG_RESET } else { 0 });
        }
    } else if by_process && shutdown & SEND_SHUTDOWN != 0 {
        eof(conn, EGRESS);
    }
}

/// Sends the end of a direction, once.
#[inline(always)]
pub fn eof(conn: *mut Conn, direction: usize) {
    // SAFETY: the pointer is to a map value.
    let conn = unsafe { &mut *conn };
    let (bit, flags, offset) = if direction == EGRESS {
        (CONN_EOF_EGRESS, FLAG_EGRESS, conn.offset[EGRESS])
    } else {
        (crate::maps::CONN_EOF_INGRESS, 0, conn.offset[INGRESS])
    };
    if conn.flags & bit != 0 {
        return;
    }
    conn.flags |= bit;
    let record =
        ConnEof { header: emit::header(EventKind::CONN_EOF, flags, conn.tgid, conn.conn_id), offset };
    emit::record(&record, false, Counter::RingFullConn);
}

/// A call on a stream that moved nothing: the end of what it reads, or an error that ends it. Other results say nothing.
#[inline(always)]
pub fn no_bytes(sock: &Sock, caller: Caller, direction: usize, ret: i64) -> Option<()> {
    let conn = CONN_BY_SOCK.get_ptr_mut(sock.sk.0)?;
    // SAFETY: the pointer is to a map value.
    let (inode, conn_id, sock_type) = unsafe { ((*conn).inode, (*conn).conn_id, (*conn).sock_type) };
    if inode != sock.inode || sock_type != SOCK_STREAM {
        return None;
    }
    if ret == 0 {
        eof(conn, INGRESS);
        return Some(());
    }
    let flags = if direction == EGRESS { FLAG_EGRESS } else { 0 };
    let record = ConnError {
        header: emit::header(EventKind::CONN_ERROR, flags, caller.tgid, conn_id),
        errno: -ret as u32,
        tid: caller.tid,
    };
    emit::record(&record, false, Counter::RingFullConn);
    Some(())
}

/// Whether a call's result ends its connection.
#[inline(always)]
pub fn is_fatal(ret: i64) -> bool {
    ret == -ECONNRESET || ret == -EPIPE || ret == -ETIMEDOUT
}

/// A process begins to listen: select it if a rule names the port.
#[inline(always)]
fn listen(sk: Kernel) {
    let port: u16 = sk.read(offset!(skc_num)).unwrap_or(0);
    if !port_selected(port) {
        return;
    }
    let tgid = (aya_ebpf::helpers::bpf_get_current_pid_tgid() >> 32) as u32;
    if select::add(tgid) {
        let record = ProcessListen {
            header: emit::header(EventKind::PROCESS_LISTEN, 0, tgid, 0),
            port,
            ..ProcessListen::default()
        };
        emit::record(&record, true, Counter::RingFullProcess);
    }
}

/// match-proto: void tcp_destroy_sock(struct sock *sk)
#[raw_tracepoint(tracepoint = "tcp_destroy_sock")]
pub fn tcp_destroy_sock(ctx: RawTracePointContext) -> i32 {
    let sk = Kernel(ctx.arg(0));
    if let Some(conn) = CONN_BY_SOCK.get_ptr_mut(sk.0) {
        close(sk, conn, FLAG_RESET);
        let _ = CONN_BY_SOCK.remove(sk.0);
    }
    0
}
