//! Hands the lines that a program writes to standard error on to the Collector, as Docker's log driver does it: Fluentd's
//! forward protocol, version 1, message mode (an array of tag, time and record in MessagePack), over TCP.
//!
//! A Collector that is not there holds nobody up: lines are shown here all the same, and sent when it is back or not.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

const COLLECTOR: &str = "otel-collector:8006";
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) fn run(tag: &str, command: &[String]) -> Result<ExitCode> {
    let [program, arguments @ ..] = command else { return Ok(ExitCode::FAILURE) };
    let mut child = Command::new(program)
        .args(arguments)
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let stderr = child.stderr.take().context("its standard error")?;
    let mut collector = None;
    for line in BufReader::new(stderr).lines() {
        let line = line.context("read its log")?;
        eprintln!("{line}");
        if collector.is_none() {
            collector = connect();
        }
        let sent = collector.as_mut().map(|stream: &mut TcpStream| stream.write_all(&message(tag, &line)));
        if let Some(Err(_)) = sent {
            collector = None;
        }
    }
    let status = child.wait().context("wait for it")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn connect() -> Option<TcpStream> {
    let stream = TcpStream::connect(COLLECTOR).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// `[tag, seconds, {"log": line, "source": "stderr"}]`
fn message(tag: &str, line: &str) -> Vec<u8> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let mut bytes = vec![0x93];
    string(&mut bytes, tag);
    bytes.push(0xcf);
    bytes.extend_from_slice(&seconds.to_be_bytes());
    bytes.push(0x82);
    for text in ["log", line, "source", "stderr"] {
        string(&mut bytes, text);
    }
    bytes
}

/// `str 32`: every length in one form.
fn string(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(0xdb);
    bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
}

#[test]
fn a_message_is_what_the_protocol_says() {
    let bytes = message("app", "é");
    assert_eq!(bytes[..9], [0x93, 0xdb, 0, 0, 0, 3, b'a', b'p', b'p']);
    assert_eq!(bytes[9], 0xcf);
    assert_eq!(bytes[18], 0x82);
    assert_eq!(bytes[19..34], *b"\xdb\0\0\0\x03log\xdb\0\0\0\x02\xc3\xa9");
}
