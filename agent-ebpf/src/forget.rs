//! Making the verifier forget what it knows of a value.
//!
//! The verifier walks each combination of branches on its own as long as a value differs between them. A value that
//! went through memory is any value, and the paths behind it become one: a tenth of the work, and of the time to the
//! first span.

use crate::maps::FORGOTTEN;

/// The same value, of which the verifier knows nothing; `None` never happens.
#[inline(always)]
pub fn forget(value: u64) -> Option<u64> {
    let cell = FORGOTTEN.get_ptr_mut(0)?;
    // SAFETY: the cell is this CPU's and valid.
    unsafe { cell.write_volatile(value) };
    // SAFETY: as above.
    Some(unsafe { cell.read_volatile() })
}
