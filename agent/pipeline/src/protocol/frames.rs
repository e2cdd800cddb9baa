//! Frames with their length in front, as PostgreSQL, MySQL, HTTP/2 and DNS over TCP have them: one direction.
//!
//! In: chunks of one direction, with their holes and gaps. Out: frames, each with its header, the first bytes of its
//! payload (as many as the protocol asks for) and the calls that moved its first and last byte. The rest of a payload
//! is skipped, copied or not. A header that was not copied, or a gap that ends nobody knows where, loses the frames
//! of this turn; a later turn that begins with a frame finds them again, and so may the end of a call. Frames that
//! lie in one run of bytes are borrowed; others are gathered, at most what is asked for, and counted in the buffers.

use std::borrow::Cow;

use crate::event::Call;
use crate::state::State;
use crate::stats::Drop;
use crate::stream::{Chunk, Front};

/// Longest header of a protocol (HTTP/2).
pub(crate) const HEADER_MAX: usize = 9;

/// How a protocol frames its messages.
pub(crate) trait Layout {
    /// Bytes of a header; at most [`HEADER_MAX`], never 0.
    const HEADER_LEN: usize;

    /// What a header says; `None` if it cannot be one.
    fn shape(&self, header: &[u8]) -> Option<Shape>;

    /// Whether bytes at the start of a turn begin a frame, so that a reader that was lost may go on. They must prove
    /// it: chance must not.
    fn begins(&self, bytes: &[u8]) -> bool;
}

/// What follows a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of payload.
    pub(crate) len: u64,
    /// How many of its first bytes are wanted; it bounds what is held.
    pub(crate) keep: usize,
}

/// One frame, passed to its end.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// The first [`Layout::HEADER_LEN`] bytes are the header.
    pub(crate) header: [u8; HEADER_MAX],
    /// Bytes of payload on the wire.
    pub(crate) len: u64,
    /// The first bytes of it.
    pub(crate) payload: Cow<'a, [u8]>,
    /// The payload holds less than was asked for: the rest was not copied or lost.
    pub(crate) cut: bool,
    /// The call that moved the first byte.
    pub(crate) begun: Call,
    /// Stream offset of the first byte.
    pub(crate) offset: u64,
    /// The call that moved the last byte.
    pub(crate) last: Call,
}

/// What came of the next bytes.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Frame(Frame<'a>),
    /// The chunk is used up.
    More,
    /// Where frames begin is not known any more; said once.
    Lost(Why),
    /// A new turn begins with a frame: reading goes on, after it was lost.
    Found,
}

/// Why frames were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Records were lost.
    Gap,
    /// A header was not copied.
    Hole,
    /// A header says what no header says.
    Invalid,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Header,
    Payload,
    Lost,
}

/// Reads one direction.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    at: At,
    header: [u8; HEADER_MAX],
    header_len: u8,
    cut: bool,
    /// Turn of the last chunk.
    turn: u32,
    /// Only a later turn may begin with a frame.
    lost_turn: u32,
    begun: Call,
    offset: u64,
    /// Payload bytes of the frame, and those that are still to come.
    len: u64,
    left: u64,
    /// Payload bytes that are still wanted.
    want: usize,
    kept: Vec<u8>,
}

impl Frames {
    /// A reader that waits for a turn after this one.
    pub(crate) fn lost(turn: u32) -> Self {
        Self { at: At::Lost, lost_turn: turn, ..Self::default() }
    }

    /// Whether it is not known where frames begin.
    pub(crate) fn is_lost(&self) -> bool {
        self.at == At::Lost
    }

    /// Whether a frame has begun and not ended.
    pub(crate) fn is_inside(&self) -> bool {
        self.at == At::Payload || self.header_len > 0
    }

    /// The next frame, or why there is none. To be called until it says [`Step::More`]; after that, the chunk's rest
    /// (if the reader is lost) is of no use.
    #[inline]
    pub(crate) fn next<'a, L: Layout>(
        &mut self,
        chunk: &mut Chunk<'a>,
        layout: &L,
        state: &mut State,
    ) -> Step<'a> {
        let turn = chunk.call.turn;
        let first_of_turn = turn > self.turn;
        if first_of_turn {
            self.turn = turn;
        }
        if self.at == At::Lost {
            return self.look_for_start(chunk, first_of_turn, layout, state);
        }
        if chunk.gap > 0
            && let Some(step) = self.pass_gap(chunk, state)
        {
            return step;
        }
        if self.at == At::Header
            && self.header_len == 0
            && let Some(frame) = self.borrow(chunk, layout)
        {
            return Step::Frame(frame);
        }
        self.gather(chunk, layout, state)
    }

    /// Nothing of this turn can be told apart any more.
    pub(crate) fn lose(&mut self, turn: u32, state: &mut State) {
        self.release(state);
        self.at = At::Lost;
        self.lost_turn = self.lost_turn.max(turn);
    }

    /// After frames were lost in a hole: goes on in the copied end of the call, if whole frames fill it from some byte
    /// to its last one. What came before them is not known.
    pub(crate) fn find_in_tail<L: Layout>(&mut self, chunk: &mut Chunk<'_>, layout: &L) -> bool {
        let tail = chunk.last_bytes();
        let Some(start) = (0..tail.len()).find(|&start| tiles(&tail[start..], layout)) else { return false };
        self.resume(chunk, (tail.len() - start) as u64);
        true
    }

    /// After frames were lost: goes on where the last `left` bytes of the call begin.
    pub(crate) fn resume(&mut self, chunk: &mut Chunk<'_>, left: u64) {
        chunk.advance(chunk.len.saturating_sub(left));
        self.at = At::Header;
    }

    /// Gives back what is gathered, and begins anew.
    pub(crate) fn release(&mut self, state: &mut State) {
        if !self.kept.is_empty() {
            state.unreserve(self.kept.len());
        }
        *self = Self { turn: self.turn, lost_turn: self.lost_turn, ..Self::default() };
    }

    fn look_for_start<'a, L: Layout>(
        &mut self,
        chunk: &mut Chunk<'a>,
        first_of_turn: bool,
        layout: &L,
        state: &mut State,
    ) -> Step<'a> {
        let turn = chunk.call.turn;
        if first_of_turn && turn > self.lost_turn {
            if chunk.gap == 0 && layout.begins(chunk.bytes()) {
                self.at = At::Header;
                return Step::Found;
            }
            self.lost_turn = turn;
            state.stats.drop(Drop::FramesMidStream);
        }
        Step::More
    }

    /// Bytes before the chunk were lost: no matter if they belong to the payload that is being read.
    #[cold]
    fn pass_gap<'a>(&mut self, chunk: &mut Chunk<'a>, state: &mut State) -> Option<Step<'a>> {
        if self.at != At::Payload || chunk.gap > self.left {
            state.stats.drop(Drop::FramesGap);
            self.lose(chunk.call.turn, state);
            return Some(Step::Lost(Why::Gap));
        }
        self.pass_unseen(chunk.gap);
        chunk.advance(0);
        (self.left == 0).then(|| Step::Frame(self.take(&chunk.call, state)))
    }

    /// The common case: the frame lies in one run of bytes.
    #[inline]
    fn borrow<'a, L: Layout>(&mut self, chunk: &mut Chunk<'a>, layout: &L) -> Option<Frame<'a>> {
        let Front::Bytes(bytes) = chunk.front() else { return None };
        let (head, rest) = bytes.split_at_checked(L::HEADER_LEN)?;
        let Shape { len, keep } = layout.shape(head)?;
        if len > rest.len() as u64 {
            return None;
        }
        let mut header = [0; HEADER_MAX];
        header[..head.len()].copy_from_slice(head);
        let frame = Frame {
            header,
            len,
            payload: Cow::Borrowed(&rest[..keep.min(len as usize)]),
            cut: false,
            begun: chunk.call,
            offset: chunk.offset,
            last: chunk.call,
        };
        chunk.advance(L::HEADER_LEN as u64 + len);
        Some(frame)
    }

    fn gather<'a, L: Layout>(&mut self, chunk: &mut Chunk<'a>, layout: &L, state: &mut State) -> Step<'a> {
        loop {
            match (self.at, chunk.front()) {
                (At::Lost, _) | (_, Front::Empty) => return Step::More,
                (At::Header, Front::Bytes(bytes)) => {
                    if self.header_len == 0 {
                        (self.begun, self.offset) = (chunk.call, chunk.offset);
                    }
                    let have = usize::from(self.header_len);
                    let count = bytes.len().min(L::HEADER_LEN - have);
                    self.header[have..have + count].copy_from_slice(&bytes[..count]);
                    self.header_len += count as u8;
                    chunk.advance(count as u64);
                    if have + count < L::HEADER_LEN {
                        continue;
                    }
                    let Some(shape) = layout.shape(&self.header[..L::HEADER_LEN]) else {
                        return self.lose_here(chunk, Why::Invalid, Drop::FramesInvalid, state);
                    };
                    self.at = At::Payload;
                    (self.len, self.left) = (shape.len, shape.len);
                    self.want = shape.keep.min(usize::try_from(shape.len).unwrap_or(usize::MAX));
                }
                (At::Header, Front::Hole(_)) => {
                    return self.lose_here(chunk, Why::Hole, Drop::FramesHole, state);
                }
                (At::Payload, Front::Bytes(bytes)) => {
                    let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                    self.keep(&bytes[..here.min(self.want)], state);
                    self.left -= here as u64;
                    chunk.advance(here as u64);
                }
                (At::Payload, Front::Hole(hole)) => {
                    let here = hole.min(self.left);
                    self.pass_unseen(here);
                    chunk.advance(here);
                }
            }
            if self.at == At::Payload && self.left == 0 {
                return Step::Frame(self.take(&chunk.call, state));
            }
        }
    }

    fn lose_here<'a>(&mut self, chunk: &Chunk<'_>, why: Why, drop: Drop, state: &mut State) -> Step<'a> {
        state.stats.drop(drop);
        self.lose(chunk.call.turn, state);
        Step::Lost(why)
    }

    fn keep(&mut self, bytes: &[u8], state: &mut State) {
        if bytes.is_empty() {
            return;
        }
        if state.reserve(bytes.len()) {
            self.kept.extend_from_slice(bytes);
            self.want -= bytes.len();
        } else {
            self.pass_unseen(0);
        }
    }

    /// Payload bytes that nobody sees; none of the later ones are wanted then.
    fn pass_unseen(&mut self, count: u64) {
        self.left -= count;
        self.cut |= self.want > 0;
        self.want = 0;
    }

    fn take<'a>(&mut self, last: &Call, state: &mut State) -> Frame<'a> {
        let payload = std::mem::take(&mut self.kept);
        if !payload.is_empty() {
            state.unreserve(payload.len());
        }
        let frame = Frame {
            header: self.header,
            len: self.len,
            payload: Cow::Owned(payload),
            cut: self.cut,
            begun: self.begun,
            offset: self.offset,
            last: *last,
        };
        self.at = At::Header;
        (self.header_len, self.cut) = (0, false);
        frame
    }
}

/// Whether whole frames, at least one, fill the bytes exactly.
pub(crate) fn tiles<L: Layout>(mut bytes: &[u8], layout: &L) -> bool {
    if bytes.is_empty() {
        return false;
    }
    while !bytes.is_empty() {
        let Some((header, rest)) = bytes.split_at_checked(L::HEADER_LEN) else { return false };
        let Some(shape) = layout.shape(header) else { return false };
        let Some(rest) = usize::try_from(shape.len).ok().and_then(|len| rest.get(len..)) else {
            return false;
        };
        bytes = rest;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::event::{Data, Direction};
    use crate::stats::Stats;
    use crate::stream::Stream;
    use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

    /// `#`, then the length of the payload; the first five bytes of it are wanted.
    struct Toy;

    impl Layout for Toy {
        const HEADER_LEN: usize = 2;

        fn shape(&self, header: &[u8]) -> Option<Shape> {
            (header[0] == b'#').then(|| Shape { len: u64::from(header[1]), keep: 5 })
        }

        fn begins(&self, bytes: &[u8]) -> bool {
            bytes.first() == Some(&b'#')
        }
    }

    /// Part of a stream, one record each.
    #[derive(Clone, Copy, Debug)]
    enum Part<'a> {
        Bytes(&'a [u8]),
        /// Head, bytes that were not copied, tail.
        Holed(&'a [u8], u64, &'a [u8]),
        Lost(u64),
        /// A new turn begins.
        Turn,
        /// The end of the last record's call is looked at, if frames were lost.
        FromTail(&'a [u8], u64, &'a [u8]),
    }

    struct Run {
        steps: Vec<String>,
        state: State,
        frames: Frames,
        most: usize,
    }

    fn run(parts: &[Part<'_>]) -> Run {
        let mut state = State::new(&Config::default());
        let (mut frames, mut stream, mut stats) = (Frames::default(), Stream::default(), Stats::new());
        stream.begin_at(0);
        let (mut offset, mut turn, mut steps, mut most) = (0, 1, Vec::new(), 0);
        for (index, part) in parts.iter().enumerate() {
            let (head, hole, tail, from_tail) = match *part {
                Bytes(bytes) => (bytes, 0, &[][..], false),
                Holed(head, hole, tail) => (head, hole, tail, false),
                FromTail(head, hole, tail) => (head, hole, tail, true),
                Lost(count) => {
                    offset += count;
                    continue;
                }
                Turn => {
                    turn += 1;
                    continue;
                }
            };
            let len = (head.len() + tail.len()) as u64 + hole;
            let call = Call { ktime_ns: index as u64, turn, direction: Direction::Egress, ..Call::default() };
            let Some(mut chunk) = stream.place(&Data { call, offset, len, head, tail }, &mut stats) else {
                continue;
            };
            offset += len;
            loop {
                match frames.next(&mut chunk, &Toy, &mut state) {
                    Step::More => break,
                    Step::Frame(frame) => steps.push(format!(
                        "{}{} {:?} {}..{}{}",
                        frame.len,
                        if frame.cut { "?" } else { "" },
                        String::from_utf8_lossy(&frame.payload),
                        frame.begun.ktime_ns,
                        frame.last.ktime_ns,
                        format_args!(" at {}", frame.offset)
                    )),
                    Step::Found => steps.push("found".to_owned()),
                    Step::Lost(why) => {
                        steps.push(format!("{why:?}"));
                        if from_tail && frames.find_in_tail(&mut chunk, &Toy) {
                            steps.push("tail".to_owned());
                        }
                    }
                }
                most = most.max(state.usage().1);
            }
        }
        Run { steps, state, frames, most }
    }

    fn check(parts: &[Part<'_>], expected: &[&str]) {
        let mut run = run(parts);
        assert_eq!(run.steps, expected);
        run.frames.release(&mut run.state);
        assert_eq!(run.state.usage().1, 0);
    }

    use Part::{Bytes, FromTail, Holed, Lost, Turn};

    #[test]
    fn frames_are_cut_out_of_runs_and_gathered_across_them() {
        check(&[Bytes(b"#\x03abc#\x00#\x07")], &["3 \"abc\" 0..0 at 0", "0 \"\" 0..0 at 5"]);
        check(
            &[Bytes(b"#"), Bytes(b"\x07abc"), Bytes(b"defg#\x01x")],
            &["7 \"abcde\" 0..2 at 0", "1 \"x\" 2..2 at 9"],
        );
    }

    #[test]
    fn payloads_that_were_not_copied_or_lost_are_passed() {
        check(&[Holed(b"#\x09abc", 3, b"ghi")], &["9? \"abc\" 0..0 at 0"]);
        check(&[Holed(b"#\x09abcdef", 3, b"#\x01x")], &["9 \"abcde\" 0..0 at 0", "1 \"x\" 0..0 at 11"]);
        check(
            &[Bytes(b"#\x05ab"), Lost(2), Bytes(b"e#\x01x")],
            &["5? \"ab\" 0..2 at 0", "1 \"x\" 2..2 at 7"],
        );
        check(&[Bytes(b"#\x05ab"), Lost(3), Bytes(b"#\x01x")], &["5? \"ab\" 0..2 at 0", "1 \"x\" 2..2 at 7"]);
    }

    #[test]
    fn what_is_lost_is_found_again_at_a_later_turn() {
        check(
            &[Bytes(b"#\x05ab"), Lost(4), Bytes(b"#\x01x"), Turn, Bytes(b"#\x01y")],
            &["Gap", "found", "1 \"y\" 4..4 at 11"],
        );
        check(
            &[
                Bytes(b"#"),
                Lost(1),
                Turn,
                Bytes(b"#\x01x"),
                Bytes(b"#\x01x"),
                Turn,
                Bytes(b"x"),
                Bytes(b"#\x00"),
            ],
            &["Gap"],
        );
        check(
            &[Bytes(b"#\x00x#\x00"), Bytes(b"#\x00"), Turn, Bytes(b"#\x00")],
            &["0 \"\" 0..0 at 0", "Invalid", "found", "0 \"\" 3..3 at 7"],
        );
    }

    #[test]
    fn the_end_of_a_call_may_be_understood_although_its_middle_is_not() {
        check(
            &[FromTail(b"#\x02ab", 20, b"xy#\x02cd#\x00"), Bytes(b"#\x01z")],
            &[
                "2 \"ab\" 0..0 at 0",
                "Hole",
                "tail",
                "2 \"cd\" 0..0 at 26",
                "0 \"\" 0..0 at 30",
                "1 \"z\" 1..1 at 32",
            ],
        );
        check(
            &[FromTail(b"#\x02ab", 20, b"xy#\x02cd#\x01"), Bytes(b"#\x01z")],
            &["2 \"ab\" 0..0 at 0", "Hole"],
        );
    }

    proptest! {
        #[test]
        fn the_same_frames_come_out_however_they_are_cut(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..10),
            cuts in prop::collection::vec(1usize..9, 1..9),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for payload in &payloads {
                let kept = String::from_utf8_lossy(&payload[..payload.len().min(5)]);
                expected.push(format!("{} {kept:?} at {}", payload.len(), bytes.len()));
                bytes.extend_from_slice(&[b'#', payload.len() as u8]);
                bytes.extend_from_slice(payload);
            }
            let (mut parts, mut rest) = (Vec::new(), &bytes[..]);
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, after) = rest.split_at(cut.min(rest.len()));
                parts.push(Bytes(part));
                rest = after;
            }
            let run = run(&parts);
            let without_times = |step: &String| {
                let (start, end) = (step.rfind("\" ").unwrap() + 1, step.rfind(" at ").unwrap());
                format!("{}{}", &step[..start], &step[end..])
            };
            prop_assert_eq!(run.steps.iter().map(without_times).collect::<Vec<_>>(), expected);
            prop_assert!(run.most <= 5);
        }

        #[test]
        fn any_bytes_holes_and_gaps_end_without_a_panic(
            parts in prop::collection::vec((0u8..6, prop::collection::vec(prop::sample::select(b"#\x00\x01\x02\x07ab".to_vec()), 0..12)), 0..20),
        ) {
            let parts: Vec<_> = parts
                .iter()
                .map(|(kind, bytes)| match kind {
                    0 => Lost(bytes.len() as u64),
                    1 => Turn,
                    2 => Holed(bytes, 3, bytes),
                    3 => FromTail(bytes, 3, bytes),
                    _ => Bytes(bytes),
                })
                .collect();
            let mut run = run(&parts);
            prop_assert!(run.most <= 5);
            run.frames.release(&mut run.state);
            prop_assert_eq!(run.state.usage().1, 0);
        }
    }
}
