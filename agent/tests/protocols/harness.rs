//! A case and its sessions. A session is one run of the agent: it starts on some processes, the case drives them and
//! notes what it expects, the agent stops, and what it printed is compared.

use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::Result;

use crate::expect::{Expect, compare};
use crate::support::books;
use crate::support::skep::Skep;

/// Spans come at the latest this long after their end: the drain, and what only time can tell.
const SPANS_WITHIN: Duration = Duration::from_secs(3);

/// A case: `Err(Missing(…).into())` skips it.
pub struct Case {
    pub name: &'static str,
    pub run: fn(&Run) -> Result<()>,
    /// Only with `--full`.
    pub slow: bool,
}

/// Something that this machine does not have; the reason.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// One case while it runs.
pub struct Run {
    pub case: &'static str,
    /// Whether time does not matter much.
    pub full: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sessions: usize,
    expected: usize,
    faults: Vec<String>,
}

/// What a session expects.
#[derive(Default)]
pub struct Notes {
    expected: Mutex<Vec<Expect>>,
    /// Names and kinds of spans that are none of the case's business.
    ignored: Mutex<Vec<Ignore>>,
}

type Ignore = fn(&serde_json::Value) -> bool;

impl Notes {
    /// One more span must come.
    pub fn expect(&self, expect: Expect) {
        lock(&self.expected).push(expect);
    }

    /// Spans of this kind may come or not (a driver's own queries when it connects).
    pub fn ignore(&self, which: Ignore) {
        lock(&self.ignored).push(which);
    }
}

impl Run {
    pub fn new(case: &'static str, full: bool) -> Self {
        Self { case, full, state: Mutex::default() }
    }

    /// A folder that no other case uses.
    pub fn folder(&self) -> Result<PathBuf> {
        let name: String =
            self.case.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let folder = crate::support::tools::scratch().join("protocols").join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Something is not as it must be.
    pub fn fault(&self, fault: String) {
        lock(&self.state).faults.push(fault);
    }

    /// How many spans were expected, and what was wrong.
    pub fn result(self) -> (usize, Vec<String>) {
        let state = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        (state.expected, state.faults)
    }

    /// Runs the agent on these processes while `drive` does its work, then compares.
    pub fn session(&self, pids: &[u32], drive: impl FnOnce(&Notes) -> Result<()>) -> Result<()> {
        self.session_with(pids, &[], drive)
    }

    /// [`Self::session`] with more arguments for the agent.
    pub fn session_with(
        &self,
        pids: &[u32],
        more: &[&str],
        drive: impl FnOnce(&Notes) -> Result<()>,
    ) -> Result<()> {
        let mut arguments: Vec<String> = ["run", "--print", "json"].map(str::to_owned).to_vec();
        arguments.extend(pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]));
        arguments.extend(more.iter().map(|&argument| argument.to_owned()));
        let mut skep = Skep::start(&arguments)?;
        let notes = Notes::default();
        let driven = drive(&notes);
        let expected = notes.expected.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let ignored = notes.ignored.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if driven.is_ok() {
            skep.wait_spans(expected.len(), SPANS_WITHIN);
        }
        let outcome = skep.stop()?;
        driven?;
        self.keep(&outcome.spans, &outcome.stderr)?;
        let printed = outcome.spans.len();
        let spans: Vec<_> =
            outcome.spans.into_iter().filter(|span| !ignored.iter().any(|ignored| ignored(span))).collect();
        let mut faults = compare(&expected, &spans);
        let complete = faults.is_empty();
        faults.extend(books::faults(&outcome.stderr, printed, complete));
        if outcome.exit != Some(0) || outcome.stop_after > Duration::from_secs(1) {
            let after = outcome.stop_after.as_millis();
            faults.push(format!("the agent ended with {:?} after {after} ms", outcome.exit));
        }
        if !faults.is_empty() {
            let said: Vec<_> = outcome.stderr.lines().filter(|line| line.contains("drops")).collect();
            faults.push(format!("the agent said: {}", said.join(" / ")));
        }
        let mut state = lock(&self.state);
        state.expected += expected.len();
        state.faults.extend(faults);
        Ok(())
    }

    /// All spans of a run of the agent, for cases that cannot foretell them.
    pub fn spans(&self, pids: &[u32], drive: impl FnOnce() -> Result<()>) -> Result<Vec<serde_json::Value>> {
        let mut arguments: Vec<String> = ["run", "--print", "json"].map(str::to_owned).to_vec();
        arguments.extend(pids.iter().flat_map(|pid| ["--pid".to_owned(), pid.to_string()]));
        let skep = Skep::start(&arguments)?;
        let driven = drive();
        let outcome = skep.stop()?;
        driven?;
        self.keep(&outcome.spans, &outcome.stderr)?;
        lock(&self.state).expected += outcome.spans.len();
        for fault in books::faults(&outcome.stderr, outcome.spans.len(), false) {
            self.fault(fault);
        }
        Ok(outcome.spans)
    }

    fn keep(&self, spans: &[serde_json::Value], stderr: &str) -> Result<()> {
        let session = {
            let mut state = lock(&self.state);
            state.sessions += 1;
            state.sessions
        };
        let Some(folder) = std::env::var_os("PROTOCOLS_KEEP").map(PathBuf::from) else { return Ok(()) };
        std::fs::create_dir_all(&folder)?;
        let lines: Vec<String> = spans.iter().map(ToString::to_string).collect();
        let name = format!("{} {session}", self.case).replace('/', "-");
        std::fs::write(folder.join(format!("{name}.jsonl")), lines.join("\n"))?;
        std::fs::write(folder.join(format!("{name}.stderr")), stderr)?;
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
