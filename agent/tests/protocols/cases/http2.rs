//! HTTP/2 in clear text: nghttp2, Go and Node, as servers and as clients, hundreds of streams at once.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Result, ensure};

use crate::expect::{Expect, Parent};
use crate::harness::{Notes, Run};
use crate::programs::{Client, Server, clients, free_addr, go, program};

/// h2load against nghttpd: hundreds of streams on each connection, every one a span at both ends.
pub fn h2load(run: &Run) -> Result<()> {
    let (nghttpd, h2load) = (program("nghttpd", &["/usr/sbin"])?, program("h2load", &[])?);
    let addr = free_addr()?;
    let folder = run.folder()?;
    std::fs::write(folder.join("a"), "x".repeat(1000))?;
    let mut command = Command::new(nghttpd);
    command.args(["--no-tls", "-a", "127.0.0.1", "-d"]).arg(&folder).arg(addr.port().to_string());
    let server = Server::start("nghttpd", &mut command, addr)?;
    let (requests, streams) = if run.full { (20_000, 400) } else { (2000, 200) };
    let mut load = Command::new(h2load);
    load.args(["-n", &requests.to_string(), "-c", "4", "-m", &streams.to_string()]);
    let client = Client::wait("h2load", load.arg(format!("http://{addr}/a")))?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let report = client.finish()?;
        ensure!(report.contains(&format!("{requests} succeeded")), "{report}");
        for _ in 0..requests {
            exchange(notes, addr, "GET", "/a", 200, Some(0), Some(1000), true);
        }
        Ok(())
    })
}

/// Go's client and server.
pub fn go_both_ends(run: &Run) -> Result<()> {
    let program = go("http2-go")?;
    let addr = free_addr()?;
    let server = Server::start("go", Command::new(&program).args(["server", &addr.to_string()]), addr)?;
    mixed(
        run,
        &server,
        Command::new(&program).args(["client", &format!("http://{addr}"), "300", "100"]),
        300,
        true,
    )
}

/// Node's server, Go's client.
pub fn node_server(run: &Run) -> Result<()> {
    let (node, program) = (program("node", &[])?, go("http2-go")?);
    let addr = free_addr()?;
    let script = clients().join("http2-node/main.js");
    let server = Server::start(
        "node",
        Command::new(node).arg(script).args(["server", &addr.port().to_string()]),
        addr,
    )?;
    mixed(
        run,
        &server,
        Command::new(program).args(["client", &format!("http://{addr}"), "300", "100"]),
        300,
        true,
    )
}

/// Go's server, Node's client: all requests at once on one connection.
pub fn node_client(run: &Run) -> Result<()> {
    let (node, program) = (program("node", &[])?, go("http2-go")?);
    let addr = free_addr()?;
    let server = Server::start("go", Command::new(program).args(["server", &addr.to_string()]), addr)?;
    let script = clients().join("http2-node/main.js");
    let mut client = Command::new(node);
    client.arg(script).args(["client", &format!("http://{addr}"), "500"]);
    mixed(run, &server, &mut client, 500, false)
}

/// A client whose every third request finds nothing; the others send a body and read it back.
fn mixed(
    run: &Run,
    server: &Server,
    client: &mut Command,
    requests: usize,
    names_itself: bool,
) -> Result<()> {
    let client = Client::wait("client", client)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        client.finish()?;
        for turn in 0..requests {
            let size = turn % 5 * 1000;
            if turn % 3 == 0 {
                exchange(notes, server.addr, "GET", "/missing", 404, Some(0), Some(19), names_itself);
            } else {
                exchange(notes, server.addr, "POST", "/echo", 200, Some(size), Some(size), names_itself);
            }
        }
        Ok(())
    })
}

/// One request at both ends.
#[expect(clippy::too_many_arguments, reason = "a row of a table")]
fn exchange(
    notes: &Notes,
    addr: SocketAddr,
    method: &'static str,
    path: &'static str,
    status: u16,
    asked: Option<usize>,
    answered: Option<usize>,
    names_itself: bool,
) {
    let common = |expect: Expect| {
        let mut expect = expect
            .with("http.request.method", method)
            .with("http.response.status_code", status)
            .with("url.scheme", "http");
        if names_itself {
            expect = expect.with_any("user_agent.original");
        }
        for (name, size) in [("http.request.body.size", asked), ("http.response.body.size", answered)] {
            if let Some(size) = size {
                expect = expect.with(name, size);
            }
        }
        expect
    };
    let client = common(Expect::client(method)).with("url.full", format!("http://{addr}{path}"));
    notes.expect(if status >= 400 { client.failed("404") } else { client });
    let (name, route) =
        if status == 404 { (method.to_owned(), None) } else { (format!("{method} {path}"), Some(path)) };
    let mut server = common(Expect::server(&name)).with("url.path", path);
    if let Some(route) = route {
        server = server.with("http.route", route);
    }
    notes.expect(server.parent(Parent::Any));
}
