//! Redis: the real server, real clients; every command is a span at both ends.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::expect::{Expect, Parent};
use crate::harness::{Notes, Run};
use crate::programs::{Client, Server, clients, free_addr, go, node, program, python};

/// How commands are sent: `"one"` after the other, together in a `"pipeline"`, or in a `"multi"`.
type Steps<'a> = &'a [(&'a str, &'a [&'a [&'a str]])];

/// What every client is made to do. Errors come from commands on the wrong kind of value.
const STEPS: Steps<'static> = &[
    ("one", &[&["SET", "key", "secret"], &["GET", "key"], &["GET", "none"], &["INCR", "key"]]),
    ("one", &[&["LPUSH", "list", "a", "b"], &["LRANGE", "list", "0", "-1"], &["CONFIG", "GET", "maxmemory"]]),
    ("one", &[&["EVAL", "return redis.error_reply('NOPE a')", "0"], &["EVALSHA", "0123456789", "0"]]),
    ("one", &[&["HSET", "hash", "field", "secret"], &["HGETALL", "hash"], &["NOSUCH.COMMAND", "secret"]]),
    ("pipeline", &[&["SET", "a", "1"], &["INCR", "a"], &["LPUSH", "a", "x"], &["GET", "a"]]),
    ("multi", &[&["SET", "b", "1"], &["INCR", "b"]]),
];

fn server(run: &Run) -> Result<Server> {
    let (redis, addr) = (program("redis-server", &[])?, free_addr()?);
    let mut command = Command::new(redis);
    command.args(["--port", &addr.port().to_string(), "--save", "", "--appendonly", "no", "--dir"]);
    Server::start("redis-server", command.arg(run.folder()?), addr)
}

/// The span of a command in database 0, at the end that asks.
fn asked(words: &[&str]) -> Expect {
    let known = matches!(words[0].to_ascii_uppercase().as_str(), "CONFIG" | "CLIENT" | "SCRIPT");
    let named = if known { 2 } else { 1 };
    let operation = words[..named].join(" ");
    let mut text = operation.clone();
    words[named..].iter().for_each(|_| text.push_str(" ?"));
    Expect::client(&format!("{operation} 0"))
        .with("db.system.name", "redis")
        .with("db.operation.name", operation)
        .with("db.query.text", text)
        .with("db.namespace", "0")
}

fn failed(expect: Expect, code: &str) -> Expect {
    expect.failed(code).with("db.response.status_code", code)
}

/// What a step's command becomes.
fn expected(words: &[&str]) -> Expect {
    let expect = asked(words);
    match words {
        ["INCR", "key"] => failed(expect, "ERR"),
        ["LPUSH", "a", _] => failed(expect, "WRONGTYPE"),
        ["EVAL", ..] => failed(expect, "NOPE"),
        ["EVALSHA", ..] => failed(expect, "NOSCRIPT"),
        ["NOSUCH.COMMAND", ..] => failed(expect, "ERR"),
        _ => expect,
    }
}

/// Notes both ends of a span.
fn note_both(notes: &Notes, expect: Expect, client: u32, server: u32) {
    notes.expect(expect.other_end().pid(server));
    notes.expect(expect.pid(client));
}

/// What drivers say of their own accord when they connect.
fn is_set_up(span: &Value) -> bool {
    let operation = span["attributes"]["db.operation.name"].as_str().unwrap_or_default().to_ascii_uppercase();
    operation == "HELLO" || operation == "COMMAND DOCS" || operation.starts_with("CLIENT ")
}

/// Runs the steps with a client that reads them as JSON from its last argument.
fn drive(run: &Run, client: &str, mut command: Command, frames: [&str; 2]) -> Result<()> {
    let server = server(run)?;
    command.args([server.addr.port().to_string(), json!(STEPS).to_string()]);
    let client = Client::wait(client, &command)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        notes.ignore(is_set_up);
        let pid = client.pid();
        let output = client.finish()?;
        ensure!(output.trim() == "done", "it printed {output}");
        for (how, commands) in STEPS {
            let frames: &[&str] = if *how == "multi" { &frames } else { &[] };
            for frame in frames {
                note_both(notes, asked(&[frame]), pid, server.pid());
            }
            for words in *commands {
                note_both(notes, expected(words), pid, server.pid());
            }
        }
        Ok(())
    })
}

pub fn redis_py(run: &Run) -> Result<()> {
    let mut command = Command::new(python("redis-python")?);
    command.arg(clients().join("redis-python/client.py")).arg("2");
    drive(run, "redis-py", command, ["MULTI", "EXEC"])
}

pub fn redis_py_resp3(run: &Run) -> Result<()> {
    let mut command = Command::new(python("redis-python")?);
    command.arg(clients().join("redis-python/client.py")).arg("3");
    drive(run, "redis-py", command, ["MULTI", "EXEC"])
}

pub fn node_redis(run: &Run) -> Result<()> {
    let folder = node("redis-node")?;
    let mut command = Command::new(program("node", &[])?);
    drive(
        run,
        "node-redis",
        {
            command.arg(folder.join("client.js"));
            command
        },
        ["MULTI", "EXEC"],
    )
}

pub fn go_redis(run: &Run) -> Result<()> {
    drive(run, "go-redis", Command::new(go("redis-go")?), ["multi", "exec"])
}

/// redis-cli: databases, and commands from a file.
pub fn redis_cli(run: &Run) -> Result<()> {
    let (cli, server) = (program("redis-cli", &[])?, server(run)?);
    let script = run.folder()?.join("commands");
    std::fs::write(&script, "SET key \"a secret\"\nGET key\nSELECT 3\nGET key\nSELECT 99\nDBSIZE\n")?;
    let line = format!("{} -p {} < {}", cli.display(), server.addr.port(), script.display());
    let mut command = Command::new("sh");
    let client = Client::wait("redis-cli", command.args(["-c", &line]))?;
    run.session(&[server.pid(), client.pid()], |notes| {
        notes.ignore(is_set_up);
        client.finish()?;
        let in_3 = |words: &[&str]| asked(words).named(&format!("{} 3", words[0])).with("db.namespace", "3");
        for expect in [
            asked(&["SET", "key", "a secret"]),
            asked(&["GET", "key"]),
            in_3(&["SELECT", "3"]),
            in_3(&["GET", "key"]),
            failed(in_3(&["SELECT", "99"]), "ERR"),
            in_3(&["DBSIZE"]),
        ] {
            notes.expect(expect.other_end().pid(server.pid()));
            notes.expect(expect);
        }
        Ok(())
    })
}

/// redis-benchmark: pipelines of 16 over 8 connections, as fast as they go.
pub fn redis_benchmark(run: &Run) -> Result<()> {
    let (benchmark, server) = (program("redis-benchmark", &[])?, server(run)?);
    let port = server.addr.port().to_string();
    let mut command = Command::new(benchmark);
    command.args(["-p", &port, "-c", "8", "-n", "640", "-P", "16", "-t", "set,get", "-q"]);
    let client = Client::wait("redis-benchmark", &command)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let pid = client.pid();
        client.finish()?;
        for _ in 0..640 {
            note_both(notes, asked(&["SET", "key:__rand_int__", "VXK"]), pid, server.pid());
            note_both(notes, asked(&["GET", "key:__rand_int__"]), pid, server.pid());
        }
        note_both(notes, asked(&["CONFIG", "GET", "save"]), pid, server.pid());
        note_both(notes, asked(&["CONFIG", "GET", "appendonly"]), pid, server.pid());
        Ok(())
    })
}

/// A connection of the test's own, so that every byte is known; only the server is watched.
struct Own(TcpStream);

impl Own {
    fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self(stream))
    }

    /// Sends commands in one call, and reads until the answer ends so.
    fn ask(&mut self, commands: &[&[&str]], end: &str) -> Result<()> {
        let mut bytes = String::new();
        for words in commands {
            write!(bytes, "*{}\r\n", words.len())?;
            words.iter().try_for_each(|word| write!(bytes, "${}\r\n{word}\r\n", word.len()))?;
        }
        self.send(&bytes, end)
    }

    fn send(&mut self, bytes: &str, end: &str) -> Result<()> {
        self.0.write_all(bytes.as_bytes())?;
        self.read(end)
    }

    fn read(&mut self, end: &str) -> Result<()> {
        let (mut answer, mut room) = (Vec::new(), vec![0; 1 << 16]);
        while !answer.ends_with(end.as_bytes()) {
            let count = self.0.read(&mut room).with_context(|| format!("wait for {end:?}"))?;
            ensure!(count > 0, "closed before {end:?}");
            answer.extend_from_slice(&room[..count]);
        }
        Ok(())
    }
}

fn served(words: &[&str], pid: u32) -> Expect {
    asked(words).other_end().parent(Parent::None).pid(pid)
}

/// Channels, pushes, blocking commands, commands on a line, MONITOR.
pub fn unasked(run: &Run) -> Result<()> {
    let server = server(run)?;
    run.session(&[server.pid()], |notes| {
        let pid = server.pid();
        let expect = |words: &[&str]| notes.expect(served(words, pid));
        let (mut two, mut three, mut other) =
            (Own::connect(server.addr)?, Own::connect(server.addr)?, Own::connect(server.addr)?);
        three.ask(&[&["HELLO", "3"]], "*0\r\n")?;
        expect(&["HELLO", "3"]);
        two.ask(&[&["SUBSCRIBE", "a", "b"]], ":2\r\n")?;
        three.ask(&[&["SUBSCRIBE", "a"]], ":1\r\n")?;
        expect(&["SUBSCRIBE", "a", "b"]);
        expect(&["SUBSCRIBE", "a"]);
        for _ in 0..3 {
            other.ask(&[&["PUBLISH", "a", "hello"]], ":2\r\n")?;
            expect(&["PUBLISH", "a", "hello"]);
            two.read("hello\r\n")?;
            three.read("hello\r\n")?;
        }
        two.ask(&[&["PING"]], "$0\r\n\r\n")?;
        three.ask(&[&["PING"], &["SET", "a", "1"]], "+OK\r\n")?;
        expect(&["PING"]);
        expect(&["PING"]);
        expect(&["SET", "a", "1"]);
        two.ask(&[&["UNSUBSCRIBE"]], ":0\r\n")?;
        expect(&["UNSUBSCRIBE"]);
        std::thread::scope(|scope| -> Result<()> {
            let waiting = scope.spawn(move || two.ask(&[&["BLPOP", "queue", "0"]], "x\r\n"));
            wait_blocked(&mut other)?;
            other.ask(&[&["RPUSH", "queue", "x"]], ":1\r\n")?;
            waiting.join().unwrap_or_else(|_| anyhow::bail!("the waiting thread died"))
        })?;
        expect(&["BLPOP", "queue", "0"]);
        expect(&["RPUSH", "queue", "x"]);
        let mut line = Own::connect(server.addr)?;
        line.send("PING\r\n", "+PONG\r\n")?;
        line.send("set key value\r\n", "+OK\r\n")?;
        expect(&["PING"]);
        expect(&["set", "key", "value"]);
        let mut monitor = Own::connect(server.addr)?;
        monitor.ask(&[&["MONITOR"]], "+OK\r\n")?;
        expect(&["MONITOR"]);
        other.ask(&[&["ECHO", "x"]], "x\r\n")?;
        monitor.read("\"x\"\r\n")?;
        expect(&["ECHO", "x"]);
        notes.ignore(|span| span["attributes"]["db.operation.name"] == "INFO");
        Ok(())
    })
}

/// Until the server says that a client is blocked.
fn wait_blocked(other: &mut Own) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        other.0.write_all(b"*2\r\n$4\r\nINFO\r\n$7\r\nclients\r\n")?;
        let (mut answer, mut room) = (String::new(), [0; 4096]);
        while !(answer.contains("blocked_clients:") && answer.ends_with("\r\n\r\n")) {
            let count = other.0.read(&mut room)?;
            ensure!(count > 0, "closed");
            answer.push_str(&String::from_utf8_lossy(&room[..count]));
            if answer.contains("\r\ntotal_blocking_keys") || answer.matches("\r\n").count() > 8 {
                break;
            }
        }
        if answer.contains("blocked_clients:1") {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "nobody is blocked");
    }
}

/// Values and arrays that are longer than what is copied, and more of them than the undecided budget.
pub fn long_values(run: &Run) -> Result<()> {
    let server = server(run)?;
    run.session(&[server.pid()], |notes| {
        let pid = server.pid();
        let expect = |words: &[&str]| notes.expect(served(words, pid));
        let long = "x".repeat(300_000);
        let mut own = Own::connect(server.addr)?;
        for _ in 0..5 {
            own.ask(&[&["SET", "long", &long]], "+OK\r\n")?;
            own.ask(&[&["GET", "long"]], "x\r\n")?;
            own.ask(&[&["ECHO", "short"]], "short\r\n")?;
            expect(&["SET", "long", "x"]);
            expect(&["GET", "long"]);
            expect(&["ECHO", "short"]);
        }
        let items: Vec<String> = (0..5000).map(|number| format!("item {number:05}")).collect();
        let push: Vec<&str> = ["RPUSH", "list"].into_iter().chain(items.iter().map(String::as_str)).collect();
        own.ask(&[&push], ":5000\r\n")?;
        for _ in 0..3 {
            own.ask(&[&["LRANGE", "list", "0", "-1"]], "item 04999\r\n")?;
            own.ask(&[&["LLEN", "list"]], ":5000\r\n")?;
            expect(&["LRANGE", "list", "0", "-1"]);
            expect(&["LLEN", "list"]);
        }
        let text = format!("RPUSH{} ...", " ?".repeat(16));
        notes.expect(served(&["RPUSH"], pid).with("db.query.text", text));
        Ok(())
    })
}

/// Connections that were open before the agent.
pub fn joined(run: &Run) -> Result<()> {
    let server = server(run)?;
    let mut own = Own::connect(server.addr)?;
    own.ask(&[&["SELECT", "5"], &["SET", "a", "1"]], "+OK\r\n+OK\r\n")?;
    run.session(&[server.pid()], |notes| {
        let pid = server.pid();
        let unknown = |words: &[&str]| served(words, pid).named(words[0]).without("db.namespace");
        for _ in 0..3 {
            own.ask(&[&["GET", "a"]], "1\r\n")?;
            notes.expect(unknown(&["GET", "a"]));
        }
        own.ask(&[&["INCR", "a"], &["INCR", "a"]], ":3\r\n")?;
        notes.expect(unknown(&["INCR", "a"]));
        notes.expect(unknown(&["INCR", "a"]));
        own.ask(&[&["SELECT", "0"]], "+OK\r\n")?;
        own.ask(&[&["GET", "a"]], "$-1\r\n")?;
        notes.expect(served(&["SELECT", "0"], pid));
        notes.expect(served(&["GET", "a"], pid));
        Ok(())
    })
}

/// Pipelines as one span.
pub fn batches(run: &Run) -> Result<()> {
    let server = server(run)?;
    run.session_with(&[server.pid()], &["--redis-batches"], |notes| {
        let pid = server.pid();
        let mut own = Own::connect(server.addr)?;
        own.ask(&[&["GET", "a"], &["GET", "b"]], "$-1\r\n$-1\r\n")?;
        own.ask(&[&["SET", "a", "1"], &["LPUSH", "a", "1"]], "value\r\n")?;
        own.ask(&[&["MULTI"], &["SET", "a", "1"], &["SET", "b", "1"], &["EXEC"]], "*2\r\n+OK\r\n+OK\r\n")?;
        let batch = |operation: &str, text: &str| {
            let expect = served(&["X"], pid).named(&format!("{operation} 0")).with("db.query.text", text);
            expect.with("db.operation.name", operation).with("db.operation.batch.size", 2)
        };
        notes.expect(batch("PIPELINE GET", "GET ?; GET ?"));
        notes.expect(failed(batch("PIPELINE", "SET ? ?; LPUSH ? ?"), "WRONGTYPE"));
        notes.expect(batch("MULTI SET", "MULTI; SET ? ?; SET ? ?; EXEC"));
        Ok(())
    })
}

/// A threaded Flask service: its requests are the parents of its commands.
pub fn flask(run: &Run) -> Result<()> {
    let (python, redis, addr) = (python("redis-python")?, server(run)?, free_addr()?);
    let mut command = Command::new(python);
    command.arg(clients().join("redis-python/service.py"));
    command.args([addr.port().to_string(), redis.addr.port().to_string()]);
    let service = Server::start("Flask", &mut command, addr)?;
    run.session(&[service.pid()], |notes| {
        notes.ignore(is_set_up);
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|thread| {
                    scope.spawn(move || -> Result<()> {
                        for number in 0..5 {
                            let url = format!("GET /carts/{thread}{number} HTTP/1.0\r\n\r\n");
                            let mut stream = TcpStream::connect(addr)?;
                            stream.write_all(url.as_bytes())?;
                            let mut answer = String::new();
                            stream.read_to_string(&mut answer)?;
                            ensure!(answer.contains("200 OK"), "{answer}");
                        }
                        Ok(())
                    })
                })
                .collect();
            threads.into_iter().try_for_each(|thread| {
                thread.join().unwrap_or_else(|_| anyhow::bail!("a client's thread died"))
            })
        })?;
        let name = "GET /carts/{id}";
        for _ in 0..20 {
            let pid = service.pid();
            for words in [&["INCRBY", "a", "1"][..], &["HSET", "a", "b", "c"]] {
                notes.expect(asked(words).pid(pid).parent(Parent::Server(name)));
            }
            notes.expect(
                Expect::server(name)
                    .with("http.request.method", "GET")
                    .with("http.response.status_code", 200)
                    .with("http.request.body.size", 0)
                    .with_any("http.response.body.size")
                    .with("http.route", "/carts/{id}")
                    .with_any("url.path")
                    .with("url.scheme", "http")
                    .pid(pid),
            );
        }
        Ok(())
    })
}
