//! May this kernel, with these rights, load a program behind a function's return? Asked with the smallest one before any
//! type information is parsed for the real ones, which takes time and memory.

use std::{
    io,
    os::fd::{FromRawFd as _, OwnedFd},
};

/// The part of the kernel's `union bpf_attr` that BPF_PROG_LOAD uses (include/uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log: [u64; 2],
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    infos: [u64; 4],
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_prog_fd: u32,
    reserved: u32,
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_TRACE_FEXIT: u32 = 25;
/// `r0 = 0; exit`
const INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];

/// Loads and forgets `r0 = 0; exit` behind the function with this id.
pub(super) fn is_allowed(function: u32) -> io::Result<()> {
    let mut attr = Load {
        prog_type: BPF_PROG_TYPE_TRACING,
        insn_cnt: INSTRUCTIONS.len() as u32,
        insns: INSTRUCTIONS.as_ptr().addr() as u64,
        license: c"GPL".as_ptr().addr() as u64,
        expected_attach_type: BPF_TRACE_FEXIT,
        attach_btf_id: function,
        ..Load::default()
    };
    // SAFETY: attr is a valid attribute of this command and its pointers outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, std::ptr::from_mut(&mut attr), size_of::<Load>())
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just handed out this descriptor.
    drop(unsafe { OwnedFd::from_raw_fd(result as i32) });
    Ok(())
}

const _: () = assert!(std::mem::offset_of!(Load, expected_attach_type) == 68);
const _: () = assert!(std::mem::offset_of!(Load, attach_btf_id) == 108);
const _: () = assert!(size_of::<Load>() == 120);
