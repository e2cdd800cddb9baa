//! The RPC part of a request: which method was called, how the call ended, and the messages of both directions.
//!
//! In: fields from the parsers of gRPC and gRPC-Web. Out: fields that are clean and bounded. Messages are counted and
//! measured, never kept.

use crate::http_request::Authority;
use crate::request::SpanKind;
use crate::text::Text;

/// A remote procedure call.
#[derive(Clone, Debug, Default)]
pub struct RpcRequest {
    /// Which framework it is (`rpc.system.name`).
    pub system: RpcSystem,
    /// Fully-qualified method, `package.Service/Method`; empty if it is not known.
    pub method: Text<512>,
    /// Host and port that the call was sent to.
    pub authority: Authority,
    /// How the call ended, if that was said or follows from how it was broken off.
    pub status_code: Option<u16>,
    /// Status of the HTTP response, if the call ended without a status of its own.
    pub http_status_code: Option<u16>,
    /// What the caller sent.
    pub request: Messages,
    /// What the callee sent.
    pub response: Messages,
    /// Headers that were sent before the connection was seen are missing.
    pub headers_incomplete: bool,
}

/// Messages of one direction of a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// How many; exact or absent.
    pub count: Option<u64>,
    /// Their bytes as sent, without framing; exact or absent.
    pub size: Option<u64>,
    /// How they are compressed; empty if none of them was.
    pub compression: Text<16>,
}

/// `rpc.system.name`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RpcSystem {
    /// gRPC, gRPC-Web included.
    #[default]
    Grpc,
}

/// gRPC status codes by number.
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// gRPC: the call was cancelled.
pub const CANCELLED: u16 = 1;
/// gRPC: a code that nobody knows, or an error that says nothing more.
pub const UNKNOWN: u16 = 2;
/// gRPC: the deadline passed.
pub const DEADLINE_EXCEEDED: u16 = 4;
/// gRPC: the caller may not do that.
pub const PERMISSION_DENIED: u16 = 7;
/// gRPC: too much is asked for.
pub const RESOURCE_EXHAUSTED: u16 = 8;
/// gRPC: the server does not know the method.
pub const UNIMPLEMENTED: u16 = 12;
/// gRPC: something is broken.
pub const INTERNAL: u16 = 13;
/// gRPC: the server cannot be reached.
pub const UNAVAILABLE: u16 = 14;
/// gRPC: data was lost.
const DATA_LOSS: u16 = 15;
/// gRPC: the caller did not say who it is.
pub const UNAUTHENTICATED: u16 = 16;

impl RpcSystem {
    /// The value of `rpc.system.name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
        }
    }
}

impl RpcRequest {
    /// Forgets everything but the allocations.
    pub fn clear(&mut self) {
        // Destructured, so that a new field cannot be forgotten here.
        let Self {
            system,
            method,
            authority,
            status_code,
            http_status_code,
            request,
            response,
            headers_incomplete,
        } = self;
        *system = RpcSystem::default();
        method.clear();
        authority.clear();
        (*status_code, *http_status_code) = (None, None);
        request.clear();
        response.clear();
        *headers_incomplete = false;
    }

    /// Sets the method from the path of the request.
    pub fn set_path(&mut self, path: &[u8]) {
        self.method.set(path.strip_prefix(b"/").unwrap_or(path));
    }

    /// Name of the status, if there is one. A code that has no name is UNKNOWN, as clients take it.
    pub fn status(&self) -> Option<&'static str> {
        let code = self.status_code?;
        Some(GRPC_STATUS.get(usize::from(code)).unwrap_or(&GRPC_STATUS[usize::from(UNKNOWN)]))
    }

    /// Whether the status makes the call a failed one: for callers, all but OK; for callees, those that are not the
    /// caller's fault.
    pub fn is_error(&self, kind: SpanKind) -> bool {
        match self.status_code {
            None | Some(0) => false,
            Some(code) if kind == SpanKind::Server => {
                matches!(
                    code,
                    UNKNOWN | DEADLINE_EXCEEDED | UNIMPLEMENTED | INTERNAL | UNAVAILABLE | DATA_LOSS
                ) || usize::from(code) >= GRPC_STATUS.len()
            }
            Some(_) => true,
        }
    }

    /// Whether the server said that it does not know the method.
    pub fn is_method_unknown(&self, kind: SpanKind) -> bool {
        kind == SpanKind::Server && self.status_code == Some(UNIMPLEMENTED)
    }
}

impl Messages {
    /// Forgets everything but the allocations.
    pub fn clear(&mut self) {
        (self.count, self.size) = (None, None);
        self.compression.clear();
    }
}

/// What a gRPC client makes of an HTTP status without a gRPC status beside it.
pub fn status_of_http(http_status_code: u16) -> u16 {
    match http_status_code {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// What gRPC makes of an HTTP/2 error code with which a stream was reset.
pub fn status_of_reset(code: u32) -> u16 {
    match code {
        7 => UNAVAILABLE,         // REFUSED_STREAM
        8 => CANCELLED,           // CANCEL
        11 => RESOURCE_EXHAUSTED, // ENHANCE_YOUR_CALM
        12 => PERMISSION_DENIED,  // INADEQUATE_SECURITY
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_a_call_depends_on_the_end() {
        for (code, name, client, server) in [
            (0, "OK", false, false),
            (1, "CANCELLED", true, false),
            (2, "UNKNOWN", true, true),
            (4, "DEADLINE_EXCEEDED", true, true),
            (5, "NOT_FOUND", true, false),
            (12, "UNIMPLEMENTED", true, true),
            (16, "UNAUTHENTICATED", true, false),
            (17, "UNKNOWN", true, true),
        ] {
            let rpc = RpcRequest { status_code: Some(code), ..RpcRequest::default() };
            assert_eq!(rpc.status(), Some(name));
            assert_eq!((rpc.is_error(SpanKind::Client), rpc.is_error(SpanKind::Server)), (client, server));
        }
        assert!(!RpcRequest::default().is_error(SpanKind::Client));
    }
}
