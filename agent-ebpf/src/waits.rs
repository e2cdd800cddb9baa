//! How often a thread waited for several descriptors at once: user space joins a call to the request that the
//! thread read before only if it did not wait in between.

use agent_common::{counters::Counter, event::Waits};

use crate::{
    emit,
    maps::{SHARED, WAITS_BY_TID},
};

/// The thread waited; `event_loop` for the calls that event loops are made of.
#[inline(always)]
pub fn waited(tid: u32, event_loop: bool) {
    let bit = if event_loop { Waits::EVENT_LOOP } else { 0 };
    if let Some(waits) = WAITS_BY_TID.get_ptr_mut(tid) {
        // SAFETY: the pointer is to a map value; only its own thread writes it.
        unsafe { *waits = (*waits + 1) & !Waits::EVENT_LOOP | *waits & Waits::EVENT_LOOP | bit };
    } else if WAITS_BY_TID.insert(tid, 1 | bit, 0).is_err() {
        emit::count(Counter::ThreadTableFull);
        if let Some(shared) = SHARED.get_ptr_mut(0) {
            // SAFETY: the pointer is to a map value.
            unsafe { (*shared).waits_lost = 1 };
        }
    }
}

/// The thread's count.
#[inline(always)]
pub fn of(tid: u32) -> u32 {
    if let Some(waits) = WAITS_BY_TID.get_ptr(tid) {
        // SAFETY: the pointer is to a map value.
        return unsafe { *waits };
    }
    // SAFETY: the pointer is to a map value.
    let lost = SHARED.get_ptr(0).is_none_or(|shared| unsafe { (*shared).waits_lost } != 0);
    if lost { Waits::UNKNOWN } else { 0 }
}

/// The thread is gone.
#[inline(always)]
pub fn forget(tid: u32) {
    let _ = WAITS_BY_TID.remove(tid);
}
