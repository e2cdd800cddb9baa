//! Atomic addition without a result: the one atomic operation of the oldest kernels (BPF_XADD). Rust's own atomics
//! are not there on this target, because the oldest instruction set has no compare-and-swap.

use core::arch::asm;

/// Adds to `cell`.
///
/// # Safety
/// `cell` is aligned and points into a map value.
#[inline(always)]
pub unsafe fn add_u64(cell: *mut u64, n: u64) {
    // SAFETY: the caller's promise; the instruction touches nothing else.
    unsafe { asm!("lock *(u64 *)({cell} + 0) += {n}", cell = in(reg) cell, n = in(reg) n) };
}

/// Adds to `cell`, modulo 2^32.
///
/// # Safety
/// `cell` is aligned and points into a map value.
#[inline(always)]
pub unsafe fn add_u32(cell: *mut u32, n: u64) {
    // SAFETY: the caller's promise; the instruction touches nothing else.
    unsafe { asm!("lock *(u32 *)({cell} + 0) += {n}", cell = in(reg) cell, n = in(reg) n) };
}
