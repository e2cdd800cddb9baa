//! Scrapers that are slow, many or broken: they get nothing, and nobody else gets less.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::cases::{agent, compare, scrape_until};
use crate::http;
use crate::load::{Server, drive};

/// More than the endpoint takes at a time.
const CROWD: usize = 200;

/// All of them at once, with requests going on meanwhile.
pub fn hostile() -> Result<()> {
    let server = Server::start()?;
    let (skep, addr) = agent(server.pid, &[])?;
    bad_requests(addr)?;
    // They connect and say nothing, or begin a request and stop, or ask and never read.
    let crowd: Vec<TcpStream> = (0..CROWD).filter_map(|index| stuck(addr, index).ok()).collect();
    let load = std::thread::spawn({
        let addr = server.addr;
        move || drive(addr, 4, 60)
    });
    // Health is answered as soon as a place is free: places of silent ones are taken away.
    let deadline = Instant::now() + Duration::from_secs(60);
    while !http::get(addr, "/healthz", &[]).is_ok_and(|answer| answer.status == 200) {
        ensure!(Instant::now() < deadline, "the crowd keeps everybody out");
    }
    let truth = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))??;
    let requests = truth.values().map(|counts| counts.requests).sum();
    compare(&scrape_until(addr, requests, &[])?, &truth)?;
    drop(crowd);
    for path in ["/healthz", "/readyz"] {
        ensure!(http::get(addr, path, &[])?.status == 200, "{path}");
    }
    let outcome = skep.stop()?;
    ensure!(outcome.exit == Some(0), "{}", outcome.stderr);
    ensure!(outcome.spans.len() as u64 == requests, "{} spans, {requests} requests", outcome.spans.len());
    Ok(())
}

fn bad_requests(addr: SocketAddr) -> Result<()> {
    let huge_header = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    let huge_path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000));
    for (request, expected) in [
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", 405),
        ("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\r\n\r\n", 400),
        ("GET\r\n\r\n", 400),
        (&huge_header, 431),
        (&huge_path, 414),
    ] {
        let status = http::exchange(addr, request.as_bytes()).map(|answer| answer.status);
        let begin: String = request.chars().take(24).collect();
        match status {
            Ok(status) => {
                ensure!((400..500).contains(&status), "{begin:?}: {status}");
                ensure!(status == expected || expected >= 414, "{begin:?}: {status}, not {expected}");
            }
            // The head was not read to its end, so the answer may be lost with the connection.
            Err(error) => ensure!(expected >= 414, "{begin:?}: {error:#}"),
        }
    }
    Ok(())
}

fn stuck(addr: SocketAddr, index: usize) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(addr)?;
    match index % 3 {
        0 => {}
        1 => stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n")?,
        _ => {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")?;
            stream.set_read_timeout(Some(Duration::from_millis(1)))?;
            let _ = stream.read(&mut [0; 1]);
        }
    }
    Ok(stream)
}
