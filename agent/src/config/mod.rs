//! What was set → what it means, once, before anything starts.
//!
//! In: [`Settings`], each value of the right type and range. Out: [`Config`], one struct for each stage, or the
//! problems that only show when settings are seen together (exit 2).

mod gate;
mod selection;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_pipeline::route::{Pattern, RouteConfig};

use crate::export::otlp::settings::OtlpConfig;
use crate::metrics::config::MeterConfig;
use crate::probe::Backend;
use crate::settings::problem::Problems;
use crate::settings::rows::{limits, output, protocols, routes, run, views};
use crate::settings::value::Settings;
use crate::ui::{PageAddress, UiConfig};
pub use gate::{GateConfig, check_condition};
pub use selection::{Matcher, Rule, Selection, check_glob, check_ports, check_variable};

/// Everything that a run needs to know.
#[derive(Debug)]
pub struct Config {
    /// Which processes are watched.
    pub selection: Selection,
    /// Where spans go.
    pub output: OutputConfig,
    /// The page and `skep top`.
    pub ui: UiConfig,
    /// Where spans of services that instrument themselves are taken.
    pub otlp_listen: Option<SocketAddr>,
    /// What is logged.
    pub log: LogConfig,
    /// Which requests become metrics and spans.
    pub gate: GateConfig,
    /// Where spans and metrics are exported to.
    pub otlp: OtlpConfig,
    /// How paths become routes.
    pub routes: RouteConfig,
    /// Whether Redis commands that are sent together make one span.
    pub redis_batches: bool,
    /// What is measured, and who reads it.
    pub metrics: MeterConfig,
    /// How long the run lasts, where that was said.
    pub duration: Option<Duration>,
    /// Whether counters are printed while the run goes on.
    pub stats: bool,
    /// Sizes of the kernel side's tables.
    pub limits: Limits,
    /// The kernel's type information.
    pub btf: PathBuf,
    /// This attach back end and no other.
    pub backend: Option<Backend>,
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

/// What is logged on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// How.
    pub format: LogFormat,
    /// How much.
    pub level: log::LevelFilter,
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

/// Threads whose waits are counted, on the kernel side.
const MAX_THREADS: u32 = 8192;

impl Config {
    /// Makes sense of the settings.
    pub fn new(settings: &Settings) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut config = Self {
            selection: Selection::new(settings, &mut problems),
            output: OutputConfig {
                print: match settings.need::<String>(&output::PRINT).as_str() {
                    "json" => Print::Json,
                    "none" => Print::None,
                    _ => Print::Text,
                },
                summary: settings.need(&output::SUMMARY),
            },
            ui: UiConfig {
                page: settings
                    .get::<String>(&views::UI)
                    .and_then(|text| problems_or(parse_listen(&text), &mut problems)),
                store_bytes: settings.need::<u32>(&views::STORE_SIZE) as usize,
                keep_from_start: settings.need(&views::KEEP),
            },
            otlp_listen: settings
                .get::<String>(&views::OTLP_LISTEN)
                .and_then(|text| problems_or(parse_address(&text), &mut problems)),
            log: LogConfig {
                format: LogFormat::from_word(&settings.need::<String>(&output::LOG_FORMAT)),
                level: settings.need::<String>(&output::LOG_LEVEL).parse().unwrap_or(log::LevelFilter::Info),
            },
            gate: GateConfig::new(settings, &mut problems),
            otlp: OtlpConfig::new(settings, &mut problems),
            routes: RouteConfig {
                patterns: parse_all(settings.list(&routes::PATTERNS), parse_route, &mut problems),
                learn: settings.need(&routes::LEARN),
                sets: Vec::new(),
            },
            redis_batches: settings.need(&protocols::REDIS_BATCHES),
            metrics: MeterConfig::new(settings, &mut problems),
            duration: settings.get(&run::DURATION),
            stats: settings.need(&output::STATS),
            limits: Limits {
                ring_bytes: settings.need(&limits::RING_SIZE),
                max_connections: settings.need(&limits::MAX_CONNECTIONS),
                max_processes: settings.need(&limits::MAX_PROCESSES),
                max_threads: MAX_THREADS,
            },
            btf: settings.need(&limits::BTF),
            backend: Backend::ALL
                .into_iter()
                .find(|backend| backend.name() == settings.need::<String>(&limits::BACKEND)),
        };
        problems.check()?;
        config.routes.sets = config.selection.rules.iter().map(|rule| rule.routes.clone()).collect();
        Ok(config)
    }
}

impl LogFormat {
    /// From the setting's word.
    pub fn from_word(word: &str) -> Self {
        if word == "json" { Self::Json } else { Self::Text }
    }
}

/// A route pattern, for the table.
pub fn check_route(text: &str) -> Result<(), String> {
    parse_route(text).map(drop)
}

/// Where the page listens, for the table.
pub fn check_listen(text: &str) -> Result<(), String> {
    parse_listen(text).map(drop)
}

/// Where something listens, for the table.
pub fn check_address(text: &str) -> Result<(), String> {
    parse_address(text).map(drop)
}

fn problems_or<T>(parsed: Result<T, String>, problems: &mut Problems) -> Option<T> {
    parsed.map_err(|error| problems.add(error)).ok()
}

/// The table has checked each text, so problems are not expected here; they are told all the same.
fn parse_all<T>(
    texts: Vec<String>,
    parse: impl Fn(&str) -> Result<T, String>,
    problems: &mut Problems,
) -> Vec<T> {
    let mut parsed = Vec::with_capacity(texts.len());
    for text in texts {
        match parse(&text) {
            Ok(value) => parsed.push(value),
            Err(error) => problems.add(error),
        }
    }
    parsed
}

fn parse_listen(text: &str) -> Result<PageAddress, String> {
    if text == "auto" {
        return Ok(PageAddress::Default);
    }
    parse_address(text).map(PageAddress::Exactly)
}

/// An address with a port, or a port of this machine alone.
fn parse_address(text: &str) -> Result<SocketAddr, String> {
    let address = match text.parse::<u16>() {
        Ok(port) => Some(SocketAddr::from(([127, 0, 0, 1], port))),
        Err(_) => text.parse().ok(),
    };
    address.ok_or_else(|| "give an address such as 127.0.0.1:7171, or a port".into())
}

fn parse_route(text: &str) -> Result<Pattern, String> {
    text.parse().map_err(|error: agent_pipeline::route::PatternError| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};
    use crate::settings::load::load;

    fn config(line: &str) -> Result<Config, Problems> {
        let cli = Cli::try_parse_from(line.split(' ')).expect("clap accepts the line");
        let Command::Run(flags) = cli.command else { panic!("not a run") };
        let config = Config::new(&load(&flags, &|_| None)?.0)?;
        config.selection.check()?;
        Ok(config)
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
    fn the_page_is_off_unless_asked_for_and_stays_on_this_machine() {
        let page = |line: &str| config(&format!("skep run --pid 1{line}")).map(|config| config.ui.page);
        assert_eq!(page("").unwrap(), None);
        assert_eq!(page(" --ui").unwrap(), Some(PageAddress::Default));
        let exactly = |text: &str| Some(PageAddress::Exactly(text.parse().unwrap()));
        assert_eq!(page(" --ui 8000").unwrap(), exactly("127.0.0.1:8000"));
        assert_eq!(page(" --ui=0.0.0.0:80").unwrap(), exactly("0.0.0.0:80"));
        assert!(page(" --ui here").is_err());
    }

    #[test]
    fn routes_begin_with_a_slash() {
        assert!(config("skep run --pid 1 --route users").is_err());
        let config = config("skep run --pid 1 --route /users/{id}").unwrap();
        assert_eq!(config.routes.patterns[0].route(), "/users/{id}");
    }
}
