//! Questions to a running Skep over its socket: HTTP, one request at a time, an answer in a bounded time and size.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(5);
const MAX_BODY: usize = 16 << 20;
const MAX_HEAD_LINE: u64 = 16 * 1024;

/// A way to ask.
pub struct Client {
    path: PathBuf,
    stream: Option<BufReader<UnixStream>>,
}

impl Client {
    /// Of the run behind this socket.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), stream: None }
    }

    /// Asks for a path of the API, such as `overview?window=60`.
    ///
    /// # Errors
    /// Where the run has ended, or says no.
    pub fn get(&mut self, path: &str) -> anyhow::Result<Value> {
        // A connection that was idle for long has been closed: one more try with a new one.
        let used = self.stream.is_some();
        match self.ask(path) {
            Err(_) if used => self.ask(path),
            answer => answer,
        }
    }

    fn ask(&mut self, path: &str) -> anyhow::Result<Value> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.path)
                    .with_context(|| format!("connect to {}", self.path.display()))?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                BufReader::new(stream)
            }
        };
        write!(stream.get_mut(), "GET /api/v1/{path} HTTP/1.1\r\nhost: skep\r\n\r\n")?;
        let status = line(&mut stream)?;
        let mut length = None;
        loop {
            let header = line(&mut stream)?;
            if header.is_empty() {
                break;
            }
            if let Some((name, value)) = header.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse::<usize>().ok();
            }
        }
        let length =
            length.filter(|&length| length <= MAX_BODY).context("the answer has no usable length")?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body)?;
        self.stream = Some(stream);
        let value: Value = serde_json::from_slice(&body).context("the answer is not JSON")?;
        if status.split(' ').nth(1) != Some("200") {
            bail!("{}", value["error"].as_str().unwrap_or("skep says no"));
        }
        Ok(value)
    }
}

fn line(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    if stream.by_ref().take(MAX_HEAD_LINE).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line.trim_end().to_owned())
}

/// A text as part of a query string.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(byte.into());
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_survive_a_query_string() {
        assert_eq!(encode("GET /users/{id}&é"), "GET%20%2Fusers%2F%7Bid%7D%26%C3%A9");
    }
}
