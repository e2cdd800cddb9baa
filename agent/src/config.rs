//! What was set → what it means, once, before anything starts.
//!
//! In: [`Settings`], each value of the right type and range. Out: [`Config`], one struct for each stage, or the
//! problems that only show when settings are seen together (exit 2).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use agent_pipeline::filter::{Filter, FilterError};
use agent_pipeline::glob::Glob;
use agent_pipeline::route::{Pattern, RouteConfig};
use agent_pipeline::sampling::{Ratio, RootSampler, Sampler, SamplingConfig};
use agent_pipeline::semconv;

use crate::export::otlp::settings::OtlpConfig;
use crate::settings::problem::Problems;
use crate::settings::rows::{limits, output, routes, run, sampling, selection, views};
use crate::settings::value::{Record, Settings};
use crate::settings::{Setting, nearest};
use crate::ui::{PageAddress, UiConfig};

/// Everything that a run needs to know.
#[derive(Debug)]
pub struct Config {
    /// Which processes are watched.
    pub selection: Selection,
    /// Where spans go.
    pub output: OutputConfig,
    /// The page and `skep top`.
    pub ui: UiConfig,
    /// What is logged.
    pub log: LogConfig,
    /// Which requests become metrics and spans.
    pub gate: GateConfig,
    /// Where spans and metrics are exported to.
    pub otlp: OtlpConfig,
    /// How paths become routes.
    pub routes: RouteConfig,
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

/// Which requests become metrics and spans.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateConfig {
    /// Which spans leave, as far as their attributes say.
    pub traces: Filter,
    /// Which requests metrics count.
    pub metrics: Filter,
    /// Which of the spans leave.
    pub sampling: SamplingConfig,
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
        let config = Self {
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
            log: LogConfig {
                format: LogFormat::from_word(&settings.need::<String>(&output::LOG_FORMAT)),
                level: settings.need::<String>(&output::LOG_LEVEL).parse().unwrap_or(log::LevelFilter::Info),
            },
            gate: GateConfig {
                traces: filter(settings, &sampling::FILTER_TRACES, &mut problems),
                metrics: filter(settings, &sampling::FILTER_METRICS, &mut problems),
                sampling: SamplingConfig {
                    sampler: parse_sampler(
                        &settings.need::<String>(&sampling::SAMPLER),
                        settings.need(&sampling::SAMPLER_ARG),
                    ),
                    keep_errors: settings.need(&sampling::KEEP_ERRORS),
                    keep_slow_ns: settings.get::<Duration>(&sampling::KEEP_SLOW).map(nanoseconds),
                    max_spans_per_second: settings.get(&sampling::MAX_SPANS_PER_SECOND),
                },
            },
            otlp: OtlpConfig::new(settings, &mut problems),
            routes: RouteConfig {
                patterns: parse_all(settings.list(&routes::PATTERNS), parse_route, &mut problems),
                learn: settings.need(&routes::LEARN),
            },
            duration: settings.get(&run::DURATION),
            stats: settings.need(&output::STATS),
            limits: Limits {
                ring_bytes: settings.need(&limits::RING_SIZE),
                max_connections: settings.need(&limits::MAX_CONNECTIONS),
                max_processes: settings.need(&limits::MAX_PROCESSES),
                max_threads: MAX_THREADS,
            },
            btf: settings.need(&limits::BTF),
        };
        problems.check()?;
        Ok(config)
    }
}

impl Selection {
    fn new(settings: &Settings, problems: &mut Problems) -> Self {
        Self {
            pids: settings.list(&selection::PIDS),
            ports: parse_all(settings.list(&selection::PORTS), parse_ports, problems),
            exes: parse_all(settings.list(&selection::EXES), parse_glob, problems),
        }
    }

    /// Fails where nothing could ever be watched.
    pub fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if self.pids.is_empty() && self.ports.is_empty() && self.exes.is_empty() {
            problems.add(
                "nothing to watch: name a process with --pid, --port or --exe (e.g. `skep run --port 8080`), or \
                 write rules into a file and give it with --config",
            );
        }
        problems.check()
    }
}

impl LogFormat {
    /// From the setting's word.
    pub fn from_word(word: &str) -> Self {
        if word == "json" { Self::Json } else { Self::Text }
    }
}

/// A port or a range of ports, for the table.
pub fn check_ports(text: &str) -> Result<(), String> {
    parse_ports(text).map(drop)
}

/// A pattern for programs, for the table.
pub fn check_glob(text: &str) -> Result<(), String> {
    parse_glob(text).map(drop)
}

/// A route pattern, for the table.
pub fn check_route(text: &str) -> Result<(), String> {
    parse_route(text).map(drop)
}

/// A condition of a filter, for the table.
pub fn check_condition(name: &str, text: &str) -> Result<(), String> {
    Filter::check(name, text).map_err(|error| {
        match nearest(name, semconv::NAMES.iter().map(|(known, _)| *known)) {
            Some(meant) if error == FilterError::UnknownAttribute => {
                format!("no span has such an attribute: did you mean {meant}?")
            }
            _ => error.to_string(),
        }
    })
}

fn filter(settings: &Settings, row: &'static Setting, problems: &mut Problems) -> Filter {
    let mut filter = Filter::default();
    for record in settings.list::<Record>(row) {
        let conditions = |name| record.get::<Vec<(String, String)>>(name);
        let (keep, conditions) = match (conditions("keep"), conditions("drop")) {
            (Some(conditions), None) => (true, conditions),
            (None, Some(conditions)) => (false, conditions),
            _ => {
                let place = settings.place(row, record.line);
                problems.add(format!("{place}: a rule says either keep or drop, then the conditions"));
                continue;
            }
        };
        let pairs = conditions.iter().map(|(name, text)| (name.as_str(), text.as_str()));
        if let Err(error) = filter.add(keep, pairs) {
            problems.add(format!("{}: {error}", settings.place(row, record.line)));
        }
    }
    filter
}

fn parse_sampler(name: &str, ratio: f64) -> Sampler {
    let root = name.strip_prefix("parentbased_");
    Sampler {
        parent_based: root.is_some(),
        root: match root.unwrap_or(name) {
            "always_off" => RootSampler::AlwaysOff,
            "traceidratio" => RootSampler::TraceIdRatio(Ratio::new(ratio)),
            _ => RootSampler::AlwaysOn,
        },
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Where the page listens, for the table.
pub fn check_listen(text: &str) -> Result<(), String> {
    parse_listen(text).map(drop)
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

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first != 0 && first <= last => Ok((first, last)),
        _ => Err("give a port from 1 to 65535, or a range such as 8000-8080".into()),
    }
}

fn parse_listen(text: &str) -> Result<PageAddress, String> {
    if text == "auto" {
        return Ok(PageAddress::Default);
    }
    let address = match text.parse::<u16>() {
        Ok(port) => Some(SocketAddr::from(([127, 0, 0, 1], port))),
        Err(_) => text.parse().ok(),
    };
    address
        .map(PageAddress::Exactly)
        .ok_or_else(|| "give an address such as 127.0.0.1:7171, or a port".into())
}

fn parse_glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(str::to_owned)
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
