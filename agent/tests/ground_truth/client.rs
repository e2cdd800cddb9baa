//! The raw client: bytes as the case wants them, on a plain socket, with a note of what was said and when.
//!
//! In: an address and requests as text. Out: an [`Exchange`] for each answer that was read.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::support::skep::slow;
use crate::truth::{Answer, Exchange, Size, unix_ns};

/// A server that does not answer for so long never will.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request as it will be sent.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub version: &'static str,
    /// Whether a `Host` header is sent.
    pub host: bool,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Sent in chunks of this size, with extensions.
    pub chunk: Option<usize>,
    /// Whether the chunks end with a trailer.
    pub trailer: bool,
}

/// An answer as it was read.
#[derive(Clone, Debug)]
pub struct Response {
    pub status: u16,
    pub body: Vec<u8>,
    pub chunked: bool,
    /// The connection ends with it.
    pub last: bool,
}

/// An open connection.
pub struct Conn {
    stream: TcpStream,
    pub local: SocketAddr,
    pub peer: SocketAddr,
    read: Vec<u8>,
    /// The server said that it would close.
    last: bool,
}

impl Request {
    pub fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.into(),
            version: "1.1",
            host: true,
            headers: Vec::new(),
            body: Vec::new(),
            chunk: None,
            trailer: false,
        }
    }

    pub fn post(target: impl Into<String>, body: Vec<u8>) -> Self {
        Self { body, ..Self::new("POST", target) }
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The bytes on the wire.
    pub fn bytes(&self, peer: SocketAddr) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/{}\r\n", self.method, self.target, self.version);
        if self.host {
            head.push_str(&format!("Host: {peer}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if self.chunk.is_some() {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        match self.chunk {
            None => bytes.extend_from_slice(&self.body),
            Some(size) => {
                for piece in self.body.chunks(size.max(1)) {
                    bytes.extend_from_slice(format!("{:X};part=\"a\"\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(if self.trailer { b"0\r\nX-Sum: 7\r\n\r\n" } else { b"0\r\n\r\n" });
            }
        }
        bytes
    }

    /// What is known before there is an answer.
    pub fn exchange(&self, local: SocketAddr, peer: SocketAddr) -> Exchange {
        let find = |wanted: &str| {
            let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map(|(_, value)| value.clone())
        };
        let body = self.body.len() as u64;
        Exchange {
            version: self.version,
            host: self.host.then(|| peer.to_string()).or_else(|| find("host")),
            user_agent: find("user-agent"),
            request_body: if self.chunk.is_some() && body > 32_768 {
                Size::ExactOrAbsent(body)
            } else {
                Size::Exact(body)
            },
            local: Some(local),
            forwarded_for: find("x-forwarded-for"),
            ..Exchange::new(&self.method, &self.target, peer)
        }
    }
}

impl Conn {
    /// Connects.
    pub fn open(peer: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&peer, PATIENCE * slow())
            .with_context(|| format!("connect to {peer}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE * slow()))?;
        stream.set_write_timeout(Some(PATIENCE * slow()))?;
        Ok(Self { local: stream.local_addr()?, peer, stream, read: Vec::new(), last: false })
    }

    /// A note about a request to be sent on this connection, which is made new if the server has ended it.
    pub fn begin(&mut self, request: &Request) -> Result<Exchange> {
        if self.last {
            *self = Self::open(self.peer)?;
        }
        Ok(request.exchange(self.local, self.peer))
    }

    /// Sends bytes in one call, as far as the kernel takes them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("write")
    }

    /// Sends a request and reads its answer; on a new connection if the server has ended the old one.
    pub fn exchange(&mut self, request: &Request) -> Result<Exchange> {
        let mut exchange = self.begin(request)?;
        self.write(&request.bytes(self.peer))?;
        self.finish(&mut exchange)?;
        Ok(exchange)
    }

    /// Reads the answer to what was sent, into its note.
    pub fn finish(&mut self, exchange: &mut Exchange) -> Result<Response> {
        let response =
            self.response(&exchange.method).with_context(|| format!("answer to {}", exchange.target))?;
        self.last = response.last;
        exchange.end_ns = unix_ns();
        exchange.answer = Answer::Whole(response.status);
        let body = response.body.len() as u64;
        exchange.response_body =
            if response.chunked && body > 1024 { Size::ExactOrAbsent(body) } else { Size::Exact(body) };
        Ok(response)
    }

    /// Reads one answer.
    pub fn response(&mut self, method: &str) -> Result<Response> {
        loop {
            let head = self.head()?;
            let mut lines = head.split("\r\n");
            let first = lines.next().unwrap_or("").to_owned();
            let status = first.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let find = |wanted: &str| {
                headers.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
            };
            let chunked =
                find("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
            let length = find("content-length").and_then(|value| value.parse::<usize>().ok());
            let closes = find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            let old = first.starts_with("HTTP/1.0");
            let mut last = closes || old;
            let none = method == "HEAD"
                || matches!(status, 101 | 204 | 304)
                || (method == "CONNECT" && status < 300);
            let body = if none {
                Vec::new()
            } else if chunked {
                self.chunks()?
            } else if let Some(length) = length {
                self.take(length)?
            } else {
                last = true;
                self.until_end()?
            };
            return Ok(Response { status, body, chunked, last });
        }
    }

    /// Reads one informational answer, its status.
    pub fn informational(&mut self) -> Result<u16> {
        let head = self.head()?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        anyhow::ensure!((100..200).contains(&status), "{status} instead of an informational answer");
        Ok(status)
    }

    fn head(&mut self) -> Result<String> {
        let mut from = 0;
        loop {
            if let Some(at) = self.read[from..].windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.read[..from + at]).into_owned();
                self.read.drain(..from + at + 4);
                return Ok(head);
            }
            from = self.read.len().saturating_sub(3);
            if self.fill()? == 0 {
                bail!("the server closed");
            }
        }
    }

    /// Reads more; 0 at the end.
    fn fill(&mut self) -> Result<usize> {
        let mut buffer = vec![0; 65536];
        let n = self.stream.read(&mut buffer).context("read")?;
        self.read.extend_from_slice(&buffer[..n]);
        Ok(n)
    }

    /// Reads this many bytes.
    pub fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        if self.read.len() < length {
            let have = self.read.len();
            self.read.resize(length, 0);
            self.stream.read_exact(&mut self.read[have..]).context("read a body")?;
        }
        Ok(self.read.drain(..length).collect())
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.line()?;
            let size = usize::from_str_radix(size.split(';').next().unwrap_or("").trim(), 16)
                .context("chunk size")?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            body.extend(self.take(size)?);
            self.take(2)?;
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(at) = self.read.windows(2).position(|window| window == b"\r\n") {
                let line = String::from_utf8_lossy(&self.read[..at]).into_owned();
                self.read.drain(..at + 2);
                return Ok(line);
            }
            if self.fill()? == 0 {
                bail!("the server closed within a body");
            }
        }
    }

    /// Reads whatever comes until the other end closes.
    pub fn until_end(&mut self) -> Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.read))
    }

    /// Closes the sending side.
    pub fn half_close(&mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("shut down")
    }

    /// Closes with a reset.
    pub fn reset(self) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let len = u32::try_from(size_of::<libc::linger>()).unwrap_or(0);
        let fd = self.stream.as_raw_fd();
        // SAFETY: the option's value is `len` bytes long.
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_LINGER, (&raw const linger).cast(), len) };
    }
}
