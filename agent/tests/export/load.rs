//! Requests over kept-alive connections, as fast as they are answered or until told to stop.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};

const CONNECTIONS: u64 = 4;

/// Counts what was answered; stopped by `stop`.
#[derive(Default)]
pub struct Progress {
    pub answered: AtomicU64,
    pub stop: AtomicBool,
}

/// Makes requests until there are `most` or it is stopped; returns how many were answered.
pub fn drive(addr: SocketAddr, most: u64, progress: &Progress) -> Result<u64> {
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..CONNECTIONS)
            .map(|worker| scope.spawn(move || connection(addr, worker, most / CONNECTIONS, progress)))
            .collect();
        workers.into_iter().try_fold(0, |sum, worker| Ok(sum + worker.join().unwrap()?))
    })
}

fn connection(addr: SocketAddr, worker: u64, most: u64, progress: &Progress) -> Result<u64> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    for number in 0..most {
        if progress.stop.load(Ordering::Relaxed) {
            return Ok(number);
        }
        // Some with a parent, some with a state, some that fail, texts of several lengths.
        let path = match number % 5 {
            0 => "/status/503/x",
            1 => "/status/404/x",
            _ => "/hello/you",
        };
        let mut headers = String::new();
        if number % 3 == 0 {
            let (trace, parent) = (u128::from(worker) << 64 | u128::from(number + 1), number + 1);
            headers = format!("traceparent: 00-{trace:032x}-{parent:016x}-01\r\n");
            if number % 2 == 0 {
                headers.push_str("tracestate: vendor=value\r\n");
            }
        }
        write!(
            stream,
            "GET {path}?number={number} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: load/{}\r\n{headers}\r\n",
            "x".repeat((number % 40) as usize)
        )?;
        read_answer(&mut stream)?;
        progress.answered.fetch_add(1, Ordering::Relaxed);
    }
    Ok(most)
}

fn read_answer(stream: &mut TcpStream) -> Result<()> {
    let mut answer = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let count = stream.read(&mut buffer).context("read an answer")?;
        if count == 0 {
            bail!("the server closed a connection");
        }
        answer.extend_from_slice(&buffer[..count]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
        let length: usize = length.context("an answer without a length")?;
        if answer.len() >= end + 4 + length {
            return Ok(());
        }
    }
}
