//! The cases: one file per protocol, one row per case.

mod http1;

use crate::harness::Case;

/// In the order in which they run.
pub const CASES: &[Case] = &[Case { name: "http/1: the harness itself", run: http1::both_ends, slow: false }];
