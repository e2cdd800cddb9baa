//! The ABI between Skep's kernel programs and its user space.
//!
//! Every type here is `#[repr(C)]` with explicit padding and holds only integers, so that the kernel side can
//! write it as it is and the user side can read it from untrusted bytes (`zerocopy`, feature `user`; implicit
//! padding is then a compile error). Fields are appended, never reordered. No logic beyond bit tests lives here.
#![no_std]
#![forbid(unsafe_code)]

pub mod capture;
pub mod conn;
pub mod counters;
pub mod event;
pub mod globals;
