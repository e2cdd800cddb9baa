//! Records of the ring buffer: one [`EventHeader`], then the body that its `kind` names.
//!
//! In: written by `agent-ebpf/src/emit.rs` only. Out: decoded by `agent-pipeline`'s `event.rs`, which counts and
//! skips an unknown kind. All times are `bpf_ktime_get_ns` (CLOCK_MONOTONIC), all integers native endian.

use crate::conn::{ConnTuple, SockAddr};

/// What follows the header. A newtype with constants, not an enum: the bytes may hold any value.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct EventKind(pub u16);

impl EventKind {
    /// Bytes that passed one direction of a stream socket: [`DataRecord`] and the captured bytes.
    pub const DATA: Self = Self(1);
    /// One message of a datagram socket: [`DatagramRecord`] and the captured bytes.
    pub const DATAGRAM: Self = Self(2);
    /// A connection is seen for the first time: [`ConnOpened`].
    pub const CONN_OPENED: Self = Self(3);
    /// The last use of a connection by this host's processes: [`ConnClosed`].
    pub const CONN_CLOSED: Self = Self(4);
    /// One direction of a connection ended: [`ConnEof`].
    pub const CONN_EOF: Self = Self(5);
    /// A call on a connection failed for good (ECONNRESET, EPIPE, ETIMEDOUT …): [`ConnError`].
    pub const CONN_ERROR: Self = Self(6);
    /// A selected process made a child, which is selected too: [`ProcessFork`].
    pub const PROCESS_FORK: Self = Self(16);
    /// A process replaced its program; sent for selected processes, and for all when a rule asks: header only.
    pub const PROCESS_EXEC: Self = Self(17);
    /// The last thread of a selected process is exiting: header only. Its connections close after this.
    pub const PROCESS_EXIT: Self = Self(18);
    /// A process began to listen on a port that a rule names and is selected from now on: [`ProcessListen`].
    pub const PROCESS_LISTEN: Self = Self(19);
    /// A selected process does something that this back end cannot see: [`ProcessUnseen`]; once per process.
    pub const PROCESS_UNSEEN: Self = Self(20);
}

/// The first bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct EventHeader {
    /// What follows.
    pub kind: EventKind,
    /// `FLAG_*` of the record's kind.
    pub flags: u16,
    /// Process (thread group) in the initial pid namespace that the event is about; 0 where none is certain.
    pub tgid: u32,
    /// When it happened, CLOCK_MONOTONIC: for a call, the moment at which it returned.
    pub ktime_ns: u64,
    /// Connection, or 0 for process events. Never used twice while the host is up.
    pub conn_id: u64,
}

/// Bytes that one call (or a part of one, when it is long) moved on a stream socket.
///
/// The record stands for the range `offset .. offset + len` of its direction. Behind it come `head_len` bytes,
/// the first of that range, then `tail_len` bytes, the last of it; what lies between was not copied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct DataRecord {
    /// Kind [`EventKind::DATA`]; flags `FLAG_EGRESS`, `FLAG_MORE`.
    pub header: EventHeader,
    /// Position in the direction's stream of the first byte that this record stands for.
    pub offset: u64,
    /// Bytes that this record stands for.
    pub len: u32,
    /// Bytes behind the record that are the first of its range.
    pub head_len: u32,
    /// Bytes behind those that are the last of its range.
    pub tail_len: u32,
    /// Number of the turn (run of calls in one direction) on this connection, from 1.
    pub turn: u32,
    /// Thread that made the call.
    pub tid: u32,
    /// How often the thread waited for events of several descriptors (epoll_wait and the like), see [`Waits`].
    pub waits: u32,
}

/// One message of a datagram socket; behind it `head_len` bytes, the first of the message.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct DatagramRecord {
    /// Kind [`EventKind::DATAGRAM`]; flag `FLAG_EGRESS`.
    pub header: EventHeader,
    /// The other end of this message; family 0 where it is not known.
    pub peer: SockAddr,
    /// Length of the message in bytes.
    pub len: u32,
    /// Bytes behind the record.
    pub head_len: u32,
    /// Thread that made the call.
    pub tid: u32,
    /// See [`Waits`].
    pub waits: u32,
}

/// A connection is seen for the first time.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ConnOpened {
    /// Kind [`EventKind::CONN_OPENED`]; flags `FLAG_ACCEPTED`, `FLAG_CONNECTED`, `FLAG_FROM_START`.
    pub header: EventHeader,
    /// Both ends.
    pub tuple: ConnTuple,
    /// Address of the kernel's `struct sock`: names the connection in calls to the kernel side.
    pub sock: u64,
    /// Bytes that the process had read before this record.
    pub ingress_offset: u64,
    /// Bytes that the process had written before this record.
    pub egress_offset: u64,
}

/// No process of this host will use the connection again.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ConnClosed {
    /// Kind [`EventKind::CONN_CLOSED`]; flag `FLAG_RESET`.
    pub header: EventHeader,
    /// Bytes read over the connection's life.
    pub ingress_offset: u64,
    /// Bytes written over the connection's life.
    pub egress_offset: u64,
    /// Turns over the connection's life, as far as they were counted.
    pub turns: u32,
    /// `sk_err` of the socket (an errno), or 0.
    pub error: u32,
}

/// One direction ended: a read returned 0 (ingress), or the process shut its sending side down (egress).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ConnEof {
    /// Kind [`EventKind::CONN_EOF`]; flag `FLAG_EGRESS`.
    pub header: EventHeader,
    /// Bytes of that direction before its end.
    pub offset: u64,
}

/// A call on the connection failed for good.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ConnError {
    /// Kind [`EventKind::CONN_ERROR`]; flag `FLAG_EGRESS`.
    pub header: EventHeader,
    /// errno, positive.
    pub errno: u32,
    /// Thread that made the call.
    pub tid: u32,
}

/// A selected process made a child process; the header's tgid is the child's.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ProcessFork {
    /// Kind [`EventKind::PROCESS_FORK`].
    pub header: EventHeader,
    /// The process that forked.
    pub parent_tgid: u32,
    /// Always 0.
    pub reserved: u32,
}

/// A process listens on a port that a rule names.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ProcessListen {
    /// Kind [`EventKind::PROCESS_LISTEN`].
    pub header: EventHeader,
    /// Port, host byte order.
    pub port: u16,
    /// Always 0.
    pub reserved: [u16; 3],
}

/// A selected process does something that this back end cannot see.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ProcessUnseen {
    /// Kind [`EventKind::PROCESS_UNSEEN`].
    pub header: EventHeader,
    /// `UNSEEN_*`.
    pub what: u32,
    /// Always 0.
    pub reserved: u32,
}

/// The process makes 32-bit system calls.
pub const UNSEEN_COMPAT: u32 = 1;
/// The process uses io_uring.
pub const UNSEEN_IO_URING: u32 = 2;
/// The process hands the encryption of a connection to the kernel (kernel TLS).
pub const UNSEEN_KERNEL_TLS: u32 = 3;

/// The bytes went from the process to the network; without it, from the network to the process.
pub const FLAG_EGRESS: u16 = 1;
/// [`DataRecord`]: the same call goes on in the next record of this direction.
pub const FLAG_MORE: u16 = 2;
/// [`ConnOpened`]: returned by accept: the process is the server.
pub const FLAG_ACCEPTED: u16 = 4;
/// [`ConnOpened`]: made by connect: the process is the client.
pub const FLAG_CONNECTED: u16 = 8;
/// [`ConnOpened`]: nothing was read or written before this record.
pub const FLAG_FROM_START: u16 = 16;
/// [`ConnClosed`]: the connection was reset rather than closed in order.
pub const FLAG_RESET: u16 = 32;
/// [`ConnOpened`]: a datagram socket.
pub const FLAG_DATAGRAM: u16 = 64;

/// How often a thread waited for events of several descriptors: decides whether a call that it makes may belong
/// to the request that it read before.
pub struct Waits;

impl Waits {
    /// Not known (the thread table was full): no conclusion may be drawn.
    pub const UNKNOWN: u32 = u32::MAX;
    /// Set once the thread has waited with epoll or io_uring: it may be an event loop.
    pub const EVENT_LOOP: u32 = 1 << 31;
}

const _: () = assert!(size_of::<EventHeader>() == 24);
const _: () = assert!(size_of::<DataRecord>() == 56);
const _: () = assert!(size_of::<DatagramRecord>() == 64);
const _: () = assert!(size_of::<ConnOpened>() == 104);
const _: () = assert!(size_of::<ConnClosed>() == 48);
const _: () = assert!(size_of::<ConnEof>() == 32);
const _: () = assert!(size_of::<ConnError>() == 32);
const _: () = assert!(size_of::<ProcessFork>() == 32);
const _: () = assert!(size_of::<ProcessListen>() == 32);
const _: () = assert!(size_of::<ProcessUnseen>() == 32);
