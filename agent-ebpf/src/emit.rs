//! The only way into the ring buffer and the only place that counts. A record that does not fit is counted.

use agent_common::{
    capture::MAX_RECORD_PAYLOAD,
    counters::{COUNTERS, Counter},
    event::{EventHeader, EventKind},
};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::bpf_ktime_get_ns,
};

use crate::{
    atomic,
    forget::below,
    globals::{offset, ring_wakeup_bytes},
    maps::{COUNTERS_BY_CPU, RING},
};

/// This CPU's counters.
#[derive(Clone, Copy)]
pub struct Counters(*mut [u64; COUNTERS]);

impl Counters {
    #[inline(always)]
    pub fn this_cpu() -> Option<Self> {
        COUNTERS_BY_CPU.get_ptr_mut(0).map(Self)
    }

    /// Adds to a counter that only programs of calls write.
    #[inline(always)]
    pub fn add(self, counter: Counter, n: u64) {
        // SAFETY: a counter's index is below the array's length.
        let cell = unsafe { self.0.cast::<u64>().add(counter as usize) };
        if offset!(preemptible) != 0 {
            // SAFETY: the cell lies in the map's value.
            unsafe { atomic::add_u64(cell, n) };
        } else {
            // SAFETY: this CPU's array; these programs do not interrupt each other.
            unsafe { *cell += n };
        }
    }
}

/// Adds one to a counter from any program, those that may interrupt a system call's included.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(counters) = Counters::this_cpu() {
        // SAFETY: a counter's index is below the array's length.
        let cell = unsafe { counters.0.cast::<u64>().add(counter as usize) };
        // SAFETY: the cell lies in the map's value.
        unsafe { atomic::add_u64(cell, 1) };
    }
}

/// The header of a record that is made now.
#[inline(always)]
pub fn header(kind: EventKind, flags: u16, tgid: u32, conn_id: u64) -> EventHeader {
    // SAFETY: no arguments.
    let ktime_ns = unsafe { bpf_ktime_get_ns() };
    EventHeader { kind, flags, tgid, ktime_ns, conn_id }
}

/// Sends a small record; `urgent` wakes the reader at once. What does not fit is counted as `lost`.
#[inline(always)]
pub fn record<T: 'static>(record: &T, urgent: bool, lost: Counter) -> bool {
    let flags = if urgent { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    let sent = RING.output::<T>(record, u64::from(flags)).is_ok();
    count(if sent { Counter::Events } else { lost });
    sent
}

/// Sends `len` bytes at `data`; wakes the reader when that is asked for or the ring buffer is half full.
///
/// # Safety
/// `data` points to at least `len` bytes of a map value.
#[inline(always)]
pub unsafe fn bytes(data: *const u8, len: usize, wake: bool) -> bool {
    let wake = wake || (is_time_to_look() && RING.query(u64::from(BPF_RB_AVAIL_DATA)) >= ring_wakeup_bytes());
    let flags = if wake { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    let len = below::<{ 2 * MAX_RECORD_PAYLOAD as u64 }>(len as u64) as usize;
    // SAFETY: the caller's promise; a record is shorter than that.
    let slice = unsafe { core::slice::from_raw_parts(data, len) };
    RING.output::<[u8]>(slice, u64::from(flags)).is_ok()
}

/// Every 16th record of a CPU looks how full the ring buffer is: the answer lies in a line that its reader writes.
#[inline(always)]
fn is_time_to_look() -> bool {
    // SAFETY: this CPU's counters.
    Counters::this_cpu().is_some_and(|counters| unsafe { (*counters.0)[Counter::Events as usize] } % 16 == 0)
}
