//! One stream of an HTTP/2 connection: a request, its answer, and how far they are.

use rustc_hash::FxHashMap;

use crate::event::Call;
use crate::open::{NONE, Slot};
use crate::protocol::grpc::{Encoding, MessageReader};

/// Streams that are open, by their number.
pub(super) type Exchanges = FxHashMap<u32, Exchange>;

/// One direction of a stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Half {
    /// Its header block was seen.
    pub(super) headed: bool,
    /// It ended.
    pub(super) ended: bool,
    /// Frames of the connection were lost since the last one of this stream.
    pub(super) doubtful: bool,
    /// Payload bytes so far, if they are known exactly.
    pub(super) size: Option<u64>,
    pub(super) messages: MessageReader,
    pub(super) encoding: Encoding,
}

/// A request and its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// [`NONE`] as long as only its answer was seen.
    pub(super) slot: Slot,
    pub(super) request: Half,
    pub(super) answer: Half,
    pub(super) is_rpc: bool,
    pub(super) is_connect: bool,
    /// The answer refers to header fields that are not known.
    pub(super) answer_incomplete: bool,
    /// Status of the final answer.
    pub(super) status_code: Option<u16>,
    pub(super) grpc_status: Option<u16>,
    /// How long the caller waits, as it said.
    pub(super) timeout_ns: Option<u64>,
    /// When the last frame that counts was moved.
    pub(super) last_ktime_ns: u64,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            headed: false,
            ended: false,
            doubtful: false,
            size: Some(0),
            messages: MessageReader::default(),
            encoding: Encoding::default(),
        }
    }
}

impl Half {
    /// Whether the payload of a frame of that length has to be looked at.
    #[inline]
    pub(super) fn needs_payload(&self, len: usize, counts: bool) -> bool {
        counts && !self.messages.swallows(len as u64)
    }

    /// Frames of the connection were lost: what this direction holds is not known exactly any more.
    pub(super) fn lose(&mut self) {
        if !self.ended {
            self.doubtful = true;
            self.size = None;
            self.messages.lose();
        }
    }
}

impl Exchange {
    pub(super) fn new(slot: Slot, call: &Call) -> Self {
        Self {
            slot,
            request: Half::default(),
            answer: Half::default(),
            is_rpc: false,
            is_connect: false,
            answer_incomplete: false,
            status_code: None,
            grpc_status: None,
            timeout_ns: None,
            last_ktime_ns: call.ktime_ns,
        }
    }

    /// Whether its request was seen.
    pub(super) fn is_begun(&self) -> bool {
        self.slot != NONE
    }

    /// Whether its payload is read for messages; as long as the request was not seen, it may be.
    pub(super) fn counts_messages(&self) -> bool {
        self.is_rpc || !self.is_begun()
    }

    pub(super) fn half(&self, requests: bool) -> &Half {
        if requests { &self.request } else { &self.answer }
    }

    pub(super) fn half_mut(&mut self, requests: bool) -> &mut Half {
        if requests { &mut self.request } else { &mut self.answer }
    }
}
