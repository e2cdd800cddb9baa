//! How much of a connection is copied: set by user space per connection, obeyed by `agent-ebpf/src/capture.rs`.

/// How much of one direction is copied.
///
/// Of each turn, the first `turn_cap` bytes are copied; beyond them, the first `call_cap` bytes of each call. When
/// a call is not copied whole, its last [`TAIL_LEN`] bytes ride along.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct Caps {
    /// Bytes from the start of a turn.
    pub turn_cap: u32,
    /// Bytes from the start of each later call of the turn.
    pub call_cap: u32,
}

/// How much of a connection is copied.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct CaptureMode {
    /// `MODE_*`.
    pub mode: u32,
    /// Always 0.
    pub reserved: u32,
    /// Indexed by [`crate::conn::INGRESS`] and [`crate::conn::EGRESS`]; used by `MODE_CAPPED`.
    pub caps: [Caps; 2],
}

/// Not decided yet: whole, until [`UNDECIDED_BUDGET`] bytes of a direction were copied; then as `MODE_CAPPED`
/// with [`DEFAULT_CAPS`].
pub const MODE_UNDECIDED: u32 = 0;
/// By [`Caps`].
pub const MODE_CAPPED: u32 = 1;
/// All of it.
pub const MODE_STREAM: u32 = 2;
/// No record at all; bytes and turns are still counted.
pub const MODE_NONE: u32 = 3;

/// Bytes of each direction that are copied before user space has decided what the connection speaks.
pub const UNDECIDED_BUDGET: u32 = 64 * 1024;
/// Bytes of a direction of an undecided connection at which user space is woken, so that it decides before the budget
/// is spent.
pub const UNDECIDED_WAKE: u32 = UNDECIDED_BUDGET / 2;
/// Used once the budget of an undecided connection is spent. In the direction in which the end that opened the
/// connection speaks, `turn_cap` is [`UNDECIDED_BUDGET`] even then: what asks may be long before user space has decided.
pub const DEFAULT_CAPS: Caps = Caps { turn_cap: 2048, call_cap: 256 };
/// Bytes from the end of a call that is not copied whole.
pub const TAIL_LEN: u32 = 16;
/// Bytes that one record carries at most; a longer call makes several records.
pub const MAX_RECORD_PAYLOAD: u32 = 8 * 1024;
/// Bytes that are copied of one call at most, in all its records: more than a peer may send unasked on any protocol that
/// is copied whole.
pub const MAX_CALL_CAPTURE: u32 = 128 * MAX_RECORD_PAYLOAD;
/// First bytes of a direction, set by user space, by which a connection is copied whole (`MODE_STREAM`) from then on,
/// without waiting for user space: a first burst may be longer than [`UNDECIDED_BUDGET`]. 16 bytes each, in memory order; all
/// zeros: none.
pub type Openings = [[u64; 2]; 4];
