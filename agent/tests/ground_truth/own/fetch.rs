//! The own client: one line of JSON in is one request, one line out is what came of it.
//!
//! In: `{"id","method","url","headers","body"}` on stdin, one after the other. Out: `{"id","status","received",
//! "local_port"}`. Connections are made in the way of the family: non-blocking, with MSG_FASTOPEN, or plainly.

use std::io::{BufRead as _, Result, Write as _};
use std::net::SocketAddr;
use std::os::fd::RawFd;

use serde_json::{Value, json};

use super::calls::{checked, checked_int};
use super::io::{Family, Wire};

/// Fetches until stdin ends.
pub fn main(family: Family) -> anyhow::Result<()> {
    let mut kept: Option<(SocketAddr, Wire)> = None;
    for line in std::io::stdin().lock().lines() {
        let plan: Value = serde_json::from_str(&line?)?;
        let url = plan["url"].as_str().unwrap_or("");
        let rest = url.trim_start_matches("http://");
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let address: SocketAddr = host.parse()?;
        let body = vec![b'b'; usize::try_from(plan["body"].as_u64().unwrap_or(0))?];
        let mut head =
            format!("{} {path} HTTP/1.1\r\nHost: {host}\r\n", plan["method"].as_str().unwrap_or("GET"));
        for (name, value) in plan["headers"].as_object().into_iter().flatten() {
            head.push_str(&format!("{name}: {}\r\n", value.as_str().unwrap_or("")));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut request = head.into_bytes();
        request.extend_from_slice(&body);
        // Every third request has a connection of its own.
        let id = plan["id"].as_u64().unwrap_or(0);
        let mut wire = match kept.take() {
            Some((to, mut wire)) if to == address && !id.is_multiple_of(3) => {
                wire.send(&request)?;
                wire
            }
            old => {
                if let Some((_, wire)) = old {
                    wire.close();
                }
                connect_and_send(address, family, &request)?
            }
        };
        let local_port = local_port(wire.input);
        let head_only = plan["method"] == "HEAD";
        let (status, received) = read_answer(&mut wire, head_only)?;
        println!("{}", json!({"id": id, "status": status, "received": received, "local_port": local_port}));
        std::io::stdout().flush()?;
        kept = Some((address, wire));
    }
    Ok(())
}

fn connect_and_send(to: SocketAddr, family: Family, request: &[u8]) -> Result<Wire> {
    let flags = if family == Family::NonBlocking { libc::SOCK_NONBLOCK } else { 0 };
    // SAFETY: no memory is passed.
    let fd = checked_int(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags, 0)
    })?;
    let address = match to {
        SocketAddr::V4(v4) => libc::sockaddr_in {
            sin_family: 2,
            sin_port: v4.port().to_be(),
            sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
            sin_zero: [0; 8],
        },
        SocketAddr::V6(_) => return Err(std::io::ErrorKind::Unsupported.into()),
    };
    let len = u32::try_from(size_of::<libc::sockaddr_in>()).unwrap_or(0);
    if family == Family::SendRecv {
        let at = request.as_ptr().cast();
        let name = (&raw const address).cast();
        // SAFETY: `request` and `address` are as long as they are said to be.
        let sent = unsafe { libc::sendto(fd, at, request.len(), libc::MSG_FASTOPEN, name, len) };
        let sent = checked(sent)?;
        let mut wire = Wire::new(fd, family);
        wire.send(&request[sent..])?;
        return Ok(wire);
    }
    // SAFETY: `address` is `len` bytes long.
    let connected = checked_int(unsafe { libc::connect(fd, (&raw const address).cast(), len) });
    if let Err(error) = connected {
        if error.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(error);
        }
        let mut poll = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one entry.
        unsafe { libc::poll(&raw mut poll, 1, 10_000) };
    }
    let mut wire = Wire::new(fd, family);
    wire.send(request)?;
    Ok(wire)
}

fn read_answer(wire: &mut Wire, head_only: bool) -> Result<(u16, usize)> {
    let mut buffer = vec![0; 65536];
    let mut seen = Vec::new();
    let end = loop {
        if let Some(at) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        let n = wire.recv(&mut buffer)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        seen.extend_from_slice(&buffer[..n]);
    };
    let head = String::from_utf8_lossy(&seen[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split('\r').next()?.parse().ok());
    let length = if head_only || status == 204 || status == 304 { 0 } else { length.unwrap_or(0) };
    let mut received = seen.len() - end;
    while received < length {
        let n = wire.recv(&mut buffer)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        received += n;
    }
    Ok((status, received))
}

fn local_port(fd: RawFd) -> u16 {
    let mut address = libc::sockaddr_in {
        sin_family: 0,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: 0 },
        sin_zero: [0; 8],
    };
    let mut len = u32::try_from(size_of::<libc::sockaddr_in>()).unwrap_or(0);
    // SAFETY: `address` is `len` bytes long.
    unsafe { libc::getsockname(fd, (&raw mut address).cast(), &raw mut len) };
    u16::from_be(address.sin_port)
}
