//! The targets: built if need be, started on a free port, ended by SIGTERM.
//!
//! In: a name. Out: a running server, or the reason why this machine cannot have it. Build products live in
//! cargo's scratch folder for tests; nothing is installed.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::support::process::{terminate, wait_exit};
use crate::support::tools::{build, build_go, need, python_with, scratch, targets};

/// Servers of `apps/targets`, in the order of the columns.
pub const NAMES: &[&str] =
    &["go", "python-http", "python-wsgi", "python-asgi", "node", "java", "rust", "nginx"];

/// A running server.
pub struct Server {
    pub name: String,
    child: Child,
    pub addr: SocketAddr,
    pub pid: u32,
    /// The processes whose spans its requests may be; empty where that is not known.
    pub pids: Vec<u32>,
}

/// Started, or the reason why not.
pub type Started = std::result::Result<Server, String>;

impl Server {
    /// Starts a command that prints `listening on ADDRESS`.
    pub fn start(name: &str, mut command: Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn();
        let mut child = child.with_context(|| format!("start {name}"))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Some(addr) = line.trim().strip_prefix("listening on ").and_then(|addr| addr.parse().ok()) else {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{name} said {line:?}, not where it listens");
        };
        let pid = child.id();
        Ok(Self { name: name.to_owned(), child, addr, pid, pids: vec![pid] })
    }

    /// Who its spans must say that it is.
    pub fn identity(&self) -> Vec<(&'static str, String)> {
        let (service, language) = match self.name.as_str() {
            "go" => ("go-target", Some("go")),
            "python-http" => ("server", Some("python")),
            "python-wsgi" | "python-asgi" => ("app", Some("python")),
            "node" => ("server", Some("nodejs")),
            "java" => ("Main", Some("java")),
            "rust" => ("rust-target", Some("rust")),
            "nginx" => ("nginx", None),
            _ => return Vec::new(),
        };
        let mut wants = vec![("service.name", service.to_owned())];
        wants.extend(language.map(|language| ("telemetry.sdk.language", language.to_owned())));
        wants
    }

    /// Kills it without any warning.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        terminate(self.pid);
        if wait_exit(&mut self.child, Duration::from_secs(5)).is_none() {
            self.kill();
        }
    }
}

/// Starts a target by its name; `upstream` is where nginx passes calls to.
pub fn start(name: &str, upstream: SocketAddr) -> Result<Started> {
    let command = match command(name) {
        Ok(command) => command,
        Err(reason) => return Ok(Err(reason)),
    };
    if name == "nginx" {
        return start_nginx(upstream).map(Ok);
    }
    Server::start(name, command).map(Ok)
}

pub fn command(name: &str) -> std::result::Result<Command, String> {
    let source = targets().join(name);
    let mut command = match name {
        "go" => {
            need("go")?;
            Command::new(build_go(&source, "go-target")?)
        }
        "python-http" => {
            need("python3")?;
            let mut command = Command::new("python3");
            command.arg(source.join("server.py"));
            command
        }
        "python-wsgi" | "python-asgi" => {
            let mut command = Command::new(python_with(&source.join("requirements.txt"), name)?);
            command.arg(source.join("app.py"));
            command
        }
        "node" => {
            need("node")?;
            let mut command = Command::new("node");
            command.arg(source.join("server.js"));
            command
        }
        "java" => {
            let mut command = Command::new("java");
            command.arg("-cp").arg(build_java(&source.join("Main.java"))?).arg("Main");
            command
        }
        "rust" => {
            let target = scratch().join("rust-target");
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args(["build", "--release", "--quiet", "--locked", "--manifest-path"]);
            cargo.arg(source.join("Cargo.toml")).arg("--target-dir").arg(&target);
            build(cargo.env_remove("RUSTFLAGS"))?;
            Command::new(target.join("release/rust-target"))
        }
        "nginx" => {
            need("nginx")?;
            return Ok(Command::new("nginx"));
        }
        other => return Err(format!("no target {other}")),
    };
    command.arg("0");
    Ok(command)
}

/// Compiles a Java file; the folder with its classes.
pub fn build_java(source: &Path) -> std::result::Result<PathBuf, String> {
    need("java")?;
    need("javac")?;
    let classes = scratch().join("java-classes");
    build(Command::new("javac").arg("-d").arg(&classes).arg(source))?;
    Ok(classes)
}

fn start_nginx(upstream: SocketAddr) -> Result<Server> {
    let folder = scratch().join("nginx");
    let html = folder.join("html");
    std::fs::create_dir_all(&html)?;
    for mb in [1, 3, 100] {
        std::fs::File::create(html.join(format!("big{mb}.bin")))?.set_len(mb << 20)?;
    }
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let text = std::fs::read_to_string(targets().join("nginx/nginx.conf"))?;
    let text = text.replace("@PORT@", &addr.port().to_string()).replace("@UPSTREAM@", &upstream.to_string());
    std::fs::write(folder.join("nginx.conf"), text)?;
    let mut command = Command::new("nginx");
    command.arg("-p").arg(&folder).args(["-c", "nginx.conf", "-e", "stderr"]);
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } == 0 {
        // Workers of another user could not read the scratch folder.
        command.args(["-g", "user root;"]);
    }
    let child = command.stdin(Stdio::null()).spawn().context("start nginx")?;
    let pid = child.id();
    let server = Server { name: "nginx".to_owned(), child, addr, pid, pids: Vec::new() };
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(addr).is_err() {
        if Instant::now() > deadline {
            bail!("nginx does not listen on {addr}");
        }
        std::thread::yield_now();
    }
    Ok(server)
}

/// Starts this test's own server.
pub fn start_own(model: &str, family: &str) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", model, family]);
    Server::start(&format!("own {model} {family}"), command)
}
