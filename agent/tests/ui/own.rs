//! The scene: two services of our own, the agent on them, and a load whose every request is known.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use anyhow::{Context, Result, bail};

use crate::Report;
use crate::api::{DEADLINE, Page};

pub const FRONT: &str = "front";
pub const BACK: &str = "back";
/// A request line and a header that nobody may take for markup or commands.
pub const HOSTILE_PATH: &str = "/<script>globalThis.hacked=1</script>";
pub const HOSTILE_AGENT: &str = "<img src=x onerror=globalThis.hacked=1>\u{202e}\u{9b}31m";

/// What is driven, once.
pub struct Truth {
    pub users: u64,
    pub fails: u64,
    pub relays: u64,
    pub slow: u64,
}

pub const TRUTH: Truth = Truth { users: 240, fails: 20, relays: 30, slow: 5 };

impl Truth {
    pub fn front(&self) -> u64 {
        self.users + self.fails + self.relays + self.slow + 1
    }
}

/// Everything that runs.
pub struct Scene {
    pub front: SocketAddr,
    pub page: Page,
    pub skep: u32,
    pub socket: PathBuf,
    children: Vec<Child>,
    log: mpsc::Receiver<String>,
}

impl Scene {
    pub fn start() -> Result<Self> {
        let (back, back_addr) = serve(BACK, None)?;
        let (front, front_addr) = serve(FRONT, Some(back_addr))?;
        let mut command = Command::new(binary());
        command.args(["run", "--print", "none", "--ui", "127.0.0.1:0", "--route", "/users/{id}"]);
        command.args(["--pid", &front.id().to_string(), "--pid", &back.id().to_string()]);
        let mut skep = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context("start skep")?;
        let (sender, log) = mpsc::channel();
        let stderr = skep.stderr.take().context("piped")?;
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Nobody may listen any more at the end.
                let _ = sender.send(line);
            }
        });
        let link = loop {
            let line = log.recv_timeout(DEADLINE).context("skep printed no link")?;
            if let Some((_, link)) = line.split_once("page: ") {
                break link.to_owned();
            }
        };
        let pid = skep.id();
        let scene = Self {
            front: front_addr,
            page: Page::from_link(&link)?,
            skep: pid,
            socket: PathBuf::from(format!("/run/skep/{pid}.sock")),
            children: vec![skep, front, back],
            log,
        };
        scene.drive()?;
        Ok(scene)
    }

    fn drive(&self) -> Result<()> {
        for id in 0..TRUTH.users {
            get(self.front, &format!("/users/{id}"), "test", 200)?;
        }
        for _ in 0..TRUTH.fails {
            get(self.front, "/fail", "test", 500)?;
        }
        for _ in 0..TRUTH.relays {
            get(self.front, "/relay", "test", 200)?;
        }
        for _ in 0..TRUTH.slow {
            get(self.front, "/slow", "test", 200)?;
        }
        get(self.front, HOSTILE_PATH, HOSTILE_AGENT, 200)
    }

    /// Ends everything; the agent's books must close.
    pub fn end(mut self, report: &mut Report) -> Result<()> {
        // SAFETY: the agent was started here and has not been waited for.
        unsafe { libc::kill(self.skep.cast_signed(), libc::SIGTERM) };
        let lines: Vec<String> = std::iter::from_fn(|| self.log.recv_timeout(DEADLINE).ok()).collect();
        let status = self.children[0].wait()?;
        report.check("after many and slow readers the books close without a loss", || {
            let text = lines.join("\n");
            if !status.success() || !text.contains(" 0 lost") || !text.contains("reason: none") {
                bail!("{status}: {text}");
            }
            Ok(())
        });
        let socket = self.socket.clone();
        report.check("the socket goes with the run", move || {
            if socket.exists() { bail!("{} is still there", socket.display()) } else { Ok(()) }
        });
        Ok(())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn binary() -> String {
    std::env::var("SKEP_BIN")
        .unwrap_or_else(|_| option_env!("CARGO_BIN_EXE_skep").unwrap_or("target/release/skep").to_owned())
}

/// One request on a connection of its own.
pub fn get(address: SocketAddr, path: &str, agent: &str, expected: u16) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if !answer.starts_with(&format!("HTTP/1.1 {expected} ")) {
        bail!("{path}: {answer:?}");
    }
    Ok(())
}

fn serve(name: &str, relay: Option<SocketAddr>) -> Result<(Child, SocketAddr)> {
    // Not this program itself: it links an async runtime, and what its threads do says nothing then.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ui/services.py");
    let mut command = Command::new("python3");
    command.arg(script).args(relay.map(|address| address.to_string()));
    let mut child =
        command.env("OTEL_SERVICE_NAME", name).stdout(Stdio::piped()).spawn().context("start python3")?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
    Ok((child, line.trim().parse().context("the service says where it listens")?))
}
