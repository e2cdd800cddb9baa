//! What the tests of the whole pipeline share: a stand-in for the kernel side, which makes the records of one
//! connection, and a sink that keeps what comes out as plain data.

use agent_common::capture::CaptureMode;
use agent_common::conn::{ConnTuple, SockAddr};
use agent_common::event::{
    ConnClosed, ConnEof, ConnError, ConnOpened, DataRecord, EventHeader, EventKind, FLAG_ACCEPTED,
    FLAG_CONNECTED, FLAG_EGRESS, FLAG_FROM_START,
};
use agent_pipeline::db_request::DbRequest;
use agent_pipeline::dns_request::DnsRequest;
use agent_pipeline::request::{Operation, SpanKind};
use agent_pipeline::rpc_request::{Messages, RpcRequest};
use agent_pipeline::span::{ParentRule, Span};
use agent_pipeline::{ProcessEvent, Sink};
use zerocopy::{Immutable, IntoBytes};

/// Which end the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// The kernel side's view of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) conn_id: u64,
    pub(crate) role: Role,
    pub(crate) tgid: u32,
    pub(crate) tid: u32,
    pub(crate) waits: u32,
    pub(crate) tuple: ConnTuple,
    /// Ingress, egress.
    pub(crate) offsets: [u64; 2],
    pub(crate) turn: u32,
    /// Direction of the turn.
    pub(crate) going_out: Option<bool>,
}

impl Wire {
    pub(crate) fn new(conn_id: u64, role: Role) -> Self {
        let port = 40_000 + conn_id as u16;
        let (server, client) = (address(8080), address(port));
        let (local, peer) = if role == Role::Server { (server, client) } else { (client, server) };
        let tuple = ConnTuple { local, peer, netns: 1, sock_type: 1, protocol: 6 };
        Self {
            conn_id,
            role,
            tgid: 100,
            tid: 100,
            waits: 0,
            tuple,
            offsets: [0; 2],
            turn: 0,
            going_out: None,
        }
    }

    /// Whether request bytes are egress here.
    pub(crate) fn egress(&self, request: bool) -> bool {
        (self.role == Role::Client) == request
    }

    pub(crate) fn opened(&self, ktime_ns: u64, from_start: bool) -> Vec<u8> {
        let role = if self.role == Role::Server { FLAG_ACCEPTED } else { FLAG_CONNECTED };
        let flags = if from_start { role | FLAG_FROM_START } else { 0 };
        let header = self.header(EventKind::CONN_OPENED, flags, ktime_ns);
        let [ingress_offset, egress_offset] = self.offsets;
        bytes(&ConnOpened {
            header,
            tuple: self.tuple,
            sock: self.conn_id << 8,
            ingress_offset,
            egress_offset,
        })
    }

    pub(crate) fn data(
        &mut self,
        request: bool,
        ktime_ns: u64,
        head: &[u8],
        hole: u64,
        tail: &[u8],
    ) -> Vec<u8> {
        let len = head.len() as u64 + hole + tail.len() as u64;
        self.begin_turn(self.egress(request));
        let offset = self.pass(request, len);
        let flags = if self.egress(request) { FLAG_EGRESS } else { 0 };
        let record = DataRecord {
            header: self.header(EventKind::DATA, flags, ktime_ns),
            offset,
            len: len as u32,
            head_len: head.len() as u32,
            tail_len: tail.len() as u32,
            turn: self.turn,
            tid: self.tid,
            waits: self.waits,
        };
        [record.as_bytes(), head, tail].concat()
    }

    /// Bytes that pass and whose record is lost.
    pub(crate) fn lose(&mut self, request: bool, len: u64) {
        self.begin_turn(self.egress(request));
        self.pass(request, len);
    }

    pub(crate) fn eof(&self, request: bool, ktime_ns: u64) -> Vec<u8> {
        let egress = self.egress(request);
        let header = self.header(EventKind::CONN_EOF, if egress { FLAG_EGRESS } else { 0 }, ktime_ns);
        bytes(&ConnEof { header, offset: self.offsets[usize::from(egress)] })
    }

    pub(crate) fn error(&self, errno: u32, ktime_ns: u64) -> Vec<u8> {
        bytes(&ConnError { header: self.header(EventKind::CONN_ERROR, 0, ktime_ns), errno, tid: self.tid })
    }

    pub(crate) fn closed(&self, ktime_ns: u64) -> Vec<u8> {
        let [ingress_offset, egress_offset] = self.offsets;
        let header = self.header(EventKind::CONN_CLOSED, 0, ktime_ns);
        bytes(&ConnClosed { header, ingress_offset, egress_offset, turns: self.turn, error: 0 })
    }

    pub(crate) fn exit(&self, ktime_ns: u64) -> Vec<u8> {
        bytes(&EventHeader { conn_id: 0, ..self.header(EventKind::PROCESS_EXIT, 0, ktime_ns) })
    }

    fn header(&self, kind: EventKind, flags: u16, ktime_ns: u64) -> EventHeader {
        EventHeader { kind, flags, tgid: self.tgid, ktime_ns, conn_id: self.conn_id }
    }

    fn begin_turn(&mut self, egress: bool) {
        if self.going_out != Some(egress) {
            self.going_out = Some(egress);
            self.turn += 1;
        }
    }

    fn pass(&mut self, request: bool, len: u64) -> u64 {
        let offset = &mut self.offsets[usize::from(self.egress(request))];
        *offset += len;
        *offset - len
    }
}

/// 127.0.0.1 and a port.
pub(crate) fn address(port: u16) -> SockAddr {
    let mut addr = [0; 16];
    addr[..4].copy_from_slice(&[127, 0, 0, 1]);
    SockAddr { addr, port, family: 2, reserved: 0 }
}

fn bytes(record: &(impl IntoBytes + Immutable)) -> Vec<u8> {
    record.as_bytes().to_vec()
}

/// A span as plain data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    pub(crate) parent_span_id: Option<[u8; 8]>,
    pub(crate) flags: u8,
    pub(crate) rule: ParentRule,
    pub(crate) kind: SpanKind,
    pub(crate) conn_id: u64,
    /// What was asked and answered, of what is not HTTP.
    pub(crate) operation: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) incomplete: bool,
    pub(crate) status: Option<u16>,
    pub(crate) request_size: Option<u64>,
    pub(crate) response_size: Option<u64>,
    pub(crate) error: Option<&'static str>,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

impl Seen {
    /// Everything but the ids; times in `unit_ns`.
    pub(crate) fn facts(&self, unit_ns: u64) -> String {
        use std::fmt::Write;
        let size = |size: Option<u64>| size.map_or("?".to_owned(), |size| size.to_string());
        let mut line = match &self.operation {
            Some(operation) => operation.clone(),
            None => {
                let status = self.status.map_or("-".to_owned(), |status| status.to_string());
                let sizes = format!("{}/{}", size(self.request_size), size(self.response_size));
                let incomplete = if self.incomplete { " incomplete" } else { "" };
                format!("{} {} {status} {sizes}{incomplete}", self.method, self.path)
            }
        };
        write!(line, " {}..{}", self.start_ns / unit_ns, self.end_ns / unit_ns).unwrap();
        if let Some(error) = self.error {
            write!(line, " {error}").unwrap();
        }
        line
    }
}

/// `SYSTEM [name=value …] `text``, of what is set.
fn db_facts(db: &DbRequest) -> String {
    let mut facts = db.system.as_str().to_owned();
    let number = |number: Option<u64>| number.map(|number| number.to_string());
    for (name, value) in [
        ("op", db.operation_name.get().map(str::to_owned)),
        ("on", db.collection_name.get().map(str::to_owned)),
        ("ns", db.namespace.get().map(str::to_owned)),
        ("summary", db.query_summary.get().map(str::to_owned)),
        ("code", db.response_status_code.get().map(str::to_owned)),
        ("rows", number(db.returned_rows)),
        ("batch", number(db.batch_size)),
    ] {
        if let Some(value) = value {
            facts += &format!(" {name}={}", value.replace(' ', "_"));
        }
    }
    match db.query_text.get() {
        Some(text) => facts + &format!(" `{text}`"),
        None => facts,
    }
}

/// `dns NAME [RCODE] [answers]`
fn dns_facts(dns: &DnsRequest) -> String {
    let mut facts = format!("dns {}", dns.question_name.as_str());
    if let Some(code) = dns.response_code {
        facts += &format!(" {code}");
    }
    if !dns.answers.is_empty() {
        let answers: Vec<&str> = dns.answers.iter().map(|answer| answer.as_str()).collect();
        facts += &format!(" [{}]", answers.join(" "));
    }
    facts
}

/// `rpc METHOD STATUS MESSAGES:BYTES/MESSAGES:BYTES [compression]`; `?` if unknown.
fn rpc_facts(rpc: &RpcRequest) -> String {
    let messages = |messages: &Messages| match (messages.count, messages.size) {
        (Some(count), Some(size)) => format!("{count}:{size}"),
        _ => "?".to_owned(),
    };
    let mut facts = format!(
        "rpc {} {} {}/{}",
        rpc.method.get().unwrap_or("-"),
        rpc.status().unwrap_or("-"),
        messages(&rpc.request),
        messages(&rpc.response)
    );
    for compression in [&rpc.request.compression, &rpc.response.compression] {
        if let Some(compression) = compression.get() {
            facts += &format!(" {compression}");
        }
    }
    if let Some(status_code) = rpc.http_status_code {
        facts += &format!(" http={status_code}");
    }
    facts + if rpc.headers_incomplete { " incomplete" } else { "" }
}

/// Keeps what comes out.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) spans: Vec<Seen>,
    pub(crate) captures: Vec<(u64, CaptureMode)>,
    pub(crate) events: Vec<ProcessEvent>,
    pub(crate) event_loops: bool,
}

impl Sink for Kept {
    fn span(&mut self, span: &Span<'_>) {
        let none = agent_pipeline::http_request::HttpRequest::default();
        let (http, operation) = match &span.request.operation {
            Operation::Http(http) => (http, None),
            Operation::Db(db) => (&none, Some(db_facts(db))),
            Operation::Dns(dns) => (&none, Some(dns_facts(dns))),
            Operation::Rpc(rpc) => (&none, Some(rpc_facts(rpc))),
        };
        assert!(span.start_ktime_ns <= span.end_ktime_ns, "{span:?}");
        assert!(span.trace_id != [0; 16] && span.span_id != [0; 8]);
        self.spans.push(Seen {
            trace_id: span.trace_id,
            span_id: span.span_id,
            parent_span_id: span.parent_span_id,
            flags: span.flags,
            rule: span.parent_rule,
            kind: span.kind(),
            conn_id: span.request.conn_id,
            operation,
            method: http.method_str().to_owned(),
            path: http.path.as_str().to_owned(),
            incomplete: http.headers_incomplete,
            status: http.status_code,
            request_size: http.request_body_size,
            response_size: http.response_body_size,
            error: span.request.error_type.map(|error| error.as_str()),
            start_ns: span.start_ktime_ns,
            end_ns: span.end_ktime_ns,
        });
    }

    fn set_capture(&mut self, conn_id: u64, _sock: u64, mode: CaptureMode) {
        self.captures.push((conn_id, mode));
    }

    fn process(&mut self, event: ProcessEvent) {
        self.events.push(event);
    }

    fn thread_is_event_loop(&mut self, _tgid: u32, _tid: u32) -> bool {
        self.event_loops
    }
}
