//! The fentry back end: one program behind the return of each socket function (BPF_TRACE_FEXIT).
//!
//! There the arguments and the result lie side by side, the byte count is known, and the user pages are resident. What
//! depends on the kernel (how many arguments a function has) is a constant from its BTF. Programs whose names end in
//! `_short` are for kernels without bpf_loop.

use core::arch::asm;

use aya_ebpf::{EbpfContext as _, macros::fexit, programs::FExitContext};

use crate::{
    calls::{self, Pending, RECEIVED, SENT},
    capture::Caller,
    gather::Loop,
    globals::offset,
    kernel::Kernel,
    sock::Sock,
};

const EAGAIN: i64 = 11;

/// Reads one word of the context. Not a load that the compiler sees: it would make one load of several, and the
/// verifier wants each at a fixed place.
macro_rules! word {
    ($ctx:expr, $at:literal) => {{
        let word: i64;
        // SAFETY: the verifier knows how many words there are.
        unsafe {
            asm!(
                concat!("{word} = *(u64 *)({ctx} + ", $at, ")"),
                ctx = in(reg) $ctx,
                word = out(reg) word,
                options(nostack, readonly),
            )
        };
        word
    }};
}

/// The result of a function with this many arguments, a constant for the verifier.
#[inline(always)]
fn result(ctx: &FExitContext, arguments: u64) -> i64 {
    let ctx = ctx.as_ptr();
    let word = match arguments {
        3 => word!(ctx, 24),
        4 => word!(ctx, 32),
        5 => word!(ctx, 40),
        6 => word!(ctx, 48),
        _ => return 0,
    };
    // What the functions return is an int, or fits in one.
    i64::from(word as i32)
}

/// The arguments as plain numbers.
#[inline(always)]
fn arguments(ctx: &FExitContext) -> Option<[u64; 6]> {
    Kernel(ctx.as_ptr() as u64).read(0)
}

/// A sending or receiving function of a `struct sock`.
#[inline(always)]
fn sock_call(ctx: &FExitContext, direction: usize, is_stream: bool, with: Loop) {
    let count = if direction == SENT { 3 } else { offset!(recvmsg_args) };
    let ret = result(ctx, count);
    // Half of an event loop's reads find nothing: tell those before anything dear.
    if ret == -EAGAIN {
        return;
    }
    let Some(caller) = calls::selected() else { return };
    let _ = try_sock_call(ctx, caller, direction, is_stream, ret, with);
    caller.slot.release();
}

#[inline(always)]
fn try_sock_call(
    ctx: &FExitContext,
    caller: Caller,
    direction: usize,
    is_stream: bool,
    ret: i64,
    with: Loop,
) -> Option<()> {
    let arguments = arguments(ctx)?;
    let flags = match offset!(recvmsg_flags) {
        _ if direction == SENT => 0,
        4 => arguments[4],
        _ => arguments[3],
    };
    let call = Pending {
        sk: arguments[0],
        msg: arguments[1],
        flags: flags & 0xffff_ffff,
        size: arguments[2],
        seen: 0,
        kind: 0,
    };
    let sock = Sock::from_sk(Kernel(call.sk))?;
    if is_stream {
        calls::stream(caller, &sock, &call, direction, ret, with)
    } else {
        calls::message(caller, &sock, &call, direction, ret, with)
    }
}

/// A sending or receiving function of a `struct socket`: `(socket, msg, size)` and, for receiving ones, flags.
#[inline(always)]
fn socket_call(ctx: &FExitContext, direction: usize, with: Loop) {
    let ret = result(ctx, if direction == SENT { 3 } else { 4 });
    if ret == -EAGAIN {
        return;
    }
    let Some(caller) = calls::selected() else { return };
    let _ = try_socket_call(ctx, caller, direction, ret, with);
    caller.slot.release();
}

#[inline(always)]
fn try_socket_call(ctx: &FExitContext, caller: Caller, direction: usize, ret: i64, with: Loop) -> Option<()> {
    let arguments = arguments(ctx)?;
    let flags = if direction == SENT { 0 } else { arguments[3] & 0xffff_ffff };
    let call = Pending { sk: arguments[0], msg: arguments[1], flags, size: arguments[2], seen: 0, kind: 0 };
    let sock = Sock::from_socket(Kernel(call.sk))?;
    calls::stream(caller, &sock, &call, direction, ret, with)
}

/// Declares a program and its variant for kernels without bpf_loop.
macro_rules! both {
    ($(#[doc = $doc:literal])* $function:literal, $name:ident, $short:ident, |$ctx:ident, $with:ident| $body:expr) => {
        $(#[doc = $doc])*
        #[fexit(function = $function)]
        pub fn $name(ctx: FExitContext) -> i32 {
            let ($ctx, $with) = (&ctx, Loop::Helper);
            $body;
            0
        }

        /// The same where the kernel has no bpf_loop.
        #[fexit(function = $function)]
        pub fn $short(ctx: FExitContext) -> i32 {
            let ($ctx, $with) = (&ctx, Loop::Unrolled);
            $body;
            0
        }
    };
}

both! {
    /// match-proto: int tcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t size)
    "tcp_sendmsg", tcp_sendmsg_exit, tcp_sendmsg_exit_short,
    |ctx, with| sock_call(ctx, SENT, true, with)
}

both! {
    /// match-proto: int tcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int nonblock, int flags, int *addr_len) [..5.18]
    /// match-proto: int tcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len) [5.19..6.12]
    /// match-proto: int tcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags) [6.18..]
    "tcp_recvmsg", tcp_recvmsg_exit, tcp_recvmsg_exit_short,
    |ctx, with| sock_call(ctx, RECEIVED, true, with)
}

both! {
    /// Multipath TCP: what its subflows do does not pass through tcp_sendmsg.
    ///
    /// match-proto: int mptcp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)
    "mptcp_sendmsg", mptcp_sendmsg_exit, mptcp_sendmsg_exit_short,
    |ctx, with| sock_call(ctx, SENT, true, with)
}

both! {
    /// match-proto: int mptcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int nonblock, int flags, int *addr_len) [..5.18]
    /// match-proto: int mptcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len) [5.19..6.12]
    /// match-proto: int mptcp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags) [6.18..]
    "mptcp_recvmsg", mptcp_recvmsg_exit, mptcp_recvmsg_exit_short,
    |ctx, with| sock_call(ctx, RECEIVED, true, with)
}

both! {
    /// match-proto: int unix_stream_sendmsg(struct socket *sock, struct msghdr *msg, size_t len)
    "unix_stream_sendmsg", unix_stream_sendmsg_exit, unix_stream_sendmsg_exit_short,
    |ctx, with| socket_call(ctx, SENT, with)
}

both! {
    /// match-proto: int unix_stream_recvmsg(struct socket *sock, struct msghdr *msg, size_t size, int flags)
    "unix_stream_recvmsg", unix_stream_recvmsg_exit, unix_stream_recvmsg_exit_short,
    |ctx, with| socket_call(ctx, RECEIVED, with)
}

both! {
    /// Called by udpv6_sendmsg for mapped addresses too, which counts by itself.
    ///
    /// match-proto: int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)
    "udp_sendmsg", udp_sendmsg_exit, udp_sendmsg_exit_short,
    |ctx, with| udp(ctx, SENT, with)
}

both! {
    /// match-proto: int udp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int noblock, int flags, int *addr_len) [..5.18]
    /// match-proto: int udp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len) [5.19..6.12]
    /// match-proto: int udp_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags) [6.18..]
    "udp_recvmsg", udp_recvmsg_exit, udp_recvmsg_exit_short,
    |ctx, with| udp(ctx, RECEIVED, with)
}

both! {
    /// match-proto: int udpv6_sendmsg(struct sock *sk, struct msghdr *msg, size_t len)
    "udpv6_sendmsg", udpv6_sendmsg_exit, udpv6_sendmsg_exit_short,
    |ctx, with| sock_call(ctx, SENT, false, with)
}

both! {
    /// match-proto: int udpv6_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int noblock, int flags, int *addr_len) [..5.18]
    /// match-proto: int udpv6_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags, int *addr_len) [5.19..6.12]
    /// match-proto: int udpv6_recvmsg(struct sock *sk, struct msghdr *msg, size_t len, int flags) [6.18..]
    "udpv6_recvmsg", udpv6_recvmsg_exit, udpv6_recvmsg_exit_short,
    |ctx, with| sock_call(ctx, RECEIVED, false, with)
}

#[inline(always)]
fn udp(ctx: &FExitContext, direction: usize, with: Loop) {
    let inet6 = calls::is_selected() && arguments(ctx).is_some_and(|arguments| calls::is_inet6(arguments[0]));
    if !inet6 {
        sock_call(ctx, direction, false, with);
    }
}

/// sendfile and splice to a socket, before tcp_sendmsg took pages (6.5).
///
/// match-proto: int tcp_sendpage(struct sock *sk, struct page *page, int offset, size_t size, int flags) [..6.4]
#[fexit(function = "tcp_sendpage")]
pub fn tcp_sendpage_exit(ctx: FExitContext) -> i32 {
    let ret = result(&ctx, 5);
    let Some(caller) = calls::selected() else { return 0 };
    if let Some(arguments) = arguments(&ctx)
        && let Some(sock) = Sock::from_sk(Kernel(arguments[0]))
    {
        let _ = calls::pages(caller, &sock, SENT, ret);
    }
    caller.slot.release();
    0
}

/// match-proto: ssize_t unix_stream_sendpage(struct socket *socket, struct page *page, int offset, size_t size, int flags) [..6.4]
#[fexit(function = "unix_stream_sendpage")]
pub fn unix_stream_sendpage_exit(ctx: FExitContext) -> i32 {
    socket_pages(&ctx, SENT);
    0
}

/// match-proto: ssize_t tcp_splice_read(struct socket *sock, loff_t *ppos, struct pipe_inode_info *pipe, size_t len, unsigned int flags)
#[fexit(function = "tcp_splice_read")]
pub fn tcp_splice_read_exit(ctx: FExitContext) -> i32 {
    socket_pages(&ctx, RECEIVED);
    0
}

/// match-proto: ssize_t unix_stream_splice_read(struct socket *sock, loff_t *ppos, struct pipe_inode_info *pipe, size_t size, unsigned int flags)
#[fexit(function = "unix_stream_splice_read")]
pub fn unix_stream_splice_read_exit(ctx: FExitContext) -> i32 {
    socket_pages(&ctx, RECEIVED);
    0
}

#[inline(always)]
fn socket_pages(ctx: &FExitContext, direction: usize) {
    let ret = result(ctx, 5);
    let Some(caller) = calls::selected() else { return };
    if let Some(arguments) = arguments(ctx)
        && let Some(sock) = Sock::from_socket(Kernel(arguments[0]))
    {
        let _ = calls::pages(caller, &sock, direction, ret);
    }
    caller.slot.release();
}

/// match-proto: int inet_accept(struct socket *sock, struct socket *newsock, int flags, bool kern) [..6.9]
/// match-proto: int inet_accept(struct socket *sock, struct socket *newsock, struct proto_accept_arg *arg) [6.10..]
#[fexit(function = "inet_accept")]
pub fn inet_accept_exit(ctx: FExitContext) -> i32 {
    accept(&ctx);
    0
}

/// match-proto: int unix_accept(struct socket *sock, struct socket *newsock, int flags, bool kern) [..6.9]
/// match-proto: int unix_accept(struct socket *sock, struct socket *newsock, struct proto_accept_arg *arg) [6.10..]
#[fexit(function = "unix_accept")]
pub fn unix_accept_exit(ctx: FExitContext) -> i32 {
    accept(&ctx);
    0
}

/// match-proto: int mptcp_stream_accept(struct socket *sock, struct socket *newsock, int flags, bool kern) [..6.9]
/// match-proto: int mptcp_stream_accept(struct socket *sock, struct socket *newsock, struct proto_accept_arg *arg) [6.10..]
#[fexit(function = "mptcp_stream_accept")]
pub fn mptcp_stream_accept_exit(ctx: FExitContext) -> i32 {
    accept(&ctx);
    0
}

#[inline(always)]
fn accept(ctx: &FExitContext) {
    if result(ctx, offset!(accept_args)) != 0 {
        return;
    }
    let Some(caller) = calls::selected() else { return };
    if let Some(arguments) = arguments(ctx) {
        let _ = calls::accepted(caller, Kernel(arguments[1]));
    }
    caller.slot.release();
}

/// match-proto: int inet_stream_connect(struct socket *sock, struct sockaddr *uaddr, int addr_len, int flags) [..6.18]
/// match-proto: int inet_stream_connect(struct socket *sock, struct sockaddr_unsized *uaddr, int addr_len, int flags) [7.3..]
#[fexit(function = "inet_stream_connect")]
pub fn inet_stream_connect_exit(ctx: FExitContext) -> i32 {
    connect(&ctx);
    0
}

/// match-proto: int unix_stream_connect(struct socket *sock, struct sockaddr *uaddr, int addr_len, int flags) [..6.18]
/// match-proto: int unix_stream_connect(struct socket *sock, struct sockaddr_unsized *uaddr, int addr_len, int flags) [7.3..]
#[fexit(function = "unix_stream_connect")]
pub fn unix_stream_connect_exit(ctx: FExitContext) -> i32 {
    connect(&ctx);
    0
}

#[inline(always)]
fn connect(ctx: &FExitContext) {
    let ret = result(ctx, 4);
    let Some(caller) = calls::selected() else { return };
    if let Some(arguments) = arguments(ctx) {
        let _ = calls::connected(caller, Kernel(arguments[0]), ret);
    }
    caller.slot.release();
}

/// match-proto: int tcp_set_ulp(struct sock *sk, const char *name)
#[fexit(function = "tcp_set_ulp")]
pub fn tcp_set_ulp_exit(ctx: FExitContext) -> i32 {
    // The name is a copy on the kernel's stack, still there.
    if let Some(arguments) = arguments(&ctx) {
        calls::ulp_set(Kernel(arguments[1]), i64::from(arguments[2] as i32));
    }
    0
}

/// match-proto: int do_epoll_wait(int epfd, struct epoll_event *events, int maxevents, int timeout) [..5.10]
/// match-proto: int do_epoll_wait(int epfd, struct epoll_event *events, int maxevents, struct timespec64 *to) [5.11..]
#[fexit(function = "do_epoll_wait")]
pub fn do_epoll_wait_exit(_ctx: FExitContext) -> i32 {
    calls::waited(true);
    0
}

/// match-proto: int do_sys_poll(struct pollfd *ufds, unsigned int nfds, struct timespec64 *end_time)
#[fexit(function = "do_sys_poll")]
pub fn do_sys_poll_exit(ctx: FExitContext) -> i32 {
    // One descriptor is no choice: clients with time-outs wait so for their own connection.
    if word!(ctx.as_ptr(), 8) as u32 > 1 {
        calls::waited(false);
    }
    0
}

/// match-proto: int core_sys_select(int n, fd_set *inp, fd_set *outp, fd_set *exp, struct timespec64 *end_time)
#[fexit(function = "core_sys_select")]
pub fn core_sys_select_exit(_ctx: FExitContext) -> i32 {
    calls::waited(false);
    0
}

/// io_uring's own waits; what it moves passes through the functions above. The name differs by architecture.
///
/// match-proto: long int __x64_sys_io_uring_enter(const struct pt_regs *regs)
#[fexit(function = "io_uring_enter")]
pub fn io_uring_enter_exit(_ctx: FExitContext) -> i32 {
    calls::waited(true);
    0
}
