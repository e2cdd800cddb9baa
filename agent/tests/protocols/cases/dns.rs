//! DNS: a real name server (dnsmasq) and real resolvers; every query is a span.
//!
//! glibc and Go read /etc/resolv.conf and ask port 53: the server listens there on a loopback address of its own, and
//! clients run in a mount namespace with a file of their own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::expect::{Expect, Parent};
use crate::harness::{Missing, Notes, Run};
use crate::programs::{Client, Server, go, program};

/// The server's address, and one on which nobody answers.
const SERVER: &str = "127.53.53.1";
const SILENT: &str = "127.53.53.2";

/// dnsmasq with a few names.
fn server(run: &Run) -> Result<Server> {
    let dnsmasq = program("dnsmasq", &["/usr/sbin"])?;
    let addr = SocketAddr::new(SERVER.parse()?, 53);
    UdpSocket::bind(addr).map_err(|error| Missing(format!("{addr}: {error}")))?;
    let mut command = Command::new(dnsmasq);
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
    ]);
    command.args(["--bind-interfaces", "--listen-address", SERVER, "--local=/skep.test/", "--pid-file"]);
    command.args(["--host-record=a.skep.test,127.0.0.2,::2", "--cname=b.skep.test,a.skep.test"]);
    command.arg("--mx-host=skep.test,a.skep.test,5");
    // A chain of names that do not compress: longer than a datagram without EDNS.
    let name = |number: usize| format!("{}{number}.{}.test", "x".repeat(60), "y".repeat(60));
    command.arg(format!("--cname=long.skep.test,{}", name(0)));
    for number in 0..5 {
        command.arg(format!("--cname={},{}", name(number), name(number + 1)));
    }
    command.arg(format!("--host-record={},127.0.0.3", name(5)));
    for number in 0..40 {
        command.arg(format!("--host-record=many.skep.test,127.0.1.{number}"));
    }
    command.current_dir(run.folder()?);
    Server::start_when("dnsmasq", &mut command, addr, || answers(addr))
}

/// Whether the server answers a question.
fn answers(addr: SocketAddr) -> bool {
    let ask = || -> std::io::Result<usize> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send_to(b"\0\x01\x01\0\0\x01\0\0\0\0\0\0\x01a\x04skep\x04test\0\0\x01\0\x01", addr)?;
        socket.recv(&mut [0; 512])
    };
    ask().is_ok()
}

/// A command that sees an /etc/resolv.conf of its own.
fn with_resolvers(run: &Run, resolv_conf: &str, program: &PathBuf, arguments: &[&str]) -> Result<Command> {
    let file = run.folder()?.join("resolv.conf");
    std::fs::write(&file, resolv_conf)?;
    let script = "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"";
    let mut command = Command::new(self::program("unshare", &[])?);
    command.args(["--mount", "sh", "-c", script]).arg(file).arg(program).args(arguments);
    Ok(command)
}

fn asked(name: &str) -> Expect {
    Expect::client(&format!("DNS {name}")).with("dns.question.name", name).parent(Parent::None)
}

fn answered(name: &str, answers: &[&str]) -> Expect {
    asked(name).with("dns.answers", json!(answers))
}

/// Notes both ends; over UDP, nothing tells that they are one.
fn note_both(notes: &Notes, expect: &Expect) {
    notes.expect(expect.other_end().parent(Parent::None));
    notes.expect(expect.clone());
}

fn glibc(run: &Run, resolv_conf: &str, names: &[&str]) -> Result<Client> {
    let python = program("python3", &[])?;
    let script = "\
import socket, sys
for name in sys.argv[1:]:
    try:
        socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    except socket.gaierror:
        pass
";
    let arguments: Vec<&str> = ["-c", script].into_iter().chain(names.iter().copied()).collect();
    Client::wait("getaddrinfo", &with_resolvers(run, resolv_conf, &python, &arguments)?)
}

/// glibc asks for both families with one sendmmsg.
pub fn getaddrinfo(run: &Run) -> Result<()> {
    let server = server(run)?;
    let client =
        glibc(run, &format!("nameserver {SERVER}\n"), &["a.skep.test", "b.skep.test", "none.skep.test"])?;
    run.session(&[server.pid(), client.pid()], |notes| {
        client.finish()?;
        for address in ["127.0.0.2", "::2"] {
            note_both(notes, &answered("a.skep.test", &[address]));
            note_both(notes, &answered("b.skep.test", &["a.skep.test", address]));
            note_both(notes, &asked("none.skep.test").failed("NXDOMAIN"));
        }
        Ok(())
    })
}

/// An answer that does not fit a datagram is asked for again over TCP: one query at the client, two at the server.
pub fn truncated(run: &Run) -> Result<()> {
    let _server = server(run)?;
    let client = glibc(run, &format!("nameserver {SERVER}\n"), &["long.skep.test"])?;
    run.session(&[client.pid()], |notes| {
        client.finish()?;
        notes.expect(asked("long.skep.test").with_any("dns.answers"));
        notes.expect(asked("long.skep.test").with_any("dns.answers"));
        Ok(())
    })
}

/// A server that does not answer: the next one is asked, or none is left.
pub fn silent(run: &Run) -> Result<()> {
    let _server = server(run)?;
    let silent = SocketAddr::new(SILENT.parse::<IpAddr>()?, 53);
    let _silent = UdpSocket::bind(silent).map_err(|error| Missing(format!("{silent}: {error}")))?;
    let options = "options timeout:1 attempts:1\n";
    let next = glibc(run, &format!("nameserver {SILENT}\nnameserver {SERVER}\n{options}"), &["a.skep.test"])?;
    run.session(&[next.pid()], |notes| {
        next.finish()?;
        notes.expect(answered("a.skep.test", &["127.0.0.2"]));
        notes.expect(answered("a.skep.test", &["::2"]));
        Ok(())
    })?;
    let none = glibc(run, &format!("nameserver {SILENT}\n{options}"), &["a.skep.test"])?;
    run.session(&[none.pid()], |notes| {
        none.finish()?;
        notes.expect(asked("a.skep.test").failed("timeout"));
        notes.expect(asked("a.skep.test").failed("timeout"));
        Ok(())
    })?;
    Ok(())
}

/// Go's own resolver: a socket for each query, and EDNS.
pub fn go_resolver(run: &Run) -> Result<()> {
    let (server, client) = (server(run)?, go("dns-go")?);
    let command = with_resolvers(run, &format!("nameserver {SERVER}\n"), &client, &[])?;
    let client = Client::wait("Go", &command)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let output = client.finish()?;
        ensure!(output.trim() == "[127.0.0.2 ::2]", "it printed {output}");
        note_both(notes, &answered("a.skep.test", &["127.0.0.2"]));
        note_both(notes, &answered("a.skep.test", &["::2"]));
        note_both(notes, &asked("none.skep.test").failed("NXDOMAIN"));
        note_both(notes, &asked("none.skep.test").failed("NXDOMAIN"));
        Ok(())
    })
}

/// c-ares, as Node carries it.
pub fn c_ares(run: &Run) -> Result<()> {
    let (server, node) = (server(run)?, program("node", &[])?);
    let script = "\
const { Resolver } = require('dns').promises;
(async () => {
  const resolver = new Resolver();
  resolver.setServers([process.argv[1]]);
  await Promise.all([resolver.resolve4('a.skep.test'), resolver.resolve6('a.skep.test')]);
  await resolver.resolveMx('skep.test');
  await resolver.resolve4('none.skep.test').catch(() => {});
  console.log('done');
})();";
    let mut command = Command::new(node);
    let client = Client::wait("node", command.args(["-e", script, SERVER]))?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let output = client.finish()?;
        ensure!(output.trim() == "done", "it printed {output}");
        note_both(notes, &answered("a.skep.test", &["127.0.0.2"]));
        note_both(notes, &answered("a.skep.test", &["::2"]));
        note_both(notes, &answered("skep.test", &["a.skep.test"]));
        note_both(notes, &asked("none.skep.test").failed("NXDOMAIN"));
        Ok(())
    })
}

/// dig over TCP: both ends of a connection are seen.
pub fn tcp(run: &Run) -> Result<()> {
    let (server, dig) = (server(run)?, program("dig", &[])?);
    let mut command = Command::new(dig);
    command.args([&format!("@{SERVER}"), "+tcp", "+short", "many.skep.test", "A"]);
    let client = Client::wait("dig", &command)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let output = client.finish()?;
        ensure!(output.lines().count() == 40, "it printed {output}");
        let expect = asked("many.skep.test").with_any("dns.answers");
        notes.expect(expect.other_end());
        notes.expect(expect);
        Ok(())
    })
}

/// Queries of a thread that serves a request are its children.
pub fn parents(run: &Run) -> Result<()> {
    let (_server, python) = (server(run)?, program("python3", &[])?);
    let script = "\
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        socket.getaddrinfo('a.skep.test', 80, type=socket.SOCK_STREAM)
        self.send_response(204)
        self.end_headers()
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";
    let addr = crate::programs::free_addr()?;
    let port = addr.port().to_string();
    let resolv_conf = format!("nameserver {SERVER}\n");
    let mut command = with_resolvers(run, &resolv_conf, &python, &["-c", script, &port])?;
    let service = Server::start("python", &mut command, addr)?;
    run.session(&[service.pid()], |notes| {
        for _ in 0..5 {
            get(addr)?;
            for address in ["127.0.0.2", "::2"] {
                notes.expect(answered("a.skep.test", &[address]).parent(Parent::Server("GET /x")));
            }
        }
        for _ in 0..5 {
            notes.expect(
                Expect::server("GET /x")
                    .with("http.request.method", "GET")
                    .with("http.response.status_code", 204)
                    .with("http.request.body.size", 0)
                    .with("http.response.body.size", 0)
                    .with("http.route", "/x")
                    .with("url.path", "/x")
                    .with("url.scheme", "http"),
            );
        }
        Ok(())
    })?;
    Ok(())
}

fn get(addr: SocketAddr) -> Result<()> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(addr)?;
    stream.write_all(b"GET /x HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the answer")?;
    ensure!(answer.contains(" 204 "), "{answer}");
    Ok(())
}
