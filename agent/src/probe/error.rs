//! What can go wrong between Skep and the kernel, each with the object and the mend.

use std::io;

use thiserror::Error;

use crate::kernel::offsets::OffsetsError;

/// Loading, attaching or steering the kernel programs failed.
#[derive(Debug, Error)]
pub enum ProbeError {
    /// The rights of this process do not suffice.
    #[error("{what}: not permitted; run Skep as root or with CAP_BPF and CAP_PERFMON")]
    NoRights {
        /// What was tried.
        what: String,
    },
    /// The kernel's structure offsets are not known.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// The embedded object could not be loaded: maps could not be made.
    #[error("load the kernel programs: {0}")]
    Object(String),
    /// The verifier or the kernel's configuration refused a program.
    #[error("load kernel program {program}: {message}")]
    Program {
        /// Name of the program.
        program: &'static str,
        /// The error and the end of the verifier's log.
        message: String,
    },
    /// A tracepoint or function is missing or may not be used.
    #[error(
        "attach kernel program {program} to {hook}: {message}; `skep check` tells what this kernel lacks"
    )]
    Attach {
        /// Name of the program.
        program: &'static str,
        /// Name of the tracepoint or function.
        hook: &'static str,
        /// What the system said.
        message: String,
    },
    /// This kernel does not have what a back end needs.
    #[error("back end {0}: {1}")]
    Unavailable(&'static str, String),
    /// The object lacks a map or a program: the build is broken.
    #[error("the embedded kernel object has no {0}; rebuild Skep")]
    Missing(&'static str),
    /// The table of selected processes is full.
    #[error("select process {0}: the table is full; raise --max-processes")]
    SelectionFull(u32),
    /// A control call failed.
    #[error("control the kernel programs: {0}")]
    Control(#[source] io::Error),
}

impl ProbeError {
    /// Tells missing rights apart, whatever library type carried them.
    pub(super) fn from_source(what: &str, error: &(dyn std::error::Error + 'static), other: Self) -> Self {
        let mut source = Some(error);
        while let Some(error) = source {
            if let Some(io) = error.downcast_ref::<io::Error>()
                && matches!(io.raw_os_error(), Some(libc::EPERM | libc::EACCES))
                && !has_verifier_log(&other)
            {
                return Self::NoRights { what: what.to_owned() };
            }
            source = error.source();
        }
        other
    }
}

/// The verifier refuses programs with EACCES or EPERM too, but then it says why.
fn has_verifier_log(error: &ProbeError) -> bool {
    matches!(error, ProbeError::Program { message, .. } if message.contains("processed "))
}

/// An error with its causes, on one line, the verifier's log cut to its end.
pub(super) fn one_line(error: &(dyn std::error::Error + 'static)) -> String {
    const MOST: usize = 600;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    let flat: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let flat = flat.join(" | ");
    match flat.char_indices().rev().nth(MOST) {
        Some((at, _)) => format!("… {}", &flat[at..]),
        None => flat,
    }
}
