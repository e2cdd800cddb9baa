//! Making the verifier forget what it knows of a value, and making it remember a bound.
//!
//! The verifier walks each combination of branches on its own as long as a value differs between them. A value that
//! was written in halves and read as a whole is any value, and the paths behind it become one: a tenth of the work, and
//! of the time to the first span.

use core::{arch::asm, mem::MaybeUninit, ptr};

/// Keeps a half from being zero, which the verifier would remember.
const MIX: u64 = 0x5a5a_5a5a_a5a5_a5a5;

#[repr(C, align(8))]
struct Halves([u32; 2]);

/// The same value, of which the verifier knows nothing.
#[inline(always)]
pub fn forget(value: u64) -> u64 {
    let mut cell = MaybeUninit::<Halves>::uninit();
    let halves = cell.as_mut_ptr().cast::<u32>();
    let mixed = value ^ MIX;
    // SAFETY: the cell has room for two halves.
    unsafe { ptr::write_volatile(halves, mixed as u32) };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(halves.add(1), (mixed >> 32) as u32) };
    // SAFETY: both halves are written, and the cell is aligned for the whole.
    let whole = unsafe { ptr::read_volatile(halves.cast::<u64>()) };
    whole ^ MIX
}

/// The value below `BOUND`, a power of two, in a register of which the verifier knows it: a comparison may have been
/// made with another copy of the value, and older verifiers do not connect the two.
#[inline(always)]
pub fn below<const BOUND: u64>(mut value: u64) -> u64 {
    // SAFETY: changes one register.
    unsafe { asm!("{value} &= {mask}", value = inout(reg) value, mask = const BOUND - 1) };
    value
}
