//! Real clients: curl, Python, Go, Java, Node, and the test's own with a chosen family of calls.
//!
//! A client program waits for its plan on stdin, so that the agent can be told its process id first.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::harness::Notes;
use crate::servers::build_java;
use crate::support::process::terminate;
use crate::support::tools::{build_go, need};
use crate::truth::{Answer, Exchange, Kind, Parent, Size, unix_ns};

/// Client programs, in the order of the table.
pub const NAMES: &[&str] = &[
    "curl",
    "python",
    "go",
    "java",
    "node",
    "own recvfrom-sendto",
    "own non-blocking",
    "own readv-writev",
    "own recvmsg-sendmsg",
];

/// A client program that waits for its plan.
pub struct Client {
    pub name: &'static str,
    child: Child,
    pub pid: u32,
}

/// Which ends the agent watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    Client,
    Server,
    Both,
}

impl Client {
    /// Starts it, or says why this machine cannot.
    pub fn start(name: &'static str) -> Result<std::result::Result<Self, String>> {
        let mut command = match command(name) {
            Ok(command) => command,
            Err(reason) => return Ok(Err(reason)),
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().with_context(|| format!("start the client {name}"))?;
        let pid = child.id();
        Ok(Ok(Self { name, child, pid }))
    }

    /// Sends requests to a server and notes what must be seen of them.
    pub fn drive(
        mut self,
        notes: &Notes,
        case: &str,
        to: SocketAddr,
        watched: Watched,
        pids: &[u32],
    ) -> Result<()> {
        let mut input = self.child.stdin.take().context("no stdin")?;
        let mut lines = BufReader::new(self.child.stdout.take().context("no stdout")?).lines();
        let mut open: HashMap<u64, Exchange> = HashMap::new();
        const REQUESTS: u64 = 24;
        // curl has one command after the other; the others have several requests under way.
        let at_once = if self.name == "curl" || self.name.starts_with("own") { 1 } else { 6 };
        let (mut sent, mut done) = (0, 0);
        while done < REQUESTS {
            if sent < REQUESTS && sent - done < at_once {
                let (plan, exchange) = plan(notes, case, to, sent);
                let line = if self.name == "curl" { curl_command(&plan) } else { plan.to_string() };
                writeln!(input, "{line}").with_context(|| format!("{} has ended", self.name))?;
                input.flush()?;
                open.insert(sent, exchange);
                sent += 1;
                continue;
            }
            let Some(line) = lines.next() else { bail!("{} ended after {done} answers", self.name) };
            let answer: Value = serde_json::from_str(&line?).context("a client's answer")?;
            let mut exchange =
                open.remove(&answer["id"].as_u64().unwrap_or(0)).context("an answer to nothing")?;
            exchange.end_ns = unix_ns();
            exchange.answer = Answer::Whole(u16::try_from(answer["status"].as_u64().unwrap_or(0))?);
            exchange.response_body = Size::Exact(answer["received"].as_u64().unwrap_or(0));
            let port = answer["local_port"].as_u64().and_then(|port| u16::try_from(port).ok());
            exchange.local =
                port.filter(|port| *port > 0).map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
            self.note(notes, case, exchange, watched, pids);
            done += 1;
        }
        drop(input);
        let _ = self.child.wait();
        Ok(())
    }

    fn note(&self, notes: &Notes, case: &str, mut exchange: Exchange, watched: Watched, servers: &[u32]) {
        // curl is a child of the shell that is watched.
        let pids = if self.name == "curl" { Vec::new() } else { vec![self.pid] };
        let token = exchange.target.split('/').nth(2).unwrap_or("").to_owned();
        if watched != Watched::Server {
            notes.add(exchange.client(case, &notes.column, &pids));
        }
        if watched == Watched::Both {
            exchange.parent = Parent::Span(Kind::Client, token);
        }
        if watched != Watched::Client {
            notes.add(exchange.server(case, &notes.column, servers));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            terminate(self.pid);
            let _ = self.child.wait();
        }
    }
}

fn plan(notes: &Notes, case: &str, to: SocketAddr, id: u64) -> (Value, Exchange) {
    let token = notes.token(case);
    let (method, target, body) = match id % 5 {
        0 => ("GET", format!("/users/{token}"), 0),
        1 => ("POST", format!("/echo/{token}"), 1 + usize::try_from(id * 997 % 30_000).unwrap_or(0)),
        2 => ("GET", format!("/status/404/{token}"), 0),
        3 => ("GET", format!("/slow/{token}?ms={id}"), 0),
        _ => ("GET", format!("/hello/{token}"), 0),
    };
    let agent = format!("{case}/{id}");
    let headers = json!({"User-Agent": agent, "X-Number": id.to_string()});
    let plan = json!({"id": id, "method": method, "url": format!("http://{to}{target}"), "headers": headers, "body": body});
    let mut exchange = Exchange::new(method, &target, to);
    exchange.user_agent = Some(agent);
    exchange.request_body = Size::Exact(body as u64);
    exchange.min_ns = if id % 5 == 3 { id * 1_000_000 } else { 0 };
    (plan, exchange)
}

fn curl_command(plan: &Value) -> String {
    let body = plan["body"].as_u64().unwrap_or(0);
    let data = if body > 0 {
        format!("--data-binary {} -H Content-Type:", "b".repeat(usize::try_from(body).unwrap_or(0)))
    } else {
        String::new()
    };
    let write = r#"{"id":ID,"status":%{http_code},"received":%{size_download},"local_port":%{local_port}}\n"#;
    let write = write.replace("ID", &plan["id"].to_string());
    format!(
        "curl -s -o /dev/null -H Expect: -A {} -X {} {data} -w '{write}' '{}'",
        plan["headers"]["User-Agent"],
        plan["method"].as_str().unwrap_or("GET"),
        plan["url"].as_str().unwrap_or("")
    )
}

fn command(name: &str) -> std::result::Result<Command, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ground_truth/clients");
    if let Some(family) = name.strip_prefix("own ") {
        let mut command = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
        command.args(["fetch", family]);
        return Ok(command);
    }
    let mut command = match name {
        "curl" => {
            need("curl")?;
            return Ok(Command::new("sh"));
        }
        "python" => {
            need("python3")?;
            Command::new("python3")
        }
        "node" => {
            need("node")?;
            Command::new("node")
        }
        "go" => {
            need("go")?;
            return Ok(Command::new(build_go(&source.join("go"), "go-client")?));
        }
        _ => {
            let mut command = Command::new("java");
            command.arg("-cp").arg(build_java(&source.join("Client.java"))?).arg("Client");
            return Ok(command);
        }
    };
    command.arg(source.join(if name == "python" { "client.py" } else { "client.js" }));
    Ok(command)
}
