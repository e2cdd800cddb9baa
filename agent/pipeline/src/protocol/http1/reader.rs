//! One direction of an HTTP/1 connection: where in a message its bytes are.
//!
//! In: bytes in order. Out: whole header blocks where no single record holds them. Gathered bytes are bounded and counted in the pipeline's buffers.

use crate::event::Call;
use crate::protocol::http1::body::{Body, Framing};
use crate::protocol::http1::head;
use crate::state::State;

/// Longest header block; servers allow 8 to 64 KiB.
pub(super) const HEAD_MAX: usize = 80 * 1024;

/// Place in the stream of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum At {
    /// Before a message.
    #[default]
    Start,
    /// In its header block, part of which is gathered.
    Head,
    /// In its body.
    Body,
    /// Nobody knows; a later turn than `lost_turn` may begin a message.
    Lost,
}

/// One direction.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) at: At,
    pub(super) body: Body,
    pub(super) lost_turn: u32,
    /// Turn of the last chunk: only the first chunk of a turn may begin a message that nothing else announces.
    pub(super) turn: u32,
    /// A body whose end nobody knows took bytes that may belong to the next message.
    pub(super) swallowing: bool,
    /// The call that moved the message's first byte, and that byte's offset.
    pub(super) begun: Call,
    pub(super) offset: u64,
    /// When the message's last byte so far was moved.
    pub(super) last_ktime_ns: u64,
    gathered: Vec<u8>,
    searched: usize,
}

/// Result of looking for the end of a header block.
pub(super) enum Found {
    /// It is longer than the bytes.
    More,
    /// It ends after so many of the bytes; the gathered ones come before them.
    End(usize),
    /// It is too long, or there is no room to gather it.
    TooLong,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            at: At::Start,
            body: Body::new(Framing::Length(0)),
            lost_turn: 0,
            turn: 0,
            swallowing: false,
            begun: Call::default(),
            offset: 0,
            last_ktime_ns: 0,
            gathered: Vec::new(),
            searched: 0,
        }
    }
}

impl Reader {
    /// Notes where a message begins.
    pub(super) fn begin(&mut self, call: &Call, offset: u64) {
        self.begun = *call;
        self.offset = offset;
        self.at = At::Head;
    }

    /// Gathers a header block that is spread over several runs of bytes, and looks for its end.
    pub(super) fn gather(&mut self, bytes: &[u8], state: &mut State) -> Found {
        let before = self.gathered.len();
        let room = HEAD_MAX.saturating_sub(before).min(bytes.len());
        if !state.reserve(room) {
            return Found::TooLong;
        }
        self.gathered.extend_from_slice(&bytes[..room]);
        if let Some(end) = head::find_end(&self.gathered, self.searched) {
            state.unreserve(self.gathered.len() - end);
            self.gathered.truncate(end);
            return Found::End(end - before);
        }
        // The end may begin with the line feed of three bytes ago.
        self.searched = self.gathered.len().saturating_sub(3);
        if room < bytes.len() { Found::TooLong } else { Found::More }
    }

    /// Whether part of a header block is gathered.
    #[inline]
    pub(super) fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    /// What was gathered.
    #[inline]
    pub(super) fn take_gathered(&mut self, state: &mut State) -> Vec<u8> {
        self.searched = 0;
        let gathered = std::mem::take(&mut self.gathered);
        if !gathered.is_empty() {
            state.unreserve(gathered.len());
        }
        gathered
    }

    /// Starts over, behind a message.
    pub(super) fn reset(&mut self) {
        self.at = At::Start;
        self.swallowing = false;
    }

    /// The messages of this turn can no longer be told apart.
    pub(super) fn lose(&mut self, turn: u32, state: &mut State) {
        self.take_gathered(state);
        self.at = At::Lost;
        self.swallowing = false;
        self.lost_turn = self.lost_turn.max(turn);
    }
}
