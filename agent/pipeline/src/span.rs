//! The span view of a finished request: name, kind, status and attributes by the semantic conventions.
//!
//! In: a [`Request`] after [`Request::complete`], and the ids that `context.rs` gave it. Out: a borrowed [`Span`]
//! that an exporter visits; making and visiting it allocates nothing. docs/semconv.md is the table of what is set
//! when. A new protocol adds a `…_attributes` function.

use std::fmt;
use std::net::IpAddr;

use crate::address::{IpText, decimal, socket_ip};
use crate::http_request::{Authority, HttpRequest, Method};
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

    /// Name: `{method} {route}` of servers, `{method}` of clients, `HTTP` for a method that is not known.
    pub fn name(&self) -> SpanName<'_> {
        let Operation::Http(http) = &self.request.operation;
        SpanName {
            verb: if http.method == Method::Other { semconv::HTTP } else { http.method.as_str() },
            object: http.route.get().filter(|_| self.kind() == SpanKind::Server),
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
        let Operation::Http(http) = &self.request.operation;
        match self.request.error_type {
            Some(error_type) => (Status::Error, Some(error_type.message())),
            None if is_error_status(self.kind(), http.status_code) => (Status::Error, None),
            None => (Status::Unset, None),
        }
    }

    /// Shows every attribute to `visit`, in a fixed order, none twice.
    pub fn attributes(&self, visit: &mut impl FnMut(&'static str, Value<'_>)) {
        let Operation::Http(http) = &self.request.operation;
        self.http_attributes(http, visit);
        self.network_attributes(visit);
    }

    fn http_attributes(&self, http: &HttpRequest, visit: &mut impl FnMut(&'static str, Value<'_>)) {
        let kind = self.kind();
        visit(semconv::HTTP_REQUEST_METHOD, Value::Str(http.method.as_str()));
        if http.method == Method::Other {
            visit(semconv::HTTP_REQUEST_METHOD_ORIGINAL, Value::Str(http.method_original.as_str()));
        }
        if let Some(status_code) = http.status_code {
            visit(semconv::HTTP_RESPONSE_STATUS_CODE, Value::Int(i64::from(status_code)));
        }
        match (self.request.error_type, http.status_code) {
            (Some(error_type), _) => visit(semconv::ERROR_TYPE, Value::Str(error_type.as_str())),
            (None, Some(status_code)) if is_error_status(kind, Some(status_code)) => {
                visit(semconv::ERROR_TYPE, Value::Str(decimal(status_code, &mut [0; 5])));
            }
            _ => {}
        }
        let mut scheme = http.scheme;
        if kind == SpanKind::Server {
            scheme = http.forwarded.scheme.unwrap_or(scheme);
            visit_text(semconv::HTTP_ROUTE, http.route.get(), visit);
            visit_text(semconv::URL_PATH, http.path.get(), visit);
            if http.has_query {
                visit(semconv::URL_QUERY, Value::Str(http.query.as_str()));
            }
        } else {
            visit_text(semconv::URL_FULL, http.url_full.get(), visit);
        }
        visit(semconv::URL_SCHEME, Value::Str(scheme.as_str()));

        let forwarded = &http.forwarded.authority;
        let named = kind == SpanKind::Server && !forwarded.host.is_empty();
        let authority = if named { forwarded } else { &http.authority };
        self.server_attributes(authority, scheme.default_port(), visit);
        if kind == SpanKind::Server {
            let client = http.forwarded.client.or_else(|| socket_ip(&self.request.tuple.peer));
            visit_ip(semconv::CLIENT_ADDRESS, client, visit);
        }

        visit(semconv::NETWORK_PROTOCOL_VERSION, Value::Str(http.version.as_str()));
        visit_text(semconv::USER_AGENT_ORIGINAL, http.user_agent.get(), visit);
        visit_size(semconv::HTTP_REQUEST_BODY_SIZE, http.request_body_size, visit);
        visit_size(semconv::HTTP_RESPONSE_BODY_SIZE, http.response_body_size, visit);
    }

    /// The server as the client named it, else the socket that it listens on.
    fn server_attributes(
        &self,
        authority: &Authority,
        default_port: u16,
        visit: &mut impl FnMut(&'static str, Value<'_>),
    ) {
        let unix = self.request.is_unix();
        let port = match authority.host.get() {
            Some(host) => {
                visit(semconv::SERVER_ADDRESS, Value::Str(host));
                // A name without a port means the scheme's own, but a unix socket has none.
                authority.port.or((!unix).then_some(default_port))
            }
            None => {
                let tuple = &self.request.tuple;
                let end = if self.kind() == SpanKind::Server { &tuple.local } else { &tuple.peer };
                let ip = socket_ip(end);
                visit_ip(semconv::SERVER_ADDRESS, ip, visit);
                ip.map(|_| end.port)
            }
        };
        if let Some(port) = port {
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

/// Whether a status code alone makes the span an error.
fn is_error_status(kind: SpanKind, status_code: Option<u16>) -> bool {
    let limit = if kind == SpanKind::Server { 500 } else { 400 };
    status_code.is_some_and(|status_code| status_code >= limit)
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

    #[test]
    fn status_by_kind_and_code() {
        for (kind, code, error) in [
            (SpanKind::Server, 101, false),
            (SpanKind::Server, 404, false),
            (SpanKind::Server, 499, false),
            (SpanKind::Server, 500, true),
            (SpanKind::Client, 399, false),
            (SpanKind::Client, 400, true),
            (SpanKind::Client, 999, true),
        ] {
            assert_eq!(is_error_status(kind, Some(code)), error, "{kind:?} {code}");
        }
        assert!(!is_error_status(SpanKind::Client, None));
    }
}
