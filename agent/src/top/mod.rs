//! `skep top`: the live view in a terminal.
//!
//! In: a running `skep run`, found by its socket, or one of its own, started with the same flags. Out: the terminal. It
//! asks the JSON API once a second; nothing of it runs in the agent but that.

pub mod app;
pub mod client;
mod draw;
pub mod rows;

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use crossterm::event::{self, Event, KeyEventKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use self::app::{Action, App};
use self::client::Client;
use self::draw::Look;
use crate::ui::socket;

const ASK_EVERY: Duration = Duration::from_secs(1);
/// How long a run of our own may take to be ready, and to end.
const READY_WITHIN: Duration = Duration::from_secs(20);
const END_WITHIN: Duration = Duration::from_secs(3);

/// Which run to look at.
#[derive(Debug)]
pub enum Which {
    /// The only one, or the newest.
    Any,
    /// The one with this process number.
    Pid(u32),
    /// One of our own, with these arguments of `skep run`.
    Own(Vec<String>),
}

/// Shows a run until somebody has seen enough.
///
/// # Errors
/// Where there is no run to look at, or no terminal.
pub fn run(which: Which, once: bool) -> anyhow::Result<()> {
    let terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if !once && !terminal {
        bail!(
            "skep top needs a terminal; --once prints one picture, and docs/api.md tells what scripts can ask"
        );
    }
    let mut own = None;
    let path = match which {
        Which::Own(arguments) => own.insert(Own::start(&arguments)?).wait_for_socket()?,
        which => find(&which)?,
    };
    let mut client = Client::new(&path);
    if once { print_once(&mut client) } else { watch(&mut client, own.as_mut()) }
}

fn find(which: &Which) -> anyhow::Result<PathBuf> {
    let running = socket::running();
    let mut found = running.iter().filter(|(pid, _)| !matches!(which, Which::Pid(wanted) if wanted != pid));
    match (found.next_back(), which) {
        (Some((_, path)), _) => Ok(path.clone()),
        (None, Which::Pid(pid)) => bail!("no `skep run` of this user has the process number {pid}"),
        (None, _) => bail!(
            "no `skep run` of this user is running: start one in another terminal, or name what to watch here \
             (e.g. `skep top --port 8080`)"
        ),
    }
}

fn look() -> Look {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_default()
        .to_lowercase();
    Look {
        colour: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        unicode: locale.contains("utf-8") || locale.contains("utf8"),
    }
}

fn ask(app: &mut App, client: &mut Client) -> anyhow::Result<()> {
    app.overview = client.get(&app.overview_question())?;
    if let Some(question) = app.question() {
        match client.get(&question) {
            Ok(data) => app.data = data,
            // A trace that has just made room for others, for instance: what is shown stays.
            Err(error) => app.message = error.to_string(),
        }
    }
    Ok(())
}

fn print_once(client: &mut Client) -> anyhow::Result<()> {
    let mut app = App::default();
    ask(&mut app, client)?;
    let rows = app.rows().rows.len() as u16;
    let mut terminal = Terminal::new(TestBackend::new(100, rows + 5))?;
    terminal.draw(|frame| draw::draw(frame, &app, look()))?;
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    // Without the line of keys, which nobody could press.
    for line in buffer.content.chunks(usize::from(buffer.area.width)).take(usize::from(rows) + 3) {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    // A reader that is gone has seen enough.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}

fn watch(client: &mut Client, mut own: Option<&mut Own>) -> anyhow::Result<()> {
    let mut app = App::default();
    ask(&mut app, client).context("the run does not answer")?;
    let look = look();
    let mut terminal = ratatui::try_init().context("set the terminal up")?;
    let mut loops = || -> anyhow::Result<()> {
        let mut asked = Instant::now();
        loop {
            terminal.draw(|frame| draw::draw(frame, &app, look))?;
            let left = ASK_EVERY.saturating_sub(asked.elapsed());
            let mut again = false;
            if event::poll(left.max(Duration::from_millis(10)))? {
                // A key that is repeated fast must not make us ask for each.
                loop {
                    if let Event::Key(key) = event::read()?
                        && key.kind != KeyEventKind::Release
                    {
                        match app.on_key(key) {
                            Action::Quit => return Ok(()),
                            Action::Ask => again = true,
                            Action::Copy(text) => copy(&text)?,
                            Action::Draw => {}
                        }
                    }
                    if !event::poll(Duration::ZERO)? {
                        break;
                    }
                }
            }
            if again || (asked.elapsed() >= ASK_EVERY && !app.paused) {
                asked = Instant::now();
                if let Err(error) = ask(&mut app, client) {
                    if let Some(own) = own.as_mut() {
                        own.check()?;
                    }
                    app.message = format!("the run does not answer: {error:#}");
                }
            }
        }
    };
    let outcome = loops();
    ratatui::restore();
    outcome
}

/// OSC 52: the terminal puts the text into the clipboard, over ssh too.
fn copy(text: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "\x1b]52;c;{}\x07", base64(text.as_bytes()))?;
    out.flush()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for part in bytes.chunks(3) {
        let number = part.iter().chain(&[0, 0]).take(3).fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte));
        for index in 0..4 {
            let digit = DIGITS[(number >> (18 - 6 * index)) as usize & 63];
            text.push(if index <= part.len() { digit.into() } else { '=' });
        }
    }
    text
}

/// A run of our own; ended when dropped.
struct Own {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
}

impl Own {
    fn start(arguments: &[String]) -> anyhow::Result<Self> {
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0("skep")
            .arg("run")
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        // SAFETY: prctl is async-signal-safe, and nothing else happens between fork and exec. Should this process be
        // killed, the run ends with it.
        unsafe {
            command.pre_exec(|| {
                rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
                Ok(())
            });
        }
        let mut child = command.spawn().context("start `skep run`")?;
        let log = Arc::new(Mutex::new(Vec::new()));
        if let Some(stderr) = child.stderr.take() {
            let log = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
                    if log.len() < 100 {
                        log.push(line);
                    }
                }
            });
        }
        Ok(Self { child, log })
    }

    fn wait_for_socket(&mut self) -> anyhow::Result<PathBuf> {
        let folder = socket::folder().context("XDG_RUNTIME_DIR is not set: run as root, or set it")?;
        let path = folder.join(format!("{}.sock", self.child.id()));
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            self.check()?;
            let ready = self.lines().iter().any(|line| line.contains("ready"));
            if ready && std::os::unix::net::UnixStream::connect(&path).is_ok() {
                return Ok(path);
            }
            if Instant::now() > deadline {
                bail!("`skep run` is not ready after {} s", READY_WITHIN.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Fails with what the run said if it has ended.
    fn check(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            // Its last words may still be on their way.
            std::thread::sleep(Duration::from_millis(50));
            let lines = self.lines();
            let said = lines.iter().rev().find(|line| line.contains(" error ")).or(lines.last());
            match said.and_then(|line| line.split_once(" error ")) {
                Some((_, error)) => bail!("{}", error.trim()),
                None => bail!("`skep run` ended with {status}"),
            }
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // SAFETY: the child was started here and has not been waited for, so the number is its own.
        unsafe { libc::kill(self.child.id().cast_signed(), libc::SIGTERM) };
        let deadline = Instant::now() + END_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clipboard_is_given_base64() {
        for (text, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn every_screen_fits_into_any_terminal() {
        let mut app = App::default();
        for (width, height) in [(80, 24), (40, 10), (200, 60), (1, 1)] {
            for key in ['1', '2', '3', '4', '?'] {
                app.on_key(event::KeyEvent::from(event::KeyCode::Char(key)));
                let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
                for look in [Look { colour: false, unicode: false }, Look { colour: true, unicode: true }] {
                    terminal.draw(|frame| draw::draw(frame, &app, look)).unwrap();
                }
            }
        }
    }
}
