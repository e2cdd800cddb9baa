//! Which processes are watched, and how each is treated: [`Selection`] from the section "Selection".

use agent_pipeline::glob::Glob;
use agent_pipeline::route::Pattern;
use agent_pipeline::sampling::Sampler;
use agent_pipeline::semconv;

use super::{gate, parse_all, parse_route};
use crate::discovery::resource::Identity;
use crate::settings::problem::Problems;
use crate::settings::rows::selection;
use crate::settings::value::{Record, Settings};

/// Which processes are watched.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The first that fits a process decides how it is treated.
    pub rules: Vec<Rule>,
    /// Processes that are not watched, whatever the rules say.
    pub exclude: Vec<Matcher>,
    /// Processes by number: the short form.
    pub pids: Vec<u32>,
    /// Inclusive ranges of TCP ports that a process listens on: the short form.
    pub ports: Vec<(u16, u16)>,
    /// Programs by path: the short form.
    pub exes: Vec<Glob>,
}

/// Processes that are treated alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// Which.
    pub matcher: Matcher,
    /// What the resource says.
    pub identity: Identity,
    /// Route patterns that come before the general ones.
    pub routes: Vec<Pattern>,
    /// No spans leave.
    pub no_traces: bool,
    /// No metrics are made.
    pub no_metrics: bool,
    /// The sampler, where the rule has its own.
    pub sampler: Option<Sampler>,
}

/// What a process must be: all that is said must hold, of each list any.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher {
    /// Process numbers.
    pub pids: Vec<u32>,
    /// Inclusive ranges of TCP ports that it listens on.
    pub ports: Vec<(u16, u16)>,
    /// Paths of the program.
    pub exes: Vec<Glob>,
    /// Command lines, arguments with one space between.
    pub command_lines: Vec<Glob>,
    /// Ids of containers.
    pub containers: Vec<Glob>,
    /// Paths of control groups.
    pub cgroups: Vec<Glob>,
    /// Variables of its environment.
    pub environment: Vec<(String, Glob)>,
}

impl Selection {
    pub(super) fn new(settings: &Settings, problems: &mut Problems) -> Self {
        let mut read = |row, read: fn(&Record, &mut Problems) -> Result<_, String>| {
            let mut read_all = Vec::new();
            for record in settings.list::<Record>(row) {
                match read(&record, problems) {
                    Ok(rule) => read_all.push(rule),
                    Err(error) => problems.add(format!("{}: {error}", settings.place(row, record.line))),
                }
            }
            read_all
        };
        let rules = read(&selection::RULES, Rule::new);
        let exclude = read(&selection::EXCLUDE, |record, problems| {
            Matcher::new(record, problems).map(|matcher| Rule { matcher, ..Rule::default() })
        });
        Self {
            rules,
            exclude: exclude.into_iter().map(|rule| rule.matcher).collect(),
            pids: settings.list(&selection::PIDS),
            ports: parse_all(settings.list(&selection::PORTS), parse_ports, problems),
            exes: parse_all(settings.list(&selection::EXES), parse_glob, problems),
        }
    }

    /// Fails where nothing could ever be watched.
    pub fn check(&self) -> Result<(), Problems> {
        let mut problems = Problems::default();
        if self.rules.is_empty() && self.pids.is_empty() && self.ports.is_empty() && self.exes.is_empty() {
            problems.add(
                "nothing to watch: name a process with --pid, --port or --exe (e.g. `skep run --port 8080`), or \
                 write rules into a file and give it with --config",
            );
        }
        problems.check()
    }

    /// The short form as matchers, each of which selects for itself.
    pub fn short_form(&self) -> Vec<Matcher> {
        let matchers = [
            Matcher { pids: self.pids.clone(), ..Matcher::default() },
            Matcher { ports: self.ports.clone(), ..Matcher::default() },
            Matcher { exes: self.exes.clone(), ..Matcher::default() },
        ];
        matchers.into_iter().filter(|matcher| !matcher.is_empty()).collect()
    }
}

impl Rule {
    fn new(record: &Record, problems: &mut Problems) -> Result<Self, String> {
        let signals: Option<Vec<String>> = record.get("signals");
        let lacks =
            |signal: &str| signals.as_ref().is_some_and(|signals| !signals.iter().any(|one| one == signal));
        let sampler: Option<String> = record.get("sampler");
        let ratio: Option<f64> = record.get("sampler_arg");
        if ratio.is_some() && sampler.is_none() {
            return Err("sampler_arg without sampler".into());
        }
        Ok(Self {
            matcher: Matcher::new(record, problems)?,
            identity: identity(record),
            routes: parse_all(record.list("routes"), parse_route, problems),
            no_traces: lacks("traces"),
            no_metrics: lacks("metrics"),
            sampler: sampler.map(|name| gate::sampler(&name, ratio.unwrap_or(1.0))),
        })
    }
}

impl Matcher {
    fn new(record: &Record, problems: &mut Problems) -> Result<Self, String> {
        let mut globs = |name| parse_all(record.list(name), parse_glob, problems);
        let environment: Vec<(String, String)> = record.list("environment");
        let matcher = Self {
            pids: record.list("pids"),
            exes: globs("exes"),
            command_lines: globs("command_lines"),
            containers: globs("containers"),
            cgroups: globs("cgroups"),
            environment: environment
                .into_iter()
                .map(|(name, text)| Ok((name, parse_glob(&text)?)))
                .collect::<Result<_, String>>()?,
            ports: parse_all(record.list("ports"), parse_ports, problems),
        };
        if matcher.is_empty() {
            return Err(
                "say which processes: pids, ports, exes, command_lines, containers, cgroups or environment \
                        (exes: \"*\" is all)"
                    .into(),
            );
        }
        Ok(matcher)
    }

    /// Says nothing, and so would fit all.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The two attributes with keys of their own come before the same ones among all others.
fn identity(record: &Record) -> Identity {
    let mut attributes: Vec<(String, String)> = record.list("resource_attributes");
    if let Some(namespace) = record.get("service_namespace") {
        attributes.retain(|(name, _)| name != semconv::SERVICE_NAMESPACE);
        attributes.insert(0, (semconv::SERVICE_NAMESPACE.to_owned(), namespace));
    }
    let named = attributes.iter().position(|(name, _)| name == semconv::SERVICE_NAME);
    let named = named.map(|at| attributes.remove(at).1);
    Identity { service_name: record.get("service_name").or(named), attributes }
}

/// A port or a range of ports, for the table.
pub fn check_ports(text: &str) -> Result<(), String> {
    parse_ports(text).map(drop)
}

/// A shell pattern, for the table.
pub fn check_glob(text: &str) -> Result<(), String> {
    parse_glob(text).map(drop)
}

/// A variable's name and a pattern for what it holds, for the table.
pub fn check_variable(name: &str, text: &str) -> Result<(), String> {
    if name.is_empty() || name.contains('=') {
        return Err("give the name of a variable".into());
    }
    check_glob(text)
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if first != 0 && first <= last => Ok((first, last)),
        _ => Err("give a port from 1 to 65535, or a range such as 8000-8080".into()),
    }
}

fn parse_glob(text: &str) -> Result<Glob, String> {
    Glob::new(text).map_err(str::to_owned)
}
