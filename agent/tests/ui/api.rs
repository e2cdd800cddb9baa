//! A small HTTP client of our own: one request per connection, every header as the test wants it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

pub const DEADLINE: Duration = Duration::from_secs(20);

/// Where the page is and what opens it.
#[derive(Clone, Debug)]
pub struct Page {
    pub address: SocketAddr,
    pub token: String,
    pub link: String,
}

impl Page {
    /// From the line that the run printed.
    pub fn from_link(link: &str) -> Result<Self> {
        let rest = link.strip_prefix("http://").context("no link")?;
        let (address, token) = rest.split_once("/?token=").context("no token in the link")?;
        Ok(Self { address: address.parse()?, token: token.to_owned(), link: link.to_owned() })
    }

    /// Status and body of a request with these header lines.
    pub fn raw(&self, request: &str) -> Result<(u16, String)> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = text.split_once("\r\n\r\n").with_context(|| format!("no answer: {text:?}"))?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).context("no status")?;
        Ok((status, format!("{head}\r\n\r\n{body}")))
    }

    /// An answer of the API.
    pub fn get(&self, path: &str) -> Result<Value> {
        let (status, answer) = self.raw(&format!(
            "GET /api/v1/{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.address, self.token
        ))?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
        if status != 200 {
            bail!("{path}: {status} {body}");
        }
        Ok(serde_json::from_str(body)?)
    }

    /// Asks until the answer is such, or the deadline passes.
    pub fn wait(&self, path: &str, done: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.get(path)?;
            if done(&answer) {
                return Ok(answer);
            }
            if Instant::now() > deadline {
                bail!("{path} does not become what it should: {answer}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}
