//! What this kernel is and allows: structure offsets, system call numbers, the features that back ends need.

pub mod btf;
pub mod features;
pub mod offsets;
pub mod syscalls;

/// CLOCK_MONOTONIC in nanoseconds: the clock of every record.
pub fn ktime_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec; this clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// Clock ticks in which /proc counts CPU time, for each second.
pub fn clock_ticks_per_second() -> u64 {
    // SAFETY: only asks for a number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    u64::try_from(ticks).unwrap_or(100).max(1)
}
