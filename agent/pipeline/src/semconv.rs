//! Every OpenTelemetry name that Skep uses: semantic conventions 1.41.0, the only place where they are spelled.
//!
//! Each line of the table gives constant, name and the stability that 1.41.0 states. What is not stable may be
//! renamed by a later version; docs/semconv.md says when each one is set.

/// Version of the semantic conventions.
pub const VERSION: &str = "1.41.0";
/// Schema URL that goes with exported data.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.41.0";

/// How much a name may still change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// Will not change.
    Stable,
    /// About to be stable.
    ReleaseCandidate,
    /// May change.
    Development,
    /// Not OpenTelemetry's: ours.
    Skep,
}

/// Declares the names once: constant, name and stability stay side by side.
macro_rules! names {
    ($all:ident: $($constant:ident = $name:literal, $stability:ident;)*) => {
        $(#[doc = concat!("`", $name, "` (", stringify!($stability), ")")] pub const $constant: &str = $name;)*
        /// All names of this table with their stability, in its order.
        pub const $all: &[(&str, Stability)] = &[$(($name, Stability::$stability),)*];
    };
}

names! { NAMES:
    // Spans: HTTP.
    HTTP_REQUEST_METHOD = "http.request.method", Stable;
    HTTP_REQUEST_METHOD_ORIGINAL = "http.request.method_original", Stable;
    HTTP_RESPONSE_STATUS_CODE = "http.response.status_code", Stable;
    HTTP_ROUTE = "http.route", Stable;
    HTTP_REQUEST_BODY_SIZE = "http.request.body.size", Development;
    HTTP_RESPONSE_BODY_SIZE = "http.response.body.size", Development;
    // Spans: databases.
    DB_SYSTEM_NAME = "db.system.name", Stable;
    DB_NAMESPACE = "db.namespace", Stable;
    DB_OPERATION_NAME = "db.operation.name", Stable;
    DB_COLLECTION_NAME = "db.collection.name", Stable;
    DB_QUERY_SUMMARY = "db.query.summary", Stable;
    DB_QUERY_TEXT = "db.query.text", Stable;
    DB_RESPONSE_STATUS_CODE = "db.response.status_code", Stable;
    DB_RESPONSE_RETURNED_ROWS = "db.response.returned_rows", Development;
    DB_OPERATION_BATCH_SIZE = "db.operation.batch.size", Stable;
    // Spans: DNS.
    DNS_QUESTION_NAME = "dns.question.name", Development;
    DNS_ANSWERS = "dns.answers", Development;
    // Spans: RPC.
    RPC_SYSTEM_NAME = "rpc.system.name", ReleaseCandidate;
    RPC_METHOD = "rpc.method", ReleaseCandidate;
    RPC_METHOD_ORIGINAL = "rpc.method_original", ReleaseCandidate;
    RPC_RESPONSE_STATUS_CODE = "rpc.response.status_code", ReleaseCandidate;
    SKEP_RPC_REQUEST_MESSAGES = "skep.rpc.request.messages", Skep;
    SKEP_RPC_REQUEST_SIZE = "skep.rpc.request.size", Skep;
    SKEP_RPC_REQUEST_COMPRESSION = "skep.rpc.request.compression", Skep;
    SKEP_RPC_RESPONSE_MESSAGES = "skep.rpc.response.messages", Skep;
    SKEP_RPC_RESPONSE_SIZE = "skep.rpc.response.size", Skep;
    SKEP_RPC_RESPONSE_COMPRESSION = "skep.rpc.response.compression", Skep;
    // Spans: all protocols.
    ERROR_TYPE = "error.type", Stable;
    URL_FULL = "url.full", Stable;
    URL_PATH = "url.path", Stable;
    URL_QUERY = "url.query", Stable;
    URL_SCHEME = "url.scheme", Stable;
    SERVER_ADDRESS = "server.address", Stable;
    SERVER_PORT = "server.port", Stable;
    CLIENT_ADDRESS = "client.address", Stable;
    NETWORK_PEER_ADDRESS = "network.peer.address", Stable;
    NETWORK_PEER_PORT = "network.peer.port", Stable;
    NETWORK_PROTOCOL_VERSION = "network.protocol.version", Stable;
    NETWORK_TRANSPORT = "network.transport", Stable;
    USER_AGENT_ORIGINAL = "user_agent.original", Stable;
    SKEP_HEADERS_INCOMPLETE = "skep.headers.incomplete", Skep;
    SKEP_PARENT_RULE = "skep.parent.rule", Skep;
    // Resource.
    SERVICE_NAME = "service.name", Stable;
    SERVICE_NAMESPACE = "service.namespace", Stable;
    SERVICE_VERSION = "service.version", Stable;
    SERVICE_INSTANCE_ID = "service.instance.id", Stable;
    TELEMETRY_SDK_LANGUAGE = "telemetry.sdk.language", Stable;
    TELEMETRY_DISTRO_NAME = "telemetry.distro.name", Stable;
    TELEMETRY_DISTRO_VERSION = "telemetry.distro.version", Stable;
    HOST_NAME = "host.name", Development;
    HOST_ID = "host.id", Development;
    OS_TYPE = "os.type", Development;
    PROCESS_PID = "process.pid", Development;
    PROCESS_VPID = "process.vpid", Development;
    PROCESS_EXECUTABLE_NAME = "process.executable.name", Development;
    CONTAINER_ID = "container.id", ReleaseCandidate;
    // Metrics only.
    OTEL_METRIC_OVERFLOW = "otel.metric.overflow", Stable;
    CPU_MODE = "cpu.mode", Development;
}

names! { METRICS:
    HTTP_SERVER_REQUEST_DURATION = "http.server.request.duration", Stable;
    HTTP_SERVER_REQUEST_BODY_SIZE = "http.server.request.body.size", Development;
    HTTP_SERVER_RESPONSE_BODY_SIZE = "http.server.response.body.size", Development;
    HTTP_SERVER_ACTIVE_REQUESTS = "http.server.active_requests", Development;
    HTTP_CLIENT_REQUEST_DURATION = "http.client.request.duration", Stable;
    HTTP_CLIENT_REQUEST_BODY_SIZE = "http.client.request.body.size", Development;
    HTTP_CLIENT_RESPONSE_BODY_SIZE = "http.client.response.body.size", Development;
    DB_CLIENT_OPERATION_DURATION = "db.client.operation.duration", Stable;
    RPC_SERVER_CALL_DURATION = "rpc.server.call.duration", ReleaseCandidate;
    RPC_CLIENT_CALL_DURATION = "rpc.client.call.duration", ReleaseCandidate;
    DNS_LOOKUP_DURATION = "dns.lookup.duration", Development;
    PROCESS_CPU_TIME = "process.cpu.time", Development;
    PROCESS_MEMORY_USAGE = "process.memory.usage", Development;
    PROCESS_MEMORY_VIRTUAL = "process.memory.virtual", Development;
    PROCESS_UNIX_FILE_DESCRIPTOR_COUNT = "process.unix.file_descriptor.count", Development;
}

// Not OpenTelemetry's any more: names that Beyla 2.5 uses, for its dashboards.
/// Duration of RPC calls, at the server.
pub const BEYLA_RPC_SERVER: &str = "rpc.server.duration";
/// Duration of RPC calls, at the client.
pub const BEYLA_RPC_CLIENT: &str = "rpc.client.duration";
/// `rpc.system.name`
pub const BEYLA_RPC_SYSTEM: &str = "rpc.system";
/// `rpc.response.status_code` as a number.
pub const BEYLA_RPC_STATUS: &str = "rpc.grpc.status_code";

// Not OpenTelemetry's: the names of the metrics generator of Grafana Tempo and of its labels, for dashboards that
// expect them.
/// Duration of spans.
pub const TEMPO_LATENCY: &str = "traces_spanmetrics_latency";
/// Spans.
pub const TEMPO_CALLS: &str = "traces_spanmetrics_calls_total";
/// Requests between two services.
pub const TEMPO_EDGE_TOTAL: &str = "traces_service_graph_request_total";
/// Those of them that failed.
pub const TEMPO_EDGE_FAILED: &str = "traces_service_graph_request_failed_total";
/// Their duration, seen by the server.
pub const TEMPO_EDGE_SERVER: &str = "traces_service_graph_request_server_seconds";
/// Their duration, seen by the client.
pub const TEMPO_EDGE_CLIENT: &str = "traces_service_graph_request_client_seconds";
/// Label: `service.name`.
pub const TEMPO_SERVICE: &str = "service";
/// Label: name of the span.
pub const TEMPO_SPAN_NAME: &str = "span_name";
/// Label: kind of the span, as OTLP spells it.
pub const TEMPO_SPAN_KIND: &str = "span_kind";
/// Label: status of the span, as OTLP spells it.
pub const TEMPO_STATUS_CODE: &str = "status_code";
/// Label: who asks.
pub const TEMPO_CLIENT: &str = "client";
/// Label: who answers.
pub const TEMPO_SERVER: &str = "server";
/// Label: what the edge is, if not a request between two services that are both seen.
pub const TEMPO_CONNECTION_TYPE: &str = "connection_type";

/// `http.request.method` of a method that is not known; also `error.type` of an error that has no name.
pub const OTHER: &str = "_OTHER";
/// `{method}` in the span name of a method that is not known.
pub const HTTP: &str = "HTTP";
/// First word of the name of a DNS span.
pub const DNS: &str = "DNS";
/// What takes the place of a value that may be a secret.
pub const REDACTED: &str = "REDACTED";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_once_and_well_formed() {
        for names in [NAMES, METRICS] {
            for (index, (name, stability)) in names.iter().enumerate() {
                assert!(name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b'.')), "{name}");
                assert!(!names[..index].iter().any(|(other, _)| other == name), "{name} twice");
                assert_eq!(name.starts_with("skep."), *stability == Stability::Skep, "{name}");
            }
        }
    }

    #[test]
    fn the_page_lists_every_name() {
        let page = include_str!("../../../docs/semconv.md");
        for (name, _) in NAMES {
            assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/semconv.md");
        }
        let page = include_str!("../../../docs/metrics.md");
        for (name, _) in METRICS {
            assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/metrics.md");
        }
    }
}
