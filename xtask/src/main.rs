//! The project's own commands: `cargo xtask VERB`, one file per verb.
//!
//! Everything that a person or CI does with the project goes through here: build, check, test, demo, bench.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "these commands talk to a person")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

mod bench;
mod build_ebpf;
mod check;
mod check_protos;
mod collector;
mod dashboards;
mod demo;
mod ebpf_toolchain;
mod fuzz;
mod setup;
mod stack;
mod steps;
mod targets;
mod test;
mod vm;

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "The project's own commands",
    max_term_width = 100
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the kernel programs with the compiler that is there, and say which
    BuildEbpf,
    /// Install what the other verbs need and this machine does not have
    Setup,
    /// Format, lints of both sides, licences and sources, unused dependencies, spelling
    Check,
    /// Everything that CI runs: check, tests, kernel programs, and the ground truth on this machine's kernel
    Test {
        /// Three rounds of the ground truth, and longer fuzzing
        #[arg(long)]
        full: bool,
    },
    /// Real services in several languages, Skep on them: the page, and the same in the terminal
    ///
    /// Ends by itself after some seconds, so that it can run where nobody watches; --seconds 3600 leaves time to look around
    /// on the page.
    Demo {
        /// How long to watch
        #[arg(long, default_value_t = 15)]
        seconds: u32,
        /// Take pictures of the page into this folder, with Chromium
        #[arg(long, value_name = "DIR")]
        shots: Option<PathBuf>,
    },
    /// Feed the pipeline what a fuzzer finds, for a bounded time
    Fuzz {
        /// Seconds for each target
        #[arg(long, default_value_t = 60)]
        seconds: u32,
    },
    /// The demo's whole stack without Docker, with the config files of deploy/
    Stack {
        #[command(subcommand)]
        stack: stack::Stack,
    },
    /// Write Grafana's boards in deploy/ anew from their tables
    Dashboards,
    /// One command in a virtual machine with a stock kernel (emulated: minutes, not seconds)
    Vm(VmArguments),
    /// The ground truth in stock kernels, for every attach back end: a table kernels × back ends × cases
    VmTest {
        /// 5.10, 6.1, 6.12, newest; all by default
        kernels: Vec<String>,
        /// Only this attach back end; may be repeated
        #[arg(long)]
        backend: Vec<String>,
        /// Only cases or servers whose name holds this; may be repeated
        #[arg(long)]
        case: Vec<String>,
        /// All cases on all servers, not only the smoke
        #[arg(long)]
        full: bool,
        /// Seconds for one kernel
        #[arg(long, default_value_t = 900)]
        timeout: u64,
    },
    /// The documented prototypes of hooked functions against the type information of every kernel
    CheckProtos,
    /// Benchmarks that print a table
    Bench {
        #[command(subcommand)]
        bench: bench::Bench,
    },
}

#[derive(clap::Args)]
struct VmArguments {
    /// 5.10, 6.1, 6.12 or newest
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Processors
    #[arg(long, default_value_t = 2)]
    cpus: u32,
    /// Memory, as QEMU wants it
    #[arg(long, default_value = "4G")]
    memory: String,
    /// Seconds after which the machine is ended
    #[arg(long, default_value_t = 600)]
    timeout: u64,
    /// More words for the kernel's command line, e.g. lockdown=integrity
    #[arg(long, default_value = "")]
    append: String,
    /// What to run, as root, in the present folder
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments.verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(verb: Verb) -> Result<ExitCode> {
    let root = root()?;
    match verb {
        Verb::BuildEbpf => build_ebpf::run(&root)?,
        Verb::Setup => setup::run(&root)?,
        Verb::Check => return Ok(check::run(&root)),
        Verb::Demo { seconds, shots } => demo::run(&root, seconds, shots.as_deref())?,
        Verb::Fuzz { seconds } => return Ok(fuzz::run(&root, seconds)),
        Verb::Stack { stack } => return stack::run(&root, stack),
        Verb::Dashboards => dashboards::run(&root)?,
        Verb::Vm(arguments) => return vm::run(&root, &arguments),
        Verb::VmTest { kernels, backend, case, full, timeout } => {
            let wanted =
                vm::matrix::Wanted { kernels: &kernels, backends: &backend, cases: &case, full, timeout };
            return vm::matrix::run(&root, &wanted);
        }
        Verb::CheckProtos => return check_protos::run(&root),
        Verb::Bench { bench } => bench::run(&root, &bench)?,
        Verb::Test { full } => return Ok(test::run(&root, full)),
    }
    Ok(ExitCode::SUCCESS)
}

fn root() -> Result<PathBuf> {
    let manifest_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    Ok(manifest_dir.parent().context("xtask lies in no folder")?.to_path_buf())
}
