//! Every map, with its key, its value and who deletes. User space may resize all but the counters before load.

use agent_common::{capture::CaptureMode, capture::MAX_RECORD_PAYLOAD, counters::COUNTERS};
use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf},
};

use crate::{calls::Pending, gather::Gather, slot::SLOTS};

/// All records, in the order in which they were made.
#[map]
pub static RING: RingBuf = RingBuf::with_byte_size(4 * 1024 * 1024, 0);

/// Connections by the address of their `struct sock`. Made at accept, connect or the first call; deleted by
/// tcp_destroy_sock, and by user space's reaping for sockets without such a tracepoint.
#[map]
pub static CONN_BY_SOCK: HashMap<u64, Conn> = HashMap::with_max_entries(16384, 0);

/// Selected processes. Extended at fork, by user space and by port rules; deleted when the last thread exits.
#[map]
pub static SELECTED_TGIDS: HashMap<u32, Selected> = HashMap::with_max_entries(4096, 0);

/// How often each thread of a selected process waited (see `agent_common::event::Waits`). Deleted at thread exit.
#[map]
pub static WAITS_BY_TID: HashMap<u32, u32> = HashMap::with_max_entries(8192, 0);

/// Index: `agent_common::counters::Counter`.
#[map]
pub static COUNTERS_BY_CPU: PerCpuArray<[u64; COUNTERS]> = PerCpuArray::with_max_entries(1, 0);

/// Where a record is put together; per CPU and slot, used in process context only.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// State of the loop over segments; per CPU and slot, because it is too large for the stack.
#[map]
pub static GATHER: PerCpuArray<Gather> = PerCpuArray::with_max_entries(1, 0);

/// The thread that has each slot of a CPU, or 0 (see [`crate::slot`]).
#[map]
pub static SLOTS_TAKEN: PerCpuArray<[u32; SLOTS]> = PerCpuArray::with_max_entries(1, 0);

/// Calls that are under way, by thread; for the kprobe back end only. Deleted when the call returns or the thread exits.
#[map]
pub static CALLS_BY_TID: HashMap<u32, Pending> = HashMap::with_max_entries(8192, 0);

/// Programs for the rarer calls, by [`crate::syscall::TAIL_VECTORED`] and the like.
#[map]
pub static TAILS: ProgramArray = ProgramArray::with_max_entries(4, 0);

/// Values that programs share and change.
#[map]
pub static SHARED: Array<Shared> = Array::with_max_entries(1, 0);

/// The selected processes whose tgid ends in each index: none of them tells an unselected process at once.
#[map]
pub static SELECTED_FILTER: Array<[Slot; FILTER_LEN]> = Array::with_max_entries(1, 0);

/// Length of the filter, a power of two.
pub const FILTER_LEN: usize = 4096;

/// The selected processes of one slot of the filter.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// How many there are.
    pub count: u32,
    /// Their tgids, added up: of a single one, its tgid.
    pub sum: u32,
    /// How many of them are quiet.
    pub quiet: u32,
    pub reserved: u32,
}

/// Bytes of a record: the largest record header, the payload, and room for a piece that begins at its end and is as
/// long as [`crate::forget::below`] tells the verifier.
pub const SCRATCH_LEN: usize = 64 + 3 * MAX_RECORD_PAYLOAD as usize;

/// One record under construction.
#[repr(C, align(8))]
pub struct Scratch {
    pub bytes: [u8; SCRATCH_LEN],
}

/// A selected process.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Selected {
    /// `UNSEEN_*` bits that were reported.
    pub reported: u32,
    /// 1: nobody asks how often its threads wait.
    pub quiet: u32,
}

/// Values that programs share and change.
#[repr(C)]
pub struct Shared {
    /// Address of the kernel's `socket_file_ops`, learned from the first socket.
    pub socket_f_op: u64,
    /// Not 0 once a thread did not fit in `WAITS_BY_TID`: what is absent there is unknown from then on.
    pub waits_lost: u64,
}

/// What is known of a connection.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Conn {
    pub conn_id: u64,
    /// Inode number of the socket: another one means that the sock's memory was used again.
    pub inode: u64,
    /// Bytes moved, by direction.
    pub offset: [u64; 2],
    /// Bytes copied while the mode was undecided, by direction.
    pub copied: [u32; 2],
    pub mode: CaptureMode,
    /// Changes of direction, from 1 with the first call.
    pub turns: u32,
    /// Bytes moved in the present turn.
    pub turn_bytes: u32,
    /// The process that used it last.
    pub tgid: u32,
    /// Direction of the present turn.
    pub direction: u8,
    /// `CONN_*`
    pub flags: u8,
    /// `SOCK_STREAM` or `SOCK_DGRAM`.
    pub sock_type: u16,
}

/// Its ConnOpened reached the ring buffer.
pub const CONN_ANNOUNCED: u8 = 1;
/// Its ConnClosed was sent.
pub const CONN_CLOSED: u8 = 2;
/// The end of what it reads was sent.
pub const CONN_EOF_INGRESS: u8 = 4;
/// The end of what it writes was sent.
pub const CONN_EOF_EGRESS: u8 = 8;
/// Nothing was moved before it was seen.
pub const CONN_FROM_START: u8 = 16;
/// Returned by accept.
pub const CONN_ACCEPTED: u8 = 32;
/// Made by connect.
pub const CONN_CONNECTED: u8 = 64;
