//! Where the bytes of a finished call lie: the kernel's `struct iov_iter`, read after it was used up.
//!
//! A socket's function moves its iterator past what it sent or filled. From its end the segments are walked back by the
//! number of bytes that the function returned, as the kernel's own iov_iter_revert does.

use aya_ebpf::helpers::generated::bpf_loop;

use crate::{gather::Loop, globals::offset, kernel::Kernel};

/// Words of a `struct iov_iter` that are read.
const WORDS: usize = 5;
/// Size of the kernel's `struct iovec` of a 64-bit kernel.
const IOVEC: u64 = 16;
/// IOV_MAX.
const STEPS: u32 = 1024;
/// Steps where the verifier walks through each of them.
const FEW_STEPS: u32 = 12;

/// How the bytes lie.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// In one piece of user memory.
    Buffer,
    /// In segments of user memory.
    Segments,
    /// Not in user memory: pages, kernel memory.
    Elsewhere,
}

/// Where the bytes lie. No enum with members: those of another kind are not set, and the verifier minds.
#[derive(Clone, Copy)]
pub struct Place {
    pub kind: Kind,
    /// Of the buffer in user memory, or of the first segment's `struct iovec` in kernel memory.
    pub address: u64,
    /// Bytes of the first segment that are not the call's.
    pub skip: u64,
}

impl Place {
    pub const ELSEWHERE: Self = Self { kind: Kind::Elsewhere, address: 0, skip: 0 };

    #[inline(always)]
    fn buffer(address: u64) -> Self {
        Self { kind: Kind::Buffer, address, skip: 0 }
    }
}

/// The way back over segments.
#[repr(C)]
struct Back {
    iov: u64,
    /// Bytes of the present segment before the iterator.
    offset: u64,
    /// Bytes still to go back.
    rest: u64,
    done: u64,
}

impl Back {
    /// One step; whether there is another.
    #[inline(always)]
    fn step(&mut self) -> bool {
        if self.rest <= self.offset {
            self.offset -= self.rest;
            self.done = 1;
            return false;
        }
        self.rest -= self.offset;
        self.iov -= IOVEC;
        match Kernel(self.iov).read::<[u64; 2]>(0) {
            Some([_, len]) => self.offset = len,
            None => return false,
        }
        true
    }
}

/// The callback of bpf_loop: 1 ends the loop. A function of its own elsewhere too, so that the verifier's paths meet
/// again behind each step.
#[inline(never)]
unsafe extern "C" fn step(_index: u64, back: *mut Back) -> i64 {
    // SAFETY: the context is on the stack of `place`.
    i64::from(!unsafe { &mut *back }.step())
}

/// The word at a byte offset; the offset is a constant for the verifier, below the array's size.
#[inline(always)]
fn word(words: &[u64; WORDS], at: u64) -> u64 {
    if at > 8 * (WORDS as u64 - 1) {
        return 0;
    }
    // SAFETY: the offset was compared with the array's size.
    let word = unsafe { words.as_ptr().cast::<u8>().add(at as usize) };
    // SAFETY: the pointer is into the array, and these members are aligned.
    unsafe { core::ptr::read_volatile(word.cast()) }
}

/// Where the `len` bytes lie that a call with this `struct msghdr` has moved.
#[inline(always)]
pub fn place(msg: Kernel, len: u64, with: Loop) -> Option<Place> {
    let iter: [u64; WORDS] = msg.read(offset!(msg_iter))?;
    let kind = iter[0] >> (8 * offset!(iter_type)) & offset!(iter_kind_mask);
    let iov = word(&iter, offset!(iter_iov));
    let offset = word(&iter, offset!(iter_offset));
    if kind == offset!(iter_ubuf) {
        return Some(Place::buffer(iov + offset - len));
    }
    if kind != offset!(iter_iovec) {
        return Some(Place::ELSEWHERE);
    }
    // One segment, as most calls have, partly or wholly used up.
    if offset >= len {
        let [base, _] = Kernel(iov).read::<[u64; 2]>(0)?;
        return Some(Place::buffer(base + offset - len));
    }
    if offset == 0 {
        let [base, held] = Kernel(iov - IOVEC).read::<[u64; 2]>(0)?;
        if held >= len {
            return Some(Place::buffer(base + held - len));
        }
    }
    let mut back = Back { iov, offset, rest: len, done: 0 };
    if with == Loop::Helper {
        let callback: unsafe extern "C" fn(u64, *mut Back) -> i64 = step;
        // SAFETY: the callback's context outlives the loop.
        unsafe { bpf_loop(STEPS, callback as *mut _, (&raw mut back).cast(), 0) };
    } else {
        for _ in 0..FEW_STEPS {
            // SAFETY: the state outlives the call.
            if unsafe { step(0, &raw mut back) } != 0 {
                break;
            }
        }
    }
    if back.done == 0 {
        return Some(Place::ELSEWHERE);
    }
    Some(Place { kind: Kind::Segments, address: back.iov, skip: back.offset })
}
