//! When the drain thread works: a tick every few milliseconds, earlier when the kernel side asks, and signals.
//!
//! The ring buffer counts as readable while it holds anything, so a level-triggered wait would never sleep under
//! load; edge-triggered, it reports just the wake-ups that the kernel programs ask for.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

const RING: u64 = 1;
const SIGNAL: u64 = 2;

/// SIGINT and SIGTERM as a descriptor.
pub struct Signals(OwnedFd);

/// What to wait for.
pub struct Wake {
    epoll: OwnedFd,
    signals: Signals,
}

impl Signals {
    /// Takes the signals from now on. To be called before other threads start: they inherit the mask.
    pub fn block() -> io::Result<Self> {
        let set = stop_signals();
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: the set is initialised; the call makes a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Gives the signals back: the next one ends the process at once.
    fn unblock(&self) {
        let mut info = [0_u8; 128];
        // SAFETY: the buffer is as long as told; the pending signal is consumed so that it does not strike now.
        unsafe { libc::read(self.0.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
        if let Err(error) = mask(libc::SIG_UNBLOCK, &stop_signals()) {
            log::warn!("unblock signals: {error}");
        }
    }
}

impl Wake {
    /// Watches the ring buffer and the signals.
    pub fn new(ring: RawFd, signals: Signals) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        // SAFETY: the probe outlives this object in `run`, and a closed descriptor would only be refused here.
        let ring = unsafe { BorrowedFd::borrow_raw(ring) };
        epoll::add(
            &epoll,
            ring,
            epoll::EventData::new_u64(RING),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        epoll::add(&epoll, &signals.0, epoll::EventData::new_u64(SIGNAL), epoll::EventFlags::IN)?;
        Ok(Self { epoll, signals })
    }

    /// Waits at most `timeout`; says whether a signal asked for the end. The next signal then ends the process.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 2];
        let timeout =
            Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let stop = ready.iter().any(|event| event.data.u64() == SIGNAL);
        if stop {
            self.signals.unblock();
        }
        Ok(stop)
    }
}

fn stop_signals() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised just above.
    let mut set = unsafe { set.assume_init() };
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the set is initialised and the signal exists.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}

fn mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: the set is initialised; the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(how, set, std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}
