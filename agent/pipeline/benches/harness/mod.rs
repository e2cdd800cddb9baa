//! What the pipeline's benchmarks share: loads as records of a ring buffer, and the measuring of a sink that takes their
//! spans. Also a part of agent/benches/otlp.rs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_common::conn::{ConnTuple, SockAddr};
use agent_common::event::{
    ConnOpened, DataRecord, DatagramRecord, EventHeader, EventKind, FLAG_ACCEPTED, FLAG_CONNECTED,
    FLAG_DATAGRAM, FLAG_EGRESS, FLAG_FROM_START,
};
use agent_pipeline::{Config, Pipeline, Sink, ThreadContext};
use zerocopy::IntoBytes;

/// Connections that are used in turn.
const CONNECTIONS: usize = 64;
/// Requests in a batch of records: with both ends about 4 MB.
const BATCH: usize = 4096;
/// How long each line is measured, at least.
const MEASURED: Duration = Duration::from_secs(2);

const GET: &[u8] = b"GET /users/4711/orders?page=2 HTTP/1.1\r\nHost: shop.example.com:8080\r\nUser-Agent: Go-http-client/1.1\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\nContent-Length: 13\r\n\r\nHello, world!";
const POST: &[u8] = b"POST /api/v1/carts HTTP/1.1\r\nHost: shop.example.com:8080\r\nUser-Agent: python-requests/2.32.3\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nContent-Type: application/json\r\nContent-Length: 63\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n{\"item\": \"0PUK6V6EV0\", \"quantity\": 3, \"currency\": \"EUR\", \"x\":1}";
const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nServer: uvicorn\r\nDate: Mon, 23 Nov 2026 12:00:00 GMT\r\n\r\n20\r\n{\"id\": 4711, \"state\": \"created\"}\r\n0\r\n\r\n";

const REDIS_GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$16\r\nsession:00004711\r\n";
const REDIS_VALUE: &[u8] = b"$32\r\n0123456789abcdef0123456789abcdef\r\n";
const DNS_QUERY: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04shop\x07example\x03com\x00\x00\x01\x00\x01";
const DNS_ANSWER: &[u8] = b"\x12\x34\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\x04shop\x07example\x03com\x00\x00\x01\x00\x01\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x01\x02\x03";

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call goes to the system allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Which ends of the connections are seen.
#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Server,
    Both,
}

struct Load {
    protocol: &'static str,
    name: &'static str,
    request: &'static [u8],
    response: &'static [u8],
    /// Requests in a call.
    together: usize,
    seen: Seen,
}

const HTTP: Load =
    Load { protocol: "http", name: "", request: GET, response: OK, together: 1, seen: Seen::Server };
const REDIS: Load = Load { protocol: "redis", request: REDIS_GET, response: REDIS_VALUE, ..HTTP };
const DNS: Load = Load { protocol: "dns", request: DNS_QUERY, response: DNS_ANSWER, ..HTTP };

/// What takes the spans and is measured with the pipeline.
pub(crate) trait Taker: Sink {
    /// Spans taken so far.
    fn spans(&self) -> u64;
    /// The batch is over: what it made is finished.
    fn finish_batch(&mut self) {}
}

/// One end of a connection, as the kernel side knows it.
#[derive(Clone, Copy)]
struct End {
    conn_id: u64,
    client: bool,
    offsets: [u64; 2],
    turn: u32,
}

impl End {
    fn header(&self, kind: EventKind, flags: u16, ktime_ns: u64) -> EventHeader {
        EventHeader {
            kind,
            flags,
            tgid: if self.client { 300 } else { 200 },
            ktime_ns,
            conn_id: self.conn_id,
        }
    }

    /// A connected datagram socket.
    fn opened_datagram(&self) -> Vec<u8> {
        let tuple =
            ConnTuple { local: address(40_000), peer: address(53), netns: 1, sock_type: 2, protocol: 17 };
        let header = self.header(EventKind::CONN_OPENED, FLAG_DATAGRAM, 1);
        ConnOpened { header, tuple, sock: self.conn_id, ..ConnOpened::default() }.as_bytes().to_vec()
    }

    fn datagram(&self, request: bool, bytes: &[u8], ktime_ns: u64, out: &mut Records) {
        let flags = if request == self.client { FLAG_EGRESS } else { 0 };
        let len = bytes.len() as u32;
        let header = self.header(EventKind::DATAGRAM, flags, ktime_ns);
        let record = DatagramRecord { header, len, head_len: len, tid: 7, ..DatagramRecord::default() };
        out.push(&[record.as_bytes(), bytes]);
    }

    fn opened(&self) -> Vec<u8> {
        let port = 40_000 + self.conn_id as u16 / 2;
        let (server, client) = (address(8080), address(port));
        let (local, peer) = if self.client { (client, server) } else { (server, client) };
        let flags = FLAG_FROM_START | if self.client { FLAG_CONNECTED } else { FLAG_ACCEPTED };
        let opened = ConnOpened {
            header: self.header(EventKind::CONN_OPENED, flags, 1),
            tuple: ConnTuple { local, peer, netns: 1, sock_type: 1, protocol: 6 },
            sock: self.conn_id,
            ..ConnOpened::default()
        };
        opened.as_bytes().to_vec()
    }

    fn data(&mut self, request: bool, bytes: &[u8], ktime_ns: u64, out: &mut Records) {
        let egress = request == self.client;
        self.turn += 1;
        let offset = &mut self.offsets[usize::from(egress)];
        let record = DataRecord {
            offset: *offset,
            len: bytes.len() as u32,
            head_len: bytes.len() as u32,
            turn: self.turn,
            tid: 7,
            ..DataRecord::default()
        };
        *offset += bytes.len() as u64;
        let flags = if egress { FLAG_EGRESS } else { 0 };
        let record = DataRecord { header: self.header(EventKind::DATA, flags, ktime_ns), ..record };
        out.push(&[record.as_bytes(), bytes]);
    }
}

/// Records one behind the other, as in a ring buffer.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Records {
    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    fn push(&mut self, parts: &[&[u8]]) {
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.ends.push(self.bytes.len());
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
    }

    fn feed(&self, pipeline: &mut Pipeline, sink: &mut impl Sink) {
        let mut start = 0;
        for &end in &self.ends {
            pipeline.on_record(&self.bytes[start..end], sink);
            start = end.next_multiple_of(8);
        }
    }
}

/// Runs the loads of the protocols that the arguments name, else all, with a fresh taker each; prints the table.
pub(crate) fn run_all<T: Taker>(mut taker: impl FnMut() -> T) {
    let loads = [
        Load { name: "server, keep-alive GET", ..HTTP },
        Load { name: "server, POST of JSON, chunked answer", request: POST, response: CREATED, ..HTTP },
        Load { name: "client and server, keep-alive GET", seen: Seen::Both, ..HTTP },
        Load { name: "Redis server, GET", ..REDIS },
        Load { name: "Redis server, pipelines of 16", together: 16, ..REDIS },
        Load { name: "Redis, client and server, GET", seen: Seen::Both, ..REDIS },
        Load { name: "DNS client, UDP", ..DNS },
    ];
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    println!(
        "{:<38} {:>12} {:>10} {:>10} {:>10} {:>13}",
        "load", "requests/s", "ns/request", "fast tenth", "ns/span", "alloc/request"
    );
    for load in &loads {
        if wanted.is_empty() || wanted.iter().any(|protocol| protocol == load.protocol) {
            run(load, &mut taker());
        }
    }
}

fn run<T: Taker>(load: &Load, sink: &mut T) {
    let mut pipeline = Pipeline::new(Config { seed: [1, 2], ..Config::default() });
    pipeline.set_thread_context(200, ThreadContext::Threads);
    pipeline.set_thread_context(300, ThreadContext::Threads);
    let mut ends: Vec<(End, End)> = (0..CONNECTIONS as u64)
        .map(|index| {
            let end = End { conn_id: 2 * index + 2, client: false, offsets: [0; 2], turn: 0 };
            (end, End { conn_id: 2 * index + 3, client: true, ..end })
        })
        .collect();
    let datagrams = load.protocol == "dns";
    let (request, response) = (load.request.repeat(load.together), load.response.repeat(load.together));
    for (server, client) in &ends {
        if datagrams {
            pipeline.on_record(&client.opened_datagram(), sink);
            continue;
        }
        if load.seen == Seen::Both {
            pipeline.on_record(&client.opened(), sink);
        }
        pipeline.on_record(&server.opened(), sink);
    }
    let mut records = Records::default();
    let mut now = 1_000_000;
    let (mut requests, mut spent, mut allocations) = (0u64, Duration::ZERO, 0);
    let mut batches: Vec<f64> = Vec::new();
    let mut warm = false;
    while spent < MEASURED {
        records.clear();
        for index in 0..BATCH / load.together {
            let (server, client) = &mut ends[index % CONNECTIONS];
            now += 2000;
            if datagrams {
                client.datagram(true, &request, now - 1000, &mut records);
                client.datagram(false, &response, now, &mut records);
                continue;
            }
            if load.seen == Seen::Both {
                client.data(true, &request, now - 1000, &mut records);
            }
            server.data(true, &request, now - 1000, &mut records);
            server.data(false, &response, now, &mut records);
            if load.seen == Seen::Both {
                client.data(false, &response, now, &mut records);
            }
        }
        let (before, start) = (ALLOCATIONS.load(Ordering::Relaxed), cpu_time());
        records.feed(&mut pipeline, sink);
        pipeline.on_tick(now, sink);
        sink.finish_batch();
        if warm {
            let batch = cpu_time() - start;
            spent += batch;
            batches.push(batch.as_nanos() as f64 / BATCH as f64);
            allocations += ALLOCATIONS.load(Ordering::Relaxed) - before;
            requests += BATCH as u64;
        }
        warm = true;
    }
    let per_request = if load.seen == Seen::Both { 2 } else { 1 };
    let expected = (batches.len() as u64 + 1) * BATCH as u64 * per_request;
    assert_eq!(sink.spans(), expected, "{:?}", pipeline.stats());
    // A busy neighbour on the same core slows a batch down; the fastest tenth tells what the code costs.
    batches.sort_by(f64::total_cmp);
    let (median, fast) = (batches[batches.len() / 2], batches[batches.len() / 10]);
    println!(
        "{:<38} {:>12.0} {:>10.1} {:>10.1} {:>10.1} {:>13.4}",
        load.name,
        1e9 / median,
        median,
        fast,
        fast / per_request as f64,
        allocations as f64 / requests as f64
    );
}

/// CPU time of this thread: what other programs on the machine do does not count.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is valid for the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "clock_gettime");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn address(port: u16) -> SockAddr {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&[127, 0, 0, 1]);
    SockAddr { addr, port, family: 2, reserved: 0 }
}
