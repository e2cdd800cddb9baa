//! The stack's processes: started in a session of their own, remembered by number and start time, ended by number.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};

use super::parts::{self, Part, Program};

/// How long a part may take to end before it is killed.
const GRACE: Duration = Duration::from_secs(15);

pub(super) struct Processes {
    folder: PathBuf,
}

/// A part's own folder.
pub(super) fn data(folder: &Path, name: &str) -> PathBuf {
    folder.join("data").join(name)
}

impl Processes {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        for name in ["run", "logs", "data", "bin"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).with_context(|| format!("make {}", path.display()))?;
        }
        fs::write(folder.join("hosts"), parts::hosts()).context("write the hosts file")?;
        Ok(Self { folder: folder.to_owned() })
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{name}.log"))
    }

    pub(super) fn is_running(&self, name: &str) -> bool {
        self.process(name).is_some()
    }

    /// Starts a part: its own hosts file, its own session, its log.
    pub(super) fn start(&mut self, root: &Path, part: &Part, program: &Path) -> Result<()> {
        self.start_with(root, part, program, &[])
    }

    /// The same with more variables, which win.
    pub(super) fn start_with(
        &mut self,
        root: &Path,
        part: &Part,
        program: &Path,
        variables: &[(&str, &str)],
    ) -> Result<()> {
        let data = data(&self.folder, part.name);
        // A child leads no group, so that setsid need not fork, and the number stays.
        let mut command = Command::new("setsid");
        command.args(["unshare", "--mount", "--propagation", "private", "sh", "-c"]);
        command.arg("mount --bind \"$0\" /etc/hosts && exec \"$@\"").arg(self.folder.join("hosts"));
        if matches!(part.program, Program::Postgres) {
            command.args(["runuser", "-u", "postgres", "--"]);
        }
        if part.forwards_log {
            command.arg(std::env::current_exe()?).args(["stack", "forward", "--tag", part.name, "--"]);
        }
        command.arg(program);
        command.args(part.arguments.iter().map(|argument| Part::fill(argument, root, &data)));
        let given = part.variables.iter().chain(variables);
        command.envs(given.map(|(name, value)| (*name, Part::fill(value, root, &data))));
        let log = File::create(self.log(part.name)).context("make a log")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(root);
        let child = command.spawn().with_context(|| format!("start {}", part.name))?;
        let (pid, started) = (child.id(), start_time(child.id()).unwrap_or_default());
        fs::write(self.note(part.name), format!("{pid} {started}\n")).context("remember a process")
    }

    /// Ends a part and all that it started. Says whether it ran.
    pub(super) fn end(&mut self, name: &str) -> Result<bool> {
        let Some(pid) = self.process(name) else { return Ok(false) };
        let deadline = Instant::now() + GRACE;
        let group = Pid::from_raw(pid.cast_signed()).context("a process number")?;
        let mut signal = Signal::TERM;
        while self.process(name).is_some() {
            // The group is that of the session which was started for the part; it may just have ended.
            let _ = kill_process_group(group, signal);
            if Instant::now() > deadline {
                signal = Signal::KILL;
            }
            thread::sleep(Duration::from_millis(100));
        }
        fs::remove_file(self.note(name)).context("forget a process")?;
        Ok(true)
    }

    fn note(&self, name: &str) -> PathBuf {
        self.folder.join("run").join(name)
    }

    /// The process of a part, if it is still the one that was started.
    fn process(&self, name: &str) -> Option<u32> {
        let note = fs::read_to_string(self.note(name)).ok()?;
        let (pid, started) = note.trim().split_once(' ')?;
        let pid = pid.parse().ok()?;
        (start_time(pid)? == started).then_some(pid)
    }
}

/// When a process started, in the kernel's ticks; `None` if it is gone or only waits to be noticed.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18).map(str::to_owned))?
}
