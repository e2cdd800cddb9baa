//! The cases, by family; one table for those that every server has.

pub mod chains;
pub mod clients;
pub mod context;
pub mod framing;
pub mod life;
pub mod own;
pub mod plain;
pub mod special;

use crate::harness::Case;

/// Cases that run on every target.
pub const ON_EVERY_SERVER: &[&Case] = &[
    &plain::KEEP_ALIVE,
    &plain::CLOSE,
    &plain::OLD_VERSION,
    &plain::PIPELINING,
    &plain::STATUSES,
    &plain::HEAD,
    &plain::METHODS,
    &plain::TARGETS,
    &framing::SIZES,
    &framing::CHUNKED_REQUESTS,
    &framing::CHUNKED_ANSWERS,
    &framing::EVENTS,
    &framing::BIG,
    &framing::HUGE,
    &framing::CONTINUE,
    &framing::LOOKALIKE,
    &framing::ONE_BYTE,
    &framing::LONG_HEADERS,
    &framing::FOLDED,
    &life::HALF_CLOSE,
    &life::ABORT_WAITING,
    &life::ABORT_READING,
    &life::ABORT_SENDING,
    &life::SHORT_LIVED,
    &life::IDLE,
    &context::HEADERS,
    &context::JOIN,
    &context::PASS_THROUGH,
];
