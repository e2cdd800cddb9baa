//! Selection and what cannot be seen: connections older than the agent, processes nobody asked for, ports and
//! programs that appear later, TLS, 32-bit calls, sudden deaths.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::cases::chains::own_failure;
use crate::client::{Conn, Request};
use crate::harness::{Run, session, session_with};
use crate::servers::{self, Server};
use crate::support::tools::{build, have, scratch, targets};

/// Connections that were open before the agent: the next request of each is seen whole.
pub fn before_attach(run: &Run) -> Result<()> {
    const CASE: &str = "connections older than the agent";
    let server = servers::start_own("threads", "read-write")?;
    let mut open = Vec::new();
    for n in 0..20 {
        let mut conn = Conn::open(server.addr)?;
        if n % 2 == 0 {
            conn.exchange(&Request::get("/hello/before"))?;
        }
        open.push(conn);
    }
    session(run, "older", &[server.pid], |notes| {
        let result = open.iter_mut().try_for_each(|conn| {
            for _ in 0..3 {
                let exchange = conn.exchange(&Request::get(format!("/hello/{}", notes.token(CASE))))?;
                notes.add(exchange.server(CASE, &notes.column, &[server.pid]));
            }
            Ok(())
        });
        own_failure(notes, CASE, result);
    })
}

/// A request whose beginning was missed is counted, not guessed; the next one is seen.
pub fn mid_stream(run: &Run) -> Result<()> {
    const CASE: &str = "attached within a request";
    let server = servers::start_own("threads", "read-write")?;
    let mut open = Vec::new();
    for _ in 0..4 {
        let mut conn = Conn::open(server.addr)?;
        conn.write(b"POST /echo/before HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")?;
        open.push(conn);
    }
    // The server has read it when it answers a later connection's request.
    Conn::open(server.addr)?.exchange(&Request::get("/slow/before?ms=20"))?;
    session(run, "mid-stream", &[server.pid], |notes| {
        let result = open.iter_mut().try_for_each(|conn| {
            conn.write(b"67890")?;
            conn.response("POST")?;
            for _ in 0..2 {
                let exchange = conn.exchange(&Request::get(format!("/hello/{}", notes.token(CASE))))?;
                notes.add(exchange.server(CASE, &notes.column, &[server.pid]));
            }
            Ok(())
        });
        own_failure(notes, CASE, result);
    })
}

/// A server that nobody selected gives no span, however busy it is.
pub fn unselected(run: &Run) -> Result<()> {
    const CASE: &str = "unselected processes";
    let (chosen, other) =
        (servers::start_own("threads", "read-write")?, servers::start_own("threads", "read-write")?);
    session(run, "unselected", &[chosen.pid], |notes| {
        let work = || -> Result<()> {
            let (mut a, mut b) = (Conn::open(chosen.addr)?, Conn::open(other.addr)?);
            for _ in 0..50 {
                let exchange = a.exchange(&Request::get(format!("/hello/{}", notes.token(CASE))))?;
                notes.add(exchange.server(CASE, &notes.column, &[chosen.pid]));
                b.exchange(&Request::get(format!("/hello/{}", notes.token(CASE))))?;
            }
            Ok(())
        };
        own_failure(notes, CASE, work());
    })
}

/// `--port` and `--exe` find what runs already and what starts later.
pub fn selected_later(run: &Run) -> Result<()> {
    let free = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
    let (early, late) = (free()?, free()?);
    if !have("python3") {
        run.skip("selected by port", "later", "python3 is not installed");
        return Ok(());
    }
    let start = |port: u16| {
        let mut command = Command::new("python3");
        command.arg(targets().join("python-http/server.py")).arg(port.to_string());
        Server::start("python-http", command)
    };
    let first = start(early)?;
    let exe = scratch().join("ground-truth-copy");
    std::fs::copy(std::env::current_exe()?, &exe)?;
    let mut select = vec!["--exe".to_owned(), "ground-truth-cop*".to_owned()];
    for port in [early, late] {
        select.extend(["--port".to_owned(), port.to_string()]);
    }
    session_with(run, "later", &select, |notes| {
        let ask = |case: &'static str, server: &Server| -> Result<()> {
            let mut conn = Conn::open(server.addr)?;
            for _ in 0..5 {
                let exchange = conn.exchange(&Request::get(format!("/hello/{}", notes.token(case))))?;
                notes.add(exchange.server(case, &notes.column, &[server.pid]));
            }
            Ok(())
        };
        own_failure(notes, "selected by port", ask("selected by port", &first));
        let later = start(late).and_then(|server| ask("selected by port, later", &server));
        own_failure(notes, "selected by port, later", later);
        let mut command = Command::new(&exe);
        command.args(["serve", "threads", "read-write"]);
        let later =
            Server::start("copy", command).and_then(|server| ask("selected by program, later", &server));
        own_failure(notes, "selected by program, later", later);
    })
}

/// A process that speaks only TLS gets a warning instead of silence.
pub fn only_tls(run: &Run) -> Result<()> {
    const CASE: &str = "only TLS";
    if !have("openssl") || !have("curl") {
        run.skip(CASE, "tls", "openssl or curl is not installed");
        return Ok(());
    }
    let (key, cert) = (scratch().join("tls.key"), scratch().join("tls.crt"));
    let mut make = Command::new("openssl");
    make.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    make.args(["-subj", "/CN=localhost", "-keyout"]).arg(&key).arg("-out").arg(&cert);
    if let Err(reason) = build(&mut make) {
        run.skip(CASE, "tls", &reason);
        return Ok(());
    }
    let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("openssl");
    command
        .args(["s_server", "-quiet", "-www", "-accept", &addr.to_string(), "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&cert);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait_listening(addr)?;
    let result = session(run, "tls", &[child.id()], |notes| {
        for _ in 0..4 {
            let mut curl = Command::new("curl");
            curl.args(["-sk", "-m", "5", "-o", "/dev/null", &format!("https://{addr}/")]);
            own_failure(notes, CASE, build(&mut curl).map_err(anyhow::Error::msg));
        }
        notes.expect_warning(CASE, "TLS");
    });
    let _ = child.kill();
    let _ = child.wait();
    result
}

/// A process that makes 32-bit calls is reported, and nothing is made up about it.
pub fn compat_calls(run: &Run) -> Result<()> {
    const CASE: &str = "32-bit calls";
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ground_truth/own/server32.c");
    let program = scratch().join("server32");
    let mut cc = Command::new("cc");
    cc.args(["-m32", "-static", "-nostdlib", "-ffreestanding", "-fno-stack-protector", "-O1", "-o"]);
    if let Err(reason) = build(cc.arg(&program).arg(&source)) {
        run.skip(CASE, "compat", &reason);
        return Ok(());
    }
    let server = match Server::start("server32", Command::new(&program)) {
        Ok(server) => server,
        Err(error) => {
            run.skip(CASE, "compat", &format!("this kernel runs no 32-bit programs: {error:#}"));
            return Ok(());
        }
    };
    session(run, "compat", &[server.pid], |notes| {
        let work = || -> Result<()> {
            for _ in 0..5 {
                let mut conn = Conn::open(server.addr)?;
                conn.exchange(&Request::get(format!("/hello/{}", notes.token(CASE))))?;
            }
            Ok(())
        };
        own_failure(notes, CASE, work());
        notes.expect_warning(CASE, "32-bit");
    })
}

fn wait_listening(addr: SocketAddr) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match std::net::TcpStream::connect(addr) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > deadline => {
                return Err(error).context("openssl s_server does not listen");
            }
            Err(_) => std::thread::yield_now(),
        }
    }
}
