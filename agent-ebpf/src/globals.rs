//! Read-only values that user space writes before load. The verifier treats them as constants and drops the
//! branches that they rule out.

use core::ptr::addr_of;

use agent_common::capture::Openings;
use agent_common::globals::{KernelOffsets, RuleGlobals, SYSCALL_TABLE_LEN};

/// Offsets of the running kernel's structures.
#[unsafe(no_mangle)]
pub static OFFSETS: KernelOffsets = KernelOffsets {
    task_files: 0,
    task_tgid: 0,
    task_signal: 0,
    signal_live: 0,
    files_fdt: 0,
    fdtable_max_fds: 0,
    fdtable_fd: 0,
    file_f_op: 0,
    file_f_inode: 0,
    file_private_data: 0,
    inode_i_mode: 0,
    socket_sk: 0,
    socket_type: 0,
    skc_family: 0,
    skc_state: 0,
    skc_daddr: 0,
    skc_rcv_saddr: 0,
    skc_dport: 0,
    skc_num: 0,
    skc_v6_daddr: 0,
    skc_v6_rcv_saddr: 0,
    skc_net: 0,
    net_inum: 0,
    sk_protocol: 0,
    sk_protocol_size: 0,
    sk_shutdown: 0,
    sk_err: 0,
    sk_socket: 0,
    tcp_bytes_received: 0,
    tcp_bytes_acked: 0,
    tcp_rcv_nxt: 0,
    tcp_copied_seq: 0,
    tcp_write_seq: 0,
    tcp_snd_una: 0,
    task_pid: 0,
    sk_type: 0,
    inode_i_ino: 0,
    socket_alloc_vfs_inode: 0,
    compat_word: 0,
    compat_mask: 0,
    regs_syscall: 0,
    regs_args: [0; 6],
    plain_loads: 0,
    preemptible: 0,
    msg_name: 0,
    msg_iter: 0,
    iter_type: 0,
    iter_kind_mask: 0,
    iter_iovec: 0,
    iter_ubuf: 0,
    iter_offset: 0,
    iter_iov: 0,
    recvmsg_flags: 0,
    recvmsg_args: 0,
    accept_args: 0,
};

/// Selection rules.
#[unsafe(no_mangle)]
pub static RULES: RuleGlobals = RuleGlobals { flags: 0, reserved: 0, ports: [0; 8192] };

/// Class of each system call number.
#[unsafe(no_mangle)]
pub static SYSCALL_CLASS: [u8; SYSCALL_TABLE_LEN] = [0; SYSCALL_TABLE_LEN];

/// Half of the ring buffer in bytes: a reader is woken from there on.
#[unsafe(no_mangle)]
pub static RING_WAKEUP_BYTES: u64 = 0;

/// First bytes of connections that are copied whole.
#[unsafe(no_mangle)]
pub static OPENINGS: Openings = [[0; 2]; 4];

/// Whether these are the first bytes of a connection that is copied whole.
#[inline(always)]
pub fn is_opening(bytes: [u64; 2]) -> bool {
    let mut found = false;
    for index in 0..4 {
        // SAFETY: the index is below the table's length.
        let opening = unsafe { addr_of!(OPENINGS).cast::<[u64; 2]>().add(index) };
        // SAFETY: the pointer is into the table.
        let opening = unsafe { core::ptr::read_volatile(opening) };
        found |= opening[0] != 0 && opening[0] == bytes[0] && opening[1] == bytes[1];
    }
    found
}

/// Reads one member of [`OFFSETS`]; volatile, because the compiler must not believe the zeros above.
macro_rules! offset {
    ($($field:tt)+) => {
        // SAFETY: the member of a static is valid and aligned.
        u64::from(unsafe { core::ptr::read_volatile(core::ptr::addr_of!($crate::globals::OFFSETS.$($field)+)) })
    };
}
pub(crate) use offset;

/// Bytes in the ring buffer from which on its reader is woken.
#[inline(always)]
pub fn ring_wakeup_bytes() -> u64 {
    // SAFETY: a static is valid and aligned.
    unsafe { core::ptr::read_volatile(addr_of!(RING_WAKEUP_BYTES)) }
}

/// Class of a system call, `syscall_class::NONE` for numbers beyond the table.
#[inline(always)]
pub fn syscall_class(number: u64) -> u8 {
    if number >= SYSCALL_TABLE_LEN as u64 {
        return 0;
    }
    // SAFETY: the index is below the table's length.
    let entry = unsafe { addr_of!(SYSCALL_CLASS).cast::<u8>().add(number as usize) };
    // SAFETY: the pointer is into the table.
    unsafe { core::ptr::read_volatile(entry) }
}

/// Whether a rule names this listening port.
#[inline(always)]
pub fn port_selected(port: u16) -> bool {
    // SAFETY: `port / 8` is below 8192.
    let byte = unsafe { addr_of!(RULES.ports).cast::<u8>().add(port as usize / 8) };
    // SAFETY: the pointer is into the bitmap.
    unsafe { core::ptr::read_volatile(byte) >> (port % 8) & 1 == 1 }
}

/// Whether every exec on the host is reported.
#[inline(always)]
pub fn report_all_exec() -> bool {
    // SAFETY: a static's member is valid and aligned.
    let flags = unsafe { core::ptr::read_volatile(addr_of!(RULES.flags)) };
    flags & agent_common::globals::rule_flags::REPORT_ALL_EXEC != 0
}
