//! The agent under measurement: `skep run` on one process, from exec to ready to its end.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use crate::targets;

pub(crate) struct Agent {
    child: Child,
    stderr: JoinHandle<Vec<String>>,
    pub(crate) ready_after: Duration,
    started: Instant,
}

impl Agent {
    /// Starts Skep on a process and waits until it captures.
    pub(crate) fn attach(root: &Path, pid: u32, print: &str) -> Result<Self> {
        Self::attach_with(root, pid, print, &[])
    }

    /// The same with more flags.
    pub(crate) fn attach_with(root: &Path, pid: u32, print: &str, flags: &[String]) -> Result<Self> {
        let started = Instant::now();
        let mut child = Command::new(binary(root))
            .args(["run", "--stats", "--print", print, "--pid", &pid.to_string()])
            .args(flags)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", binary(root).display()))?;
        let stderr = child.stderr.take().context("skep's stderr")?;
        let (sender, ready) = mpsc::channel();
        let stderr = thread::spawn(move || {
            let mut lines = Vec::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if line.contains("ready") {
                    // Only the first is waited for.
                    let _ = sender.send(Instant::now());
                }
                lines.push(line);
            }
            lines
        });
        let mut agent = Self { child, stderr, ready_after: Duration::ZERO, started };
        match wait(&ready) {
            Ok(at) => agent.ready_after = at.duration_since(started),
            Err(reason) => {
                let lines = agent.stop()?;
                bail!("skep {reason}: {}", lines.last().map_or("it said nothing", String::as_str));
            }
        }
        Ok(agent)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where the spans come out.
    pub(crate) fn spans(&mut self) -> Result<ChildStdout> {
        self.child.stdout.take().context("skep's stdout")
    }

    /// From exec to the first byte of the first span.
    pub(crate) fn first_span_after(&mut self) -> Result<Duration> {
        let mut byte = [0_u8];
        self.spans()?.read_exact(&mut byte).context("read the first span")?;
        Ok(self.started.elapsed())
    }

    /// Ends it and returns what it said on stderr.
    pub(crate) fn stop(mut self) -> Result<Vec<String>> {
        targets::end(&mut self.child, Signal::TERM, Duration::from_secs(10));
        match self.stderr.join() {
            Ok(lines) => Ok(lines),
            Err(_) => bail!("the reader of skep's stderr died"),
        }
    }
}

/// `SKEP_BIN`, to compare builds; else what cargo builds.
pub(crate) fn binary(root: &Path) -> PathBuf {
    env::var_os("SKEP_BIN").map_or_else(|| root.join("target/release/skep"), PathBuf::from)
}

fn wait(ready: &Receiver<Instant>) -> Result<Instant, &'static str> {
    match ready.recv_timeout(Duration::from_secs(30)) {
        Ok(at) => Ok(at),
        Err(RecvTimeoutError::Timeout) => Err("is not ready after 30 s"),
        Err(RecvTimeoutError::Disconnected) => Err("ended before it was ready"),
    }
}
