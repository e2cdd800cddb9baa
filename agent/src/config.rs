//! What was typed → what it means, once, before anything starts.
//!
//! In: [`RunArgs`]. Out: [`Config`], one struct for each stage, or a [`UsageError`] that names the flag (exit 2).

use std::path::PathBuf;
use std::time::Duration;

use agent_pipeline::route::Pattern;

use crate::cli::{LogFormatArg, PrintArg, RunArgs};
use crate::discovery::glob::Glob;

/// Everything that a run needs to know.
#[derive(Debug)]
pub struct Config {
    /// Which processes are watched.
    pub selection: Selection,
    /// Where spans go.
    pub output: OutputConfig,
    /// Route patterns, in order.
    pub routes: Vec<Pattern>,
    /// How long the run lasts, where that was said.
    pub duration: Option<Duration>,
    /// Whether counters are printed while the run goes on.
    pub stats: bool,
    /// Sizes of the kernel side's tables.
    pub limits: Limits,
    /// The kernel's type information.
    pub btf: PathBuf,
}

/// Which processes are watched: any rule selects.
#[derive(Debug, Default)]
pub struct Selection {
    /// Processes by number.
    pub pids: Vec<u32>,
    /// Inclusive ranges of TCP ports that a process listens on.
    pub ports: Vec<(u16, u16)>,
    /// Programs by path.
    pub exes: Vec<Glob>,
}

/// Where spans go.
#[derive(Clone, Copy, Debug)]
pub struct OutputConfig {
    /// Format of the spans on standard output.
    pub print: Print,
    /// Whether a table of rates, errors and latencies is printed at the end.
    pub summary: bool,
}

/// Format of the spans on standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Print {
    /// One aligned line a span.
    Text,
    /// One JSON object a line.
    Json,
    /// Nothing.
    None,
}

/// Format of the logs on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines to read.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sizes of the kernel side's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Ring buffer, a power of two.
    pub ring_bytes: u32,
    /// Connections followed at the same time.
    pub max_connections: u32,
    /// Processes selected at the same time.
    pub max_processes: u32,
    /// Threads whose waits are counted.
    pub max_threads: u32,
}

/// A flag whose value makes no sense.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(String);

const MIN_RING_BYTES: u32 = 64 * 1024;
const MAX_RING_BYTES: u32 = 256 * 1024 * 1024;
const MAX_TABLE_ENTRIES: u32 = 1 << 20;
const MAX_RUN: f64 = 100.0 * 365.0 * 86_400.0;

impl Config {
    /// Makes sense of `skep run`'s flags.
    pub fn from_args(args: &RunArgs) -> Result<Self, UsageError> {
        let selection = Selection {
            pids: args.pid.iter().map(|&pid| parse_pid(pid)).collect::<Result<_, _>>()?,
            ports: args.port.iter().map(|text| parse_ports(text)).collect::<Result<_, _>>()?,
            exes: args.exe.iter().map(|text| parse_glob(text)).collect::<Result<_, _>>()?,
        };
        if selection.pids.is_empty() && selection.ports.is_empty() && selection.exes.is_empty() {
            return Err(UsageError(
                "nothing to watch: name a process with --pid, --port or --exe (e.g. `skep run --port 8080`)"
                    .into(),
            ));
        }
        for (flag, value) in
            [("--max-connections", args.max_connections), ("--max-processes", args.max_processes)]
        {
            if value == 0 || value > MAX_TABLE_ENTRIES {
                return Err(UsageError(format!(
                    "{flag} {value}: give a number from 1 to {MAX_TABLE_ENTRIES}"
                )));
            }
        }
        Ok(Self {
            selection,
            output: OutputConfig {
                print: match args.print {
                    PrintArg::Text => Print::Text,
                    PrintArg::Json => Print::Json,
                    PrintArg::None => Print::None,
                },
                summary: args.summary,
            },
            routes: args.route.iter().map(|text| parse_route(text)).collect::<Result<_, _>>()?,
            duration: args.duration.map(parse_duration).transpose()?,
            stats: args.stats,
            limits: Limits {
                ring_bytes: parse_ring_size(&args.ring_size)?,
                max_connections: args.max_connections,
                max_processes: args.max_processes,
                max_threads: 8192,
            },
            btf: args.btf.clone(),
        })
    }
}

impl From<LogFormatArg> for LogFormat {
    fn from(arg: LogFormatArg) -> Self {
        match arg {
            LogFormatArg::Text => Self::Text,
            LogFormatArg::Json => Self::Json,
        }
    }
}

fn parse_pid(pid: u32) -> Result<u32, UsageError> {
    match pid {
        1..=4_194_304 => Ok(pid),
        _ => Err(UsageError(format!("--pid {pid}: no process has this number"))),
    }
}

fn parse_ports(text: &str) -> Result<(u16, u16), UsageError> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first != 0 && first <= last => Ok((first, last)),
        _ => Err(UsageError(format!(
            "--port {text}: give a port from 1 to 65535, or a range such as 8000-8080"
        ))),
    }
}

fn parse_glob(text: &str) -> Result<Glob, UsageError> {
    Glob::new(text).map_err(|reason| UsageError(format!("--exe {text}: {reason}")))
}

fn parse_route(text: &str) -> Result<Pattern, UsageError> {
    text.parse().map_err(|error| UsageError(format!("--route: {error}")))
}

fn parse_duration(seconds: f64) -> Result<Duration, UsageError> {
    if seconds > 0.0 && seconds <= MAX_RUN {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(UsageError(format!("--duration {seconds}: give a number of seconds above 0")))
    }
}

fn parse_ring_size(text: &str) -> Result<u32, UsageError> {
    let error =
        || UsageError(format!("--ring-size {text}: give a power of two from 64K to 256M, such as 4M"));
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K' | b'k') => (&text[..text.len() - 1], 1024),
        Some(b'M' | b'm') => (&text[..text.len() - 1], 1024 * 1024),
        _ => (text, 1),
    };
    let bytes = digits.parse::<u32>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(error)?;
    if bytes.is_power_of_two() && (MIN_RING_BYTES..=MAX_RING_BYTES).contains(&bytes) {
        Ok(bytes)
    } else {
        Err(error())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn config(line: &str) -> Result<Config, UsageError> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("clap accepts the line");
        let Command::Run(args) = cli.command else { panic!("not a run") };
        Config::from_args(&args)
    }

    #[test]
    fn ports_are_single_or_ranges() {
        assert_eq!(
            config("skep run --port 80 --port 8000-8010").unwrap().selection.ports,
            [(80, 80), (8000, 8010)]
        );
        for bad in ["0", "70000", "9-8", "http", "1-", "-1"] {
            assert!(config(&format!("skep run --port={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn something_must_be_selected() {
        let error = config("skep run").unwrap_err().to_string();
        assert!(error.contains("--pid"), "{error}");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(config("skep run --pid 1 --ring-size 256K").unwrap().limits.ring_bytes, 262_144);
        assert_eq!(config("skep run --pid 1").unwrap().limits.ring_bytes, 4_194_304);
        for bad in ["3M", "1", "9999M", "x", "", "K"] {
            assert!(config(&format!("skep run --pid 1 --ring-size={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_positive() {
        assert_eq!(
            config("skep run --pid 1 --duration 1.5").unwrap().duration,
            Some(Duration::from_millis(1500))
        );
        for bad in ["0", "-1", "NaN", "inf"] {
            assert!(config(&format!("skep run --pid 1 --duration={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn routes_begin_with_a_slash() {
        assert!(config("skep run --pid 1 --route users").is_err());
        assert_eq!(config("skep run --pid 1 --route /users/{id}").unwrap().routes[0].route(), "/users/{id}");
    }
}
