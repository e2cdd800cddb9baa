//! Running the `control` program: how user space changes what the kernel programs keep, without racing them.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    sync::Arc,
};

use agent_common::{capture::CaptureMode, globals::control};

use super::error::ProbeError;

/// Steers the kernel programs; cheap to clone, usable from any thread.
#[derive(Clone, Debug)]
pub struct Control {
    program: Arc<OwnedFd>,
}

/// The part of the kernel's `union bpf_attr` that BPF_PROG_TEST_RUN uses (include/uapi/linux/bpf.h, `test`).
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    reserved: u32,
}

const BPF_PROG_TEST_RUN: libc::c_int = 10;

impl Control {
    pub(super) fn new(program: OwnedFd) -> Self {
        Self { program: Arc::new(program) }
    }

    /// Sets how much of a connection is copied. A connection that is gone is no error.
    ///
    /// # Errors
    /// [`ProbeError::Control`] when the kernel refuses the call.
    pub fn set_capture(&self, conn_id: u64, sock: u64, mode: CaptureMode) -> Result<(), ProbeError> {
        let [ingress, egress] = mode.caps;
        self.run(&[
            control::SET_MODE,
            sock,
            conn_id,
            mode.mode.into(),
            ingress.turn_cap.into(),
            ingress.call_cap.into(),
            egress.turn_cap.into(),
            egress.call_cap.into(),
        ])?;
        Ok(())
    }

    pub(super) fn select(&self, tgid: u32) -> Result<(), ProbeError> {
        match self.run(&[control::SELECT, tgid.into()])? {
            0 => Ok(()),
            _ => Err(ProbeError::SelectionFull(tgid)),
        }
    }

    /// Says whether nobody asks how often a process' threads wait, which makes its calls cheaper. One that is not
    /// selected is no error.
    ///
    /// # Errors
    /// [`ProbeError::Control`] when the kernel refuses the call.
    pub fn set_quiet(&self, tgid: u32, quiet: bool) -> Result<(), ProbeError> {
        self.run(&[control::QUIET, tgid.into(), quiet.into()])?;
        Ok(())
    }

    pub(super) fn deselect(&self, tgid: u32) -> Result<(), ProbeError> {
        self.run(&[control::DESELECT, tgid.into()])?;
        Ok(())
    }

    /// Whether a connection is gone; the kernel side then forgets it and sends its ConnClosed.
    pub(super) fn reap(&self, conn_id: u64, sock: u64) -> Result<bool, ProbeError> {
        Ok(self.run(&[control::REAP, sock, conn_id])? != 0)
    }

    fn run(&self, arguments: &[u64]) -> Result<u32, ProbeError> {
        // The context must be as long as the program's largest access.
        let mut context = [0_u64; 12];
        for (slot, argument) in context.iter_mut().zip(arguments) {
            *slot = *argument;
        }
        let mut attr = TestRun {
            prog_fd: self.program.as_raw_fd().cast_unsigned(),
            ctx_size_in: size_of_val(&context) as u32,
            ctx_in: context.as_ptr().addr() as u64,
            ..TestRun::default()
        };
        // SAFETY: attr is a valid attribute of this command and its pointer outlives the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                std::ptr::from_mut(&mut attr),
                size_of::<TestRun>(),
            )
        };
        if result < 0 {
            return Err(ProbeError::Control(io::Error::last_os_error()));
        }
        Ok(attr.retval)
    }
}
