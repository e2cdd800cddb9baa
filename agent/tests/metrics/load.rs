//! A server under load, and what the client did to it: the truth.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::Missing;
use crate::support::process::{terminate, wait_exit};
use crate::support::tools::{need, targets};

/// Method, path and route, status.
pub const PLAN: &[(&str, &str, &str, u16)] = &[
    ("GET", "/users/7", "/users/{id}", 200),
    ("GET", "/users/8", "/users/{id}", 200),
    ("GET", "/status/404", "/status/{id}", 404),
    ("GET", "/status/500", "/status/{id}", 500),
    ("POST", "/echo", "/echo", 200),
    ("GET", "/chunked?n=3", "/chunked", 200),
    ("GET", "/slow?ms=7", "/slow", 200),
];
/// Route patterns for the agent: what is learned depends on what came before.
pub const ROUTES: &[&str] = &["/users/{id}", "/status/{id}", "/echo", "/chunked", "/slow"];

/// Route and status → requests, and the bytes of their bodies in both directions.
pub type Truth = BTreeMap<(String, u16), Counts>;

/// What the client counted.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub requests: u64,
    pub sent: u64,
    pub received: u64,
}

/// The Python server of `apps/targets`.
pub struct Server {
    child: Child,
    pub addr: SocketAddr,
    pub pid: u32,
}

impl Server {
    pub fn start() -> Result<Self> {
        need("python3").map_err(Missing)?;
        let mut command = Command::new("python3");
        command.arg(targets().join("python-http/server.py")).arg("0").env("OTEL_SERVICE_NAME", "shop");
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start python3")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no stdout")?).read_line(&mut line)?;
        let Some(addr) = line.trim().strip_prefix("listening on ").and_then(|addr| addr.parse().ok()) else {
            let _ = child.kill();
            let _ = child.wait();
            bail!("the server said {line:?}");
        };
        let pid = child.id();
        Ok(Self { child, addr, pid })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        terminate(self.pid);
        if wait_exit(&mut self.child, Duration::from_secs(5)).is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Several clients at the same time, each with a connection kept alive and so many rounds of the plan.
pub fn drive(addr: SocketAddr, clients: usize, rounds: usize) -> Result<Truth> {
    let threads: Vec<_> =
        (0..clients).map(|_| std::thread::spawn(move || one_client(addr, rounds))).collect();
    let mut truth = Truth::new();
    for thread in threads {
        for (key, counts) in thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?? {
            let sum = truth.entry(key).or_default();
            sum.requests += counts.requests;
            sum.sent += counts.sent;
            sum.received += counts.received;
        }
    }
    Ok(truth)
}

fn one_client(addr: SocketAddr, rounds: usize) -> Result<Truth> {
    let mut truth = Truth::new();
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut answers = BufReader::new(stream.try_clone()?);
    for round in 0..rounds {
        for (method, path, route, status) in PLAN {
            let body = if *method == "POST" { "x".repeat(1 + round % 300) } else { String::new() };
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(request.as_bytes())?;
            let (answered, received) = read_answer(&mut answers)?;
            if answered != *status {
                bail!("{path}: {answered}");
            }
            let counts = truth.entry(((*route).to_owned(), *status)).or_default();
            counts.requests += 1;
            counts.sent += body.len() as u64;
            counts.received += received;
        }
    }
    Ok(truth)
}

/// Status and bytes of the body.
fn read_answer(answers: &mut BufReader<TcpStream>) -> Result<(u16, u64)> {
    let mut line = String::new();
    answers.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no status")?;
    let (mut length, mut chunked) = (0_u64, false);
    loop {
        line.clear();
        answers.read_line(&mut line)?;
        let lower = line.trim().to_ascii_lowercase();
        if lower.is_empty() {
            break;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
        chunked |= lower == "transfer-encoding: chunked";
    }
    if !chunked {
        answers.read_exact(&mut vec![0; usize::try_from(length)?])?;
        return Ok((status, length));
    }
    let mut total = 0;
    loop {
        line.clear();
        answers.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16)?;
        answers.read_exact(&mut vec![0; usize::try_from(size)? + 2])?;
        if size == 0 {
            return Ok((status, total));
        }
        total += size;
    }
}
