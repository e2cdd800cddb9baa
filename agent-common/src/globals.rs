//! What user space writes into the kernel programs before they load: structure offsets from the running kernel's
//! BTF, and the register layout of the architecture.

/// Byte offsets of the structure members that the programs read; resolved by `agent/src/kernel/btf.rs`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct KernelOffsets {
    /// `task_struct.files`
    pub task_files: u32,
    /// `task_struct.tgid`
    pub task_tgid: u32,
    /// `task_struct.signal`
    pub task_signal: u32,
    /// `signal_struct.live`
    pub signal_live: u32,
    /// `files_struct.fdt`
    pub files_fdt: u32,
    /// `fdtable.max_fds`
    pub fdtable_max_fds: u32,
    /// `fdtable.fd`
    pub fdtable_fd: u32,
    /// `file.f_op`
    pub file_f_op: u32,
    /// `file.f_inode`
    pub file_f_inode: u32,
    /// `file.private_data`
    pub file_private_data: u32,
    /// `inode.i_mode`
    pub inode_i_mode: u32,
    /// `socket.sk`
    pub socket_sk: u32,
    /// `socket.type`
    pub socket_type: u32,
    /// `sock_common.skc_family`
    pub skc_family: u32,
    /// `sock_common.skc_state`
    pub skc_state: u32,
    /// `sock_common.skc_daddr`
    pub skc_daddr: u32,
    /// `sock_common.skc_rcv_saddr`
    pub skc_rcv_saddr: u32,
    /// `sock_common.skc_dport`
    pub skc_dport: u32,
    /// `sock_common.skc_num`
    pub skc_num: u32,
    /// `sock_common.skc_v6_daddr`
    pub skc_v6_daddr: u32,
    /// `sock_common.skc_v6_rcv_saddr`
    pub skc_v6_rcv_saddr: u32,
    /// `sock_common.skc_net`
    pub skc_net: u32,
    /// `net.ns.inum`
    pub net_inum: u32,
    /// `sock.sk_protocol`
    pub sk_protocol: u32,
    /// Width of `sk_protocol` in bytes (1 before Linux 5.6, a bit field; then 2).
    pub sk_protocol_size: u32,
    /// `sock.sk_shutdown`
    pub sk_shutdown: u32,
    /// `sock.sk_err`
    pub sk_err: u32,
    /// `sock.sk_socket`
    pub sk_socket: u32,
    /// `tcp_sock.bytes_received`
    pub tcp_bytes_received: u32,
    /// `tcp_sock.bytes_acked`
    pub tcp_bytes_acked: u32,
    /// `tcp_sock.rcv_nxt`
    pub tcp_rcv_nxt: u32,
    /// `tcp_sock.copied_seq`
    pub tcp_copied_seq: u32,
    /// `tcp_sock.write_seq`
    pub tcp_write_seq: u32,
    /// `tcp_sock.snd_una`
    pub tcp_snd_una: u32,
    /// `task_struct.pid`
    pub task_pid: u32,
    /// `sock.sk_type`
    pub sk_type: u32,
    /// `inode.i_ino`
    pub inode_i_ino: u32,
    /// `socket_alloc.vfs_inode`: a socket and its inode are one object.
    pub socket_alloc_vfs_inode: u32,
    /// Word of `task_struct.thread_info` that tells a 32-bit call (x86 `status`, arm64 `flags`).
    pub compat_word: u32,
    /// Bits of that word (x86 `TS_COMPAT`, arm64 `_TIF_32BIT`).
    pub compat_mask: u32,
    /// `pt_regs` member that holds the system call's number (x86 `orig_ax`, arm64 `syscallno`).
    pub regs_syscall: u32,
    /// `pt_regs` members that still hold the six arguments when the call returns.
    pub regs_args: [u32; 6],
    /// 1: the task's structures may be read by plain loads (`bpf_get_current_task_btf`, `bpf_task_pt_regs`);
    /// 0: by `bpf_probe_read_kernel`.
    pub plain_loads: u32,
    /// 1: a program may be preempted by a thread that runs another one on the same CPU.
    pub preemptible: u32,
    /// `msghdr.msg_name`
    pub msg_name: u32,
    /// `msghdr.msg_iter`
    pub msg_iter: u32,
    /// `iov_iter.iter_type` (`type` before Linux 5.14), in its first eight bytes.
    pub iter_type: u32,
    /// Bits of the first eight bytes, shifted right by `iter_type` bytes, that hold the kind.
    pub iter_kind_mask: u32,
    /// Value of `ITER_IOVEC`.
    pub iter_iovec: u32,
    /// Value of `ITER_UBUF` (Linux 6.0), or a value that no iterator has.
    pub iter_ubuf: u32,
    /// `iov_iter.iov_offset`
    pub iter_offset: u32,
    /// `iov_iter.__iov` (`iov` before Linux 6.4); a union with `ubuf`.
    pub iter_iov: u32,
    /// Index of `flags` among the arguments of `tcp_recvmsg` and its like (4 before Linux 5.19, then 3).
    pub recvmsg_flags: u32,
    /// Number of their arguments: the index of the result behind them.
    pub recvmsg_args: u32,
    /// Number of arguments of `inet_accept` and its like.
    pub accept_args: u32,
}

/// What a system call means to the kernel programs; user space fills a table of [`SYSCALL_TABLE_LEN`] of them,
/// indexed by the architecture's call number.
pub mod syscall_class {
    /// Not ours.
    pub const NONE: u8 = 0;
    /// `read(fd, buf, …)`
    pub const READ: u8 = 1;
    /// `write(fd, buf, …)`
    pub const WRITE: u8 = 2;
    /// `recvfrom(fd, buf, len, flags, addr, addrlen)`
    pub const RECVFROM: u8 = 3;
    /// `sendto(fd, buf, len, flags, addr, addrlen)`
    pub const SENDTO: u8 = 4;
    /// `readv`, `preadv2`: `(fd, iov, iovcnt, …)`
    pub const READV: u8 = 5;
    /// `writev`, `pwritev2`
    pub const WRITEV: u8 = 6;
    /// `recvmsg(fd, msg, flags)`
    pub const RECVMSG: u8 = 7;
    /// `sendmsg(fd, msg, flags)`
    pub const SENDMSG: u8 = 8;
    /// `recvmmsg(fd, msgvec, vlen, flags, timeout)`
    pub const RECVMMSG: u8 = 9;
    /// `sendmmsg(fd, msgvec, vlen, flags)`
    pub const SENDMMSG: u8 = 10;
    /// `sendfile(out_fd, in_fd, …)`
    pub const SENDFILE: u8 = 11;
    /// `splice(fd_in, off_in, fd_out, …)`
    pub const SPLICE: u8 = 12;
    /// `accept`, `accept4`: returns the descriptor
    pub const ACCEPT: u8 = 13;
    /// `connect(fd, …)`
    pub const CONNECT: u8 = 14;
    /// `epoll_wait`, `epoll_pwait`, `epoll_pwait2`
    pub const EPOLL_WAIT: u8 = 15;
    /// `poll(fds, nfds, …)`, `ppoll`
    pub const POLL: u8 = 16;
    /// `select`, `pselect6`
    pub const SELECT: u8 = 17;
    /// `io_uring_setup`, `io_uring_enter`
    pub const IO_URING: u8 = 18;
}

/// Entries of the table of system call classes: a power of two above every number in use.
pub const SYSCALL_TABLE_LEN: usize = 512;

/// Operations of the `control` program, which user space runs (never attaches): first argument, then
/// what the operation takes.
pub mod control {
    /// `(tgid)`: select a process. Returns 0, or 1 where the table is full.
    pub const SELECT: u64 = 1;
    /// `(tgid)`: stop following a process.
    pub const DESELECT: u64 = 2;
    /// `(sock, conn_id, mode, ingress turn_cap, ingress call_cap, egress turn_cap, egress call_cap)`:
    /// set how much of a connection is copied. Returns 0, or 1 where the connection is gone.
    pub const SET_MODE: u64 = 3;
    /// `(sock, conn_id)`: forget a connection whose socket is gone; for sockets that no tracepoint tells about.
    /// Returns 0 where it is still there, 1 where it is gone.
    pub const REAP: u64 = 4;
    /// `(tgid, quiet)`: whether (0) or not (1) anybody asks how often this process' threads wait; its records then
    /// say [`crate::event::Waits::UNKNOWN`]. An exec asks again.
    pub const QUIET: u64 = 5;
}

/// Values of [`RuleGlobals::flags`].
pub mod rule_flags {
    /// Report every exec on the host, so that user space can match its program.
    pub const REPORT_ALL_EXEC: u32 = 1;
}

/// Selection rules that the kernel side applies by itself.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct RuleGlobals {
    /// `rule_flags::*`
    pub flags: u32,
    /// Always 0.
    pub reserved: u32,
    /// One bit a port: who listens there is selected.
    pub ports: [u8; 8192],
}
