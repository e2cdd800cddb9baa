//! Processes that ended a short while ago: their connections close right after, and that is why.

use rustc_hash::FxHashMap;

/// How long an exit is remembered.
const REMEMBERED_NS: u64 = 2_000_000_000;
/// Exits that are remembered at a time.
const MAX: usize = 4096;

/// Process → when it ended.
#[derive(Debug, Default)]
pub(crate) struct Exits {
    by_tgid: FxHashMap<u32, u64>,
}

impl Exits {
    pub(crate) fn note(&mut self, tgid: u32, ktime_ns: u64) {
        if self.by_tgid.len() < MAX {
            self.by_tgid.insert(tgid, ktime_ns);
        }
    }

    pub(crate) fn at(&self, tgid: u32) -> Option<u64> {
        self.by_tgid.get(&tgid).copied()
    }

    pub(crate) fn forget_old(&mut self, now_ktime_ns: u64) {
        if !self.by_tgid.is_empty() {
            self.by_tgid.retain(|_, &mut exit| now_ktime_ns.saturating_sub(exit) < REMEMBERED_NS);
        }
    }
}
