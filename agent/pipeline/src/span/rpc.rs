//! Name and attributes of RPC spans. Name: `{rpc.method}`, else the system.

use super::{Span, SpanName, Value, visit_ip, visit_size, visit_text};
use crate::address::socket_ip;
use crate::request::SpanKind;
use crate::rpc_request::RpcRequest;
use crate::semconv;

pub(super) fn name(kind: SpanKind, rpc: &RpcRequest) -> SpanName<'_> {
    let known = !rpc.is_method_unknown(kind);
    SpanName { verb: rpc.method.get().filter(|_| known).unwrap_or(rpc.system.as_str()), object: None }
}

/// The status, if it alone makes the span an error.
pub(super) fn error_status(kind: SpanKind, rpc: &RpcRequest) -> Option<&'static str> {
    rpc.status().filter(|_| rpc.is_error(kind))
}

pub(super) fn attributes(span: &Span<'_>, rpc: &RpcRequest, visit: &mut impl FnMut(&'static str, Value<'_>)) {
    visit(semconv::RPC_SYSTEM_NAME, Value::Str(rpc.system.as_str()));
    if rpc.is_method_unknown(span.kind()) {
        visit(semconv::RPC_METHOD, Value::Str(semconv::OTHER));
        visit_text(semconv::RPC_METHOD_ORIGINAL, rpc.method.get(), visit);
    } else {
        visit_text(semconv::RPC_METHOD, rpc.method.get(), visit);
    }
    visit_text(semconv::RPC_RESPONSE_STATUS_CODE, rpc.status(), visit);
    if let Some(status_code) = rpc.http_status_code {
        visit(semconv::HTTP_RESPONSE_STATUS_CODE, Value::Int(i64::from(status_code)));
    }
    span.error_attribute(visit);
    match rpc.authority.host.get() {
        None => span.server_socket_attributes(visit),
        Some(host) => {
            visit(semconv::SERVER_ADDRESS, Value::Str(host));
            if let Some(port) = rpc.authority.port {
                visit(semconv::SERVER_PORT, Value::Int(i64::from(port)));
            }
        }
    }
    if span.kind() == SpanKind::Server {
        visit_ip(semconv::CLIENT_ADDRESS, socket_ip(&span.request.tuple.peer), visit);
    }
    visit_size(semconv::SKEP_RPC_REQUEST_MESSAGES, rpc.request.count, visit);
    visit_size(semconv::SKEP_RPC_REQUEST_SIZE, rpc.request.size, visit);
    visit_text(semconv::SKEP_RPC_REQUEST_COMPRESSION, rpc.request.compression.get(), visit);
    visit_size(semconv::SKEP_RPC_RESPONSE_MESSAGES, rpc.response.count, visit);
    visit_size(semconv::SKEP_RPC_RESPONSE_SIZE, rpc.response.size, visit);
    visit_text(semconv::SKEP_RPC_RESPONSE_COMPRESSION, rpc.response.compression.get(), visit);
    if rpc.headers_incomplete {
        visit(semconv::SKEP_HEADERS_INCOMPLETE, Value::Bool(true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc_request;

    #[test]
    fn names_use_methods_that_the_server_knows() {
        let mut rpc = RpcRequest::default();
        assert_eq!(name(SpanKind::Server, &rpc).to_string(), "grpc");
        rpc.set_path(b"/shop.Cart/Add");
        assert_eq!(name(SpanKind::Server, &rpc).to_string(), "shop.Cart/Add");
        rpc.status_code = Some(rpc_request::UNIMPLEMENTED);
        assert_eq!(name(SpanKind::Server, &rpc).to_string(), "grpc");
        assert_eq!(name(SpanKind::Client, &rpc).to_string(), "shop.Cart/Add");
    }
}
