//! A finished request: what was said on the wire, once, whatever the protocol.
//!
//! In: the protocol parsers fill it field by field and header by header, from untrusted bytes. Out: `span.rs`
//! turns it into a span. A [`Request`] is cleared and used again: its strings are bounded and keep their
//! allocations. A new protocol adds a variant to [`Operation`] and a struct beside [`HttpRequest`].

use agent_common::conn::ConnTuple;

use crate::text::Text;
use crate::trace_context::{TRACE_STATE_MAX, TraceContext};

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
    /// Trace context that the request itself carries.
    pub context: Option<TraceContext>,
    /// `tracestate` that goes with it.
    pub trace_state: Text<TRACE_STATE_MAX>,
    /// What was asked and answered.
    pub operation: Operation,
}

/// What kind of request it is.
#[derive(Clone, Debug)]
pub enum Operation {
    /// HTTP of any version.
    Http(HttpRequest),
}

/// An HTTP request and its response.
#[derive(Clone, Debug, Default)]
pub struct HttpRequest {
    /// Method.
    pub method: Method,
    /// The method as it was sent, if it is not a known one.
    pub method_original: Text<32>,
    /// Path of the target, as it was sent.
    pub path: Text<4096>,
    /// Query of the target without `?`, already redacted.
    pub query: Text<4096>,
    /// Scheme; over plain connections `http`.
    pub scheme: Scheme,
    /// Host and port that the request was sent to: absolute target, `:authority` or `Host`.
    pub authority: Authority,
    /// Protocol version.
    pub version: Version,
    /// Status of the final response, if there was one.
    pub status_code: Option<u16>,
    /// Payload bytes of the request, without framing; exact or absent.
    pub request_body_size: Option<u64>,
    /// Payload bytes of the response, without framing; exact or absent.
    pub response_body_size: Option<u64>,
    /// `User-Agent`
    pub user_agent: Text<512>,
    /// Low-cardinality template of the path, on servers.
    pub route: Text<256>,
}

/// A host and the port beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// Name or address, without brackets.
    pub host: Text<255>,
    /// Port, if it was written.
    pub port: Option<u16>,
}

/// Request method: those that the semantic conventions call known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// `CONNECT`
    Connect,
    /// `DELETE`
    Delete,
    /// `GET`
    #[default]
    Get,
    /// `HEAD`
    Head,
    /// `OPTIONS`
    Options,
    /// `PATCH`
    Patch,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `QUERY`
    Query,
    /// `TRACE`
    Trace,
    /// Any other.
    Other,
}

/// URL scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `http`
    #[default]
    Http,
    /// `https`
    Https,
}

/// HTTP version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2
    Http2,
    /// HTTP/3
    Http3,
}

/// Why a request did not end in order: the values of `error.type` that are not a status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorType {
    /// The peer reset the connection (ECONNRESET), or the socket was written after it (EPIPE).
    ConnectionReset,
    /// The peer closed before the exchange was complete.
    ConnectionClosed,
    /// This process closed before the exchange was complete.
    Canceled,
    /// The kernel gave up waiting for the peer (ETIMEDOUT).
    Timeout,
    /// This process ended before the exchange was complete.
    ProcessExit,
    /// The peer's answer is not HTTP.
    InvalidResponse,
    /// Another errno.
    Other,
}

impl Default for Operation {
    fn default() -> Self {
        Self::Http(HttpRequest::default())
    }
}
