//! Requests that cross several watched processes, and clients that end before their answers come.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::cases::context::joins_by_thread;
use crate::client::{Conn, Request};
use crate::harness::{Notes, Run, concurrently, session};
use crate::servers::{self, Server};
use crate::support::tools::have;
use crate::truth::{Answer, Exchange, Kind, Parent, Size, unix_ns};

/// A request that passes several services on its way; each is watched.
pub fn chain(run: &Run) -> Result<()> {
    const CASE: &str = "a chain of services";
    let helper = servers::start_own("threads", "read-write")?;
    let mut services: Vec<Server> = Vec::new();
    for name in ["python-wsgi", "java", "go", "python-http", "node", "rust", "python-asgi"] {
        match servers::start(name, helper.addr)? {
            Ok(server) => services.push(server),
            Err(reason) => run.skip(CASE, name, &reason),
        }
    }
    if services.is_empty() {
        return Ok(());
    }
    let pids: Vec<u32> = services.iter().map(|server| server.pid).collect();
    session(run, "chain", &pids, |notes| {
        let work = |thread: usize| {
            for n in 0..4 {
                one_chain(notes, CASE, &services, thread + n)?;
            }
            Ok(())
        };
        own_failure(notes, CASE, concurrently(2, work));
    })
}

/// Client → each service in turn → the last one's `/hello`.
fn one_chain(notes: &Notes, case: &str, services: &[Server], rotate: usize) -> Result<()> {
    let mut services: Vec<&Server> = services.iter().collect();
    let len = services.len();
    services.rotate_left(rotate % len);
    let tokens: Vec<String> = services.iter().map(|_| notes.token(case)).collect();
    // From the last to the first: each target holds the next one's address.
    let mut targets = vec![format!("/hello/{}", tokens[tokens.len() - 1])];
    for (n, next) in services.iter().enumerate().skip(1).rev() {
        // No part of it needs an escape: there is no `&`, and a value goes on behind further `?` and `=`.
        let url = format!("http://{}{}", next.addr, targets[0]);
        targets.insert(0, format!("/call/{}?url={url}", tokens[n - 1]));
    }
    let mut outer = Conn::open(services[0].addr)?.exchange(&Request::get(targets[0].clone()))?;
    let whole = outer.clone();
    for (n, service) in services.iter().enumerate() {
        if n > 0 {
            // The call by which the one before asked this one.
            let mut call = Exchange::new("GET", &targets[n], service.addr);
            (call.start_ns, call.end_ns) = (whole.start_ns, whole.end_ns);
            call.answer = Answer::Whole(200);
            call.response_body = Size::Any;
            let caller = services[n - 1];
            call.parent = if joins_by_thread(&caller.name) {
                Parent::Span(Kind::Server, tokens[n - 1].clone())
            } else {
                Parent::SpanOrNone(Kind::Server, tokens[n - 1].clone())
            };
            notes.add(call.client(case, &notes.column, &caller.pids));
            outer = call;
            outer.parent = Parent::Span(Kind::Client, tokens[n].clone());
        }
        let mut truth = outer.server(case, &notes.column, &service.pids);
        truth.attributes.retain(|(name, _)| n == 0 || *name != "user_agent.original");
        notes.add(truth);
    }
    Ok(())
}

/// Clients that are killed, or give up, while they wait for an answer.
pub fn clients_end(run: &Run) -> Result<()> {
    let server = servers::start_own("threads", "read-write")?;
    let mut killed = Command::new(std::env::current_exe()?);
    killed.args(["fetch", "read-write"]).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut killed = killed.spawn()?;
    let mut shell = Command::new("sh").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    session(run, "client ends", &[killed.id(), shell.id()], |notes| {
        const KILLED: &str = "client is killed while it waits";
        let target = format!("/slow/{}?ms=400", notes.token(KILLED));
        let mut exchange = Exchange::new("GET", &target, server.addr);
        let plan =
            json!({"id": 0, "method": "GET", "url": format!("http://{}{target}", server.addr), "body": 0});
        let mut work = || -> Result<()> {
            let mut input = killed.stdin.take().context("no stdin")?;
            writeln!(input, "{plan}")?;
            // The request is on its way long before the answer can be.
            std::thread::sleep(Duration::from_millis(100));
            killed.kill()?;
            killed.wait()?;
            Ok(())
        };
        own_failure(notes, KILLED, work());
        exchange.end_ns = unix_ns();
        notes.add(exchange.client(KILLED, &notes.column, &[killed.id()]));

        const GIVES_UP: &str = "client gives up waiting";
        if !have("curl") {
            run.skip(GIVES_UP, "client ends", "curl is not installed");
            return;
        }
        let target = format!("/slow/{}?ms=400", notes.token(GIVES_UP));
        let mut exchange = Exchange::new("GET", &target, server.addr);
        let mut work = || -> Result<()> {
            let mut input = shell.stdin.take().context("no stdin")?;
            writeln!(input, "curl -s -m 0.1 http://{}{target}", server.addr)?;
            drop(input);
            shell.wait()?;
            Ok(())
        };
        own_failure(notes, GIVES_UP, work());
        exchange.end_ns = unix_ns();
        exchange.min_ns = 50_000_000;
        notes.add(exchange.client(GIVES_UP, &notes.column, &[]));
    })
}

/// Names from the environment win over the program's own.
pub fn named_by_environment(run: &Run) -> Result<()> {
    const CASE: &str = "service named by its environment";
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "threads", "read-write"]).env("OTEL_SERVICE_NAME", "checkout");
    command.env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=1.2.3");
    let server = Server::start("named", command)?;
    session(run, "identity", &[server.pid], |notes| {
        let work = || -> Result<()> {
            let exchange =
                Conn::open(server.addr)?.exchange(&Request::get(format!("/hello/{}", notes.token(CASE))))?;
            let mut truth = exchange.server(CASE, &notes.column, &[server.pid]);
            for (name, value) in [
                ("service.name", "checkout"),
                ("service.version", "1.2.3"),
                ("deployment.environment.name", "test"),
                ("telemetry.sdk.language", "rust"),
                ("os.type", "linux"),
                ("telemetry.distro.name", "skep"),
            ] {
                truth.resource.push((name, value.to_owned()));
            }
            notes.add(truth);
            Ok(())
        };
        own_failure(notes, CASE, work());
    })
}

/// Notes a failure of the test's own programs.
pub fn own_failure(notes: &Notes, case: &str, result: Result<()>) {
    notes.run.with(case, &notes.column, |_| {});
    if let Err(error) = result {
        notes.run.wrong(case, &notes.column, format!("the case itself: {error:#}"));
    }
}
