//! What can be typed: commands, flags and their help.
//!
//! In: argv. Out: [`Cli`], still as it was typed; `config.rs` says what it means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

// Lines of at most 78 columns: clap wraps longer ones, which breaks the alignment.
const AFTER_HELP: &str = "\
Examples:
  sudo skep run --pid 4242            one process, its children included
  sudo skep run --port 8080           whatever listens there, now or later
  sudo skep run --exe 'python3*' --summary
                                      every Python; figures per route at the end
  sudo skep run --port 8000-8999 --print json --duration 60 > spans.jsonl
  skep check                          what this kernel and your rights allow

Skep needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE. It changes
nothing in what it watches; Ctrl-C ends it, and nothing stays behind.";

const RUN_AFTER_HELP: &str = "\
A process that matches any of --pid, --port and --exe is watched, and so are
its children, from their first instruction.

Examples:
  sudo skep run --pid 4242
  sudo skep run --port 8080 --port 9000-9010 --route '/users/{id}' --summary
  sudo skep run --exe '/srv/*/bin/*' --print json | jq .name

Exit codes: 0 done, 1 failed, 2 bad usage.";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "skep",
    version,
    about = "See what your services do, without touching them",
    long_about = "Skep watches running services through eBPF and turns their HTTP traffic into OpenTelemetry \
                  spans: any language, no restart, no code change, no collector.",
    after_help = AFTER_HELP,
    max_term_width = 110,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch processes and print the spans of their requests
    #[command(after_help = RUN_AFTER_HELP, max_term_width = 110)]
    Run(Box<RunArgs>),
    /// Say what this kernel and these rights allow, and how to get what is missing
    #[command(max_term_width = 110)]
    Check,
    /// Print the completion script of a shell
    ///
    /// For instance: skep completions bash > /etc/bash_completion.d/skep
    #[command(max_term_width = 110)]
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

/// Flags of `skep run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Watch this process and its descendants
    #[arg(long, value_name = "PID", help_heading = "Selection")]
    pub pid: Vec<u32>,
    /// Watch the processes that listen on this TCP port or range of ports, now or later
    #[arg(long, value_name = "PORT[-PORT]", help_heading = "Selection")]
    pub port: Vec<String>,
    /// Watch the processes whose program matches, now or later
    ///
    /// Without a slash the file name is matched, else the whole path. `*`, `?` and `[a-z]` as in a shell; `*` also
    /// crosses slashes.
    #[arg(long, value_name = "GLOB", help_heading = "Selection")]
    pub exe: Vec<String>,

    /// How spans are printed on standard output
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = PrintArg::Text, help_heading = "Output")]
    pub print: PrintArg,
    /// At the end, print rate, errors and latencies per service and route
    #[arg(long, help_heading = "Output")]
    pub summary: bool,
    /// Print Skep's own counters every ten seconds, not only at the end
    #[arg(long, help_heading = "Output")]
    pub stats: bool,
    /// How logs are printed on standard error
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = LogFormatArg::Text, help_heading = "Output")]
    pub log_format: LogFormatArg,

    /// Stop after this many seconds
    #[arg(long, value_name = "SECONDS", help_heading = "Run")]
    pub duration: Option<f64>,
    /// Route pattern such as `/users/{id}` or `GET /static/*`, for span names
    ///
    /// The first that matches counts; paths that match none get a learned route.
    #[arg(long, value_name = "PATTERN", help_heading = "Run")]
    pub route: Vec<String>,

    /// Size of the kernel's ring buffer: bytes, or with K or M; a power of two
    #[arg(long, value_name = "SIZE", default_value = "4M", hide_short_help = true, help_heading = "Limits")]
    pub ring_size: String,
    /// Connections that are followed at the same time
    #[arg(long, value_name = "N", default_value_t = 16_384, hide_short_help = true, help_heading = "Limits")]
    pub max_connections: u32,
    /// Processes that are watched at the same time
    #[arg(long, value_name = "N", default_value_t = 4096, hide_short_help = true, help_heading = "Limits")]
    pub max_processes: u32,
    /// Read the kernel's type information from this file
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/sys/kernel/btf/vmlinux",
        hide_short_help = true,
        help_heading = "Limits"
    )]
    pub btf: PathBuf,
}

/// `--print`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PrintArg {
    /// One aligned line a span
    Text,
    /// One JSON object a line
    Json,
    /// Nothing
    None,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormatArg {
    /// Lines to read
    Text,
    /// One JSON object a line
    Json,
}
