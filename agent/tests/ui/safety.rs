//! Who may read and who may not, and what readers can do to capture: nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::bail;

use crate::Report;
use crate::own::{Scene, get};
use crate::truth::number;

pub fn all(report: &mut Report, scene: &Scene) {
    let page = &scene.page;
    let host = page.address.to_string();
    let ask =
        |head: &str| page.raw(&format!("{head}\r\nConnection: close\r\n\r\n")).map(|(status, _)| status);
    let bearer = format!("Authorization: Bearer {}", page.token);
    let cases: &[(&str, String, u16)] = &[
        ("no token", format!("GET / HTTP/1.1\r\nHost: {host}"), 401),
        ("no token, API", format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}"), 401),
        ("no token, script", format!("GET /app.js HTTP/1.1\r\nHost: {host}"), 401),
        (
            "a wrong token",
            format!("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer 0{}", &page.token[1..]),
            401,
        ),
        ("a wrong link", format!("GET /?token=0 HTTP/1.1\r\nHost: {host}"), 401),
        (
            "a token in an API address",
            format!("GET /api/v1/status?token={} HTTP/1.1\r\nHost: {host}", page.token),
            401,
        ),
        (
            "a rebound name",
            format!("GET / HTTP/1.1\r\nHost: evil.example:{}\r\n{bearer}", page.address.port()),
            403,
        ),
        ("no host", format!("GET / HTTP/1.1\r\n{bearer}"), 400),
        ("two hosts", format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: {host}\r\n{bearer}"), 400),
        (
            "another origin",
            format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nOrigin: http://evil.example\r\n{bearer}"),
            403,
        ),
        (
            "no origin at all (null)",
            format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nOrigin: null\r\n{bearer}"),
            403,
        ),
        (
            "a request of another site",
            format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nSec-Fetch-Site: cross-site\r\n{bearer}"),
            403,
        ),
        (
            "POST",
            format!("POST /api/v1/status HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n{bearer}"),
            405,
        ),
        (
            "an unknown question",
            format!("GET /api/v1/overview?windw=5 HTTP/1.1\r\nHost: {host}\r\n{bearer}"),
            400,
        ),
        (
            "no trace id",
            format!("GET /api/v1/traces/..%2f..%2fetc HTTP/1.1\r\nHost: {host}\r\n{bearer}"),
            400,
        ),
        ("the token", format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\n{bearer}"), 200),
        (
            "its own origin",
            format!("GET /api/v1/status HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n{bearer}"),
            200,
        ),
    ];
    for (name, head, expected) in cases {
        report.check(&format!("page, {name}: {expected}"), || {
            let status = ask(head)?;
            if status == *expected { Ok(()) } else { bail!("{status}") }
        });
    }
    report.check("the link cannot send anybody elsewhere", || {
        let (status, answer) = page.raw(&format!(
            "GET //evil.example/?token={} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n",
            page.token
        ))?;
        let location = answer.lines().find_map(|line| line.strip_prefix("location: ")).unwrap_or_default();
        if status == 303 && location.starts_with("/evil") { Ok(()) } else { bail!("{status} to {location}") }
    });
    report.check("every answer forbids what the page does not need", || {
        for path in ["/", "/app.js", "/nothing", "/api/v1/status"] {
            let (_, answer) = page.raw(&format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\nConnection: close\r\n\r\n"
            ))?;
            for part in ["default-src 'none'", "nosniff", "no-referrer", "no-store", "x-frame-options: DENY"]
            {
                if !answer.contains(part) {
                    bail!("{path} lacks {part}");
                }
            }
        }
        Ok(())
    });
    report.check("the socket of skep top opens for its owner only", || {
        let folder =
            scene.socket.parent().map(std::fs::metadata).transpose()?.map(|about| about.mode() & 0o777);
        let mode = std::fs::metadata(&scene.socket)?.mode() & 0o777;
        if (folder, mode) != (Some(0o700), 0o600) {
            bail!("folder {folder:?}, socket {mode:o}");
        }
        let mut stranger = Command::new(std::env::current_exe()?);
        stranger.arg("connect").arg(&scene.socket).uid(65534).gid(65534);
        // The program itself may lie where a stranger cannot reach it; then it cannot be tried this way.
        match stranger.status() {
            Ok(status) if status.code() == Some(7) => Ok(()),
            Ok(status) => bail!("a stranger got through: {status}"),
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(error.into()),
        }
    });
    readers(report, scene);
}

fn readers(report: &mut Report, scene: &Scene) {
    const REQUESTS: u64 = 300;
    report.check("many and slow readers cost no request", || {
        let page = &scene.page;
        let before = number(&page.get("overview?window=3600")?["total"]["count"]);
        let live = format!(
            "GET /api/v1/live?window=3600 HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
            page.address, page.token
        );
        // Readers that ask and never read, beyond every limit.
        let mut held = Vec::new();
        for index in 0..80 {
            let Ok(mut stream) = TcpStream::connect(page.address) else { break };
            let question: &[u8] = if index % 2 == 0 { live.as_bytes() } else { b"GET / HTTP/1.1\r\n" };
            let _ = stream.write_all(question);
            held.push(stream);
        }
        let mut refused = 0;
        for stream in &mut held {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(30)))?;
            let mut start = [0; 32];
            match stream.read(&mut start) {
                Ok(0) => refused += 1,
                Ok(count) if start[..count].starts_with(b"HTTP/1.1 503") => refused += 1,
                _ => {}
            }
        }
        if refused == 0 {
            bail!("80 readers at once are all served");
        }
        for id in 0..REQUESTS {
            get(scene.front, &format!("/users/{id}"), "test", 200)?;
        }
        drop(held);
        page.wait("overview?window=3600", |answer| number(&answer["total"]["count"]) == before + REQUESTS)?;
        let status = page.get("status")?;
        if number(&status["store"]["spans_queue_full"]) != 0
            || status["drops"].as_array().is_none_or(|drops| !drops.is_empty())
        {
            bail!("{status}");
        }
        Ok(())
    });
}

/// A stranger at the socket: 7 if he is kept out.
pub fn connect(path: Option<&String>) -> ExitCode {
    match path.map(UnixStream::connect) {
        Some(Ok(_)) => ExitCode::SUCCESS,
        _ => ExitCode::from(7),
    }
}
