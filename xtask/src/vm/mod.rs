//! `cargo xtask vm`: one command in a virtual machine that boots a stock Debian kernel, for development; and what
//! `vm-test` and `check-protos` share. See `fetch.rs` for what it takes and `machine.rs` for what the guest is.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};

pub(crate) mod fetch;
pub(crate) mod machine;
pub(crate) mod matrix;

use fetch::{KERNELS, Kernel, Store};
use machine::{Ended, Machine};

/// Exit codes of the verb where the command has none, as timeout(1) has them.
const TIMED_OUT: u8 = 124;
const DIED: u8 = 125;

pub(crate) fn run(root: &Path, arguments: &crate::VmArguments) -> Result<ExitCode> {
    let store = Store::new(root)?;
    let kernel = by_name(&store, &arguments.kernel)?;
    store.fetch(&[kernel])?;
    let machine = Machine {
        store: &store,
        kernel,
        cpus: arguments.cpus,
        memory: &arguments.memory,
        limit: Duration::from_secs(arguments.timeout),
        append: &arguments.append,
    };
    let ended = machine.run(&std::env::current_dir()?, &[], &arguments.command, |line| println!("{line}"))?;
    Ok(match ended {
        Ended::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)),
        Ended::TimedOut => {
            eprintln!("vm: ended after {} s", arguments.timeout);
            ExitCode::from(TIMED_OUT)
        }
        Ended::Died => {
            eprintln!("vm: the machine died before the command ended");
            ExitCode::from(DIED)
        }
    })
}

/// A kernel by its name in the matrix, or by the two numbers of its release.
pub(crate) fn by_name(store: &Store, name: &str) -> Result<&'static Kernel> {
    let found = KERNELS.iter().find(|kernel| kernel.name == name || store.label(kernel) == name);
    match found {
        Some(kernel) => Ok(kernel),
        None => bail!("no kernel {name}: {}", KERNELS.map(|kernel| kernel.name).join(", ")),
    }
}
