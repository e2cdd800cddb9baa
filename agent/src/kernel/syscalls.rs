//! What each system call number of this architecture means to the kernel programs.

use agent_common::globals::{SYSCALL_TABLE_LEN, syscall_class as class};

/// The system calls that move bytes on sockets, make connections or wait.
const CALLS: &[(libc::c_long, u8)] = &[
    (libc::SYS_read, class::READ),
    (libc::SYS_write, class::WRITE),
    (libc::SYS_recvfrom, class::RECVFROM),
    (libc::SYS_sendto, class::SENDTO),
    (libc::SYS_readv, class::READV),
    (libc::SYS_writev, class::WRITEV),
    (libc::SYS_preadv2, class::READV),
    (libc::SYS_pwritev2, class::WRITEV),
    (libc::SYS_recvmsg, class::RECVMSG),
    (libc::SYS_sendmsg, class::SENDMSG),
    (libc::SYS_recvmmsg, class::RECVMMSG),
    (libc::SYS_sendmmsg, class::SENDMMSG),
    (libc::SYS_sendfile, class::SENDFILE),
    (libc::SYS_splice, class::SPLICE),
    (libc::SYS_accept, class::ACCEPT),
    (libc::SYS_accept4, class::ACCEPT),
    (libc::SYS_connect, class::CONNECT),
    (libc::SYS_epoll_pwait, class::EPOLL_WAIT),
    (SYS_EPOLL_PWAIT2, class::EPOLL_WAIT),
    (libc::SYS_ppoll, class::POLL),
    (libc::SYS_pselect6, class::SELECT),
    (SYS_IO_URING_SETUP, class::IO_URING),
    (SYS_IO_URING_ENTER, class::IO_URING),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_epoll_wait, class::EPOLL_WAIT),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_poll, class::POLL),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_select, class::SELECT),
];

// Numbers from 424 on are the same on every architecture (Linux, include/uapi/asm-generic/unistd.h).
const SYS_EPOLL_PWAIT2: libc::c_long = 441;
const SYS_IO_URING_SETUP: libc::c_long = 425;
const SYS_IO_URING_ENTER: libc::c_long = 426;

/// The table that the kernel programs look numbers up in.
pub fn table() -> [u8; SYSCALL_TABLE_LEN] {
    let mut table = [class::NONE; SYSCALL_TABLE_LEN];
    for (number, class) in CALLS {
        if let Some(entry) = usize::try_from(*number).ok().and_then(|number| table.get_mut(number)) {
            *entry = *class;
        }
    }
    table
}
