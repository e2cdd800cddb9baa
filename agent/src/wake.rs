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

/// SIGINT, SIGTERM and SIGHUP as a descriptor.
pub struct Signals {
    fd: OwnedFd,
    /// SIGHUP may also mean that this terminal has gone.
    terminal: bool,
}

/// Why [`Wake::wait`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// There may be work, or the time is over.
    Work,
    /// The settings are to be read again.
    Reload,
    /// The run is to end. The next signal then ends the process.
    Stop,
}

/// What to wait for.
pub struct Wake {
    epoll: OwnedFd,
    signals: Signals,
}

impl Signals {
    /// Takes the signals from now on. To be called before other threads start: they inherit the mask.
    pub fn block() -> io::Result<Self> {
        let set = signal_set(if hangup_is_ignored() { STOP } else { ALL });
        mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: the set is initialised; the call makes a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        Ok(Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, terminal: has_terminal() })
    }

    /// What the signals that came say together.
    fn take(&self) -> Woken {
        let mut woken = Woken::Work;
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        loop {
            // SAFETY: the buffer is as long as told.
            let count = unsafe { libc::read(self.fd.as_raw_fd(), info.as_mut_ptr().cast(), info.len()) };
            if count != info.len().cast_signed() {
                return woken;
            }
            // The record begins with the signal's number.
            let signal = i32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            if signal == libc::SIGHUP && (!self.terminal || has_terminal()) {
                woken = if woken == Woken::Stop { woken } else { Woken::Reload };
            } else {
                woken = Woken::Stop;
            }
        }
    }

    /// Gives the signals back: the next one ends the process at once.
    fn unblock(&self) {
        if let Err(error) = mask(libc::SIG_UNBLOCK, &signal_set(STOP)) {
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
        epoll::add(&epoll, &signals.fd, epoll::EventData::new_u64(SIGNAL), epoll::EventFlags::IN)?;
        Ok(Self { epoll, signals })
    }

    /// Waits at most `timeout`; says what signals ask for.
    pub fn wait(&self, timeout: Duration) -> io::Result<Woken> {
        let mut events = [const { std::mem::MaybeUninit::uninit() }; 2];
        let timeout =
            Timespec { tv_sec: timeout.as_secs().cast_signed(), tv_nsec: timeout.subsec_nanos().into() };
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((ready, _)) => ready,
            Err(rustix::io::Errno::INTR) => return Ok(Woken::Work),
            Err(error) => return Err(error.into()),
        };
        if !ready.iter().any(|event| event.data.u64() == SIGNAL) {
            return Ok(Woken::Work);
        }
        let woken = self.signals.take();
        if woken == Woken::Stop {
            self.signals.unblock();
        }
        Ok(woken)
    }
}

const STOP: &[i32] = &[libc::SIGINT, libc::SIGTERM];
const ALL: &[i32] = &[libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// Under nohup(1) a hangup means nothing.
fn hangup_is_ignored() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set; the old action is written to memory of the right size.
    let done = unsafe { libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr()) };
    // SAFETY: zeroed is a valid action, and the call may have filled it.
    done == 0 && unsafe { action.assume_init() }.sa_sigaction == libc::SIG_IGN
}

fn has_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised just above.
    let mut set = unsafe { set.assume_init() };
    for &signal in signals {
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
