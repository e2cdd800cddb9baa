//! Name and attributes of HTTP spans. Name: `{method} {route}` of servers, `{method}` of clients, `HTTP` for a
//! method that is not known.

use super::{Span, SpanName, Value, visit_ip, visit_size, visit_text};
use crate::address::socket_ip;
use crate::http_request::{Authority, HttpRequest, Method};
use crate::request::SpanKind;
use crate::semconv;

pub(super) fn name(kind: SpanKind, http: &HttpRequest) -> SpanName<'_> {
    SpanName {
        verb: if http.method == Method::Other { semconv::HTTP } else { http.method.as_str() },
        object: http.route.get().filter(|_| kind == SpanKind::Server),
    }
}

/// The status code, if it alone makes the span an error.
#[inline]
pub(super) fn error_status(kind: SpanKind, http: &HttpRequest) -> Option<u16> {
    let limit = if kind == SpanKind::Server { 500 } else { 400 };
    http.status_code.filter(|&status_code| status_code >= limit)
}

pub(super) fn attributes(
    span: &Span<'_>,
    http: &HttpRequest,
    visit: &mut impl FnMut(&'static str, Value<'_>),
) {
    let kind = span.kind();
    visit(semconv::HTTP_REQUEST_METHOD, Value::Str(http.method.as_str()));
    if http.method == Method::Other {
        visit_text(semconv::HTTP_REQUEST_METHOD_ORIGINAL, http.method_original.get(), visit);
    }
    if let Some(status_code) = http.status_code {
        visit(semconv::HTTP_RESPONSE_STATUS_CODE, Value::Int(i64::from(status_code)));
    }
    span.error_attribute(visit);
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
    server_attributes(span, authority, scheme.default_port(), visit);
    if kind == SpanKind::Server {
        let client = http.forwarded.client.or_else(|| socket_ip(&span.request.tuple.peer));
        visit_ip(semconv::CLIENT_ADDRESS, client, visit);
    }

    visit(semconv::NETWORK_PROTOCOL_VERSION, Value::Str(http.version.as_str()));
    visit_text(semconv::USER_AGENT_ORIGINAL, http.user_agent.get(), visit);
    visit_size(semconv::HTTP_REQUEST_BODY_SIZE, http.request_body_size, visit);
    visit_size(semconv::HTTP_RESPONSE_BODY_SIZE, http.response_body_size, visit);
    if http.headers_incomplete {
        visit(semconv::SKEP_HEADERS_INCOMPLETE, Value::Bool(true));
    }
}

/// The server as the client named it, else the socket that it listens on.
fn server_attributes(
    span: &Span<'_>,
    authority: &Authority,
    default_port: u16,
    visit: &mut impl FnMut(&'static str, Value<'_>),
) {
    let Some(host) = authority.host.get() else { return span.server_socket_attributes(visit) };
    visit(semconv::SERVER_ADDRESS, Value::Str(host));
    // A name without a port means the scheme's own, but a unix socket has none.
    if let Some(port) = authority.port.or((!span.request.is_unix()).then_some(default_port)) {
        visit(semconv::SERVER_PORT, Value::Int(i64::from(port)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_by_kind_and_code() {
        for (kind, code, error) in [
            (SpanKind::Server, Some(101), false),
            (SpanKind::Server, Some(404), false),
            (SpanKind::Server, Some(499), false),
            (SpanKind::Server, Some(500), true),
            (SpanKind::Client, Some(399), false),
            (SpanKind::Client, Some(400), true),
            (SpanKind::Client, Some(999), true),
            (SpanKind::Client, None, false),
        ] {
            let http = HttpRequest { status_code: code, ..HttpRequest::default() };
            assert_eq!(error_status(kind, &http).is_some(), error, "{kind:?} {code:?}");
        }
    }
}
