//! The header fields that a request needs. Values of all others are neither decoded into memory nor kept.

/// A field that matters, or one of those that do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Field {
    Authority,
    Method,
    Path,
    Protocol,
    Scheme,
    Status,
    ContentType,
    GrpcEncoding,
    GrpcStatus,
    GrpcTimeout,
    /// Of no interest to this parser, but to [`crate::request::Request::observe_header`]: which one.
    Observed(u8),
    /// Of no interest.
    #[default]
    Other,
    /// Its name was sent before the connection was seen.
    Unknown,
}

/// What [`crate::request::Request::observe_header`] takes note of.
const OBSERVED: [&[u8]; 14] = [
    b"host",
    b"user-agent",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"traceparent",
    b"tracestate",
    b"b3",
    b"x-b3-traceid",
    b"x-b3-spanid",
    b"x-b3-sampled",
    b"x-b3-flags",
    b"uber-trace-id",
];

impl Field {
    /// The field of that name; names are lower case on the wire.
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b":authority" => Self::Authority,
            b":method" => Self::Method,
            b":path" => Self::Path,
            b":protocol" => Self::Protocol,
            b":scheme" => Self::Scheme,
            b":status" => Self::Status,
            b"content-type" => Self::ContentType,
            b"grpc-encoding" => Self::GrpcEncoding,
            b"grpc-status" => Self::GrpcStatus,
            b"grpc-timeout" => Self::GrpcTimeout,
            _ => match OBSERVED.iter().position(|&observed| observed == name) {
                Some(index) => Self::Observed(index as u8),
                None => Self::Other,
            },
        }
    }

    /// The name of a field that is observed.
    pub(super) fn observed_name(self) -> Option<&'static [u8]> {
        let Self::Observed(index) = self else { return None };
        OBSERVED.get(usize::from(index)).copied()
    }

    /// Whether its value matters.
    pub(super) fn matters(self) -> bool {
        !matches!(self, Self::Other | Self::Unknown)
    }
}
