//! Takes what Alertmanager sends and keeps it, a line a notification: what webhook-tester does under Docker.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

const MAX_BODY: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn serve(listen: &str, file: &Path) -> Result<()> {
    let listener = TcpListener::bind(listen).with_context(|| format!("listen on {listen}"))?;
    for stream in listener.incoming() {
        let outcome = stream.context("accept").and_then(|stream| take(stream, file));
        if let Err(error) = outcome {
            eprintln!("{error:#}");
        }
    }
    Ok(())
}

/// One request a connection.
fn take(stream: TcpStream, file: &Path) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?.take(MAX_BODY));
    let (mut line, mut length) = (String::new(), 0_usize);
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().context("its length")?;
        }
        line.clear();
    }
    let mut body = vec![0; length.min(MAX_BODY as usize)];
    reader.read_exact(&mut body)?;
    if !body.is_empty() {
        body.retain(|byte| !matches!(byte, b'\n' | b'\r'));
        body.push(b'\n');
        let mut kept = OpenOptions::new().create(true).append(true).open(file).context("keep it")?;
        kept.write_all(&body)?;
    }
    (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
    Ok(())
}
