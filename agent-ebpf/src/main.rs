//! Skep's kernel programs: which process, which connection, copy a bounded prefix, submit or count the drop.
//!
//! One file per hook family; no protocol is parsed here and nothing is logged. All hooks end in `capture.rs`
//! (what is copied) and `emit.rs` (the only way into the ring buffer). Structure offsets come from the running
//! kernel's BTF as read-only globals, because rustc emits no CO-RE relocations.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod atomic;
mod calls;
mod capture;
mod conn;
mod control;
mod datagram;
mod emit;
mod fentry;
mod forget;
mod gather;
mod globals;
mod iter;
mod kernel;
mod kprobe;
mod maps;
mod process;
mod select;
mod slot;
mod sock;
mod syscall;
mod waits;

/// The kernel lends helpers that copy kernel memory to GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Unreachable: a panic that survives optimisation makes a loop that the verifier refuses at load.
    loop {}
}
