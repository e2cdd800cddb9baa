//! A finished request: what was said on the wire, once, whatever the protocol.
//!
//! In: the protocol parsers fill it field by field and header by header, from untrusted bytes. Out: `span.rs`
//! turns it into a span. A [`Request`] is cleared and used again: its strings are bounded and keep their
//! allocations. A new protocol adds a variant to [`Operation`] and a file with its struct, as `http_request.rs`.

use agent_common::conn::ConnTuple;

use crate::db_request::DbRequest;
use crate::dns_request::DnsRequest;
use crate::http_request::HttpRequest;
use crate::route::Router;
use crate::rpc_request::RpcRequest;
use crate::trace_context::{TraceContext, TraceHeaders};

/// The kernel's `AF_UNIX`.
pub const AF_UNIX: u16 = 1;

/// Which end of the request the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Neither end is remote.
    Internal,
    /// The process answers.
    #[default]
    Server,
    /// The process asks.
    Client,
    /// The process hands a message over.
    Producer,
    /// The process is handed a message.
    Consumer,
}

/// One request and its answer, or as much of them as there was.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Which end the process is.
    pub kind: SpanKind,
    /// Process.
    pub tgid: u32,
    /// Thread that moved the first byte of the request.
    pub tid: u32,
    /// Connection.
    pub conn_id: u64,
    /// Both ends; `local.family` is 0 where they are not known.
    pub tuple: ConnTuple,
    /// First byte of the request, CLOCK_MONOTONIC.
    pub start_ktime_ns: u64,
    /// Last byte of the answer, CLOCK_MONOTONIC; never before the start.
    pub end_ktime_ns: u64,
    /// Why the request did not end in order, if it did not.
    pub error_type: Option<ErrorType>,
    /// Trace headers that the request itself carries.
    pub trace_headers: TraceHeaders,
    /// What was asked and answered.
    pub operation: Operation,
}

/// What was asked and answered, by kind of request.
#[derive(Clone, Debug)]
pub enum Operation {
    /// HTTP of any version.
    Http(HttpRequest),
    /// A database.
    Db(DbRequest),
    /// A look-up of a name.
    Dns(DnsRequest),
    /// A remote procedure call.
    Rpc(RpcRequest),
}

/// Kind of a request, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// [`Operation::Http`]
    Http,
    /// [`Operation::Db`]
    Db,
    /// [`Operation::Dns`]
    Dns,
    /// [`Operation::Rpc`]
    Rpc,
}

impl OperationKind {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// An empty operation of this kind; allocates nothing.
    pub fn empty(self) -> Operation {
        match self {
            Self::Http => Operation::Http(HttpRequest::default()),
            Self::Db => Operation::Db(DbRequest::default()),
            Self::Dns => Operation::Dns(DnsRequest::default()),
            Self::Rpc => Operation::Rpc(RpcRequest::default()),
        }
    }
}

impl Operation {
    /// Which kind it is.
    #[inline]
    pub fn kind(&self) -> OperationKind {
        match self {
            Self::Http(_) => OperationKind::Http,
            Self::Db(_) => OperationKind::Db,
            Self::Dns(_) => OperationKind::Dns,
            Self::Rpc(_) => OperationKind::Rpc,
        }
    }

    /// Forgets everything but the kind and the allocations.
    #[inline]
    fn clear(&mut self) {
        match self {
            Self::Http(http) => http.clear(),
            Self::Db(db) => db.clear(),
            Self::Dns(dns) => dns.clear(),
            Self::Rpc(rpc) => rpc.clear(),
        }
    }
}

/// Why a request did not end in order: the values of `error.type` that are not a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The peer reset the connection (ECONNRESET), or it was written to after the peer had closed it (EPIPE).
    ConnectionReset,
    /// The peer closed before the exchange was complete.
    ConnectionClosed,
    /// This process closed before the exchange was complete.
    Canceled,
    /// Nobody listens there (ECONNREFUSED).
    ConnectionRefused,
    /// The peer did not answer in time: the kernel gave up (ETIMEDOUT), or the process did.
    Timeout,
    /// This process ended before the exchange was complete.
    ProcessExit,
    /// The peer's answer is not what the protocol allows.
    InvalidResponse,
    /// The server did not run it, because one before it in its batch had failed.
    Aborted,
    /// One end gave the stream up before the exchange was complete (RST_STREAM).
    StreamReset(StreamError),
    /// Something else.
    Other,
}

impl ErrorType {
    /// The value of `error.type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionReset => "connection_reset",
            Self::ConnectionClosed => "connection_closed",
            Self::ConnectionRefused => "connection_refused",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::ProcessExit => "process_exit",
            Self::InvalidResponse => "invalid_response",
            Self::Aborted => "aborted",
            Self::StreamReset(error) => error.as_str(),
            Self::Other => crate::semconv::OTHER,
        }
    }

    /// What happened, for a person: the span's status message.
    pub fn message(self) -> &'static str {
        match self {
            Self::ConnectionReset => "connection reset by the peer",
            Self::ConnectionClosed => "connection closed by the peer before the end",
            Self::ConnectionRefused => "nobody listens at the peer's address",
            Self::Canceled => "connection closed by this process before the end",
            Self::Timeout => "the peer did not answer in time",
            Self::ProcessExit => "this process ended before the end",
            Self::InvalidResponse => "the answer is not valid",
            Self::Aborted => "not run: one before it failed",
            Self::StreamReset(StreamError(8)) => "the stream was cancelled before the end",
            Self::StreamReset(_) => "the stream was reset before the end",
            Self::Other => "the connection failed",
        }
    }

    /// From the errno that a call or the socket reported; numbers as on Linux, x86-64 and arm64.
    pub fn from_errno(errno: u32) -> Self {
        match errno {
            32 | 103 | 104 => Self::ConnectionReset, // EPIPE, ECONNABORTED, ECONNRESET
            110 => Self::Timeout,                    // ETIMEDOUT
            111 => Self::ConnectionRefused,          // ECONNREFUSED
            _ => Self::Other,
        }
    }
}

/// Why a stream was given up: the error codes of HTTP/2 (RFC 9113, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamError(pub u8);

impl StreamError {
    /// A name of low cardinality.
    pub fn as_str(self) -> &'static str {
        const NAMES: [&str; 14] = [
            "no_error",
            "protocol_error",
            "internal_error",
            "flow_control_error",
            "settings_timeout",
            "stream_closed",
            "frame_size_error",
            "refused_stream",
            "canceled",
            "compression_error",
            "connect_error",
            "enhance_your_calm",
            "inadequate_security",
            "http_1_1_required",
        ];
        NAMES.get(usize::from(self.0)).copied().unwrap_or(crate::semconv::OTHER)
    }
}

impl Default for Operation {
    fn default() -> Self {
        Self::Http(HttpRequest::default())
    }
}

impl Request {
    /// Forgets everything but the allocations.
    pub fn clear(&mut self) {
        // Destructured, so that a new field cannot be forgotten here.
        let Self {
            kind,
            tgid,
            tid,
            conn_id,
            tuple,
            start_ktime_ns,
            end_ktime_ns,
            error_type,
            trace_headers,
            operation,
        } = self;
        *kind = SpanKind::default();
        (*tgid, *tid, *conn_id) = (0, 0, 0);
        *tuple = ConnTuple::default();
        (*start_ktime_ns, *end_ktime_ns) = (0, 0);
        *error_type = None;
        trace_headers.clear();
        operation.clear();
    }

    /// Makes the request one of this kind, if it is not yet.
    #[inline]
    pub fn make(&mut self, kind: OperationKind) {
        if self.operation.kind() != kind {
            self.operation = kind.empty();
        }
    }

    /// The HTTP part; makes the request an HTTP request if it is none.
    #[inline]
    pub fn http_mut(&mut self) -> &mut HttpRequest {
        self.make(OperationKind::Http);
        match &mut self.operation {
            Operation::Http(http) => http,
            _ => unreachable!("made HTTP just above"),
        }
    }

    /// The database part; makes the request a database request if it is none.
    #[inline]
    pub fn db_mut(&mut self) -> &mut DbRequest {
        self.make(OperationKind::Db);
        match &mut self.operation {
            Operation::Db(db) => db,
            _ => unreachable!("made a database request just above"),
        }
    }

    /// The DNS part; makes the request a DNS request if it is none.
    #[inline]
    pub fn dns_mut(&mut self) -> &mut DnsRequest {
        self.make(OperationKind::Dns);
        match &mut self.operation {
            Operation::Dns(dns) => dns,
            _ => unreachable!("made a DNS request just above"),
        }
    }

    /// The RPC part; makes the request a remote procedure call if it is none.
    #[inline]
    pub fn rpc_mut(&mut self) -> &mut RpcRequest {
        self.make(OperationKind::Rpc);
        match &mut self.operation {
            Operation::Rpc(rpc) => rpc,
            _ => unreachable!("made a remote procedure call just above"),
        }
    }

    /// Takes note of one request header (HTTP/1 header line, HTTP/2 field). Headers that no span needs cost a
    /// look at their first byte and length.
    #[inline]
    pub fn observe_header(&mut self, name: &[u8], value: &[u8]) {
        if !self.trace_headers.observe(name, value) {
            self.http_mut().observe_header(name, value);
        }
    }

    /// The span that the request's own trace headers name.
    pub fn context(&self) -> Option<TraceContext> {
        self.trace_headers.context()
    }

    /// Called once, when the request is finished, before its span is made: names the route of a server request
    /// and puts the URL of a client request together.
    pub fn complete(&mut self, router: &mut Router) {
        let server = (self.tgid, self.route_scope());
        match (&mut self.operation, self.kind) {
            (Operation::Http(http), SpanKind::Server) => http.find_route(server, router),
            (Operation::Http(http), _) => http.build_url_full(&self.tuple.peer),
            (Operation::Db(_) | Operation::Dns(_) | Operation::Rpc(_), _) => {}
        }
    }

    /// Whether the ends are unix sockets.
    pub fn is_unix(&self) -> bool {
        self.tuple.local.family == AF_UNIX
    }

    /// Which server learned routes belong to: the listening port, which prefork workers share; else the process.
    fn route_scope(&self) -> u64 {
        match self.tuple.local.port {
            0 => 1 << 63 | u64::from(self.tgid),
            port => u64::from(self.tuple.netns) << 16 | u64::from(port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::{RouteConfig, Router};

    #[test]
    fn clearing_leaves_nothing_behind() {
        let mut request = Request { tgid: 1, tid: 2, conn_id: 3, end_ktime_ns: 4, ..Request::default() };
        request.kind = SpanKind::Client;
        request.error_type = Some(ErrorType::Timeout);
        request.tuple.local.port = 80;
        request.observe_header(b"b3", b"00000000000000010000000000000002-0000000000000003-1");
        request.observe_header(b"host", b"example.com");
        request.http_mut().set_method(b"BREW");
        assert!(request.context().is_some());
        request.clear();
        assert_eq!(format!("{request:?}"), format!("{:?}", Request::default()));
    }

    #[test]
    fn only_servers_have_routes() {
        let mut router = Router::new(&RouteConfig::default());
        let mut check = |kind, target: &[u8], expected| {
            let mut request = Request { kind, ..Request::default() };
            request.http_mut().set_target(target, Default::default());
            request.http_mut().status_code = Some(200);
            request.complete(&mut router);
            assert_eq!(request.http_mut().route.get(), expected);
        };
        check(SpanKind::Server, b"/users/7?a=1", Some("/users/{id}"));
        check(SpanKind::Client, b"/users/7", None);
        check(SpanKind::Server, b"*", None);
    }

    #[test]
    fn an_errno_has_a_name() {
        assert_eq!(ErrorType::from_errno(104).as_str(), "connection_reset");
        assert_eq!(ErrorType::from_errno(110).as_str(), "timeout");
        assert_eq!(ErrorType::from_errno(113).as_str(), "_OTHER");
    }
}
