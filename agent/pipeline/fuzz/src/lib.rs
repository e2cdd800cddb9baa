//! What is fuzzed, as plain functions of bytes: cargo-fuzz calls them, and so does an ordinary test
//! (`tests/pipeline/fuzz.rs`), which needs no nightly compiler. Each asserts more than that nothing panics.

use agent_common::capture::CaptureMode;
use agent_common::event::{
    ConnClosed, ConnEof, ConnError, ConnOpened, DataRecord, DatagramRecord, EventHeader, EventKind,
    FLAG_ACCEPTED, FLAG_CONNECTED, FLAG_DATAGRAM, FLAG_EGRESS, FLAG_FROM_START,
};
use agent_pipeline::request::Operation;
use agent_pipeline::span::Span;
use agent_pipeline::{Config, Pipeline, ProcessEvent, Sink, Usage};
use zerocopy::IntoBytes;

const STEP_NS: u64 = 10_000;

/// Records of any bytes: a length, then so many bytes.
pub fn record(mut data: &[u8]) {
    let mut pipeline = Pipeline::new(small());
    let mut spans = Spans::default();
    while let [len, rest @ ..] = data {
        let (record, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        pipeline.on_record(record, &mut spans);
        data = rest;
    }
    check_end(pipeline, spans);
}

/// One connection with any bytes, holes, gaps and ends: an operation, a length, so many bytes.
pub fn http1(data: &[u8]) {
    connection(data, &[]);
}

/// As [`http1`], behind the beginning of a session of PostgreSQL or MySQL.
pub fn sql(data: &[u8]) {
    const POSTGRESQL: &[(bool, &[u8])] =
        &[(true, b"\0\0\0\x12\0\x03\0\0user\0ada\0\0"), (false, b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")];
    const MYSQL: &[(bool, &[u8])] = &[
        (false, b"\x0c\0\0\0\x0a8.0.36\0\x01\0\0\0"),
        (true, b"\x25\0\0\x01\x00\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0ada\0\0"),
        (false, b"\x07\0\0\x02\0\0\0\x02\0\0\0"),
    ];
    match data.split_first() {
        Some((b'P' | 0..=0x3f, data)) => connection(data, POSTGRESQL),
        Some((_, data)) => connection(data, MYSQL),
        None => {}
    }
}

fn connection(data: &[u8], opening: &[(bool, &[u8])]) {
    let Some((&scene, mut data)) = data.split_first() else { return };
    let mut pipeline = Pipeline::new(small());
    let mut spans = Spans::default();
    let mut end = End::new(scene & 1 != 0);
    pipeline.on_record(&end.opened(scene & 2 == 0), &mut spans);
    for (request, bytes) in opening {
        end.now += STEP_NS;
        pipeline.on_record(&end.data(*request, bytes, 0, 0), &mut spans);
    }
    while let [operation, len, rest @ ..] = data {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        let request = operation & 1 != 0;
        end.now += STEP_NS;
        let record = match operation >> 1 & 15 {
            0 => end.eof(request),
            1 => end.error(u32::from(*len)),
            2 => end.closed(),
            3 => {
                end.lose(request, u64::from(*len));
                end.data(request, bytes, 0, 0)
            }
            4 => end.data(request, bytes, u64::from(*len) * 100, 0),
            5 => end.data(request, bytes, u64::from(*len), bytes.len() / 2),
            6 => {
                end.now += u64::from(*len) * 50_000_000;
                pipeline.on_tick(end.now, &mut spans);
                end.data(request, bytes, 0, 0)
            }
            7 => {
                // One byte that lies: a length, an offset, a time, a flag, a connection.
                let mut record = end.data(request, bytes, 0, 0);
                let at = usize::from(*len) % record.len().min(56);
                record[at] ^= operation | 0x80;
                record
            }
            _ => end.data(request, bytes, 0, 0),
        };
        pipeline.on_record(&record, &mut spans);
        let usage = pipeline.usage();
        assert!(usage.buffered_bytes <= 8192 && usage.requests <= 16 && usage.connections <= 4, "{usage:?}");
        data = rest;
    }
    check_end(pipeline, spans);
}

/// Datagrams of any bytes on two sockets: an operation, a length, so many bytes.
pub fn datagrams(data: &[u8]) {
    let mut pipeline = Pipeline::new(small());
    let mut spans = Spans::default();
    let mut now = STEP_NS;
    let mut data = data;
    while let [operation, len, rest @ ..] = data {
        let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        now += STEP_NS;
        let conn_id = u64::from(operation >> 1 & 1) + 1;
        let flags = if operation & 1 != 0 { FLAG_EGRESS } else { 0 };
        let header = EventHeader { kind: EventKind::DATAGRAM, flags, tgid: 1, ktime_ns: now, conn_id };
        let record = match operation >> 2 & 15 {
            0 => {
                let header = EventHeader { kind: EventKind::CONN_OPENED, flags: FLAG_DATAGRAM, ..header };
                ConnOpened { header, sock: 1, ..ConnOpened::default() }.as_bytes().to_vec()
            }
            1 => {
                let header = EventHeader { kind: EventKind::CONN_CLOSED, ..header };
                ConnClosed { header, ..ConnClosed::default() }.as_bytes().to_vec()
            }
            2 => {
                now += u64::from(*len) * 100_000_000;
                pipeline.on_tick(now, &mut spans);
                continue_with(header, bytes, 0)
            }
            3 => continue_with(header, bytes, u32::from(*len)),
            _ => continue_with(header, bytes, 0),
        };
        pipeline.on_record(&record, &mut spans);
        let usage = pipeline.usage();
        assert!(usage.requests <= 16 && usage.connections <= 4, "{usage:?}");
        data = rest;
    }
    check_end(pipeline, spans);
}

/// A datagram of which `more` bytes were not copied.
fn continue_with(header: EventHeader, bytes: &[u8], more: u32) -> Vec<u8> {
    let head_len = bytes.len() as u32;
    let record = DatagramRecord { header, len: head_len + more, head_len, ..DatagramRecord::default() };
    [record.as_bytes(), bytes].concat()
}

/// What is understood without a drop is understood in the same way when its records are cut: a length with its
/// direction, then so many bytes.
pub fn split(data: &[u8]) {
    let Some((&scene, data)) = data.split_first() else { return };
    // An answer that makes an announced body void is told by whole records.
    if data.windows(12).any(|window| window.eq_ignore_ascii_case(b"100-continue")) {
        return;
    }
    let run = |piece: usize| {
        let mut pipeline = Pipeline::new(Config::default());
        let mut spans = Spans::default();
        let mut end = End::new(scene & 1 != 0);
        pipeline.on_record(&end.opened(true), &mut spans);
        let mut data = data;
        while let [operation, len, rest @ ..] = data {
            let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
            end.now += STEP_NS;
            for piece in bytes.chunks(piece) {
                pipeline.on_record(&end.data(operation & 1 != 0, piece, 0, 0), &mut spans);
            }
            data = rest;
        }
        end.now += STEP_NS;
        pipeline.on_record(&end.closed(), &mut spans);
        pipeline.on_tick(end.now + 1_000_000_000, &mut spans);
        // After a drop or an answer that is not HTTP, only whole records can be joined again; and an answer that
        // leaves HTTP before its request is complete ends wherever the request's records are cut.
        let unclear = |fact: &String| fact.contains("InvalidResponse") || fact.contains("(Some(101)");
        let clean = pipeline.stats().drops().all(|(_, _, count)| count == 0);
        (clean && !spans.facts.iter().any(unclear), spans.facts)
    };
    let (clean, whole) = run(usize::MAX);
    if clean {
        assert_eq!(run(usize::from(scene >> 1).max(1)).1, whole);
    }
}

fn small() -> Config {
    Config { max_buffered_bytes: 8192, max_requests: 16, max_connections: 4, ..Config::default() }
}

fn check_end(mut pipeline: Pipeline, mut spans: Spans) {
    pipeline.finish(u64::MAX, &mut spans);
    assert_eq!(pipeline.usage(), Usage::default());
    assert_eq!(pipeline.stats().spans, spans.facts.len() as u64);
}

/// What the spans say.
#[derive(Debug, Default)]
struct Spans {
    facts: Vec<String>,
}

impl Sink for Spans {
    fn span(&mut self, span: &Span<'_>) {
        assert!(span.start_ktime_ns <= span.end_ktime_ns, "{span:?}");
        let about = match &span.request.operation {
            Operation::Http(http) => format!(
                "{:?} {:?}",
                http.path,
                (http.status_code, http.request_body_size, http.response_body_size)
            ),
            other => format!("{other:?}"),
        };
        let mut fact = format!(
            "{} {about} {:?} {}..{}",
            span.name(),
            span.request.error_type,
            span.start_ktime_ns,
            span.end_ktime_ns
        );
        span.attributes(&mut |name, value| fact += &format!(" {name}={value:?}"));
        self.facts.push(fact);
    }

    fn set_capture(&mut self, _conn_id: u64, _sock: u64, _mode: CaptureMode) {}

    fn process(&mut self, _event: ProcessEvent) {}

    fn thread_is_event_loop(&mut self, _tgid: u32, _tid: u32) -> bool {
        false
    }
}

/// The kernel side of one connection.
struct End {
    client: bool,
    now: u64,
    offsets: [u64; 2],
    turn: u32,
    going_out: Option<bool>,
}

impl End {
    fn new(client: bool) -> Self {
        Self { client, now: STEP_NS, offsets: [0; 2], turn: 0, going_out: None }
    }

    fn header(&self, kind: EventKind, flags: u16) -> EventHeader {
        EventHeader { kind, flags, tgid: 1, ktime_ns: self.now, conn_id: 1 }
    }

    fn opened(&self, from_start: bool) -> Vec<u8> {
        let role = if self.client { FLAG_CONNECTED } else { FLAG_ACCEPTED };
        let flags = if from_start { role | FLAG_FROM_START } else { role };
        let header = self.header(EventKind::CONN_OPENED, flags);
        ConnOpened { header, sock: 1, ..ConnOpened::default() }.as_bytes().to_vec()
    }

    /// Bytes, the last `tail` of them behind a hole.
    fn data(&mut self, request: bool, bytes: &[u8], hole: u64, tail: usize) -> Vec<u8> {
        let len = bytes.len() as u64 + hole;
        let offset = self.pass(request, len);
        let record = DataRecord {
            header: self.header(EventKind::DATA, if request == self.client { FLAG_EGRESS } else { 0 }),
            offset,
            len: len as u32,
            head_len: (bytes.len() - tail) as u32,
            tail_len: tail as u32,
            turn: self.turn,
            tid: 1,
            waits: 0,
        };
        [record.as_bytes(), bytes].concat()
    }

    fn lose(&mut self, request: bool, len: u64) {
        self.pass(request, len);
    }

    fn pass(&mut self, request: bool, len: u64) -> u64 {
        let egress = request == self.client;
        if self.going_out != Some(egress) {
            self.going_out = Some(egress);
            self.turn += 1;
        }
        let offset = &mut self.offsets[usize::from(egress)];
        *offset += len;
        *offset - len
    }

    fn eof(&self, request: bool) -> Vec<u8> {
        let flags = if request == self.client { FLAG_EGRESS } else { 0 };
        ConnEof { header: self.header(EventKind::CONN_EOF, flags), ..ConnEof::default() }.as_bytes().to_vec()
    }

    fn error(&self, errno: u32) -> Vec<u8> {
        let header = self.header(EventKind::CONN_ERROR, 0);
        ConnError { header, errno, ..ConnError::default() }.as_bytes().to_vec()
    }

    fn closed(&self) -> Vec<u8> {
        let header = self.header(EventKind::CONN_CLOSED, 0);
        ConnClosed { header, turns: self.turn, ..ConnClosed::default() }.as_bytes().to_vec()
    }
}
