//! Starting `skep` and things for it to watch. Every wait is for a condition and ends at a deadline.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) fn skep(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn output(arguments: &[&str]) -> Output {
    skep(arguments).output().expect("skep starts")
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One line on standard error that holds all of `parts`, and this exit code.
pub(crate) fn check_failure(output: &Output, code: i32, parts: &[&str]) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(code), "{text}");
    let errors: Vec<_> = text.lines().filter(|line| line.contains(" error ")).collect();
    assert_eq!(errors.len(), 1, "one line: {text}");
    for part in parts {
        assert!(errors[0].contains(part), "{part} in {text}");
    }
}

/// Whether this test may load kernel programs; loud when not.
pub(crate) fn may_load(test: &str) -> bool {
    // SAFETY: geteuid cannot fail and touches no memory.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

/// Copies a program that is to be started. By `cp`, not by this process: a child that another test's thread makes
/// meanwhile would hold the file open for writing, and then it cannot be started (ETXTBSY).
pub(crate) fn copy_program(from: impl AsRef<OsStr>, to: &Path) -> bool {
    Command::new("cp").arg("--").arg(from).arg(to).stderr(Stdio::null()).status().is_ok_and(|cp| cp.success())
}

/// A server of our own in a process of its own would be another program; `sh` and `sleep` are enough to be selected.
pub(crate) struct Target(Child);

impl Target {
    pub(crate) fn start() -> Self {
        Self(Command::new("sleep").arg("600").spawn().expect("sleep starts"))
    }

    pub(crate) fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A run in the background that is ended when the test is over.
pub(crate) struct Run {
    pub(crate) child: Child,
    stderr: BufReader<ChildStderr>,
    log: String,
}

impl Run {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("skep starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, stderr, log: String::new() }
    }

    /// Reads the log until a line holds `part`; the end of the log is the deadline.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        let mut line = String::new();
        while self.stderr.read_line(&mut line).expect("log is text") != 0 {
            self.log.push_str(&line);
            if line.contains(part) {
                return line;
            }
            line.clear();
        }
        panic!("{part} is not in the log:\n{}", self.log);
    }

    pub(crate) fn signal(&self, signal: i32) {
        // SAFETY: the child was started here and has not been waited for.
        unsafe { libc::kill(self.child.id().cast_signed(), signal) };
    }

    /// Exit code and time until then.
    pub(crate) fn end(mut self) -> (Option<i32>, Duration, String) {
        let started = Instant::now();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).expect("log is text");
        let code = wait(&mut self.child).code();
        (code, started.elapsed(), std::mem::take(&mut self.log) + &rest)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn wait(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(status) = child.try_wait().expect("child is ours") {
            return status;
        }
        assert!(Instant::now() < deadline, "skep does not end");
        std::thread::yield_now();
    }
}

/// Held by tests that send requests: they all do so from this process, and a run that watches it must see its own
/// test's requests only.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One request of this process to the server of [`serve`].
pub(crate) fn one_request(port: u16, path: &str) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
}

/// Answers every request with `hello`, one request a connection.
pub(crate) fn serve(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut buffer).unwrap();
            request.extend_from_slice(&buffer[..count]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").unwrap();
    }
}
