//! HTTP/2 on a plain socket: recognised by its preface, not parsed yet.
//!
//! In: the first bytes of a direction. Out: yes or no. Spec: RFC 9113, 3.4.

use crate::protocol::{Sample, Verdict};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) fn detect(sample: &Sample<'_>) -> Verdict {
    let len = sample.bytes.len().min(PREFACE.len());
    match sample.bytes[..len] == PREFACE[..len] {
        true if len == PREFACE.len() => Verdict::Yes(sample.direction),
        true if !sample.mid_stream => Verdict::Maybe,
        _ => Verdict::No,
    }
}
