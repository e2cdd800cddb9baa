//! System calls with their results checked, and the few that need preparation: pipes, files in memory, duplicates.

use std::io::{Error, Result};
use std::os::fd::RawFd;
use std::ptr;

/// The result of a system call.
pub fn checked(result: isize) -> Result<usize> {
    usize::try_from(result).map_err(|_| Error::last_os_error())
}

/// [`checked`] for calls that return an int.
pub fn checked_int(result: i32) -> Result<i32> {
    if result < 0 { Err(Error::last_os_error()) } else { Ok(result) }
}

/// Two other descriptors of the same socket, each time made by another call.
pub fn duplicates(fd: RawFd) -> (RawFd, RawFd) {
    use std::sync::atomic::{AtomicI32, Ordering};
    static NEXT: AtomicI32 = AtomicI32::new(0);
    let turn = NEXT.fetch_add(1, Ordering::Relaxed);
    let free = 500 + 2 * (turn % 200);
    // SAFETY: no memory is passed.
    let dup = |to: i32| unsafe { libc::fcntl(fd, libc::F_DUPFD, to) };
    // SAFETY: no memory is passed.
    let a = if turn % 2 == 0 { unsafe { libc::dup(fd) } } else { dup(300) };
    let b = match turn % 4 {
        // SAFETY: no memory is passed.
        0 => unsafe { libc::dup2(fd, free) },
        // SAFETY: no memory is passed.
        1 => unsafe { libc::dup3(fd, free, libc::O_CLOEXEC) },
        // SAFETY: no memory is passed.
        2 => unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 400) },
        _ => dup(free),
    };
    close(fd);
    (a, b)
}

/// A file in memory with these bytes, positioned at its beginning.
pub fn memory_file(bytes: &[u8]) -> Result<RawFd> {
    // SAFETY: the name is a C string.
    let file = checked_int(unsafe { libc::memfd_create(c"ground-truth".as_ptr(), libc::MFD_CLOEXEC) })?;
    // SAFETY: `bytes` is as long as it says.
    checked(unsafe { libc::write(file, bytes.as_ptr().cast(), bytes.len()) })?;
    // SAFETY: no memory is passed.
    unsafe { libc::lseek(file, 0, libc::SEEK_SET) };
    Ok(file)
}

pub fn sendfile(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    // A response's head must be copied to be read by anyone: real servers write it.
    if bytes.starts_with(b"HTTP/") {
        // SAFETY: `bytes` is as long as it says.
        return checked(unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_MORE) });
    }
    let file = memory_file(bytes)?;
    // SAFETY: no memory is passed.
    let sent = checked(unsafe { libc::sendfile(fd, file, ptr::null_mut(), bytes.len()) });
    close(file);
    sent
}

pub fn splice_out(fd: RawFd, bytes: &[u8]) -> Result<usize> {
    if bytes.starts_with(b"HTTP/") {
        // SAFETY: `bytes` is as long as it says.
        return checked(unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) });
    }
    let (read_end, write_end) = pipe()?;
    let n = bytes.len().min(65536);
    // SAFETY: `bytes` holds at least `n` bytes.
    let n = checked(unsafe { libc::write(write_end, bytes.as_ptr().cast(), n) })?;
    let mut left = n;
    while left > 0 {
        left -= splice(read_end, fd, left)?;
    }
    close(read_end);
    close(write_end);
    Ok(n)
}

pub fn splice(from: RawFd, to: RawFd, len: usize) -> Result<usize> {
    // SAFETY: no memory is passed.
    checked(unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), len, libc::SPLICE_F_MOVE) })
}

pub fn pipe() -> Result<(RawFd, RawFd)> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    checked_int(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((ends[0], ends[1]))
}

/// Closes a descriptor of ours.
pub fn close(fd: RawFd) {
    // SAFETY: no memory is passed.
    unsafe { libc::close(fd) };
}

/// Sets an integer option.
pub fn set_option(fd: RawFd, level: i32, option: i32, value: i32) {
    let len = u32::try_from(size_of::<i32>()).unwrap_or(0);
    // SAFETY: the value is an int, as `len` says.
    unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), len) };
}

pub fn wait(fd: RawFd, events: i16) {
    let mut poll = libc::pollfd { fd, events, revents: 0 };
    // SAFETY: one entry.
    unsafe { libc::poll(&raw mut poll, 1, 10_000) };
}

/// A timer whose signal handler does nothing but interrupt system calls.
pub fn interrupt_often() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all zero is a valid sigaction: no flags, so calls are not restarted.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
    // SAFETY: the handler is a function that touches nothing.
    unsafe { libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut()) };
    let often = libc::timeval { tv_sec: 0, tv_usec: 1000 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: the timer is valid; the old one is not wanted.
    unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
}
