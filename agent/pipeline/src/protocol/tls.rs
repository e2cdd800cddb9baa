//! TLS on a socket: recognised, so that a process that speaks only TLS can be told from a silent one.
//!
//! In: the first bytes of a direction. Out: yes or no; the bytes themselves are only readable inside the process.
//! Spec: RFC 8446, 5.1. Bias: joined in the middle, a whole plausible record header is enough.

use crate::protocol::{Sample, Verdict};

/// content type, major version, minor version, length
const HEADER_LEN: usize = 5;
const HANDSHAKE: u8 = 22;
/// 2^14 and what compression or encryption may add.
const MAX_RECORD: u16 = 16_384 + 2048;

pub(super) fn detect(sample: &Sample<'_>) -> Verdict {
    let bytes = sample.bytes;
    let first = if sample.mid_stream { 20..=23 } else { HANDSHAKE..=HANDSHAKE };
    let fits = [
        bytes.first().is_none_or(|kind| first.contains(kind)),
        bytes.get(1).is_none_or(|&major| major == 3),
        bytes.get(2).is_none_or(|&minor| minor <= 4),
        bytes.get(3..5).is_none_or(|len| (1..=MAX_RECORD).contains(&u16::from_be_bytes([len[0], len[1]]))),
    ];
    match fits.iter().all(|&fits| fits) {
        true if bytes.len() >= HEADER_LEN => Verdict::Yes(sample.direction),
        true if !sample.mid_stream => Verdict::Maybe,
        _ => Verdict::No,
    }
}
