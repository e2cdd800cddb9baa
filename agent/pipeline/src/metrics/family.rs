//! The table of instruments: for each kind of operation and end, which attributes tell its series apart and which
//! instruments they have.
//!
//! In: a finished span. Out: what each row of a table takes from it. All instruments of a family share their
//! attributes, so that one look-up serves them all. A new kind of operation is one row in [`SEMCONV`] (and in
//! [`BEYLA`], if Beyla 2.5 has metrics of it). Attributes are those that the conventions require or recommend, but
//! for those whose values clients choose freely (`server.address` of servers).

use crate::address::{IpText, socket_ip};
use crate::db_request::DbRequest;
use crate::http_request::{Authority, HttpRequest, Version};
use crate::metrics::key::Key;
use crate::request::{Operation, OperationKind, SpanKind};
use crate::rpc_request::RpcRequest;
use crate::semconv;
use crate::span::{Span, Status};

/// Instruments that share their attributes.
#[derive(Debug)]
pub struct Family {
    /// Which spans it is about: kind of operation and end.
    pub(crate) of: Of,
    /// What tells series apart, in the order of the key.
    pub attributes: &'static [Attribute],
    /// Attributes of the resource that each series repeats: name in the series, name in the resource.
    pub resource_attributes: &'static [(&'static str, &'static str)],
    /// What is measured.
    pub instruments: &'static [Instrument],
}

/// Which spans a family is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Finished operations of this kind, seen at this end.
    Spans(OperationKind, SpanKind),
    /// HTTP requests that servers work on.
    ActiveRequests,
    /// Every span.
    AllSpans,
    /// Pairs of a client's and a server's span.
    Edges,
}

/// One attribute of a family.
#[derive(Debug)]
pub struct Attribute {
    /// Name.
    pub name: &'static str,
    /// Appends its value, or that there is none, to a key.
    pub(crate) write: fn(&Span<'_>, &mut Key),
}

/// One instrument.
#[derive(Debug)]
pub struct Instrument {
    /// Name.
    pub name: &'static str,
    /// Name in Prometheus, where it does not follow from name and unit.
    pub prometheus_name: Option<&'static str>,
    /// Unit, in UCUM.
    pub unit: &'static str,
    /// What it is.
    pub description: &'static str,
    /// What is kept of the values.
    pub shape: Shape,
    /// The value that a span gives, if it gives one.
    pub(crate) value: fn(&Span<'_>) -> Option<f64>,
}

/// What is kept of an instrument's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A histogram.
    Histogram(Bounds),
    /// A sum that only grows.
    Counter,
    /// A number that goes up and down and adds up over series.
    UpDownCounter,
}

/// Which bounds a histogram's explicit buckets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// Of HTTP and RPC calls and name look-ups.
    Duration,
    /// Of database operations.
    DbDuration,
    /// Of bodies.
    Size,
    /// Of Tempo's span metrics.
    SpanLatency,
    /// Of Tempo's service graphs.
    EdgeLatency,
}

impl Bounds {
    /// The semantic conventions' bounds; for sizes they name none, so these are powers of four.
    pub(crate) fn semconv(self) -> &'static [f64] {
        match self {
            Self::Duration => {
                &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
            }
            Self::DbDuration => &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0],
            Self::Size => &[
                0.0,
                64.0,
                256.0,
                1024.0,
                4096.0,
                16_384.0,
                65_536.0,
                262_144.0,
                1_048_576.0,
                4_194_304.0,
                16_777_216.0,
            ],
            Self::SpanLatency => &[
                0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192,
                16.384,
            ],
            Self::EdgeLatency => &[0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8],
        }
    }

    /// Beyla 2.5's bounds.
    pub(crate) fn beyla(self) -> &'static [f64] {
        match self {
            Self::Duration | Self::DbDuration => {
                &[0.0, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
            }
            Self::Size => &[0.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0],
            Self::SpanLatency | Self::EdgeLatency => self.semconv(),
        }
    }
}

macro_rules! attributes {
    ($($name:expr => $write:expr,)*) => { &[$(Attribute { name: $name, write: $write },)*] };
}

/// Duration in seconds as the only instrument: name and buckets differ.
macro_rules! duration {
    ($name:expr, $bounds:ident, $description:literal) => {
        Instrument {
            name: $name,
            prometheus_name: None,
            unit: "s",
            description: $description,
            shape: Shape::Histogram(Bounds::$bounds),
            value: |span| Some(duration_s(span)),
        }
    };
}

macro_rules! size {
    ($name:expr, $field:ident, $description:literal) => {
        Instrument {
            name: $name,
            prometheus_name: None,
            unit: "By",
            description: $description,
            shape: Shape::Histogram(Bounds::Size),
            value: |span| http(span).and_then(|http| http.$field).map(|size| size as f64),
        }
    };
}

const HTTP_SERVER_INSTRUMENTS: &[Instrument] = &[
    duration!(semconv::HTTP_SERVER_REQUEST_DURATION, Duration, "Duration of HTTP server requests."),
    size!(semconv::HTTP_SERVER_REQUEST_BODY_SIZE, request_body_size, "Size of HTTP server request bodies."),
    size!(
        semconv::HTTP_SERVER_RESPONSE_BODY_SIZE,
        response_body_size,
        "Size of HTTP server response bodies."
    ),
];
const HTTP_CLIENT_INSTRUMENTS: &[Instrument] = &[
    duration!(semconv::HTTP_CLIENT_REQUEST_DURATION, Duration, "Duration of HTTP client requests."),
    size!(semconv::HTTP_CLIENT_REQUEST_BODY_SIZE, request_body_size, "Size of HTTP client request bodies."),
    size!(
        semconv::HTTP_CLIENT_RESPONSE_BODY_SIZE,
        response_body_size,
        "Size of HTTP client response bodies."
    ),
];
const RPC_SERVER_INSTRUMENTS: &[Instrument] =
    &[duration!(semconv::RPC_SERVER_CALL_DURATION, Duration, "Duration of incoming RPC calls.")];
const RPC_CLIENT_INSTRUMENTS: &[Instrument] =
    &[duration!(semconv::RPC_CLIENT_CALL_DURATION, Duration, "Duration of outgoing RPC calls.")];
const DB_INSTRUMENTS: &[Instrument] = &[duration!(
    semconv::DB_CLIENT_OPERATION_DURATION,
    DbDuration,
    "Duration of database client operations."
)];
const DNS_INSTRUMENTS: &[Instrument] =
    &[duration!(semconv::DNS_LOOKUP_DURATION, Duration, "Time taken to perform a DNS lookup.")];

/// HTTP requests that servers work on: counted when somebody asks.
pub(crate) const ACTIVE_REQUESTS: Family = Family {
    of: Of::ActiveRequests,
    attributes: attributes! {
        semconv::HTTP_REQUEST_METHOD => method,
        semconv::URL_SCHEME => scheme,
    },
    resource_attributes: &[],
    instruments: &[Instrument {
        name: semconv::HTTP_SERVER_ACTIVE_REQUESTS,
        prometheus_name: None,
        unit: "{request}",
        description: "Number of active HTTP server requests.",
        shape: Shape::UpDownCounter,
        value: |_| None,
    }],
};

/// By the semantic conventions.
pub(crate) const SEMCONV: &[Family] = &[
    Family {
        of: Of::Spans(OperationKind::Http, SpanKind::Server),
        attributes: attributes! {
            semconv::HTTP_REQUEST_METHOD => method,
            semconv::HTTP_RESPONSE_STATUS_CODE => status_code,
            semconv::ERROR_TYPE => error_type,
            semconv::HTTP_ROUTE => route,
            semconv::URL_SCHEME => scheme,
            semconv::NETWORK_PROTOCOL_VERSION => protocol_version,
        },
        resource_attributes: &[],
        instruments: HTTP_SERVER_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Http, SpanKind::Client),
        attributes: attributes! {
            semconv::HTTP_REQUEST_METHOD => method,
            semconv::HTTP_RESPONSE_STATUS_CODE => status_code,
            semconv::ERROR_TYPE => error_type,
            semconv::SERVER_ADDRESS => server_address,
            semconv::SERVER_PORT => server_port,
            semconv::URL_SCHEME => scheme,
            semconv::NETWORK_PROTOCOL_VERSION => protocol_version,
        },
        resource_attributes: &[],
        instruments: HTTP_CLIENT_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Rpc, SpanKind::Server),
        attributes: attributes! {
            semconv::RPC_SYSTEM_NAME => rpc_system,
            semconv::RPC_METHOD => rpc_method,
            semconv::RPC_RESPONSE_STATUS_CODE => rpc_status,
            semconv::ERROR_TYPE => error_type,
        },
        resource_attributes: &[],
        instruments: RPC_SERVER_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Rpc, SpanKind::Client),
        attributes: attributes! {
            semconv::RPC_SYSTEM_NAME => rpc_system,
            semconv::RPC_METHOD => rpc_method,
            semconv::RPC_RESPONSE_STATUS_CODE => rpc_status,
            semconv::ERROR_TYPE => error_type,
            semconv::SERVER_ADDRESS => server_address,
            semconv::SERVER_PORT => server_port,
        },
        resource_attributes: &[],
        instruments: RPC_CLIENT_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Db, SpanKind::Client),
        attributes: attributes! {
            semconv::DB_SYSTEM_NAME => db_system,
            semconv::DB_NAMESPACE => |span, key| key.text(db(span).and_then(|db| db.namespace.get())),
            semconv::DB_OPERATION_NAME => db_operation,
            semconv::DB_COLLECTION_NAME => |span, key| key.text(db(span).and_then(|db| db.collection_name.get())),
            semconv::DB_RESPONSE_STATUS_CODE =>
                |span, key| key.text(db(span).and_then(|db| db.response_status_code.get())),
            semconv::ERROR_TYPE => error_type,
            semconv::SERVER_ADDRESS => server_address,
            semconv::SERVER_PORT => server_port,
        },
        resource_attributes: &[],
        instruments: DB_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Dns, SpanKind::Client),
        attributes: attributes! {
            semconv::DNS_QUESTION_NAME => dns_question,
            semconv::ERROR_TYPE => error_type,
        },
        resource_attributes: &[],
        instruments: DNS_INSTRUMENTS,
    },
];

/// As dashboards for Beyla 2.5 expect them.
pub(crate) const BEYLA: &[Family] = &[
    Family {
        of: Of::Spans(OperationKind::Http, SpanKind::Server),
        attributes: BEYLA_HTTP,
        resource_attributes: BEYLA_RESOURCE,
        instruments: HTTP_SERVER_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Http, SpanKind::Client),
        attributes: BEYLA_HTTP,
        resource_attributes: BEYLA_RESOURCE,
        instruments: HTTP_CLIENT_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Rpc, SpanKind::Server),
        attributes: attributes! {
            semconv::RPC_METHOD => rpc_method,
            semconv::BEYLA_RPC_SYSTEM => rpc_system,
            semconv::BEYLA_RPC_STATUS => beyla_rpc_status,
            semconv::SERVER_ADDRESS => server_address,
            semconv::SERVER_PORT => server_port,
        },
        resource_attributes: BEYLA_RESOURCE,
        instruments: &[duration!(semconv::BEYLA_RPC_SERVER, Duration, "Duration of incoming RPC calls.")],
    },
    Family {
        of: Of::Spans(OperationKind::Rpc, SpanKind::Client),
        attributes: attributes! {
            semconv::RPC_METHOD => rpc_method,
            semconv::BEYLA_RPC_SYSTEM => rpc_system,
            semconv::BEYLA_RPC_STATUS => beyla_rpc_status,
            semconv::SERVER_ADDRESS => server_address,
        },
        resource_attributes: BEYLA_RESOURCE,
        instruments: &[duration!(semconv::BEYLA_RPC_CLIENT, Duration, "Duration of outgoing RPC calls.")],
    },
    Family {
        of: Of::Spans(OperationKind::Db, SpanKind::Client),
        attributes: attributes! {
            semconv::DB_OPERATION_NAME => db_operation,
            semconv::DB_SYSTEM_NAME => db_system,
            semconv::ERROR_TYPE => error_type,
        },
        resource_attributes: BEYLA_RESOURCE,
        instruments: DB_INSTRUMENTS,
    },
    Family {
        of: Of::Spans(OperationKind::Dns, SpanKind::Client),
        attributes: attributes! {
            semconv::DNS_QUESTION_NAME => dns_question,
            semconv::ERROR_TYPE => error_type,
        },
        resource_attributes: BEYLA_RESOURCE,
        instruments: DNS_INSTRUMENTS,
    },
];

/// Beyla repeats them in each series.
const BEYLA_RESOURCE: &[(&str, &str)] = &[
    (semconv::SERVICE_NAME, semconv::SERVICE_NAME),
    (semconv::SERVICE_NAMESPACE, semconv::SERVICE_NAMESPACE),
];
const BEYLA_HTTP: &[Attribute] = attributes! {
    semconv::HTTP_REQUEST_METHOD => method,
    semconv::HTTP_RESPONSE_STATUS_CODE => status_code,
    semconv::HTTP_ROUTE => route,
    semconv::SERVER_ADDRESS => server_address,
    semconv::SERVER_PORT => server_port,
};

/// The span metrics of Tempo's metrics generator.
pub(crate) const SPAN_METRICS: Family = Family {
    of: Of::AllSpans,
    attributes: attributes! {
        semconv::TEMPO_SPAN_NAME => |span, key| {
            let (verb, object) = span.name().parts();
            key.joined(verb, object);
        },
        semconv::TEMPO_SPAN_KIND => |span, key| key.text(Some(match span.kind() {
            SpanKind::Internal => "SPAN_KIND_INTERNAL",
            SpanKind::Server => "SPAN_KIND_SERVER",
            SpanKind::Client => "SPAN_KIND_CLIENT",
            SpanKind::Producer => "SPAN_KIND_PRODUCER",
            SpanKind::Consumer => "SPAN_KIND_CONSUMER",
        })),
        semconv::TEMPO_STATUS_CODE => |span, key| key.text(Some(match span.status().0 {
            Status::Unset => "STATUS_CODE_UNSET",
            Status::Ok => "STATUS_CODE_OK",
            Status::Error => "STATUS_CODE_ERROR",
        })),
    },
    resource_attributes: &[(semconv::TEMPO_SERVICE, semconv::SERVICE_NAME)],
    instruments: &[
        Instrument {
            name: semconv::TEMPO_LATENCY,
            prometheus_name: Some(semconv::TEMPO_LATENCY),
            unit: "s",
            description: "Duration of spans.",
            shape: Shape::Histogram(Bounds::SpanLatency),
            value: |span| Some(duration_s(span)),
        },
        Instrument {
            name: semconv::TEMPO_CALLS,
            prometheus_name: Some(semconv::TEMPO_CALLS),
            unit: "",
            description: "Spans.",
            shape: Shape::Counter,
            value: |_| Some(1.0),
        },
    ],
};

/// The service graph of Tempo's metrics generator: what an edge gives is recorded by `graph.rs`, in this order.
pub(crate) const SERVICE_GRAPH: Family = Family {
    of: Of::Edges,
    attributes: attributes! {
        semconv::TEMPO_CLIENT => |_, key| key.text(None),
        semconv::TEMPO_SERVER => |_, key| key.text(None),
        semconv::TEMPO_CONNECTION_TYPE => |_, key| key.text(None),
    },
    resource_attributes: &[],
    instruments: &[
        edge(
            semconv::TEMPO_EDGE_SERVER,
            "s",
            "Duration of requests between two services, seen by the server.",
            Shape::Histogram(Bounds::EdgeLatency),
        ),
        edge(
            semconv::TEMPO_EDGE_CLIENT,
            "s",
            "Duration of requests between two services, seen by the client.",
            Shape::Histogram(Bounds::EdgeLatency),
        ),
        edge(semconv::TEMPO_EDGE_TOTAL, "", "Requests between two services.", Shape::Counter),
        edge(semconv::TEMPO_EDGE_FAILED, "", "Requests between two services that failed.", Shape::Counter),
    ],
};

const fn edge(name: &'static str, unit: &'static str, description: &'static str, shape: Shape) -> Instrument {
    Instrument { name, prometheus_name: Some(name), unit, description, shape, value: |_| None }
}

/// Duration of a span in seconds.
pub(crate) fn duration_s(span: &Span<'_>) -> f64 {
    span.end_ktime_ns.saturating_sub(span.start_ktime_ns) as f64 / 1e9
}

fn http<'a>(span: &Span<'a>) -> Option<&'a HttpRequest> {
    match &span.request.operation {
        Operation::Http(http) => Some(http),
        _ => None,
    }
}

fn db<'a>(span: &Span<'a>) -> Option<&'a DbRequest> {
    match &span.request.operation {
        Operation::Db(db) => Some(db),
        _ => None,
    }
}

fn rpc<'a>(span: &Span<'a>) -> Option<&'a RpcRequest> {
    match &span.request.operation {
        Operation::Rpc(rpc) => Some(rpc),
        _ => None,
    }
}

fn method(span: &Span<'_>, key: &mut Key) {
    key.text(http(span).map(|http| http.method.as_str()));
}

fn status_code(span: &Span<'_>, key: &mut Key) {
    key.int(http(span).and_then(|http| http.status_code).map(i64::from));
}

fn error_type(span: &Span<'_>, key: &mut Key) {
    key.text(span.error_type(&mut [0; 5]));
}

fn route(span: &Span<'_>, key: &mut Key) {
    key.text(http(span).and_then(|http| http.route.get()));
}

fn scheme(span: &Span<'_>, key: &mut Key) {
    key.text(http(span).map(|http| match span.kind() {
        SpanKind::Server => http.forwarded.scheme.unwrap_or(http.scheme).as_str(),
        _ => http.scheme.as_str(),
    }));
}

fn protocol_version(span: &Span<'_>, key: &mut Key) {
    key.text(http(span).map(|http| Version::as_str(http.version)));
}

fn db_system(span: &Span<'_>, key: &mut Key) {
    key.text(db(span).map(|db| db.system.as_str()));
}

fn db_operation(span: &Span<'_>, key: &mut Key) {
    key.text(db(span).and_then(|db| db.operation_name.get()));
}

fn rpc_system(span: &Span<'_>, key: &mut Key) {
    key.text(rpc(span).map(|rpc| rpc.system.as_str()));
}

/// A method that the server does not know is one of those that callers make up.
fn rpc_method(span: &Span<'_>, key: &mut Key) {
    key.text(rpc(span).and_then(|rpc| match rpc.is_method_unknown(span.kind()) {
        true => Some(semconv::OTHER),
        false => rpc.method.get(),
    }));
}

fn rpc_status(span: &Span<'_>, key: &mut Key) {
    key.text(rpc(span).and_then(RpcRequest::status));
}

/// Beyla gives the number.
fn beyla_rpc_status(span: &Span<'_>, key: &mut Key) {
    key.int(rpc(span).and_then(|rpc| rpc.status_code).map(i64::from));
}

fn dns_question(span: &Span<'_>, key: &mut Key) {
    key.text(match &span.request.operation {
        Operation::Dns(dns) => dns.question_name.get(),
        _ => None,
    });
}

/// Host and port that a request was sent to, as its span has them.
fn authority<'a>(span: &Span<'a>) -> Option<(&'a str, Option<u16>)> {
    if let Some(Authority { host, port }) = rpc(span).map(|rpc| &rpc.authority) {
        return Some((host.get()?, *port));
    }
    let http = http(span)?;
    let is_server = span.kind() == SpanKind::Server;
    let forwarded = &http.forwarded.authority;
    let Authority { host, port } =
        if is_server && !forwarded.host.is_empty() { forwarded } else { &http.authority };
    let scheme = http.forwarded.scheme.filter(|_| is_server).unwrap_or(http.scheme);
    Some((host.get()?, port.or((!span.request.is_unix()).then_some(scheme.default_port()))))
}

fn server_address(span: &Span<'_>, key: &mut Key) {
    match (authority(span), socket_ip(span.server_end())) {
        (Some((host, _)), _) => key.text(Some(host)),
        (None, Some(ip)) => key.text(Some(IpText::default().set(ip))),
        (None, None) => key.text(None),
    }
}

/// The server as a client's span names it, for people: the host, else the socket address, else the database.
pub(crate) fn server_name(span: &Span<'_>, name: &mut String) {
    name.clear();
    if let Some((host, _)) = authority(span) {
        name.push_str(host);
    } else if let Some(ip) = socket_ip(span.server_end()) {
        name.push_str(IpText::default().set(ip));
        if span.server_end().port != 0 {
            name.push(':');
            name.push_str(crate::address::decimal(span.server_end().port, &mut [0; 5]));
        }
    } else if let Some(db) = db(span) {
        name.push_str(db.namespace.get().unwrap_or(db.system.as_str()));
    }
}

fn server_port(span: &Span<'_>, key: &mut Key) {
    let port = match authority(span) {
        Some((_, port)) => port,
        None => socket_ip(span.server_end()).map(|_| span.server_end().port),
    };
    key.int(port.map(i64::from));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_used_once_and_bounds_grow() {
        let extra = [ACTIVE_REQUESTS, SPAN_METRICS, SERVICE_GRAPH];
        for table in [SEMCONV, BEYLA] {
            let mut names: Vec<&str> =
                table.iter().chain(&extra).flat_map(|family| family.instruments).map(|i| i.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
            for instrument in table.iter().chain(&extra).flat_map(|family| family.instruments) {
                let Shape::Histogram(bounds) = instrument.shape else { continue };
                assert!(bounds.semconv().is_sorted() && bounds.beyla().is_sorted());
            }
        }
    }

    #[test]
    fn attributes_of_a_family_are_told_apart() {
        for family in SEMCONV.iter().chain(BEYLA).chain([&ACTIVE_REQUESTS, &SPAN_METRICS, &SERVICE_GRAPH]) {
            for (index, attribute) in family.attributes.iter().enumerate() {
                assert!(!family.attributes[..index].iter().any(|other| other.name == attribute.name));
            }
        }
    }
}
