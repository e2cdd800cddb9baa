//! One direction of a connection: bytes in order, with explicit holes and gaps.
//!
//! In: data records with stream offsets. Out: a [`Chunk`] that begins where the last one ended, or says how many
//! bytes were lost between. [`Held`] keeps chunks for later, when they cannot be understood yet.

use crate::event::{Call, Data, Direction};
use crate::stats::{Drop, Stats};

/// Where a direction stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stream {
    /// Offset of the next byte; `None` before the first one of a connection that was not seen to open.
    next: Option<u64>,
    /// Bytes that the kernel side copied for us.
    pub(crate) copied: u64,
    /// When the direction ended, if it did.
    pub(crate) ended_ktime_ns: Option<u64>,
}

/// A run of bytes of one direction: first `head`, then a hole that was not copied, then `tail`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk<'a> {
    pub(crate) call: Call,
    /// Bytes before this chunk that were lost.
    pub(crate) gap: u64,
    /// Stream offset of the first byte.
    pub(crate) offset: u64,
    /// Bytes that the chunk stands for.
    pub(crate) len: u64,
    head: &'a [u8],
    tail: &'a [u8],
}

/// What a chunk begins with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Front<'a> {
    Empty,
    Bytes(&'a [u8]),
    /// So many bytes were not copied.
    Hole(u64),
}

impl Stream {
    /// Says where the stream begins, unless that is known.
    pub(crate) fn begin_at(&mut self, offset: u64) {
        self.next.get_or_insert(offset);
    }

    /// Places a record behind what came before; `None` if it holds nothing new.
    #[inline]
    pub(crate) fn place<'a>(&mut self, data: &Data<'a>, stats: &mut Stats) -> Option<Chunk<'a>> {
        let next = *self.next.get_or_insert(data.offset);
        let end = data.offset + data.len;
        self.copied += (data.head.len() + data.tail.len()) as u64;
        let mut chunk = Chunk {
            call: data.call,
            gap: data.offset.saturating_sub(next),
            offset: data.offset,
            len: data.len,
            head: data.head,
            tail: data.tail,
        };
        if data.offset < next {
            stats.drop(Drop::LateBytes);
            if end <= next {
                return None;
            }
            chunk.advance(next - data.offset);
        }
        if chunk.gap > 0 {
            stats.drop_many(Drop::LostBytes, chunk.gap);
        }
        self.next = Some(end);
        Some(chunk)
    }
}

impl<'a> Chunk<'a> {
    /// What the chunk begins with.
    #[inline]
    pub(crate) fn front(&self) -> Front<'a> {
        if !self.head.is_empty() {
            return Front::Bytes(self.head);
        }
        match self.len - self.tail.len() as u64 {
            0 if self.tail.is_empty() => Front::Empty,
            0 => Front::Bytes(self.tail),
            hole => Front::Hole(hole),
        }
    }

    /// The bytes that it begins with, if they were copied.
    pub(crate) fn bytes(&self) -> &'a [u8] {
        if let Front::Bytes(bytes) = self.front() { bytes } else { &[] }
    }

    /// The bytes that it ends with, as far as they were copied.
    pub(crate) fn last_bytes(&self) -> &'a [u8] {
        if self.tail.is_empty() && self.head.len() as u64 == self.len { self.head } else { self.tail }
    }

    /// Leaves the first bytes behind; at most all of them.
    #[inline]
    pub(crate) fn advance(&mut self, count: u64) {
        let count = count.min(self.len);
        let hole = self.len - self.head.len() as u64 - self.tail.len() as u64;
        let from_head = count.min(self.head.len() as u64);
        let from_tail = (count - from_head).saturating_sub(hole);
        self.head = &self.head[from_head as usize..];
        self.tail = &self.tail[from_tail as usize..];
        self.offset += count;
        self.len -= count;
        self.gap = 0;
    }
}

/// Chunks kept for later, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    bytes: Vec<u8>,
    chunks: Vec<HeldChunk>,
}

#[derive(Clone, Copy, Debug)]
struct HeldChunk {
    call: Call,
    gap: u64,
    offset: u64,
    len: u64,
    start: usize,
    head_len: usize,
    tail_len: usize,
}

impl Held {
    /// Keeps a chunk.
    pub(crate) fn push(&mut self, chunk: &Chunk<'_>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(chunk.head);
        self.bytes.extend_from_slice(chunk.tail);
        self.chunks.push(HeldChunk {
            call: chunk.call,
            gap: chunk.gap,
            offset: chunk.offset,
            len: chunk.len,
            start,
            head_len: chunk.head.len(),
            tail_len: chunk.tail.len(),
        });
    }

    /// What keeping a chunk costs.
    pub(crate) fn cost_of(chunk: &Chunk<'_>) -> usize {
        chunk.head.len() + chunk.tail.len() + size_of::<HeldChunk>()
    }

    /// What it costs now.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + self.chunks.len() * size_of::<HeldChunk>()
    }

    /// When the first chunk came.
    pub(crate) fn since_ktime_ns(&self) -> Option<u64> {
        self.chunks.first().map(|chunk| chunk.call.ktime_ns)
    }

    /// Whether a chunk of this direction is kept.
    pub(crate) fn has(&self, direction: Direction) -> bool {
        self.chunks.iter().any(|chunk| chunk.call.direction == direction)
    }

    /// The chunks, oldest first.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        self.chunks.iter().map(|held| {
            let (head, rest) = self.bytes[held.start..].split_at(held.head_len);
            Chunk {
                call: held.call,
                gap: held.gap,
                offset: held.offset,
                len: held.len,
                head,
                tail: &rest[..held.tail_len],
            }
        })
    }

    /// The bytes with which a direction begins, without a hole, appended to `opening`.
    pub(crate) fn opening(&self, direction: Direction, opening: &mut Vec<u8>) {
        for chunk in self.chunks().filter(|chunk| chunk.call.direction == direction) {
            opening.extend_from_slice(chunk.head);
            if chunk.head.len() as u64 != chunk.len {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gap, offset, head, hole, tail.
    type Placed = (u64, u64, &'static str, u64, &'static str);

    /// Places records given as (offset, head, hole, tail) and compares what is new of each.
    fn check(records: &[(u64, &'static str, u64, &'static str)], expected: &[Option<Placed>]) {
        let (mut stream, mut stats) = (Stream::default(), Stats::new());
        stream.begin_at(0);
        let placed: Vec<_> = records
            .iter()
            .map(|&(offset, head, hole, tail)| {
                let data = Data {
                    call: Call::default(),
                    offset,
                    len: head.len() as u64 + hole + tail.len() as u64,
                    head: head.as_bytes(),
                    tail: tail.as_bytes(),
                };
                let chunk = stream.place(&data, &mut stats)?;
                let text = |bytes| std::str::from_utf8(bytes).unwrap();
                let hole = chunk.len - (chunk.head.len() + chunk.tail.len()) as u64;
                Some((chunk.gap, chunk.offset, text(chunk.head), hole, text(chunk.tail)))
            })
            .collect();
        assert_eq!(placed, expected);
    }

    #[test]
    fn places_records_and_shows_gaps() {
        check(&[(0, "abc", 0, ""), (3, "d", 0, "")], &[Some((0, 0, "abc", 0, "")), Some((0, 3, "d", 0, ""))]);
        check(&[(2, "abc", 0, "")], &[Some((2, 2, "abc", 0, ""))]);
        check(
            &[(0, "abc", 5, "de"), (10, "f", 0, "")],
            &[Some((0, 0, "abc", 5, "de")), Some((0, 10, "f", 0, ""))],
        );
    }

    #[test]
    fn cuts_what_was_seen_before() {
        check(&[(0, "abc", 0, ""), (1, "bc", 0, "")], &[Some((0, 0, "abc", 0, "")), None]);
        check(
            &[(0, "abc", 0, ""), (2, "cd", 3, "ef")],
            &[Some((0, 0, "abc", 0, "")), Some((0, 3, "d", 3, "ef"))],
        );
        check(
            &[(0, "abcdef", 0, ""), (2, "cd", 3, "ef")],
            &[Some((0, 0, "abcdef", 0, "")), Some((0, 6, "", 1, "ef"))],
        );
        check(
            &[(0, "abcdefgh", 0, ""), (2, "cd", 3, "ef")],
            &[Some((0, 0, "abcdefgh", 0, "")), Some((0, 8, "", 0, "f"))],
        );
    }
}
