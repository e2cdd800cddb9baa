//! Reading the kernel's structures: the current task, its registers and descriptors. Offsets are globals.

use aya_ebpf::{
    EbpfContext as _,
    helpers::{
        bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel, bpf_probe_read_user,
        bpf_task_pt_regs,
    },
    programs::RawTracePointContext,
};

use crate::globals::offset;

/// Address of a kernel object that is read with `bpf_probe_read_kernel`: any value is safe to try.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Kernel(pub u64);

impl Kernel {
    /// Reads a `T` at `offset` of the object.
    #[inline(always)]
    pub fn read<T>(self, offset: u64) -> Option<T> {
        // SAFETY: the helper checks the address and fails on a bad one.
        unsafe { bpf_probe_read_kernel((self.0 + offset) as *const T) }.ok()
    }

    /// Reads the pointer at `offset`; `None` for null.
    #[inline(always)]
    pub fn pointer(self, offset: u64) -> Option<Self> {
        self.read::<u64>(offset).filter(|address| *address != 0).map(Self)
    }
}

/// Reads a `T` from the memory of the current process.
#[inline(always)]
pub fn read_user<T>(address: u64) -> Option<T> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_user(address as *const T) }.ok()
}

/// The current task, as a pointer that the verifier knows (plain loads) or as a plain address.
#[derive(Clone, Copy)]
pub struct Task(u64);

/// The saved registers of the system call that is returning.
#[derive(Clone, Copy)]
pub struct Regs(u64);

/// Whether plain loads are allowed; a constant for the verifier.
#[inline(always)]
fn plain_loads() -> bool {
    offset!(plain_loads) != 0
}

/// Reads a `T` at `base + offset`, where `base` is the current task or was reached from it.
#[inline(always)]
fn load<T: Copy>(base: u64, offset: u64) -> Option<T> {
    if plain_loads() {
        // SAFETY: the verifier follows the pointer's type; a bad address reads as zero.
        Some(unsafe { *((base + offset) as *const T) })
    } else {
        Kernel(base).read(offset)
    }
}

impl Task {
    #[inline(always)]
    pub fn current() -> Self {
        if plain_loads() {
            // SAFETY: no arguments.
            Self(unsafe { bpf_get_current_task_btf() } as u64)
        } else {
            // SAFETY: no arguments.
            Self(unsafe { bpf_get_current_task() })
        }
    }

    /// Whether the call that is returning was a 32-bit one.
    #[inline(always)]
    pub fn is_compat(self) -> bool {
        load::<u32>(self.0, offset!(compat_word))
            .is_some_and(|word| u64::from(word) & offset!(compat_mask) != 0)
    }

    /// The registers that were saved when the call entered the kernel.
    #[inline(always)]
    pub fn regs(self, ctx: &RawTracePointContext) -> Regs {
        if plain_loads() {
            // SAFETY: the argument is the current task.
            Regs(unsafe { bpf_task_pt_regs(self.0 as *mut _) } as u64)
        } else {
            // SAFETY: sys_exit's first argument is its pt_regs.
            Regs(unsafe { *ctx.as_ptr().cast::<u64>() })
        }
    }

    /// The open file behind a descriptor.
    #[inline(always)]
    pub fn file(self, fd: u64) -> Option<Kernel> {
        let files: u64 = load(self.0, offset!(task_files))?;
        if files == 0 {
            return None;
        }
        let fdt: u64 = load(files, offset!(files_fdt))?;
        if fdt == 0 {
            return None;
        }
        let max_fds: u32 = load(fdt, offset!(fdtable_max_fds))?;
        let fd = fd as u32;
        if fd >= max_fds {
            return None;
        }
        let array: u64 = load(fdt, offset!(fdtable_fd))?;
        Kernel(array).pointer(u64::from(fd) * 8)
    }
}

impl Regs {
    #[inline(always)]
    pub fn syscall(self) -> Option<u64> {
        // 32 bits: all that arm64 keeps; the upper half is zero elsewhere.
        load::<u32>(self.0, offset!(regs_syscall)).map(u64::from)
    }

    #[inline(always)]
    pub fn arg0(self) -> Option<u64> {
        load(self.0, offset!(regs_args[0]))
    }

    #[inline(always)]
    pub fn arg1(self) -> Option<u64> {
        load(self.0, offset!(regs_args[1]))
    }

    #[inline(always)]
    pub fn arg2(self) -> Option<u64> {
        load(self.0, offset!(regs_args[2]))
    }

    #[inline(always)]
    pub fn arg3(self) -> Option<u64> {
        load(self.0, offset!(regs_args[3]))
    }

    #[inline(always)]
    pub fn arg4(self) -> Option<u64> {
        load(self.0, offset!(regs_args[4]))
    }
}
