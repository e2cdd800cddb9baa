//! `skep top` in a real terminal (tmux), at three sizes, without colour, resized.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::Report;
use crate::api::DEADLINE;
use crate::browser::on_path;
use crate::own::{BACK, FRONT, Scene, binary};

pub fn all(report: &mut Report, scene: &Scene) {
    if on_path(&["tmux"]).is_none() {
        report.skip("skep top in a terminal", "tmux is not installed: cargo xtask setup");
        return;
    }
    for (width, height) in [(80, 24), (120, 40), (48, 12)] {
        let environment = if width == 48 { "LANG=C NO_COLOR=1" } else { "LANG=C.UTF-8" };
        report.check(&format!("skep top works in {width} x {height}"), || {
            walk(scene, width, height, environment)
        });
    }
    report.check("skep top follows a terminal that is resized", || {
        let top = Tmux::start(scene, 120, 40, "LANG=C.UTF-8")?;
        top.wait("P99")?;
        top.tmux(&["resize-window", "-t", &top.name, "-x", "80", "-y", "24"])?;
        top.wait_for(|screen| {
            screen.lines().count() <= 24 && screen.contains("Enter open") && screen.contains(FRONT)
        })
    });
    report.check("skep top --once prints a picture for scripts", || {
        let output =
            Command::new(binary()).args(["top", "--once", "--attach", &scene.skep.to_string()]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        if output.status.success() && text.contains(FRONT) && text.contains(BACK) && !text.contains('\u{1b}')
        {
            return Ok(());
        }
        bail!("{text} {}", String::from_utf8_lossy(&output.stderr))
    });
    report.check("skep top starts a run of its own where a selection is given, and ends it", || {
        let pid = std::process::id().to_string();
        let output = Command::new(binary()).args(["top", "--once", "--pid", &pid]).output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr));
        }
        // Runs of others may go on; none may be left of a process that has ended.
        for file in std::fs::read_dir("/run/skep")?.flatten() {
            let pid =
                file.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            if !std::path::Path::new("/proc").join(&pid).exists() {
                bail!("{} is left", file.path().display());
            }
        }
        Ok(())
    });
    report.check("skep top says what is wrong with its flags", || {
        let output = Command::new(binary()).args(["top", "--once", "--port", "99999"]).output()?;
        let text = String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(1) && text.contains("65535") { Ok(()) } else { bail!("{text}") }
    });
}

/// Services, an operation, its failed traces, a waterfall, edges, the agent.
fn walk(scene: &Scene, width: u16, height: u16, environment: &str) -> Result<()> {
    let top = Tmux::start(scene, width, height, environment)?;
    top.wait(FRONT)?;
    top.wait(BACK)?;
    top.keys(&["/", "f", "r", "o", "n", "t", "Enter"])?;
    top.wait_for(|screen| screen.contains(FRONT) && !screen.contains(BACK))?;
    top.keys(&["Enter"])?;
    top.wait("GET /users/")?;
    top.keys(&["/", "f", "a", "i", "l", "Enter"])?;
    top.wait_for(|screen| {
        screen.contains("/fail") && screen.contains("100.0%") && !screen.contains("/slow")
    })?;
    top.keys(&["Enter"])?;
    top.wait("DURATION")?;
    top.wait("failed")?;
    top.keys(&["Enter"])?;
    top.wait("SPAN")?;
    top.wait("http.request.method")?;
    top.keys(&["c"])?;
    top.wait("clipboard")?;
    let copied = top.tmux(&["show-buffer"])?;
    if copied.trim().len() != 32 {
        bail!("the clipboard holds {copied:?}, which is no trace id");
    }
    top.keys(&["3"])?;
    top.wait("(outside)")?;
    top.keys(&["4"])?;
    top.wait("syscall")?;
    top.keys(&["?"])?;
    top.wait("Keys")?;
    top.keys(&["Escape", "1"])?;
    top.wait(BACK)?;
    top.keys(&["p"])?;
    top.wait("PAUSED")?;
    let screen = top.screen()?;
    if screen.lines().any(|line| line.chars().count() > usize::from(width)) {
        bail!("a line is too wide: {screen}");
    }
    if environment.contains("NO_COLOR")
        && (!screen.is_ascii() || top.tmux(&["capture-pane", "-pe", "-t", &top.name])?.contains("[31m"))
    {
        bail!("colours or other characters where none are wanted: {screen}");
    }
    top.keys(&["q"])?;
    top.wait("the end")?;
    Ok(())
}

struct Tmux {
    name: String,
}

impl Tmux {
    fn start(scene: &Scene, width: u16, height: u16, environment: &str) -> Result<Self> {
        // Each has a server of its own: one that is just ending would take the next session down with it.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("skep-test-{}-{number}", std::process::id());
        let top = Self { name };
        let command =
            format!("{environment} {} top --attach {}; echo the end; exec cat", binary(), scene.skep);
        let (width, height) = (width.to_string(), height.to_string());
        top.tmux(&["new-session", "-d", "-s", &top.name, "-x", &width, "-y", &height, &command])?;
        top.tmux(&["set-option", "-s", "set-clipboard", "on"])?;
        Ok(top)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        // Without anybody's configuration.
        let output =
            Command::new("tmux").args(["-L", &self.name, "-f", "/dev/null"]).args(arguments).output()?;
        if !output.status.success() {
            bail!("tmux {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn keys(&self, keys: &[&str]) -> Result<()> {
        for key in keys {
            self.tmux(&["send-keys", "-t", &self.name, key])?;
        }
        Ok(())
    }

    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-t", &self.name])
    }

    fn wait(&self, text: &str) -> Result<()> {
        self.wait_for(|screen| screen.contains(text)).with_context(|| format!("wait for {text:?}"))
    }

    fn wait_for(&self, done: impl Fn(&str) -> bool) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let screen = self.screen()?;
            if done(&screen) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("the screen is\n{screen}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}
