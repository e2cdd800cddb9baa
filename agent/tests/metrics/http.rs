//! One GET, as plainly as possible: HTTP/1.0, so that the answer ends with the connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// Asks for a path with these header lines.
pub fn get(addr: SocketAddr, path: &str, headers: &[&str]) -> Result<Answer> {
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: {addr}\r\n");
    for header in headers {
        request.push_str(header);
        request.push_str("\r\n");
    }
    request.push_str("\r\n");
    exchange(addr, request.as_bytes())
}

/// Sends bytes and reads the answer to its end.
pub fn exchange(addr: SocketAddr, request: &[u8]) -> Result<Answer> {
    let mut stream = TcpStream::connect(addr).with_context(|| format!("connect to {addr}"))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    // An answer that was cut off by a reset is still an answer.
    let _ = stream.read_to_end(&mut answer);
    parse(&answer).with_context(|| format!("no HTTP: {:?}", String::from_utf8_lossy(&answer)))
}

fn parse(answer: &[u8]) -> Option<Answer> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?.to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, head, body: answer[end + 4..].to_vec() })
}

impl Answer {
    /// The body as text, unpacked if it is packed.
    pub fn text(&self) -> Result<String> {
        if !self.head.contains("content-encoding: gzip") {
            return Ok(String::from_utf8(self.body.clone())?);
        }
        let mut text = String::new();
        flate2::read::GzDecoder::new(&self.body[..]).read_to_string(&mut text)?;
        Ok(text)
    }
}
