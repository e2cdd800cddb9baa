//! Which processes are selected. A filter by the low bits of the tgid answers for nearly every process in a few
//! instructions; where several share a slot, the hash map decides.

use agent_common::counters::Counter;

use crate::{
    atomic, emit,
    maps::{FILTER_LEN, SELECTED_FILTER, SELECTED_TGIDS, Selected, Slot},
};

/// What the filter says of a process.
#[derive(Clone, Copy)]
pub struct Hint(Slot);

/// Slot of the filter for a tgid.
#[inline(always)]
fn slot(tgid: u32) -> Option<*mut Slot> {
    let filter = SELECTED_FILTER.get_ptr_mut(0)?;
    // SAFETY: the index is masked to the array's length.
    Some(unsafe { filter.cast::<Slot>().add(tgid as usize & (FILTER_LEN - 1)) })
}

/// `None` for nearly every process that is not selected.
#[inline(always)]
pub fn hint(tgid: u32) -> Option<Hint> {
    let slot = slot(tgid)?;
    // SAFETY: the slot lies in the map's value.
    let count = unsafe { (*slot).count };
    if count == 0 {
        return None;
    }
    // SAFETY: as above.
    Some(Hint(unsafe { *slot }))
}

impl Hint {
    /// Whether the process is selected: the only one of its slot is known by the slot's sum.
    #[inline(always)]
    pub fn is_selected(&self, tgid: u32) -> bool {
        (self.0.count == 1 && self.0.sum == tgid) || get(tgid).is_some()
    }

    /// Whether nobody asks how often the process' threads wait.
    #[inline(always)]
    pub fn is_quiet(&self) -> bool {
        self.0.quiet == self.0.count
    }
}

/// Whether a process is selected.
#[inline(always)]
pub fn is_selected(tgid: u32) -> bool {
    hint(tgid).is_some_and(|hint| hint.is_selected(tgid))
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
    if SELECTED_TGIDS.insert(tgid, Selected { reported: 0, quiet: 0 }, BPF_NOEXIST).is_err() {
        if get(tgid).is_some() {
            return true;
        }
        emit::count(Counter::SelectTableFull);
        return false;
    }
    if let Some(slot) = slot(tgid) {
        // SAFETY: the slot is aligned and lies in the map's value. The sum first: a count of one must not be seen
        // with the sum of none.
        unsafe { atomic::add_u32(&raw mut (*slot).sum, u64::from(tgid)) };
        // SAFETY: as above.
        unsafe { atomic::add_u32(&raw mut (*slot).count, 1) };
    }
    true
}

/// Stops following a process; whether it was selected.
#[inline(always)]
pub fn remove(tgid: u32) -> bool {
    set_quiet(tgid, false);
    if SELECTED_TGIDS.remove(tgid).is_err() {
        return false;
    }
    if let Some(slot) = slot(tgid) {
        // Adding the two's complement subtracts; the oldest kernels know no other atomic operation.
        // SAFETY: the slot is aligned and lies in the map's value.
        unsafe { atomic::add_u32(&raw mut (*slot).count, u64::MAX) };
        // SAFETY: as above.
        unsafe { atomic::add_u32(&raw mut (*slot).sum, u64::from(tgid).wrapping_neg()) };
    }
    true
}

/// Sets whether anybody asks how often the process' threads wait; whether it is selected.
#[inline(always)]
pub fn set_quiet(tgid: u32, quiet: bool) -> bool {
    let Some(selected) = get(tgid) else { return false };
    let wanted = u32::from(quiet);
    // SAFETY: the pointer is to a map value.
    if unsafe { (*selected).quiet } == wanted {
        return true;
    }
    // SAFETY: as above.
    unsafe { (*selected).quiet = wanted };
    if let Some(slot) = slot(tgid) {
        let change = if quiet { 1 } else { u64::MAX };
        // SAFETY: the slot is aligned and lies in the map's value.
        unsafe { atomic::add_u32(&raw mut (*slot).quiet, change) };
    }
    true
}
