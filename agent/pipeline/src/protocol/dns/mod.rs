//! DNS over UDP and TCP, both ends: RFC 1035 and what came after.
//!
//! In: datagrams, and chunks of connections. Out: one finished request for each query, see `queries.rs`. Limits: one
//! question per message, opcode QUERY; the first 16 answers; no DNSSEC, no updates, no encrypted transports.

mod message;
mod queries;
mod tcp;
mod udp;

use crate::Sink;
use crate::state::State;

pub(crate) use queries::Queries;
pub(super) use tcp::{DnsTcp, begin, detect};
pub(crate) use udp::Datagrams;

/// Lets time pass.
pub(crate) fn on_tick(state: &mut State, sink: &mut impl Sink) {
    queries::on_tick(state, sink);
}

/// The run ends.
pub(crate) fn finish(state: &mut State, sink: &mut impl Sink) {
    queries::finish(state, sink);
}
