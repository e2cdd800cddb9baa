//! The syscall back end: one raw tracepoint at the return of every system call.
//!
//! Hook: `sys_exit`. The arguments are still in the thread's saved registers, the byte count is known, and the
//! user pages are resident. Which socket a call is about comes from the task's file table at that moment, so that
//! dup, fork, SCM_RIGHTS and close need no hook. The common calls with one buffer end here; the rest goes to
//! programs behind tail calls. 32-bit calls and io_uring are reported as unseen.

use agent_common::{
    conn::{EGRESS, INGRESS},
    counters::Counter,
    event::{UNSEEN_COMPAT, UNSEEN_IO_URING},
    globals::syscall_class as class,
};
use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    capture::{self, Caller},
    conn::{self, Sight},
    datagram::{self, Memory},
    emit,
    forget::forget,
    gather::{self, Loop},
    globals::syscall_class,
    kernel::{Regs, Task, read_user},
    maps::{Conn, TAILS},
    process::unseen,
    select::{self, Hint},
    slot::Slot,
    sock::{NoSock, SOCK_STREAM, Sock},
    waits,
};

/// Index in the program array of `sys_exit_vectored`.
pub const TAIL_VECTORED: u32 = 0;
/// Index in the program array of `sys_exit_messages`.
pub const TAIL_MESSAGES: u32 = 1;
/// Index in the program array of `sys_exit_other`.
pub const TAIL_OTHER: u32 = 2;
/// Index in the program array of `sys_exit_long`.
pub const TAIL_LONG: u32 = 3;

const MSG_OOB: u64 = 0x1;
const MSG_PEEK: u64 = 0x2;
const MSG_TRUNC: u64 = 0x20;
const MSG_ERRQUEUE: u64 = 0x2000;
const EINTR: i64 = 4;
const EAGAIN: i64 = 11;
const EINPROGRESS: i64 = 115;
/// Largest count that a call returns (`MAX_RW_COUNT` is below it).
const MAX_LEN: i64 = 0x7fff_ffff;

/// A call of a selected process that is returning.
#[derive(Clone, Copy)]
struct Call {
    caller: Caller,
    hint: Hint,
    task: Task,
    regs: Regs,
    ret: i64,
    class: u8,
}

impl Call {
    /// `None` for calls of other processes and calls that are not ours.
    #[inline(always)]
    fn current(ctx: &RawTracePointContext) -> Option<Self> {
        let ids = bpf_get_current_pid_tgid();
        let tgid = (ids >> 32) as u32;
        let hint = select::hint(tgid)?;
        let task = Task::current();
        if task.is_compat() {
            // Its call numbers mean something else.
            return unseen(tgid, UNSEEN_COMPAT);
        }
        let regs = task.regs(ctx);
        let class = syscall_class(regs.syscall()?);
        if class == class::NONE {
            return None;
        }
        let ret: i64 = ctx.arg::<u64>(1) as i64;
        let caller = Caller { tgid, tid: ids as u32, quiet: hint.is_quiet(), slot: Slot::ONLY };
        Some(Self { caller, hint, task, regs, ret, class })
    }

    /// The connection behind a descriptor on which the call moved `len` bytes, and whether it is a stream.
    #[inline(always)]
    fn conn(&self, sock: &Sock, direction: usize, len: u64) -> Option<(*mut Conn, bool)> {
        let conn = conn::find_or_make(sock, self.caller, Sight::Data { direction, len })?;
        conn::announce(sock, self.caller, conn);
        // SAFETY: the pointer is to a map value.
        Some((conn, unsafe { (*conn).sock_type } == SOCK_STREAM))
    }

    /// The socket behind a descriptor.
    #[inline(always)]
    fn sock(&self, fd: u64) -> Option<Sock> {
        match Sock::from_fd(self.task, fd) {
            Ok(sock) => Some(sock),
            Err(NoSock::FdGone) => {
                emit::count(Counter::FdGone);
                None
            }
            Err(NoSock::NotASocket) => None,
        }
    }
}

/// match-proto: void sys_exit(struct pt_regs *regs, long int ret)
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let _ = try_sys_exit(&ctx);
    0
}

#[inline(always)]
fn try_sys_exit(ctx: &RawTracePointContext) -> Option<()> {
    let call = Call::current(ctx)?;
    // Half of an event loop's reads find nothing: tell those before anything dear.
    if call.class <= class::SPLICE && (call.ret == -EAGAIN || call.ret == -EINTR) {
        return None;
    }
    if call.caller.quiet && call.class >= class::EPOLL_WAIT && call.class <= class::SELECT {
        return None;
    }
    if !call.hint.is_selected(call.caller.tgid) {
        return None;
    }
    if call.ret > 0 && call.ret <= MAX_LEN && call.class <= class::SENDTO {
        if one_buffer(&call)? {
            // SAFETY: the context is this program's own.
            unsafe { TAILS.tail_call(ctx, TAIL_LONG) };
        }
        return None;
    }
    let tail = match call.class {
        _ if call.ret <= 0 => TAIL_OTHER,
        class::READV | class::WRITEV | class::RECVMSG | class::SENDMSG => TAIL_VECTORED,
        class::RECVMMSG | class::SENDMMSG => TAIL_MESSAGES,
        _ => TAIL_OTHER,
    };
    // SAFETY: the context is this program's own.
    unsafe { TAILS.tail_call(ctx, tail) };
    None
}

/// read, write, recvfrom, sendto; whether more than one record is needed.
#[inline(always)]
fn one_buffer(call: &Call) -> Option<bool> {
    let direction = if call.class == class::READ || call.class == class::RECVFROM { INGRESS } else { EGRESS };
    let flags = if call.class == class::RECVFROM { call.regs.arg3()? } else { 0 };
    if flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB) != 0 {
        return None;
    }
    let direction = forget(direction as u64) as usize & 1;
    let sock = call.sock(call.regs.arg0()?)?;
    let address = call.regs.arg1()?;
    let len = call.ret as u64;
    let (conn, stream) = call.conn(&sock, direction, len)?;
    if stream {
        // With MSG_TRUNC the bytes are thrown away unread.
        let held = forget(if flags & MSG_TRUNC != 0 { 0 } else { len });
        return Some(capture::buffer(conn, call.caller, direction, address, len, held));
    }
    let name = if call.class == class::READ || call.class == class::WRITE { 0 } else { call.regs.arg4()? };
    // With MSG_TRUNC the length is the message's, not what the buffer holds.
    let size = call.regs.arg2()?;
    let name = Memory::User(name);
    datagram::message(conn, call.caller, direction, name, address, len, if len < size { len } else { size });
    Some(false)
}

/// The rest of a call with one long buffer, which `capture::buffer` left in the gathering state.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_long(_ctx: RawTracePointContext) -> i32 {
    gather::go_on(Slot::ONLY, Loop::Helper);
    0
}

/// The same where the kernel has no bpf_loop.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_long_short(_ctx: RawTracePointContext) -> i32 {
    gather::go_on(Slot::ONLY, Loop::Unrolled);
    0
}

/// Calls over several segments on one socket.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_vectored(ctx: RawTracePointContext) -> i32 {
    let _ = try_vectored(&ctx, Loop::Helper);
    0
}

/// The same where the kernel has no bpf_loop.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_vectored_short(ctx: RawTracePointContext) -> i32 {
    let _ = try_vectored(&ctx, Loop::Unrolled);
    0
}

/// The kernel's `struct user_msghdr` of a 64-bit process.
#[repr(C)]
#[derive(Clone, Copy)]
struct MsgHdr {
    name: u64,
    name_len: u64,
    iov: u64,
    iov_len: u64,
}

#[inline(always)]
fn try_vectored(ctx: &RawTracePointContext, with: Loop) -> Option<()> {
    let call = Call::current(ctx)?;
    if call.ret <= 0 || call.ret > MAX_LEN {
        return None;
    }
    let len = call.ret as u64;
    let direction = if call.class == class::READV || call.class == class::RECVMSG { INGRESS } else { EGRESS };
    let direction = forget(direction as u64) as usize & 1;
    let mut name = 0;
    let (iov, count) = if call.class == class::READV || call.class == class::WRITEV {
        (call.regs.arg1()?, call.regs.arg2()?)
    } else {
        let flags = call.regs.arg2()?;
        if call.class == class::RECVMSG && flags & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB) != 0 {
            return None;
        }
        let message: MsgHdr = read_user(call.regs.arg1()?)?;
        name = message.name;
        if call.class == class::RECVMSG && flags & MSG_TRUNC != 0 {
            (message.iov, 0)
        } else {
            (message.iov, message.iov_len)
        }
    };
    let (name, iov, count) = (forget(name), forget(iov), forget(count));
    let sock = call.sock(call.regs.arg0()?)?;
    let (conn, stream) = call.conn(&sock, direction, len)?;
    if stream {
        gather::segments(conn, call.caller, direction, iov, count, len, with);
    } else {
        let (name, iov) = (Memory::User(name), Memory::User(iov));
        datagram::segments(conn, call.caller, direction, name, iov, 0, count, len);
    }
    Some(())
}

/// Calls that move several messages.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_messages(ctx: RawTracePointContext) -> i32 {
    let _ = try_messages(&ctx, Loop::Helper);
    0
}

/// The same where the kernel has no bpf_loop.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_messages_short(ctx: RawTracePointContext) -> i32 {
    let _ = try_messages(&ctx, Loop::Unrolled);
    0
}

#[inline(always)]
fn try_messages(ctx: &RawTracePointContext, with: Loop) -> Option<()> {
    let call = Call::current(ctx)?;
    if call.ret <= 0 {
        return None;
    }
    let direction = if call.class == class::RECVMMSG { INGRESS } else { EGRESS };
    let direction = forget(direction as u64) as usize & 1;
    if call.class == class::RECVMMSG && call.regs.arg3()? & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB) != 0 {
        return None;
    }
    let sock = call.sock(call.regs.arg0()?)?;
    let (vector, count) = (call.regs.arg1()?, call.ret as u64);
    if sock.sock_type() == SOCK_STREAM {
        let len = gather::total(vector, count);
        let (conn, _) = call.conn(&sock, direction, len)?;
        gather::messages(conn, call.caller, direction, vector, count, len, with);
    } else {
        let (conn, _) = call.conn(&sock, direction, 0)?;
        datagram::messages(conn, call.caller, direction, vector, count);
    }
    Some(())
}

/// Everything else: failed calls, ends of streams, accept, connect, sendfile, splice, waits.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit_other(ctx: RawTracePointContext) -> i32 {
    let _ = try_other(&ctx);
    0
}

#[inline(always)]
fn try_other(ctx: &RawTracePointContext) -> Option<()> {
    let call = Call::current(ctx)?;
    match call.class {
        class::ACCEPT if call.ret >= 0 => {
            let sock = call.sock(call.ret as u64)?;
            let conn = conn::find_or_make(&sock, call.caller, Sight::Accepted)?;
            conn::announce(&sock, call.caller, conn);
        }
        class::CONNECT if call.ret == 0 || call.ret == -EINPROGRESS => {
            let sock = call.sock(call.regs.arg0()?)?;
            if sock.sock_type() == SOCK_STREAM {
                let conn = conn::find_or_make(&sock, call.caller, Sight::Connected)?;
                conn::announce(&sock, call.caller, conn);
            }
        }
        class::SENDFILE if call.ret > 0 && call.ret <= MAX_LEN => {
            let sock = call.sock(call.regs.arg0()?)?;
            unread(&call, &sock, EGRESS);
        }
        class::SPLICE if call.ret > 0 && call.ret <= MAX_LEN => {
            // One end is a pipe; both may not be sockets.
            let (sock, direction) = match Sock::from_fd(call.task, call.regs.arg0()?) {
                Ok(sock) => (sock, INGRESS),
                Err(_) => (call.sock(call.regs.arg2()?)?, EGRESS),
            };
            unread(&call, &sock, direction);
        }
        class::EPOLL_WAIT => waits::waited(call.caller.tid, true),
        // One descriptor is no choice: clients with time-outs wait so for their own connection.
        class::POLL if call.regs.arg1()? as u32 > 1 => waits::waited(call.caller.tid, false),
        class::SELECT => waits::waited(call.caller.tid, false),
        class::IO_URING if call.ret >= 0 => {
            waits::waited(call.caller.tid, true);
            unseen::<()>(call.caller.tgid, UNSEEN_IO_URING);
        }
        class::READ | class::RECVFROM | class::READV | class::RECVMSG => return no_bytes(&call, INGRESS),
        class::WRITE | class::SENDTO | class::WRITEV | class::SENDMSG => return no_bytes(&call, EGRESS),
        _ => {}
    }
    Some(())
}

/// A call whose bytes are not in user memory.
#[inline(always)]
fn unread(call: &Call, sock: &Sock, direction: usize) {
    let len = call.ret as u64;
    if let Some((conn, true)) = call.conn(sock, direction, len) {
        capture::unread(conn, call.caller, direction, len);
    }
}

/// A call that moved nothing: the end of the stream, or an error that ends it.
#[inline(always)]
fn no_bytes(call: &Call, direction: usize) -> Option<()> {
    let ends = call.ret == 0 && direction == INGRESS;
    if !ends && !conn::is_fatal(call.ret) {
        return None;
    }
    // Which argument tells that nothing was asked for; a peek tells nothing.
    let asked = match call.class {
        class::READ => call.regs.arg2()?,
        class::RECVFROM if call.regs.arg3()? & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB) != 0 => 0,
        class::RECVFROM => call.regs.arg2()?,
        class::RECVMSG if call.regs.arg2()? & (MSG_PEEK | MSG_ERRQUEUE | MSG_OOB) != 0 => 0,
        _ => 1,
    };
    if asked == 0 {
        return None;
    }
    let sock = Sock::from_fd(call.task, call.regs.arg0()?).ok()?;
    conn::no_bytes(&sock, call.caller, direction, call.ret)
}
