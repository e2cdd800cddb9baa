//! The services of apps/targets, for the demo and the benchmarks: built, started on a free port, ended by pid.
//!
//! In: a name of apps/targets/README.md. Out: a running server, or the reason why this machine cannot have it.
//! Build products lie where the ground-truth tests (agent/tests/ground_truth) put theirs, so each is built once.

use std::fs;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::setup;

/// How long a server may take to listen and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// The key that a Redis server has.
pub(crate) const REDIS_KEY: &str = "session:00004711";

/// Set by the first Ctrl-C; whoever waits looks at it.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A running server; ended when dropped.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) addr: SocketAddr,
    child: Child,
}

impl Target {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        end(&mut self.child, Signal::TERM, PATIENCE);
    }
}

/// Builds a target if need be and starts it; `upstream` is where nginx passes calls to.
pub(crate) fn start(root: &Path, name: &'static str, upstream: Option<SocketAddr>) -> Result<Target> {
    let source = root.join("apps").join("targets").join(name);
    let scratch = root.join("target").join("tmp");
    fs::create_dir_all(&scratch).with_context(|| format!("create {}", scratch.display()))?;
    if name == "nginx" {
        return start_nginx(
            &source,
            &scratch.join("nginx-xtask"),
            upstream.context("nginx needs an upstream")?,
        );
    }
    if name == "redis" {
        return start_redis(&scratch);
    }
    let mut command = command(name, &source, &scratch)?;
    let mut child = command
        .arg("0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {name}"))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        reader.read_line(&mut line)?;
        // It may say more later: a reader keeps it from blocking or dying.
        thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    }
    match line.trim().strip_prefix("listening on ").and_then(|addr| addr.parse().ok()) {
        Some(addr) => Ok(Target { name, addr, child }),
        None => {
            end(&mut child, Signal::KILL, PATIENCE);
            bail!("{name} said {:?}, not where it listens", line.trim())
        }
    }
}

/// From here on Ctrl-C ends nothing of ours by itself: `interrupted` says that it was pressed. Programs started
/// later are not concerned: a caught signal is reset by exec.
pub(crate) fn catch_interrupts() {
    extern "C" fn note(_signal: libc::c_int) {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            // The second one means it.
            // SAFETY: _exit is async-signal-safe and takes no memory of ours.
            unsafe { libc::_exit(130) };
        }
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the function does nothing but touch an atomic and _exit, both safe in a signal's context.
        unsafe { libc::signal(signal, note as *const () as libc::sighandler_t) };
    }
}

pub(crate) fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Sends a signal to a child and waits; after `patience` it is killed.
pub(crate) fn end(child: &mut Child, signal: Signal, patience: Duration) {
    if let Ok(Some(_)) = child.try_wait() {
        return;
    }
    if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
        // The child is not reaped yet, so the pid is still its own.
        let _ = kill_process(pid, signal);
    }
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn command(name: &str, source: &Path, scratch: &Path) -> Result<Command> {
    Ok(match name {
        "go" => {
            let program = scratch.join("go-target");
            build(tool("go")?.args(["build", "-o"]).arg(&program).arg(".").current_dir(source))?;
            Command::new(program)
        }
        "python-http" => {
            let mut command = tool("python3")?;
            command.arg(named(&source.join("server.py"), &scratch.join("python-http.py"))?);
            command
        }
        "python-wsgi" | "python-asgi" => {
            let mut command = Command::new(python_with(&source.join("requirements.txt"), name, scratch)?);
            command.arg(named(&source.join("app.py"), &scratch.join(name).with_extension("py"))?);
            command
        }
        "node" => {
            let mut command = tool("node")?;
            command.arg(named(&source.join("server.js"), &scratch.join("node-http.js"))?);
            command
        }
        "java" => {
            let classes = scratch.join("java-classes");
            build(tool("javac")?.arg("-d").arg(&classes).arg(source.join("Main.java")))?;
            let mut command = tool("java")?;
            command.arg("-cp").arg(classes).arg("Main");
            command
        }
        "rust" => {
            let target_dir = scratch.join("rust-target");
            let mut cargo = Command::new(setup::cargo());
            cargo.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]);
            build(cargo.arg(source.join("Cargo.toml")).arg("--target-dir").arg(&target_dir))?;
            Command::new(target_dir.join("release/rust-target"))
        }
        other => bail!("there is no target {other}"),
    })
}

/// A script under a name that tells it apart: a service is called after its script, and two are called `app`.
fn named(script: &Path, link: &Path) -> Result<PathBuf> {
    if fs::read_link(link).ok().as_deref() != Some(script) {
        // Whatever lies there is from another checkout.
        let _ = fs::remove_file(link);
        symlink(script, link).with_context(|| format!("link {}", link.display()))?;
    }
    Ok(link.to_path_buf())
}

/// A virtual environment with what a target asks for; made once.
fn python_with(requirements: &Path, name: &str, scratch: &Path) -> Result<PathBuf> {
    let folder = scratch.join(format!("venv-{name}"));
    let (python, done) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted = fs::read(requirements).with_context(|| format!("read {}", requirements.display()))?;
    if fs::read(&done).ok().as_ref() != Some(&wanted) {
        build(tool("python3")?.args(["-m", "venv"]).arg(&folder))?;
        let mut pip = Command::new(&python);
        build(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
        fs::write(&done, wanted).with_context(|| format!("write {}", done.display()))?;
    }
    Ok(python)
}

fn start_nginx(source: &Path, folder: &Path, upstream: SocketAddr) -> Result<Target> {
    fs::create_dir_all(folder.join("html"))?;
    fs::create_dir_all(folder.join("logs"))?;
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = fs::read_to_string(source.join("nginx.conf"))?
        .replace("@PORT@", &addr.port().to_string())
        .replace("@UPSTREAM@", &upstream.to_string());
    fs::write(folder.join("nginx.conf"), config)?;
    let mut command = tool("nginx")?;
    command.arg("-p").arg(folder).args(["-c", "nginx.conf", "-e", "stderr"]);
    if geteuid().is_root() {
        // Workers of another user could not read the folder.
        command.args(["-g", "user root;"]);
    }
    let child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().context("start nginx")?;
    wait_for(Target { name: "nginx", addr, child })
}

/// A Redis server with one value of 32 bytes.
fn start_redis(scratch: &Path) -> Result<Target> {
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = tool("redis-server")?;
    command.args(["--port", &addr.port().to_string(), "--save", "", "--appendonly", "no"]);
    command.current_dir(scratch).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let target =
        wait_for(Target { name: "redis", addr, child: command.spawn().context("start redis-server")? })?;
    let mut stream = TcpStream::connect(addr)?;
    let (key, value) = (REDIS_KEY, "0123456789abcdef".repeat(2));
    write!(stream, "*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${}\r\n{value}\r\n", key.len(), value.len())?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    if &answer != b"+OK\r\n" {
        bail!("redis-server said {:?}", String::from_utf8_lossy(&answer));
    }
    Ok(target)
}

/// Waits until a server listens.
fn wait_for(mut target: Target) -> Result<Target> {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(target.addr).is_err() {
        if let Some(status) = target.child.try_wait()? {
            bail!("{} ended at once: {status}", target.name);
        }
        if Instant::now() > deadline {
            bail!("{} does not listen on {}", target.name, target.addr);
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(target)
}

fn tool(name: &str) -> Result<Command> {
    let path = setup::which(name).with_context(|| format!("{name} is not installed"))?;
    Ok(Command::new(path))
}

/// Runs a build step; what it says is shown only when it fails.
fn build(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!("{program}: {}", text.trim().lines().last().unwrap_or("no message"));
    }
    Ok(())
}
