//! SIGHUP: reads flags, variables and the file again, and applies what can be applied while the run goes on.
//!
//! In: the settings in force. Out: those from now on, and what changes for the stages. What cannot be applied keeps its
//! old value and is told, line by line; where anything is wrong, all stays as it was. All of it happens in the thread
//! that drains and parses, between two looks at the ring buffer.

use agent_pipeline::Pipeline;

use crate::config::{Config, Rule};
use crate::kernel::ktime_ns;
use crate::logging;
use crate::notify::notify;
use crate::settings::flags::Flags;
use crate::settings::load::{self, environment};
use crate::settings::problem::Problems;
use crate::settings::rows::selection;
use crate::settings::value::Settings;
use crate::settings::{Setting, print};
use crate::shell::Shell;

/// What is needed to read everything again.
#[derive(Debug)]
pub struct Reloader {
    flags: Flags,
    /// In force.
    settings: Settings,
    reports_all_exec: bool,
}

impl Reloader {
    /// For a run that was started with these.
    pub fn new(flags: Flags, settings: Settings) -> Self {
        Self { flags, settings, reports_all_exec: false }
    }

    /// Whether the kernel side should report each program that starts, though no rule asks for that yet: a rule in the
    /// file may do so later.
    pub fn may_ask_programs(&self) -> bool {
        self.settings.file.is_some()
    }

    /// What the kernel side was told about that.
    pub fn set_reports_all_exec(&mut self, reports: bool) {
        self.reports_all_exec = reports;
    }

    /// Reads and applies.
    pub fn reload(&mut self, pipeline: &mut Pipeline, shell: &mut Shell) {
        notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", ktime_ns() / 1000));
        match self.read() {
            Ok((settings, warnings)) => {
                warnings.iter().for_each(|warning| log::warn!("{warning}"));
                self.apply(settings, pipeline, shell);
            }
            Err(problems) => {
                problems.lines().iter().for_each(|line| log::error!("{line}"));
                log::warn!("the configuration was not reloaded: the one before stays in force");
            }
        }
        notify("READY=1");
    }

    fn read(&self) -> Result<(Settings, Vec<String>), Problems> {
        let (settings, warnings) = load::load(&self.flags, &environment)?;
        let config = Config::new(&settings)?;
        config.selection.check()?;
        Ok((settings, warnings))
    }

    fn apply(&mut self, mut settings: Settings, pipeline: &mut Pipeline, shell: &mut Shell) {
        let mut changed = settings.differences(&self.settings);
        if changed.is_empty() {
            log::info!("reloaded: nothing has changed");
            return;
        }
        for row in extract(&mut changed, |row| !row.reload) {
            log::warn!("{} takes effect after a restart", self.describe(row, &settings));
            settings.take_from(&self.settings, row);
        }
        // Each part was valid in the reading that it comes from; together they may not be.
        let config = match Config::new(&settings) {
            Ok(config) => config,
            Err(problems) => return log::error!("the configuration was not reloaded: {problems}"),
        };
        let is_selection = |row: &Setting| selection::ROWS.iter().any(|one| std::ptr::eq(*one, row));
        let mut rules_changed = changed.iter().any(|row| is_selection(row));
        let mut config = config;
        if rules_changed
            && let Err(reason) = shell.discovery.reconfigure(&config.selection, self.reports_all_exec)
        {
            rules_changed = false;
            for row in extract(&mut changed, is_selection) {
                let what = self.describe(row, &settings);
                log::warn!("{what} takes effect after a restart: {reason}");
                settings.take_from(&self.settings, row);
            }
            match Config::new(&settings) {
                Ok(without) => config = without,
                Err(problems) => return log::error!("the configuration was not reloaded: {problems}"),
            }
        }
        for row in &changed {
            log::info!("reloaded: {}", self.describe(row, &settings));
        }
        logging::start(config.log);
        shell.gate.reconfigure(config.gate);
        pipeline.set_routes(&config.routes);
        if rules_changed {
            apply_rules(&config.selection.rules, pipeline, shell);
        }
        shell.follow_all(pipeline);
        self.settings = settings;
    }

    /// `sampling.sampler: always_on is now always_off`
    fn describe(&self, row: &'static Setting, settings: &Settings) -> String {
        let show = |settings: &Settings| match settings.given(row) {
            _ if row.secret => "(secret)".to_owned(),
            Some(given) => print::flow(&row.kind, &given.value),
            None => "not set".to_owned(),
        };
        let name = if row.key.is_empty() { row.flag } else { row.key };
        format!("{name}: {} instead of {}", show(settings), show(&self.settings))
    }
}

/// Lets go of what no rule wants any more, and looks for what one wants now.
fn apply_rules(rules: &[Rule], pipeline: &mut Pipeline, shell: &mut Shell) {
    shell.processes.set_identities(rules.iter().map(|rule| rule.identity.clone()).collect());
    shell.gate.set_rules(rules);
    for (tgid, change) in shell.discovery.judge_anew() {
        shell.change(tgid, change, pipeline);
    }
    shell.scan();
}

/// Takes the rows for which it holds out of the list.
fn extract(rows: &mut Vec<&'static Setting>, wanted: impl Fn(&Setting) -> bool) -> Vec<&'static Setting> {
    let (taken, left) = rows.drain(..).partition(|row| wanted(row));
    *rows = left;
    taken
}
