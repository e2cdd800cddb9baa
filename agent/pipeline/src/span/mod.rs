//! The span view of a finished request: name, kind, status and attributes by the semantic conventions.
//!
//! In: a [`Request`] after [`Request::complete`], and the ids that `context.rs` gave it. Out: a borrowed [`Span`]
//! that an exporter visits; making and visiting it allocates nothing. docs/semconv.md is the table of what is set
//! when. A new kind of operation is a file beside this one with its name and attributes.

mod db;
mod dns;
mod http;
mod rpc;

use std::fmt;
use std::net::IpAddr;

use agent_common::conn::SockAddr;

use crate::address::{IpText, decimal, socket_ip};
use crate::request::{Operation, Request, SpanKind};
use crate::semconv;

/// Status of a span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// Nothing to say.
    #[default]
    Unset,
    /// Explicitly good; the pipeline never sets it.
    Ok,
    /// Failed.
    Error,
}

/// Which rule gave the span its parent (`skep.parent.rule`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ParentRule {
    /// No parent: a root, or not certain.
    #[default]
    None,
    /// The request's own trace headers name it.
    Header,
    /// An open server request of the process came with the same header, which was passed through.
    PassedThrough,
    /// The thread had exactly one open server request.
    Thread,
    /// The client end of the same connection and stream offset.
    ClientEnd,
}

impl ParentRule {
    /// The value of `skep.parent.rule`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Header => "header",
            Self::PassedThrough => "passed_through",
            Self::Thread => "thread",
            Self::ClientEnd => "client_end",
        }
    }
}

/// Another span that has to do with this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Its trace.
    pub trace_id: [u8; 16],
    /// Its id.
    pub span_id: [u8; 8],
    /// W3C trace flags.
    pub flags: u8,
}

/// One attribute value, borrowed for the visit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// Text.
    Str(&'a str),
    /// Integer.
    Int(i64),
    /// Floating point.
    Double(f64),
    /// Truth.
    Bool(bool),
    /// List of texts.
    StrArray(&'a [&'a str]),
}

/// A finished span, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Trace.
    pub trace_id: [u8; 16],
    /// This span.
    pub span_id: [u8; 8],
    /// Its parent, if certain.
    pub parent_span_id: Option<[u8; 8]>,
    /// W3C trace flags.
    pub flags: u8,
    /// Trace id and flags came with a request's headers; else they are Skep's own.
    pub remote_trace: bool,
    /// W3C `tracestate`, as it came.
    pub trace_state: Option<&'a str>,
    /// CLOCK_MONOTONIC.
    pub start_ktime_ns: u64,
    /// CLOCK_MONOTONIC; never before the start.
    pub end_ktime_ns: u64,
    /// Process.
    pub tgid: u32,
    /// The request that it stands for.
    pub request: &'a Request,
    /// Which rule gave the parent.
    pub parent_rule: ParentRule,
    /// Possible relatives.
    pub links: &'a [Link],
}

/// Name of a span, to be displayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanName<'a> {
    verb: &'a str,
    object: Option<&'a str>,
}

impl<'a> SpanName<'a> {
    /// Its one or two words.
    pub(crate) fn parts(self) -> (&'a str, Option<&'a str>) {
        (self.verb, self.object)
    }
}

impl fmt::Display for SpanName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verb)?;
        match self.object {
            None => Ok(()),
            Some(object) => write!(f, " {object}"),
        }
    }
}

impl Span<'_> {
    /// Kind.
    #[inline]
    pub fn kind(&self) -> SpanKind {
        self.request.kind
    }

    /// Name, of low cardinality; each protocol's file says how it is made.
    pub fn name(&self) -> SpanName<'_> {
        match &self.request.operation {
            Operation::Http(http) => http::name(self.kind(), http),
            Operation::Db(db) => db::name(db),
            Operation::Dns(dns) => dns::name(dns),
            Operation::Rpc(rpc) => rpc::name(self.kind(), rpc),
        }
    }

    /// Appends the name.
    pub fn write_name(&self, out: &mut String) {
        let SpanName { verb, object } = self.name();
        out.push_str(verb);
        if let Some(object) = object {
            out.push(' ');
            out.push_str(object);
        }
    }

    /// Status, and a message where no attribute says what happened.
    pub fn status(&self) -> (Status, Option<&'static str>) {
        match self.request.error_type {
            Some(error_type) => (Status::Error, Some(error_type.message())),
            None if self.error_type(&mut [0; 5]).is_some() => (Status::Error, None),
            None => (Status::Unset, None),
        }
    }

    /// Shows every attribute to `visit`, in a fixed order, none twice.
    pub fn attributes(&self, visit: &mut impl FnMut(&'static str, Value<'_>)) {
        match &self.request.operation {
            Operation::Http(http) => http::attributes(self, http, visit),
            Operation::Db(db) => db::attributes(self, db, visit),
            Operation::Dns(dns) => dns::attributes(self, dns, visit),
            Operation::Rpc(rpc) => rpc::attributes(self, rpc, visit),
        }
        self.network_attributes(visit);
    }

    /// Value of `error.type`: why the request did not end in order, else what its answer says; `None` if it did not
    /// fail. `buffer` holds the digits of a status code.
    #[inline]
    pub fn error_type<'b>(&'b self, buffer: &'b mut [u8; 5]) -> Option<&'b str> {
        if let Some(error_type) = self.request.error_type {
            return Some(error_type.as_str());
        }
        match &self.request.operation {
            Operation::Http(http) => http::error_status(self.kind(), http).map(|code| decimal(code, buffer)),
            Operation::Db(db) => db.response_status_code.get(),
            Operation::Dns(dns) => dns.error_type(),
            Operation::Rpc(rpc) => rpc::error_status(self.kind(), rpc),
        }
    }

    fn error_attribute(&self, visit: &mut impl FnMut(&'static str, Value<'_>)) {
        visit_text(semconv::ERROR_TYPE, self.error_type(&mut [0; 5]), visit);
    }

    /// The socket address of the end that serves.
    pub(crate) fn server_end(&self) -> &SockAddr {
        let tuple = &self.request.tuple;
        if self.kind() == SpanKind::Server { &tuple.local } else { &tuple.peer }
    }

    /// The end that serves, as its socket address says.
    fn server_socket(&self) -> (Option<IpAddr>, u16) {
        let end = self.server_end();
        (socket_ip(end), end.port)
    }

    /// The server's socket address, for protocols whose requests do not name the server.
    fn server_socket_attributes(&self, visit: &mut impl FnMut(&'static str, Value<'_>)) {
        let (ip, port) = self.server_socket();
        visit_ip(semconv::SERVER_ADDRESS, ip, visit);
        if ip.is_some() {
            visit(semconv::SERVER_PORT, Value::Int(i64::from(port)));
        }
    }

    fn network_attributes(&self, visit: &mut impl FnMut(&'static str, Value<'_>)) {
        let peer = &self.request.tuple.peer;
        let ip = socket_ip(peer);
        visit_ip(semconv::NETWORK_PEER_ADDRESS, ip, visit);
        if ip.is_some() {
            visit(semconv::NETWORK_PEER_PORT, Value::Int(i64::from(peer.port)));
        }
        if self.request.is_unix() {
            visit(semconv::NETWORK_TRANSPORT, Value::Str("unix"));
        }
    }
}

fn visit_text(name: &'static str, text: Option<&str>, visit: &mut impl FnMut(&'static str, Value<'_>)) {
    if let Some(text) = text {
        visit(name, Value::Str(text));
    }
}

fn visit_ip(name: &'static str, ip: Option<IpAddr>, visit: &mut impl FnMut(&'static str, Value<'_>)) {
    if let Some(ip) = ip {
        visit(name, Value::Str(IpText::default().set(ip)));
    }
}

fn visit_size(name: &'static str, size: Option<u64>, visit: &mut impl FnMut(&'static str, Value<'_>)) {
    if let Some(size) = size {
        visit(name, Value::Int(i64::try_from(size).unwrap_or(i64::MAX)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http_request::Version;
    use crate::request::{AF_UNIX, ErrorType};
    use crate::route::{RouteConfig, Router};
    use agent_common::conn::{ConnTuple, SockAddr};

    fn v4(last: u8, port: u16) -> SockAddr {
        let mut addr = [0; 16];
        addr[..4].copy_from_slice(&[10, 0, 0, last]);
        SockAddr { addr, port, family: 2, reserved: 0 }
    }

    /// A request of local 10.0.0.1:8080 with peer 10.0.0.2:50000.
    fn request(kind: SpanKind, head: &str) -> Request {
        let mut request = Request { kind, ..Request::default() };
        request.tuple = ConnTuple { local: v4(1, 8080), peer: v4(2, 50000), ..ConnTuple::default() };
        let mut lines = head.lines();
        let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
        request.http_mut().set_method(method.as_bytes());
        request.http_mut().set_target(target.as_bytes(), Default::default());
        for line in lines {
            let (name, value) = line.trim_start().split_once(": ").unwrap();
            request.observe_header(name.as_bytes(), value.as_bytes());
        }
        request.http_mut().status_code = Some(200);
        request
    }

    /// Finished request → name, status, then one `name=value` a line.
    fn check(mut request: Request, expected: &str) {
        request.complete(&mut Router::new(&RouteConfig::default()));
        let span = Span {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_span_id: None,
            flags: 1,
            remote_trace: false,
            trace_state: None,
            start_ktime_ns: 0,
            end_ktime_ns: 0,
            tgid: 1,
            request: &request,
            parent_rule: ParentRule::None,
            links: &[],
        };
        let mut actual = vec![format!("{} {:?}", span.name(), span.status())];
        span.attributes(&mut |name, value| {
            assert!(semconv::NAMES.iter().any(|(known, _)| *known == name));
            actual.push(match value {
                Value::Str(text) => format!("{name}={text}"),
                Value::Int(number) => format!("{name}={number}"),
                other => format!("{name}={other:?}"),
            });
        });
        let mut name = String::new();
        span.write_name(&mut name);
        assert_eq!(name, span.name().to_string());
        let expected: Vec<&str> = expected.trim().lines().map(str::trim).collect();
        assert_eq!(actual, expected);
    }

    #[test]
    fn a_server_request() {
        let mut get = request(SpanKind::Server, "GET /users/7?q=1\nHost: shop:81\nUser-Agent: curl/8");
        get.http_mut().request_body_size = Some(0);
        get.http_mut().response_body_size = Some(12);
        check(
            get,
            "GET /users/{id} (Unset, None)
            http.request.method=GET
            http.response.status_code=200
            http.route=/users/{id}
            url.path=/users/7
            url.query=q=REDACTED
            url.scheme=http
            server.address=shop
            server.port=81
            client.address=10.0.0.2
            network.protocol.version=1.1
            user_agent.original=curl/8
            http.request.body.size=0
            http.response.body.size=12
            network.peer.address=10.0.0.2
            network.peer.port=50000",
        );
    }

    #[test]
    fn a_client_request_that_failed() {
        let mut post = request(SpanKind::Client, "POST /pay?card=4\nHost: bank.example");
        post.http_mut().status_code = Some(404);
        check(
            post,
            "POST (Error, None)
            http.request.method=POST
            http.response.status_code=404
            error.type=404
            url.full=http://bank.example/pay?card=REDACTED
            url.scheme=http
            server.address=bank.example
            server.port=80
            network.protocol.version=1.1
            network.peer.address=10.0.0.2
            network.peer.port=50000",
        );
    }

    #[test]
    fn an_aborted_request_has_no_status_code() {
        let mut brew = request(SpanKind::Server, "BREW /pot");
        brew.http_mut().status_code = None;
        brew.http_mut().version = Version::Http10;
        brew.error_type = Some(ErrorType::ConnectionReset);
        check(
            brew,
            r#"HTTP (Error, Some("connection reset by the peer"))
            http.request.method=_OTHER
            http.request.method_original=BREW
            error.type=connection_reset
            url.path=/pot
            url.scheme=http
            server.address=10.0.0.1
            server.port=8080
            client.address=10.0.0.2
            network.protocol.version=1.0
            network.peer.address=10.0.0.2
            network.peer.port=50000"#,
        );
    }

    #[test]
    fn a_request_through_a_proxy() {
        let head = "GET /\nHost: pod-7:8080\nX-Forwarded-For: 192.0.2.4, 10.0.0.2\nX-Forwarded-Proto: https
            X-Forwarded-Host: example.com\n";
        let mut get = request(SpanKind::Server, head);
        get.http_mut().status_code = Some(503);
        check(
            get,
            "GET / (Error, None)
            http.request.method=GET
            http.response.status_code=503
            error.type=503
            http.route=/
            url.path=/
            url.scheme=https
            server.address=example.com
            server.port=443
            client.address=192.0.2.4
            network.protocol.version=1.1
            network.peer.address=10.0.0.2
            network.peer.port=50000",
        );
    }

    #[test]
    fn unix_sockets_have_no_ports() {
        let mut get = request(SpanKind::Client, "GET /v1/info\nHost: docker");
        let end = SockAddr { family: AF_UNIX, ..SockAddr::default() };
        get.tuple = ConnTuple { local: end, peer: end, ..ConnTuple::default() };
        check(
            get,
            "GET (Unset, None)
            http.request.method=GET
            http.response.status_code=200
            url.full=http://docker/v1/info
            url.scheme=http
            server.address=docker
            network.protocol.version=1.1
            network.transport=unix",
        );
    }
}
