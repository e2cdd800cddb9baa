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
    /// `thread_info.status` within `task_struct` (x86: bit `TS_COMPAT` marks a 32-bit call), `u32::MAX` where absent.
    pub thread_info_status: u32,
}
