//! Which rule a process falls under.
//!
//! In: the rules of the configuration and a process number. Out: the number of the first rule that fits. What a rule
//! asks is read from /proc once, and only if a rule asks.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::{container, procfs};
use crate::config::{Matcher, Selection};

/// A process's environment is read this far.
const MAX_ENVIRON_BYTES: usize = 1 << 20;
const MAX_CGROUP_BYTES: usize = 64 * 1024;

/// Number of a rule; one more than the last stands for the short form.
pub type RuleId = usize;

/// All rules, in order.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Matcher>,
    exclude: Vec<Matcher>,
    short_form: Vec<Matcher>,
}

/// What a process falls under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fit {
    /// This rule.
    Rule(RuleId),
    /// None.
    Nothing,
    /// It must not be watched.
    Excluded,
}

impl Rules {
    pub(super) fn new(selection: &Selection) -> Self {
        Self {
            rules: selection.rules.iter().map(|rule| rule.matcher.clone()).collect(),
            exclude: selection.exclude.clone(),
            short_form: selection.short_form(),
        }
    }

    /// What the process falls under. `ports` are those that it is known to listen on.
    pub(super) fn fit(&self, tgid: u32, ports: Option<&BTreeSet<u16>>) -> Fit {
        let process = Process::new(tgid, ports);
        if self.exclude.iter().any(|matcher| process.is(matcher)) {
            return Fit::Excluded;
        }
        let rule = self.rules.iter().position(|matcher| process.is(matcher));
        let rule = rule.or_else(|| {
            self.short_form.iter().any(|matcher| process.is(matcher)).then_some(self.rules.len())
        });
        rule.map_or(Fit::Nothing, Fit::Rule)
    }

    /// Ports that any rule names: whoever begins to listen there is to be told.
    pub(super) fn ports(&self) -> Vec<(u16, u16)> {
        self.all().chain(&self.exclude).flat_map(|matcher| matcher.ports.iter().copied()).collect()
    }

    /// Whether a process may fall under a rule, or be excluded, because of the program that it runs.
    pub(super) fn ask_programs(&self) -> bool {
        self.all().any(|matcher| matcher.pids.is_empty() && matcher.ports.is_empty())
    }

    /// Whether only processes that exist can ever be selected.
    pub(super) fn only_pids(&self) -> bool {
        self.all().all(|matcher| !matcher.pids.is_empty())
    }

    fn all(&self) -> impl Iterator<Item = &Matcher> {
        self.rules.iter().chain(&self.short_form)
    }
}

/// A process, as far as rules have asked about it.
struct Process<'a> {
    tgid: u32,
    ports: Option<&'a BTreeSet<u16>>,
    exe: OnceCell<Vec<u8>>,
    command_line: OnceCell<Vec<u8>>,
    cgroup: OnceCell<String>,
    environ: OnceCell<Vec<u8>>,
}

impl<'a> Process<'a> {
    fn new(tgid: u32, ports: Option<&'a BTreeSet<u16>>) -> Self {
        let (exe, command_line) = (OnceCell::new(), OnceCell::new());
        Self { tgid, ports, exe, command_line, cgroup: OnceCell::new(), environ: OnceCell::new() }
    }

    /// Whether all holds that the matcher says. What is cheap is asked first.
    fn is(&self, matcher: &Matcher) -> bool {
        let Matcher { pids, ports, exes, command_lines, containers, cgroups, environment } = matcher;
        let container = || container::container_id(self.cgroup().as_bytes());
        (pids.is_empty() || pids.contains(&self.tgid))
            && (ports.is_empty() || self.listens_on(ports))
            && (exes.is_empty() || exes.iter().any(|glob| glob.matches_path(self.exe())))
            && (command_lines.is_empty()
                || command_lines.iter().any(|glob| glob.matches(self.command_line())))
            && (cgroups.is_empty()
                || container::paths(self.cgroup())
                    .any(|path| cgroups.iter().any(|glob| glob.matches(path.as_bytes()))))
            && (containers.is_empty()
                || container().is_some_and(|id| containers.iter().any(|glob| glob.matches(id.as_bytes()))))
            && environment
                .iter()
                .all(|(name, glob)| self.variable(name.as_bytes()).is_some_and(|value| glob.matches(value)))
    }

    fn listens_on(&self, ranges: &[(u16, u16)]) -> bool {
        let Some(ports) = self.ports else { return false };
        ranges.iter().any(|&(first, last)| ports.range(first..=last).next().is_some())
    }

    fn exe(&self) -> &[u8] {
        self.exe.get_or_init(|| procfs::exe(self.tgid).unwrap_or_default())
    }

    fn command_line(&self) -> &[u8] {
        self.command_line.get_or_init(|| procfs::arguments(self.tgid).join(&b' '))
    }

    fn cgroup(&self) -> &str {
        self.cgroup.get_or_init(|| {
            let bytes = procfs::read_of(self.tgid, "cgroup", MAX_CGROUP_BYTES).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        })
    }

    fn variable(&self, name: &[u8]) -> Option<&[u8]> {
        let environ = self
            .environ
            .get_or_init(|| procfs::read_of(self.tgid, "environ", MAX_ENVIRON_BYTES).unwrap_or_default());
        environ.split(|&byte| byte == 0).find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::*;
    use crate::cli::{Cli, Command as Verb};
    use crate::config::Config;
    use crate::settings::load::load;

    fn rules(line: &[&str]) -> Rules {
        let line = ["skep", "run"].into_iter().chain(line.iter().copied());
        let Verb::Run(flags) =
            clap::Parser::try_parse_from::<_, &str>(line).map(|cli: Cli| cli.command).unwrap()
        else {
            panic!("not a run")
        };
        Rules::new(&Config::new(&load(&flags, &|_| None).unwrap().0).unwrap().selection)
    }

    /// `sleep` under another name, with a variable.
    struct Target(Child);

    impl Target {
        fn start() -> Self {
            let child =
                Command::new("/bin/sleep").arg0("a-name").arg("600").env("TEAM", "shop-7").spawn().unwrap();
            // Until exec it is still this program, and in the middle of it has no arguments.
            while procfs::arguments(child.id()).first().is_none_or(|name| name != b"a-name") {}
            Self(child)
        }

        fn check(&self, line: &[&str], expected: Fit) {
            let ports = BTreeSet::from([8080]);
            assert_eq!(rules(line).fit(self.0.id(), Some(&ports)), expected, "{line:?}");
        }
    }

    impl Drop for Target {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[test]
    fn each_criterion_is_asked() {
        let target = Target::start();
        let pid = target.0.id();
        for (rule, fits) in [
            (format!("{{pids: {pid}}}"), true),
            ("{pids: 1}".into(), false),
            ("{ports: [80, 8000-8100]}".into(), true),
            ("{ports: 80}".into(), false),
            ("{exes: sle*}".into(), true),
            ("{exes: wake}".into(), false),
            ("{command_lines: 'a-name 6*'}".into(), true),
            ("{command_lines: 'sleep*'}".into(), false),
            ("{environment: {TEAM: 'shop-?'}}".into(), true),
            ("{environment: {TEAM: 'shop-?', NO_SUCH: '*'}}".into(), false),
            ("{cgroups: '/*'}".into(), true),
            ("{cgroups: '*/no-such.service'}".into(), false),
            ("{containers: 'no-such'}".into(), false),
            ("{exes: sleep, ports: 8080}".into(), true),
            ("{exes: sleep, ports: 80}".into(), false),
        ] {
            target.check(&["--rule", &rule], if fits { Fit::Rule(0) } else { Fit::Nothing });
        }
    }

    #[test]
    fn the_first_rule_that_fits_wins_and_the_short_form_comes_last() {
        let target = Target::start();
        let (one, other, never) =
            ("{exes: sleep, service_name: a}", "{exes: s*, service_name: b}", "{ports: 1}");
        target.check(&["--rule", one, "--rule", other], Fit::Rule(0));
        target.check(&["--rule", never, "--rule", other, "--rule", one], Fit::Rule(1));
        target.check(&["--exe", "sleep", "--rule", never, "--rule", one], Fit::Rule(1));
        target.check(&["--exe", "sleep", "--rule", never], Fit::Rule(1));
        target.check(&["--port", "1", "--exe", "sleep"], Fit::Rule(0));
        target.check(&["--port", "1", "--exe", "wake"], Fit::Nothing);
    }

    #[test]
    fn what_is_excluded_is_out_whatever_the_rules_say() {
        let target = Target::start();
        let pid = target.0.id().to_string();
        target.check(&["--pid", &pid, "--exclude", "{exes: sleep}"], Fit::Excluded);
        target.check(&["--pid", &pid, "--exclude", "{exes: sleep, ports: 1}"], Fit::Rule(0));
    }

    #[test]
    fn what_must_be_told_by_the_kernel_is_known() {
        let some = rules(&["--rule", "{exes: a, ports: 80}", "--port", "90-91", "--exclude", "{ports: 7}"]);
        assert_eq!(some.ports(), [(80, 80), (90, 91), (7, 7)]);
        assert!(!some.ask_programs() && !some.only_pids());
        assert!(rules(&["--rule", "{exes: a}"]).ask_programs());
        assert!(rules(&["--rule", "{exes: a, pids: 1}", "--pid", "3"]).only_pids());
    }
}
