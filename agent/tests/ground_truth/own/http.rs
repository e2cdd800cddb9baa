//! What the own server answers: the targets' endpoints, and those that no well-behaved server has.
//!
//! In: a connection. Out: answers by the first path segment; the last segment is the test's token and is ignored.

use std::io::{ErrorKind, Result};

use super::io::Wire;

struct Request {
    method: String,
    target: String,
    length: usize,
    chunked: bool,
    expects: bool,
    close: bool,
    /// The connection's peer asked for HTTP/1.0.
    old: bool,
}

/// What to do with the connection next.
enum Next {
    Keep,
    Close,
}

/// Serves requests until the connection ends; the caller closes it.
pub fn serve(wire: &mut Wire) {
    let mut pending = Vec::new();
    while let Ok(Some(request)) = read_head(wire, &mut pending) {
        let close = request.close;
        match answer(wire, &request, &mut pending) {
            Ok(Next::Keep) if !close => {}
            _ => return,
        }
    }
}

/// Reads one request and calls back before it is answered.
pub fn serve_one(wire: &mut Wire, between: impl FnOnce()) {
    let mut pending = Vec::new();
    if let Ok(Some(request)) = read_head(wire, &mut pending) {
        between();
        let _ = answer(wire, &request, &mut pending);
    }
}

fn read_head(wire: &mut Wire, pending: &mut Vec<u8>) -> Result<Option<Request>> {
    let mut buffer = vec![0; 16384];
    let end = loop {
        if let Some(at) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        // MSG_TRUNC drops bodies in the kernel: then nothing may be read beyond the head.
        let most = if wire.family == super::io::Family::Trunc || wire.family == super::io::Family::Splice {
            1
        } else {
            buffer.len()
        };
        let n = wire.recv(&mut buffer[..most])?;
        if n == 0 {
            return Ok(None);
        }
        pending.extend_from_slice(&buffer[..n]);
    };
    let head = String::from_utf8_lossy(&pending[..end]).into_owned();
    pending.drain(..end);
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or("").split(' ');
    let mut request = Request {
        method: words.next().unwrap_or("").to_owned(),
        target: words.next().unwrap_or("").to_owned(),
        length: 0,
        chunked: false,
        expects: false,
        close: false,
        old: words.next() == Some("HTTP/1.0"),
    };
    request.close = request.old;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => request.length = value.parse().unwrap_or(0),
            "transfer-encoding" => request.chunked = value.eq_ignore_ascii_case("chunked"),
            "expect" => request.expects = true,
            "connection" => request.close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok(Some(request))
}

fn answer(wire: &mut Wire, request: &Request, pending: &mut Vec<u8>) -> Result<Next> {
    let path = match request.target.strip_prefix("http://") {
        Some(rest) => &rest[rest.find('/').unwrap_or(rest.len())..],
        None => &request.target,
    };
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut segments = path.trim_start_matches('/').split('/');
    let (first, second) = (segments.next().unwrap_or(""), segments.next().unwrap_or(""));
    let number = |key: &str, fallback: usize| {
        let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key);
        pair.and_then(|(_, value)| value.parse().ok()).unwrap_or(fallback)
    };
    if request.method == "CONNECT" {
        wire.send(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
        return tunnel(wire, pending);
    }
    if first == "early" {
        // The answer does not wait for the request's body.
        text(wire, request, 200, b"early\n")?;
        body(wire, request, pending)?;
        return Ok(Next::Keep);
    }
    if request.expects {
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    if first == "pour" {
        // Echoes from the kernel's buffers, where the family can.
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.length).as_bytes())?;
        let have = request.length.min(pending.len());
        let rest: Vec<u8> = pending.drain(..have).collect();
        if !rest.is_empty() {
            wire.send(&rest)?;
        }
        wire.echo(request.length - have)?;
        return Ok(Next::Keep);
    }
    let received = body(wire, request, pending)?;
    match first {
        "hello" => text(wire, request, 200, format!("hello {second}\n").as_bytes())?,
        "users" => text(wire, request, 200, format!("{{\"id\":\"{second}\"}}\n").as_bytes())?,
        "echo" => text(wire, request, 200, &received)?,
        "swallow" => text(wire, request, 200, b"swallowed\n")?,
        "status" => status(wire, request, second.parse().unwrap_or(400))?,
        "slow" => {
            std::thread::sleep(std::time::Duration::from_millis(number("ms", 10) as u64));
            text(wire, request, 200, b"slept\n")?;
        }
        "big" => {
            let size = number("mb", 1) << 20;
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").as_bytes())?;
            wire.zeros(size)?;
        }
        "chunked" => chunked(wire, number("n", 4), number("size", 1024), "", "")?,
        "trailers" => chunked(wire, number("n", 3), 20, ";name=\"a;b\"", "X-Sum: 1\r\nX-More: 2\r\n")?,
        "hints" => {
            wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n")?;
            wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n")?;
            text(wire, request, 200, b"hinted\n")?;
        }
        "until-close" => {
            wire.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
            wire.zeros(number("n", 5000))?;
            return Ok(Next::Close);
        }
        "lookalike" => {
            text(
                wire,
                request,
                200,
                b"HTTP/1.1 500 No\r\nContent-Length: 3\r\n\r\nGET /evil HTTP/1.1\r\n\r\n",
            )?;
        }
        "switch" => {
            wire.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )?;
            return tunnel(wire, pending);
        }
        "cut" => {
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")?;
            wire.zeros(number("after", 10))?;
            return Ok(Next::Close);
        }
        "drop" => return Ok(Next::Close),
        "die" => std::process::exit(3),
        "die-between" => {
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n0123456789")?;
            std::process::exit(3)
        }
        _ => text(wire, request, 404, b"not found\n")?,
    }
    Ok(Next::Keep)
}

/// Reads the request's body; what a family throws away comes back empty.
fn body(wire: &mut Wire, request: &Request, pending: &mut Vec<u8>) -> Result<Vec<u8>> {
    if request.chunked {
        return read_chunks(wire, pending);
    }
    let mut received: Vec<u8> = pending.drain(..request.length.min(pending.len())).collect();
    let mut left = request.length - received.len();
    let swallow = request.target.starts_with("/swallow");
    let mut buffer = vec![0; 65536];
    while left > 0 {
        let most = left.min(buffer.len());
        let n = if swallow { wire.discard(most)? } else { wire.recv(&mut buffer[..most])? };
        if n == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if !swallow {
            received.extend_from_slice(&buffer[..n]);
        }
        left -= n;
    }
    Ok(received)
}

fn read_chunks(wire: &mut Wire, pending: &mut Vec<u8>) -> Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut buffer = vec![0; 65536];
    let more = |wire: &mut Wire, pending: &mut Vec<u8>, buffer: &mut [u8]| -> Result<()> {
        let n = wire.recv(buffer)?;
        pending.extend_from_slice(&buffer[..n]);
        if n == 0 { Err(ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    };
    let mut line = |wire: &mut Wire, pending: &mut Vec<u8>| -> Result<String> {
        loop {
            if let Some(at) = pending.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&pending[..at]).into_owned();
                pending.drain(..at + 2);
                return Ok(line);
            }
            more(wire, pending, &mut buffer)?;
        }
    };
    loop {
        let size = line(wire, pending)?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16).unwrap_or(0);
        if size == 0 {
            while !line(wire, pending)?.is_empty() {}
            return Ok(received);
        }
        let mut rest = vec![0; 65536];
        while pending.len() < size + 2 {
            more(wire, pending, &mut rest)?;
        }
        received.extend(pending.drain(..size));
        pending.drain(..2);
    }
}

fn text(wire: &mut Wire, request: &Request, code: u16, body: &[u8]) -> Result<()> {
    let version = if request.old { "1.0" } else { "1.1" };
    let head = format!("HTTP/{version} {code} Any\r\nContent-Length: {}\r\n\r\n", body.len());
    let both = matches!(wire.family, super::io::Family::Sendfile | super::io::Family::Splice);
    if request.method == "HEAD" {
        return wire.send(head.as_bytes());
    }
    if both {
        wire.send(head.as_bytes())?;
        return wire.send(body);
    }
    let mut whole = head.into_bytes();
    whole.extend_from_slice(body);
    wire.send(&whole)
}

fn status(wire: &mut Wire, request: &Request, code: u16) -> Result<()> {
    if code == 204 || code == 304 {
        // A 304 names the length of what it does not send.
        let length = if code == 304 { "Content-Length: 1234\r\n" } else { "" };
        return wire.send(format!("HTTP/1.1 {code} Any\r\n{length}\r\n").as_bytes());
    }
    text(wire, request, code, format!("status {code}\n").as_bytes())
}

fn chunked(wire: &mut Wire, n: usize, size: usize, extension: &str, trailers: &str) -> Result<()> {
    wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
    for _ in 0..n {
        let mut chunk = format!("{size:x}{extension}\r\n").into_bytes();
        chunk.resize(chunk.len() + size, b'x');
        chunk.extend_from_slice(b"\r\n");
        wire.send(&chunk)?;
    }
    wire.send(format!("0{extension}\r\n{trailers}\r\n").as_bytes())
}

/// Echoes raw bytes until the end.
fn tunnel(wire: &mut Wire, pending: &mut Vec<u8>) -> Result<Next> {
    let first = std::mem::take(pending);
    if !first.is_empty() {
        wire.send(&first)?;
    }
    let mut buffer = vec![0; 16384];
    loop {
        let n = wire.recv(&mut buffer)?;
        if n == 0 {
            return Ok(Next::Close);
        }
        wire.send(&buffer[..n])?;
    }
}
