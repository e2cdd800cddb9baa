//! From a descriptor to its socket, and from a socket to its addresses. Reads only; nothing is kept but the
//! address of `socket_file_ops`, which has no symbol.

use core::cmp::{max, min};

use agent_common::conn::{ConnTuple, SockAddr};

use crate::{
    globals::offset,
    kernel::{Kernel, Task},
    maps::{SHARED, Shared},
};

pub const AF_UNIX: u16 = 1;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const SOCK_STREAM: u16 = 1;
pub const SOCK_DGRAM: u16 = 2;
pub const IPPROTO_TCP: u16 = 6;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// A socket that a descriptor names.
#[derive(Clone, Copy)]
pub struct Sock {
    /// `struct sock`
    pub sk: Kernel,
    /// `struct socket`
    pub socket: Kernel,
    /// Inode number: never used by two sockets at the same time.
    pub inode: u64,
}

/// Why a descriptor gave no socket.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum NoSock {
    /// The descriptor is not open (any more).
    FdGone,
    /// A file, pipe, terminal …
    NotASocket,
}

impl Sock {
    /// The socket behind a descriptor of the current process.
    #[inline(always)]
    pub fn from_fd(task: Task, fd: u64) -> Result<Self, NoSock> {
        let file = task.file(fd).ok_or(NoSock::FdGone)?;
        let File { f_op, inode, socket } = File::read(file).ok_or(NoSock::FdGone)?;
        let shared = SHARED.get_ptr_mut(0).ok_or(NoSock::NotASocket)?;
        if socket.0 == 0 || !is_socket(shared, f_op, inode) {
            return Err(NoSock::NotASocket);
        }
        let sk = socket.pointer(offset!(socket_sk)).ok_or(NoSock::FdGone)?;
        let inode = inode.read(offset!(inode_i_ino)).ok_or(NoSock::FdGone)?;
        Ok(Self { sk, socket, inode })
    }

    /// The socket that a sock belongs to now; `None` once it is orphaned.
    #[inline(always)]
    pub fn from_sk(sk: Kernel) -> Option<Self> {
        let socket = sk.pointer(offset!(sk_socket))?;
        let inode = socket.read(offset!(socket_alloc_vfs_inode) + offset!(inode_i_ino))?;
        Some(Self { sk, socket, inode })
    }

    /// From a `struct socket` itself.
    #[inline(always)]
    pub fn from_socket(socket: Kernel) -> Option<Self> {
        let sk = socket.pointer(offset!(socket_sk))?;
        let inode = socket.read(offset!(socket_alloc_vfs_inode) + offset!(inode_i_ino))?;
        Some(Self { sk, socket, inode })
    }

    /// `SOCK_STREAM`, `SOCK_DGRAM` …
    #[inline(always)]
    pub fn sock_type(&self) -> u16 {
        self.socket.read(offset!(socket_type)).unwrap_or(0)
    }
}

/// What a `struct file` tells of a socket.
struct File {
    f_op: u64,
    inode: Kernel,
    socket: Kernel,
}

/// Words of a `struct file` that one read fetches.
const WINDOW: usize = 5;

impl File {
    /// One read where the members lie side by side, as they do since Linux 6.12, else one read for each.
    #[inline(always)]
    fn read(file: Kernel) -> Option<Self> {
        let (f_op, inode, socket) = (offset!(file_f_op), offset!(file_f_inode), offset!(file_private_data));
        let first = min(f_op, min(inode, socket));
        let last = max(f_op, max(inode, socket));
        let (f_op, inode, socket) = if last - first < 8 * WINDOW as u64 {
            let window: [u64; WINDOW] = file.read(first)?;
            (word(&window, f_op - first), word(&window, inode - first), word(&window, socket - first))
        } else {
            (file.read(f_op)?, file.read(inode)?, file.read(socket)?)
        };
        Some(Self { f_op, inode: Kernel(inode), socket: Kernel(socket) })
    }
}

/// The word at a byte offset; the offset is a constant for the verifier, below the window's size.
#[inline(always)]
fn word(window: &[u64; WINDOW], at: u64) -> u64 {
    // SAFETY: `File::read` compared the offset with the window's size.
    let word = unsafe { window.as_ptr().cast::<u8>().add(at as usize) };
    // SAFETY: the pointer is into the window, and pointers in a structure are aligned.
    unsafe { core::ptr::read_volatile(word.cast()) }
}

/// Compares with `socket_file_ops`, learned once from a file whose inode says that it is a socket.
#[inline(always)]
fn is_socket(shared: *mut Shared, f_op: u64, inode: Kernel) -> bool {
    // SAFETY: the pointer is to a map value.
    let known = unsafe { (*shared).socket_f_op };
    if known != 0 {
        return f_op == known;
    }
    let mode: u16 = inode.read(offset!(inode_i_mode)).unwrap_or(0);
    if mode & S_IFMT != S_IFSOCK {
        return false;
    }
    // SAFETY: the pointer is to a map value; every program writes the same.
    unsafe { (*shared).socket_f_op = f_op };
    true
}

/// IPPROTO_* of a sock.
#[inline(always)]
pub fn protocol(sk: Kernel) -> u16 {
    if offset!(sk_protocol_size) == 1 {
        sk.read::<u8>(offset!(sk_protocol)).map_or(0, u16::from)
    } else {
        sk.read(offset!(sk_protocol)).unwrap_or(0)
    }
}

/// AF_* of a sock.
#[inline(always)]
pub fn family(sk: Kernel) -> u16 {
    sk.read(offset!(skc_family)).unwrap_or(0)
}

/// Inode number of the socket that a sock belongs to now; `None` once it is orphaned.
#[inline(always)]
pub fn inode_of(sk: Kernel) -> Option<u64> {
    let socket = sk.pointer(offset!(sk_socket))?;
    socket.read(offset!(socket_alloc_vfs_inode) + offset!(inode_i_ino))
}

/// Both ends of a sock, written in place because the stack is small.
#[inline(always)]
pub fn read_tuple(sk: Kernel, sock_type: u16, tuple: &mut ConnTuple) {
    let family = family(sk);
    tuple.sock_type = sock_type;
    tuple.local.family = family;
    tuple.peer.family = family;
    if let Some(net) = sk.pointer(offset!(skc_net)) {
        tuple.netns = net.read(offset!(net_inum)).unwrap_or(0);
    }
    if family != AF_INET && family != AF_INET6 {
        return;
    }
    tuple.protocol = protocol(sk);
    tuple.local.port = sk.read(offset!(skc_num)).unwrap_or(0);
    tuple.peer.port = u16::from_be(sk.read(offset!(skc_dport)).unwrap_or(0));
    if family == AF_INET {
        read_v4(sk, offset!(skc_rcv_saddr), &mut tuple.local);
        read_v4(sk, offset!(skc_daddr), &mut tuple.peer);
    } else {
        tuple.local.addr = sk.read(offset!(skc_v6_rcv_saddr)).unwrap_or([0; 16]);
        tuple.peer.addr = sk.read(offset!(skc_v6_daddr)).unwrap_or([0; 16]);
    }
}

#[inline(always)]
fn read_v4(sk: Kernel, offset: u64, end: &mut SockAddr) {
    let addr: [u8; 4] = sk.read(offset).unwrap_or([0; 4]);
    end.addr[0] = addr[0];
    end.addr[1] = addr[1];
    end.addr[2] = addr[2];
    end.addr[3] = addr[3];
}

/// Bytes that the process has read from a TCP sock.
#[inline(always)]
pub fn tcp_bytes_read(sk: Kernel) -> u64 {
    let received: u64 = sk.read(offset!(tcp_bytes_received)).unwrap_or(0);
    let rcv_nxt: u32 = sk.read(offset!(tcp_rcv_nxt)).unwrap_or(0);
    let copied_seq: u32 = sk.read(offset!(tcp_copied_seq)).unwrap_or(0);
    received.wrapping_sub(u64::from(rcv_nxt.wrapping_sub(copied_seq)))
}

/// Bytes that the process has written to a TCP sock. On the end that opened the connection the kernel may count
/// its SYN as one byte more.
#[inline(always)]
pub fn tcp_bytes_written(sk: Kernel) -> u64 {
    let acked: u64 = sk.read(offset!(tcp_bytes_acked)).unwrap_or(0);
    let write_seq: u32 = sk.read(offset!(tcp_write_seq)).unwrap_or(0);
    let snd_una: u32 = sk.read(offset!(tcp_snd_una)).unwrap_or(0);
    acked.wrapping_add(u64::from(write_seq.wrapping_sub(snd_una)))
}
