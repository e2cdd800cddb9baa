//! Records of the ring buffer as typed events: total, safe decoding.
//!
//! In: the bytes of one record, untrusted. Out: an [`Event`], or which [`Drop`] it is to be counted as. Lengths
//! are checked here once, so that the stages behind can trust them.

use agent_common::conn::{ConnTuple, SockAddr};
use agent_common::event::{
    ConnClosed, ConnEof, ConnError, ConnOpened, DataRecord, DatagramRecord, EventHeader, EventKind,
    FLAG_DATAGRAM, FLAG_EGRESS, ProcessFork, ProcessListen, ProcessUnseen,
};
use zerocopy::FromBytes;

use crate::ProcessEvent;
use crate::stats::Drop;

/// Which way bytes went, seen from the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// The process was handed bytes.
    #[default]
    Ingress,
    /// The process handed bytes to the kernel.
    Egress,
}

impl Direction {
    /// The other one.
    pub(crate) fn reverse(self) -> Self {
        match self {
            Self::Ingress => Self::Egress,
            Self::Egress => Self::Ingress,
        }
    }

    fn of(flags: u16) -> Self {
        if flags & FLAG_EGRESS == 0 { Self::Ingress } else { Self::Egress }
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event<'a> {
    Data(Data<'a>),
    Opened(Opened),
    /// A datagram socket is used for the first time.
    DatagramSocket(Opened),
    Datagram(Datagram<'a>),
    Closed(Closed),
    Eof(Eof),
    Error(Failed),
    /// And when.
    Process(ProcessEvent, u64),
}

/// What is known of a call on a connection, whatever it moved.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) conn_id: u64,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) ktime_ns: u64,
    pub(crate) direction: Direction,
    pub(crate) turn: u32,
    pub(crate) waits: u32,
}

/// Bytes of a stream: the range `offset .. offset + len`, of which `head` and `tail` were copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data<'a> {
    pub(crate) call: Call,
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) head: &'a [u8],
    pub(crate) tail: &'a [u8],
}

/// One message of a datagram socket, or its first bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    pub(crate) call: Call,
    /// Family 0 where the call does not name it.
    pub(crate) peer: SockAddr,
    pub(crate) len: u64,
    pub(crate) bytes: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Opened {
    pub(crate) conn_id: u64,
    pub(crate) tgid: u32,
    pub(crate) ktime_ns: u64,
    pub(crate) flags: u16,
    pub(crate) sock: u64,
    pub(crate) tuple: ConnTuple,
    /// Bytes moved before, by direction.
    pub(crate) offsets: [u64; 2],
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Closed {
    pub(crate) conn_id: u64,
    pub(crate) ktime_ns: u64,
    pub(crate) flags: u16,
    pub(crate) turns: u32,
    pub(crate) errno: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Eof {
    pub(crate) conn_id: u64,
    pub(crate) ktime_ns: u64,
    pub(crate) direction: Direction,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed {
    pub(crate) conn_id: u64,
    pub(crate) ktime_ns: u64,
    pub(crate) errno: u32,
}

/// Decodes one record.
#[inline]
pub(crate) fn decode(record: &[u8]) -> Result<Event<'_>, Drop> {
    let (header, _) = read::<EventHeader>(record)?;
    match header.kind {
        EventKind::DATA => Ok(Event::Data(data(record)?)),
        EventKind::CONN_OPENED => opened(record),
        EventKind::CONN_CLOSED => closed(record),
        EventKind::CONN_EOF => {
            let (eof, _) = read::<ConnEof>(record)?;
            Ok(Event::Eof(Eof {
                conn_id: eof.header.conn_id,
                ktime_ns: eof.header.ktime_ns,
                direction: Direction::of(eof.header.flags),
            }))
        }
        EventKind::CONN_ERROR => {
            let (error, _) = read::<ConnError>(record)?;
            Ok(Event::Error(Failed {
                conn_id: error.header.conn_id,
                ktime_ns: error.header.ktime_ns,
                errno: error.errno,
            }))
        }
        EventKind::PROCESS_FORK => {
            let (fork, _) = read::<ProcessFork>(record)?;
            Ok(process(&header, ProcessEvent::Fork { parent: fork.parent_tgid, child: header.tgid }))
        }
        EventKind::PROCESS_EXEC => Ok(process(&header, ProcessEvent::Exec { tgid: header.tgid })),
        EventKind::PROCESS_EXIT => Ok(process(&header, ProcessEvent::Exit { tgid: header.tgid })),
        EventKind::PROCESS_LISTEN => {
            let (listen, _) = read::<ProcessListen>(record)?;
            Ok(process(&header, ProcessEvent::Listen { tgid: header.tgid, port: listen.port }))
        }
        EventKind::PROCESS_UNSEEN => {
            let (unseen, _) = read::<ProcessUnseen>(record)?;
            Ok(process(&header, ProcessEvent::Unseen { tgid: header.tgid, what: unseen.what }))
        }
        EventKind::DATAGRAM => datagram(record),
        _ => Err(Drop::UnknownKind),
    }
}

fn process<'a>(header: &EventHeader, event: ProcessEvent) -> Event<'a> {
    Event::Process(event, header.ktime_ns)
}

#[inline]
fn read<T: FromBytes>(record: &[u8]) -> Result<(T, &[u8]), Drop> {
    T::read_from_prefix(record).map_err(|_| Drop::ShortRecord)
}

/// Decodes a record of bytes; the common case, and the only one that is hot. `None` if it is of another kind.
#[inline]
pub(crate) fn decode_data(record: &[u8]) -> Option<Result<Data<'_>, Drop>> {
    let kind = record.first_chunk()?;
    (*kind == EventKind::DATA.0.to_ne_bytes()).then(|| data(record))
}

#[inline]
fn data(record: &[u8]) -> Result<Data<'_>, Drop> {
    let (data, payload) = read::<DataRecord>(record)?;
    let (head_len, tail_len) = (data.head_len as usize, data.tail_len as usize);
    // u64: two u32 lengths that lie must not wrap to a sum that looks right.
    let copied = u64::from(data.head_len) + u64::from(data.tail_len);
    if copied > u64::from(data.len) || data.offset.checked_add(u64::from(data.len)).is_none() {
        return Err(Drop::BadLength);
    }
    // The ring buffer rounds records up: bytes behind the tail are not part of it.
    let head = payload.get(..head_len).ok_or(Drop::BadLength)?;
    let tail = payload[head_len..].get(..tail_len).ok_or(Drop::BadLength)?;
    Ok(Data {
        call: Call {
            conn_id: data.header.conn_id,
            tgid: data.header.tgid,
            tid: data.tid,
            ktime_ns: data.header.ktime_ns,
            direction: Direction::of(data.header.flags),
            turn: data.turn,
            waits: data.waits,
        },
        offset: data.offset,
        len: u64::from(data.len),
        head,
        tail,
    })
}

fn opened(record: &[u8]) -> Result<Event<'_>, Drop> {
    let (opened, _) = read::<ConnOpened>(record)?;
    let kind = if opened.header.flags & FLAG_DATAGRAM == 0 { Event::Opened } else { Event::DatagramSocket };
    Ok(kind(Opened {
        conn_id: opened.header.conn_id,
        tgid: opened.header.tgid,
        ktime_ns: opened.header.ktime_ns,
        flags: opened.header.flags,
        sock: opened.sock,
        tuple: opened.tuple,
        offsets: [opened.ingress_offset, opened.egress_offset],
    }))
}

fn datagram(record: &[u8]) -> Result<Event<'_>, Drop> {
    let (datagram, payload) = read::<DatagramRecord>(record)?;
    if datagram.head_len > datagram.len {
        return Err(Drop::BadLength);
    }
    Ok(Event::Datagram(Datagram {
        call: Call {
            conn_id: datagram.header.conn_id,
            tgid: datagram.header.tgid,
            tid: datagram.tid,
            ktime_ns: datagram.header.ktime_ns,
            direction: Direction::of(datagram.header.flags),
            turn: 0,
            waits: datagram.waits,
        },
        peer: datagram.peer,
        len: u64::from(datagram.len),
        // The ring buffer rounds records up: bytes behind the message are not part of it.
        bytes: payload.get(..datagram.head_len as usize).ok_or(Drop::BadLength)?,
    }))
}

fn closed(record: &[u8]) -> Result<Event<'_>, Drop> {
    let (closed, _) = read::<ConnClosed>(record)?;
    Ok(Event::Closed(Closed {
        conn_id: closed.header.conn_id,
        ktime_ns: closed.header.ktime_ns,
        flags: closed.header.flags,
        turns: closed.turns,
        errno: closed.error,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn record(len: u32, head_len: u32, tail_len: u32, payload: &[u8]) -> Vec<u8> {
        let header = EventHeader { kind: EventKind::DATA, ..EventHeader::default() };
        let data = DataRecord { header, len, head_len, tail_len, ..DataRecord::default() };
        [data.as_bytes(), payload].concat()
    }

    fn check(record: &[u8], expected: Result<(&[u8], &[u8]), Drop>) {
        let decoded = decode(record).map(|event| match event {
            Event::Data(data) => (data.head, data.tail),
            other => panic!("{other:?}"),
        });
        assert_eq!(decoded, expected);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        check(&record(10, 2, 1, b"abc"), Ok((b"ab", b"c")));
        check(&record(10, 2, 1, b"abc\0\0\0\0\0"), Ok((b"ab", b"c")));
        check(&record(10, 2, 2, b"abc"), Err(Drop::BadLength));
        check(&record(10, 4, 0, b"abc"), Err(Drop::BadLength));
        check(&record(2, 2, 1, b"abc"), Err(Drop::BadLength));
        check(&record(u32::MAX, u32::MAX, u32::MAX, b"abc"), Err(Drop::BadLength));
        check(&record(0, 0, 0, b""), Ok((b"", b"")));
    }

    #[test]
    fn short_and_unknown_records_are_refused() {
        check(b"", Err(Drop::ShortRecord));
        check(&record(0, 0, 0, b"")[..55], Err(Drop::ShortRecord));
        let mut unknown = record(0, 0, 0, b"");
        unknown[0] = 99;
        check(&unknown, Err(Drop::UnknownKind));
    }
}
