//! Ending processes that a test started, by their ids.

use std::process::Child;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// SIGTERM to a process of ours.
pub fn terminate(pid: u32) {
    // SAFETY: no memory is passed.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGTERM) };
}

/// Waits for a child's end; its exit code, or none for a signal.
#[expect(clippy::option_option, reason = "not ended, ended by a signal, ended with a code")]
pub fn wait_exit(child: &mut Child, within: Duration) -> Option<Option<i32>> {
    let pid = Pid::from_raw(child.id().cast_signed())?;
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        let timeout = Timespec::try_from(within).ok();
        let _ = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], timeout.as_ref());
    }
    child.try_wait().ok().flatten().map(|status| status.code())
}
