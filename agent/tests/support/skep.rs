//! The agent under test: started on some processes, stopped with SIGTERM; its spans and its books.
//!
//! In: process ids. Out: every span that it printed, what it said on stderr, and how long start and stop took.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Lines of both outputs, in order.
#[derive(Default)]
struct Lines {
    state: Mutex<(Vec<String>, Vec<String>)>,
    changed: Condvar,
}

/// A running agent.
pub struct Skep {
    child: Child,
    lines: Arc<Lines>,
    readers: Vec<std::thread::JoinHandle<()>>,
    /// From exec to the `ready` line.
    pub ready_after: Duration,
}

/// What is left of it.
pub struct Outcome {
    pub spans: Vec<Value>,
    pub stderr: String,
    pub stop_after: Duration,
    pub exit: Option<i32>,
}

/// Path of the binary: `SKEP_BIN`, else the one that cargo built for this test.
pub fn binary() -> String {
    std::env::var("SKEP_BIN")
        .unwrap_or_else(|_| option_env!("CARGO_BIN_EXE_skep").unwrap_or("target/release/skep").to_owned())
}

/// `GROUND_TRUTH_SLOW`: an emulated machine may take this many times as long.
pub fn slow() -> u32 {
    std::env::var("GROUND_TRUTH_SLOW").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

impl Skep {
    /// Starts the agent with these arguments and waits until it captures.
    pub fn start(arguments: &[String]) -> Result<Self> {
        let began = Instant::now();
        let mut child = Command::new(binary())
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", binary()))?;
        let lines = Arc::new(Lines::default());
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let readers = vec![
            collect(stdout, Arc::clone(&lines), |state, line| state.0.push(line)),
            collect(stderr, Arc::clone(&lines), |state, line| state.1.push(line)),
        ];
        let mut skep = Self { child, lines, readers, ready_after: Duration::ZERO };
        let ready = skep.wait_lines(Duration::from_secs(10) * slow(), |_, stderr| {
            stderr.iter().any(|line| line.contains("ready"))
        });
        if !ready {
            let _ = skep.child.kill();
            let outcome = skep.stop()?;
            bail!("the agent was not ready within 10 s: {}", outcome.stderr.trim());
        }
        skep.ready_after = began.elapsed();
        Ok(skep)
    }

    /// Waits until the lines of stdout and stderr are such, or the deadline passes.
    pub fn wait_lines(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&[String], &[String]) -> bool,
    ) -> bool {
        let deadline = Instant::now() + within;
        loop {
            {
                let state = lock(&self.lines.state);
                if done(&state.0, &state.1) {
                    return true;
                }
                let left = deadline.saturating_duration_since(Instant::now());
                let slice = left.min(Duration::from_millis(100));
                let (state, _) = self
                    .lines
                    .changed
                    .wait_timeout(state, slice)
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                if left.is_zero() {
                    return done(&state.0, &state.1);
                }
            }
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                let state = lock(&self.lines.state);
                return done(&state.0, &state.1);
            }
        }
    }

    /// Waits until as many spans were printed, or the deadline passes.
    pub fn wait_spans(&mut self, count: usize, within: Duration) -> bool {
        self.wait_lines(within, |stdout, _| stdout.len() >= count)
    }

    /// SIGTERM, then everything that it printed.
    pub fn stop(mut self) -> Result<Outcome> {
        let began = Instant::now();
        crate::support::process::terminate(self.child.id());
        let exit = crate::support::process::wait_exit(&mut self.child, Duration::from_secs(10) * slow());
        let stop_after = began.elapsed();
        if exit.is_none() {
            self.child.kill().context("kill the agent")?;
            self.child.wait().context("wait for the agent")?;
        }
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let state = lock(&self.lines.state);
        let mut spans = Vec::new();
        for line in &state.0 {
            spans.push(serde_json::from_str(line).with_context(|| format!("stdout holds {line}"))?);
        }
        Ok(Outcome { spans, stderr: state.1.join("\n"), stop_after, exit: exit.flatten() })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn collect(
    from: impl std::io::Read + Send + 'static,
    lines: Arc<Lines>,
    push: fn(&mut (Vec<String>, Vec<String>), String),
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines() {
            let Ok(line) = line else { break };
            push(&mut lock(&lines.state), line);
            lines.changed.notify_all();
        }
    })
}
