//! The kprobe back end: what a function was called with is kept for its thread, and told when it returns.
//!
//! A kretprobe has a bounded number of instances, and a thread that waits in the function holds one: a server with a
//! thread for each connection would use them up. Where the kernel calls another function once the bytes are there,
//! that one is hooked instead (`tcp_cleanup_rbuf`, `skb_consume_udp`). A return that was missed shows when the thread
//! calls again, and is counted. One program serves all functions that are called alike.

use agent_common::counters::Counter;
use aya_ebpf::{
    EbpfContext as _,
    helpers::bpf_get_current_pid_tgid,
    macros::{kprobe, kretprobe},
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    calls::{self, Pending, RECEIVED, SENT},
    emit,
    gather::Loop,
    globals::offset,
    kernel::Kernel,
    maps::CALLS_BY_TID,
    sock::Sock,
};

/// The first argument is a `struct socket`, not a `struct sock`.
const SOCKET: u64 = 1;
/// Bytes are received.
const INBOUND: u64 = 2;
/// Its return is hooked, not a function that it calls.
const RETURNS: u64 = 4;
/// What is done at its end; 0: nothing is under way.
const STREAM: u64 = 1 << 4;
const MESSAGE: u64 = 2 << 4;
const PAGES: u64 = 3 << 4;
const ACCEPT: u64 = 4 << 4;
const CONNECT: u64 = 5 << 4;
const WHAT: u64 = 7 << 4;

const RCV_SHUTDOWN: u8 = 1;

/// The arguments of the function that is being entered.
#[inline(always)]
fn arguments(ctx: &ProbeContext) -> Option<[u64; 6]> {
    let regs = Kernel(ctx.as_ptr() as u64);
    #[cfg(bpf_target_arch = "x86_64")]
    {
        // arch/x86/include/asm/ptrace.h: r9, r8, ax, cx, dx, si, di lie side by side.
        let [r9, r8, _, cx, dx, si, di] = regs.read::<[u64; 7]>(64)?;
        Some([di, si, dx, cx, r8, r9])
    }
    #[cfg(not(bpf_target_arch = "x86_64"))]
    regs.read(0)
}

/// Keeps the call for its end.
#[inline(always)]
fn begin(ctx: &ProbeContext, kind: u64) {
    if calls::is_selected()
        && let Some(arguments) = arguments(ctx)
    {
        keep(&arguments, kind);
    }
}

#[inline(always)]
fn keep(arguments: &[u64; 6], kind: u64) {
    let flags = match offset!(recvmsg_flags) {
        _ if kind & INBOUND == 0 => 0,
        4 if kind & SOCKET == 0 => arguments[4],
        _ => arguments[3],
    };
    let call = Pending {
        sk: arguments[0],
        msg: arguments[1],
        flags: flags & 0xffff_ffff,
        size: arguments[2],
        seen: 0,
        kind,
    };
    let tid = bpf_get_current_pid_tgid() as u32;
    if let Some(pending) = CALLS_BY_TID.get_ptr_mut(tid) {
        // SAFETY: the pointer is to a map value; only its own thread writes it.
        let pending = unsafe { &mut *pending };
        if pending.kind & RETURNS != 0 {
            emit::count(Counter::ReturnsMissed);
        }
        *pending = call;
    } else if CALLS_BY_TID.insert(tid, call, 0).is_err() {
        emit::count(Counter::CallTableFull);
    }
}

/// The call under way if it is one of this sort; it is over.
#[inline(always)]
fn end(what: u64) -> Option<Pending> {
    let pending = CALLS_BY_TID.get_ptr_mut(bpf_get_current_pid_tgid() as u32)?;
    // SAFETY: the pointer is to a map value; only its own thread writes it.
    let pending = unsafe { &mut *pending };
    if pending.kind & WHAT != what || pending.kind & RETURNS == 0 {
        return None;
    }
    let call = *pending;
    pending.kind = 0;
    Some(call)
}

#[inline(always)]
fn sock(call: &Pending) -> Option<Sock> {
    if call.kind & SOCKET != 0 { Sock::from_socket(Kernel(call.sk)) } else { Sock::from_sk(Kernel(call.sk)) }
}

#[inline(always)]
fn direction(call: &Pending) -> usize {
    if call.kind & INBOUND != 0 { RECEIVED } else { SENT }
}

/// Declares a program and its variant for kernels without bpf_loop.
macro_rules! both {
    ($(#[doc = $doc:literal])* $attribute:ident $context:ident $name:ident, $short:ident, $work:ident) => {
        $(#[doc = $doc])*
        #[$attribute]
        pub fn $name(ctx: $context) -> u32 {
            $work(&ctx, Loop::Helper);
            0
        }

        /// The same where the kernel has no bpf_loop.
        #[$attribute]
        pub fn $short(ctx: $context) -> u32 {
            $work(&ctx, Loop::Unrolled);
            0
        }
    };
}

/// Declares a program that keeps a call of a kind.
macro_rules! entry {
    ($(#[doc = $doc:literal])* $name:ident, $kind:expr) => {
        $(#[doc = $doc])*
        #[kprobe]
        pub fn $name(ctx: ProbeContext) -> u32 {
            begin(&ctx, $kind);
            0
        }
    };
}

entry! {
    /// `(struct sock *, struct msghdr *, size_t)` of a stream: tcp_sendmsg, mptcp_sendmsg.
    sock_stream_send, STREAM | RETURNS
}
entry! {
    /// `(struct sock *, struct msghdr *, size_t, …, int flags, …)` of a stream, told by its return: mptcp_recvmsg.
    sock_stream_receive, STREAM | INBOUND | RETURNS
}
entry! {
    /// tcp_recvmsg, told by `tcp_consumed`.
    tcp_receive, STREAM | INBOUND
}
entry! {
    /// `(struct socket *, struct msghdr *, size_t)`: unix_stream_sendmsg.
    socket_stream_send, STREAM | SOCKET | RETURNS
}
entry! {
    /// `(struct socket *, struct msghdr *, size_t, int flags)`: unix_stream_recvmsg.
    socket_stream_receive, STREAM | SOCKET | INBOUND | RETURNS
}
entry! {
    /// udpv6_sendmsg.
    sock_message_send, MESSAGE | RETURNS
}
entry! {
    /// udpv6_recvmsg, told by `udp_consumed`.
    sock_message_receive, MESSAGE | INBOUND
}
entry! {
    /// `(struct sock *, …)` that moves pages out: tcp_sendpage.
    sock_pages_send, PAGES | RETURNS
}
entry! {
    /// `(struct socket *, …)` that moves pages out: unix_stream_sendpage.
    socket_pages_send, PAGES | SOCKET | RETURNS
}
entry! {
    /// `(struct socket *, …)` that moves pages in: tcp_splice_read, unix_stream_splice_read.
    socket_pages_receive, PAGES | SOCKET | INBOUND | RETURNS
}
entry! {
    /// `(struct socket *, struct socket *newsock, …)`: inet_accept and its like.
    accept_entry, ACCEPT | SOCKET | RETURNS
}
entry! {
    /// `(struct socket *, …)`: inet_stream_connect, unix_stream_connect.
    connect_entry, CONNECT | SOCKET | RETURNS
}

/// udp_sendmsg; udpv6_sendmsg calls it for mapped addresses, and counts by itself.
#[kprobe]
pub fn udp_send(ctx: ProbeContext) -> u32 {
    udp_begin(&ctx, MESSAGE | RETURNS);
    0
}

/// udp_recvmsg, told by `udp_consumed`.
#[kprobe]
pub fn udp_receive(ctx: ProbeContext) -> u32 {
    udp_begin(&ctx, MESSAGE | INBOUND);
    0
}

#[inline(always)]
fn udp_begin(ctx: &ProbeContext, kind: u64) {
    if calls::is_selected()
        && let Some(arguments) = arguments(ctx)
        && !calls::is_inet6(arguments[0])
    {
        keep(&arguments, kind);
    }
}

both! {
    /// The return of a sending or receiving function of a stream.
    kretprobe RetProbeContext stream_return, stream_return_short, stream_returned
}

#[inline(always)]
fn stream_returned(ctx: &RetProbeContext, with: Loop) {
    let Some(call) = end(STREAM) else { return };
    let ret: i32 = ctx.ret();
    let Some(caller) = calls::selected() else { return };
    if let Some(sock) = sock(&call) {
        let _ = calls::stream(caller, &sock, &call, direction(&call), i64::from(ret), with);
    }
    caller.slot.release();
}

both! {
    /// Called by tcp_recvmsg with what it has copied so far, whenever it waits for more and at its end.
    ///
    /// match-proto: void tcp_cleanup_rbuf(struct sock *sk, int copied)
    kprobe ProbeContext tcp_consumed, tcp_consumed_short, tcp_consumes
}

#[inline(always)]
fn tcp_consumes(ctx: &ProbeContext, with: Loop) {
    let Some(caller) = calls::selected() else { return };
    let _ = try_tcp_consumes(ctx, caller, with);
    caller.slot.release();
}

#[inline(always)]
fn try_tcp_consumes(ctx: &ProbeContext, caller: crate::capture::Caller, with: Loop) -> Option<()> {
    let pending = CALLS_BY_TID.get_ptr_mut(caller.tid)?;
    // SAFETY: the pointer is to a map value; only its own thread writes it.
    let pending = unsafe { &mut *pending };
    let [sk, copied, ..] = arguments(ctx)?;
    if pending.kind != STREAM | INBOUND || pending.sk != sk {
        return None;
    }
    let copied = i64::from(copied as i32);
    let seen = pending.seen as i64;
    // It asks for more bytes, unless the other end sends none any more.
    if copied == 0 {
        let shutdown: u8 = Kernel(sk).read(offset!(sk_shutdown))?;
        if seen != 0 || shutdown & RCV_SHUTDOWN == 0 {
            return None;
        }
    }
    let ret = if copied > 0 { copied - seen } else { copied };
    if ret == 0 && copied > 0 {
        return None;
    }
    if copied > 0 {
        pending.seen = copied as u64;
    }
    let call = *pending;
    let sock = Sock::from_sk(Kernel(sk))?;
    calls::stream(caller, &sock, &call, RECEIVED, ret, with)
}

both! {
    /// The return of udp_sendmsg and udpv6_sendmsg.
    kretprobe RetProbeContext message_return, message_return_short, message_returned
}

#[inline(always)]
fn message_returned(ctx: &RetProbeContext, with: Loop) {
    let Some(call) = end(MESSAGE) else { return };
    let ret: i32 = ctx.ret();
    let Some(caller) = calls::selected() else { return };
    if let Some(sock) = sock(&call) {
        let _ = calls::message(caller, &sock, &call, SENT, i64::from(ret), with);
    }
    caller.slot.release();
}

both! {
    /// Called by udp_recvmsg and udpv6_recvmsg at their end; the length is negative for a peek.
    ///
    /// match-proto: void skb_consume_udp(struct sock *sk, struct sk_buff *skb, int len)
    kprobe ProbeContext udp_consumed, udp_consumed_short, udp_consumes
}

#[inline(always)]
fn udp_consumes(ctx: &ProbeContext, with: Loop) {
    let Some(caller) = calls::selected() else { return };
    let _ = try_udp_consumes(ctx, caller, with);
    caller.slot.release();
}

#[inline(always)]
fn try_udp_consumes(ctx: &ProbeContext, caller: crate::capture::Caller, with: Loop) -> Option<()> {
    let pending = CALLS_BY_TID.get_ptr_mut(caller.tid)?;
    // SAFETY: the pointer is to a map value; only its own thread writes it.
    let pending = unsafe { &mut *pending };
    let [sk, _, len, ..] = arguments(ctx)?;
    if pending.kind != MESSAGE | INBOUND || pending.sk != sk {
        return None;
    }
    let call = *pending;
    pending.kind = 0;
    let sock = Sock::from_sk(Kernel(sk))?;
    calls::message(caller, &sock, &call, RECEIVED, i64::from(len as i32), with)
}

/// The return of a function that moves pages.
#[kretprobe]
pub fn pages_return(ctx: RetProbeContext) -> u32 {
    let Some(call) = end(PAGES) else { return 0 };
    let ret: i64 = ctx.ret();
    let Some(caller) = calls::selected() else { return 0 };
    if let Some(sock) = sock(&call) {
        let _ = calls::pages(caller, &sock, direction(&call), i64::from(ret as i32));
    }
    caller.slot.release();
    0
}

/// The return of an accept.
#[kretprobe]
pub fn accept_return(ctx: RetProbeContext) -> u32 {
    let Some(call) = end(ACCEPT) else { return 0 };
    let ret: i32 = ctx.ret();
    if ret != 0 {
        return 0;
    }
    let Some(caller) = calls::selected() else { return 0 };
    let _ = calls::accepted(caller, Kernel(call.msg));
    caller.slot.release();
    0
}

/// The return of a connect.
#[kretprobe]
pub fn connect_return(ctx: RetProbeContext) -> u32 {
    let Some(call) = end(CONNECT) else { return 0 };
    let ret: i32 = ctx.ret();
    let Some(caller) = calls::selected() else { return 0 };
    let _ = calls::connected(caller, Kernel(call.sk), i64::from(ret));
    caller.slot.release();
    0
}

/// tcp_set_ulp: kernel TLS is asked for.
#[kprobe]
pub fn ulp_entry(ctx: ProbeContext) -> u32 {
    if let Some(arguments) = arguments(&ctx) {
        calls::ulp_set(Kernel(arguments[1]), 0);
    }
    // What is received from now on passes elsewhere; nothing of an old call may be taken for it.
    if let Some(pending) = CALLS_BY_TID.get_ptr_mut(bpf_get_current_pid_tgid() as u32) {
        // SAFETY: the pointer is to a map value; only its own thread writes it.
        unsafe { (*pending).kind = 0 };
    }
    0
}

/// do_epoll_wait, io_uring_enter.
#[kprobe]
pub fn event_loop_wait(_ctx: ProbeContext) -> u32 {
    calls::waited(true);
    0
}

/// do_sys_poll.
#[kprobe]
pub fn poll_wait(ctx: ProbeContext) -> u32 {
    // One descriptor is no choice: clients with time-outs wait so for their own connection.
    if calls::is_selected() && arguments(&ctx).is_some_and(|arguments| arguments[1] as u32 > 1) {
        calls::waited(false);
    }
    0
}

/// core_sys_select.
#[kprobe]
pub fn select_wait(_ctx: ProbeContext) -> u32 {
    calls::waited(false);
    0
}
