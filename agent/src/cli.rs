//! What can be typed: commands and their help. The flags of a run come from the table of settings.
//!
//! In: argv. Out: [`Cli`], still as it was typed; `settings` and `config.rs` say what it means.

use clap::{Parser, Subcommand};

use crate::settings::flags::Flags;

// Lines of at most 78 columns: clap wraps longer ones, which breaks the alignment.
const AFTER_HELP: &str = "\
Examples:
  sudo skep run --pid 4242            one process, its children included
  sudo skep run --port 8080           whatever listens there, now or later
  sudo skep run --exe 'python3*' --summary
                                      every Python; figures per route at the end
  sudo skep run --port 8000-8999 --print json --duration 60 > spans.jsonl
  sudo skep top                       all of it, live, in another terminal
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
  sudo skep run --config /etc/skep.yaml

Exit codes: 0 done, 1 failed, 2 bad usage.";

const TOP_AFTER_HELP: &str = "\
Without a selection it attaches to the newest `skep run` of this user; with
one (--pid, --port, --exe or --config) it starts a run of its own.

Examples:
  sudo skep top
  sudo skep top --port 8080

`?` shows the keys.";

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
    Run(Flags),
    /// Show services, operations, edges and traces live, in this terminal
    #[command(after_help = TOP_AFTER_HELP, max_term_width = 110)]
    Top(Box<TopArgs>),
    /// Say what this kernel and these rights allow, and how to get what is missing
    #[command(max_term_width = 110)]
    Check {
        /// Also list each kernel program and how many instructions the kernel's verifier walked through for it
        #[arg(long)]
        programs: bool,
    },
    /// List the protocols that are understood, to which depth and with which limits
    #[command(max_term_width = 110)]
    Protocols {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show, check and describe the settings
    #[command(max_term_width = 110)]
    Config {
        /// What about them.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the completion script of a shell
    ///
    /// For instance: skep completions bash > /etc/bash_completion.d/skep
    #[command(max_term_width = 110)]
    Completions {
        /// Shell to complete for
        shell: clap_complete::Shell,
    },
}

/// Flags of `skep top`.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// Attach to the `skep run` with this process number
    #[arg(long, value_name = "PID")]
    pub attach: Option<u32>,
    /// Print one picture and end
    #[arg(long)]
    pub once: bool,
    /// What to watch, with a run of its own.
    #[command(flatten)]
    pub flags: Flags,
}

/// What about the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the settings that hold, as YAML, each with its source; secrets are masked
    #[command(max_term_width = 110)]
    Print(Flags),
    /// Say what is wrong with the settings, above all with a file
    #[command(max_term_width = 110)]
    Check {
        /// The file, as with --config
        file: Option<String>,
        /// All others.
        #[command(flatten)]
        flags: Flags,
    },
    /// Print the JSON Schema of the file
    #[command(max_term_width = 110)]
    Schema,
    /// Print the page about all settings, in Markdown
    #[command(max_term_width = 110)]
    Docs,
}
