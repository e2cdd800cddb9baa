//! Which of a CPU's places for a record under construction a program uses.
//!
//! A program at a tracepoint or kprobe is never preempted and needs one place. One behind a function's return (fentry) may
//! be preempted by a thread that runs another: each claims a place of its own. What finds none is counted.

use agent_common::counters::Counter;

use crate::{
    emit,
    globals::offset,
    maps::{GATHER, SCRATCH, SLOTS_TAKEN, Scratch},
};

/// Places of a CPU where programs may be preempted.
pub const SLOTS: usize = 3;

/// A place of this CPU; stays valid while the program runs, because it does not migrate.
#[derive(Clone, Copy)]
pub struct Slot(u32);

impl Slot {
    /// The place of programs that are not preempted.
    pub const ONLY: Self = Self(0);

    /// A place for the current thread.
    #[inline(always)]
    pub fn claim(tid: u32) -> Option<Self> {
        if offset!(preemptible) == 0 {
            return Some(Self::ONLY);
        }
        let taken = SLOTS_TAKEN.get_ptr_mut(0)?.cast::<u32>();
        for slot in 0..SLOTS {
            // SAFETY: the index is below the array's length.
            let cell = unsafe { taken.add(slot) };
            // SAFETY: the cell lies in the map's value.
            if unsafe { cell.read_volatile() } != 0 {
                continue;
            }
            // SAFETY: as above.
            unsafe { cell.write_volatile(tid) };
            // Another thread may have come between.
            // SAFETY: as above.
            if unsafe { cell.read_volatile() } == tid {
                return Some(Self(slot as u32));
            }
        }
        emit::count(Counter::SlotsTaken);
        None
    }

    /// Gives the place back.
    #[inline(always)]
    pub fn release(self) {
        if offset!(preemptible) == 0 {
            return;
        }
        let Some(taken) = SLOTS_TAKEN.get_ptr_mut(0) else { return };
        let slot = self.0 as usize;
        if slot < SLOTS {
            // SAFETY: the index was compared with the array's length.
            let cell = unsafe { taken.cast::<u32>().add(slot) };
            // SAFETY: the cell lies in the map's value.
            unsafe { cell.write_volatile(0) };
        }
    }

    /// Where a record is put together.
    #[inline(always)]
    pub fn scratch(self) -> Option<*mut Scratch> {
        SCRATCH.get_ptr_mut(self.0)
    }

    /// State of the loop over segments.
    #[inline(always)]
    pub fn gather(self) -> Option<*mut crate::gather::Gather> {
        GATHER.get_ptr_mut(self.0)
    }

    /// As a number, for a callback.
    #[inline(always)]
    pub fn number(self) -> u64 {
        u64::from(self.0)
    }

    /// From [`Self::number`].
    #[inline(always)]
    pub fn from_number(number: u64) -> Self {
        Self(number as u32)
    }
}
