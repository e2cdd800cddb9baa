//! Which processes are selected. A filter by the low bits of the tgid answers for nearly every other process in
//! a few instructions; the hash map decides.

use agent_common::counters::Counter;

use crate::{
    atomic, emit,
    maps::{FILTER_LEN, SELECTED_FILTER, SELECTED_TGIDS, Selected},
};

/// Slot of the filter for a tgid.
#[inline(always)]
fn slot(tgid: u32) -> Option<*mut u32> {
    let filter = SELECTED_FILTER.get_ptr_mut(0)?;
    // SAFETY: the index is masked to the array's length.
    Some(unsafe { filter.cast::<u32>().add(tgid as usize & (FILTER_LEN - 1)) })
}

/// `false` for nearly every process that is not selected.
#[inline(always)]
pub fn maybe(tgid: u32) -> bool {
    // SAFETY: the slot lies in the map's value.
    slot(tgid).is_some_and(|slot| unsafe { *slot } != 0)
}

/// The entry of a selected process.
#[inline(always)]
pub fn get(tgid: u32) -> Option<*mut Selected> {
    SELECTED_TGIDS.get_ptr_mut(tgid)
}

/// Selects a process; whether it is selected afterwards.
#[inline(always)]
pub fn add(tgid: u32) -> bool {
    const BPF_NOEXIST: u64 = 1;
    if get(tgid).is_some() {
        return true;
    }
    if SELECTED_TGIDS.insert(tgid, Selected { reported: 0 }, BPF_NOEXIST).is_err() {
        if get(tgid).is_some() {
            return true;
        }
        emit::count(Counter::SelectTableFull);
        return false;
    }
    if let Some(slot) = slot(tgid) {
        // SAFETY: the slot is aligned and lies in the map's value.
        unsafe { atomic::add_u32(slot, 1) };
    }
    true
}

/// Stops following a process; whether it was selected.
#[inline(always)]
pub fn remove(tgid: u32) -> bool {
    if SELECTED_TGIDS.remove(tgid).is_err() {
        return false;
    }
    if let Some(slot) = slot(tgid) {
        // Adding the two's complement of one subtracts; the oldest kernels know no other atomic operation.
        // SAFETY: the slot is aligned and lies in the map's value.
        unsafe { atomic::add_u32(slot, u64::MAX) };
    }
    true
}
