//! Processes that come after Skep: picked up by kernel events, from their first request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::harness::{DEADLINE, Run, alone, copy_program, may_load, skep};

/// A one-line HTTP server that prints its port; Python is on every machine that runs these tests, or they skip.
const SERVER: &str = "\
import http.server, sys
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.send_header('content-length', '2'); self.end_headers(); self.wfile.write(b'ok')
    def log_message(self, *a): pass
s = http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), H)
print(s.server_port, flush=True)
s.serve_forever()
";

pub(crate) struct Server(Child, u16);

impl Server {
    /// `None`, loudly, where there is no Python.
    pub(crate) fn start(mut command: Command, port: u16) -> Option<Self> {
        command.args(["-c", SERVER, &port.to_string()]).stdout(Stdio::piped());
        let Ok(mut child) = command.spawn() else {
            eprintln!("SKIPPED: no {}", command.get_program().display());
            return None;
        };
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("the server says {line}"));
        Some(Self(child, port))
    }

    pub(crate) fn port(&self) -> u16 {
        self.1
    }

    pub(crate) fn ask(&self, path: &str) {
        self.ask_with(path, "");
    }

    /// With these header lines too.
    pub(crate) fn ask_with(&self, path: &str, headers: &str) {
        let answer = self.send(&format!("GET {path} HTTP/1.0\r\n{headers}\r\n"));
        assert!(answer.ends_with("ok"), "{answer}");
    }

    /// A request that it answers with 501.
    pub(crate) fn fail_with(&self, path: &str, headers: &str) {
        let answer = self.send(&format!("PUT {path} HTTP/1.0\r\n{headers}\r\n"));
        assert!(answer.contains(" 501 "), "{answer}");
    }

    fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.1)).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts skep with these rules, then the server, asks it once, and returns the span.
fn span_of_a_late_server(rules: &[&str], command: Command, port: u16) -> Option<serde_json::Value> {
    let mut skep = skep(&[&["run", "--print", "json"], rules].concat());
    skep.stdout(Stdio::piped()).env("OTEL_SERVICE_NAME", "this is Skep's own and names nobody");
    let mut run = Run::start(skep);
    run.wait_for("ready");
    let server = Server::start(command, port)?;
    server.ask("/late");
    let mut spans = BufReader::new(run.child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert_ne!(spans.read_line(&mut line).unwrap(), 0, "skep ended");
        let span: serde_json::Value = serde_json::from_str(&line).expect(&line);
        if span["attributes"]["url.path"] == "/late" {
            assert_eq!(span["resource"]["process.pid"], server.0.id());
            return Some(span);
        }
    }
}

pub(crate) fn python() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command
        .env("OTEL_SERVICE_NAME", "late")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=a%20test");
    command
}

#[test]
fn a_program_that_starts_later_is_seen_from_its_first_request() {
    if !may_load("a_program_that_starts_later_is_seen_from_its_first_request") {
        return;
    }
    let _alone = alone();
    // A name of its own, so that no other Python of this machine is watched.
    let link = std::env::temp_dir().join(format!("skep-cli-python-{}", std::process::id()));
    if !copy_program("/usr/bin/python3", &link) {
        eprintln!("SKIPPED a_program_that_starts_later_is_seen_from_its_first_request: no /usr/bin/python3");
        return;
    }
    let mut command = Command::new(&link);
    command.env("PYTHONHOME", "/usr");
    let pattern = format!("{}*", link.display());
    let span = span_of_a_late_server(&["--exe", &pattern], command, 0);
    std::fs::remove_file(&link).unwrap();
    let span = span.expect("the copy runs");
    assert_eq!(span["kind"], "server");
    assert_eq!(span["attributes"]["http.response.status_code"], 200);
}

#[test]
fn a_server_that_listens_later_is_seen_and_named_by_its_own_environment() {
    if !may_load("a_server_that_listens_later_is_seen_and_named_by_its_own_environment") {
        return;
    }
    let _alone = alone();
    // A port that is free now, and very likely still is a moment later.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(span) = span_of_a_late_server(&["--port", &port.to_string()], python(), port) else { return };
    assert_eq!(span["resource"]["service.name"], "late");
    assert_eq!(span["resource"]["deployment.environment.name"], "a test");
    assert_eq!(span["resource"]["telemetry.sdk.language"], "python");
}

#[test]
fn a_child_is_seen_from_its_first_request() {
    if !may_load("a_child_is_seen_from_its_first_request") {
        return;
    }
    let _alone = alone();
    // The shell waits for a line, then becomes the parent of the server.
    let mut parent = Command::new("sh")
        .args(["-c", "read line; /usr/bin/python3 -c \"$0\" 0 & wait", SERVER])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut skep = skep(&["run", "--print", "json", "--pid", &parent.id().to_string()]);
    skep.stdout(Stdio::piped());
    let mut run = Run::start(skep);
    run.wait_for("ready");
    drop(parent.stdin.take());
    let mut line = String::new();
    BufReader::new(parent.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let Ok(port) = line.trim().parse() else {
        eprintln!("SKIPPED a_child_is_seen_from_its_first_request: no /usr/bin/python3");
        parent.wait().unwrap();
        return;
    };
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"GET /child HTTP/1.0\r\n\r\n").unwrap();
    let mut span = String::new();
    BufReader::new(run.child.stdout.take().unwrap()).read_line(&mut span).unwrap();
    let span: serde_json::Value = serde_json::from_str(&span).expect(&span);
    assert_eq!(span["attributes"]["url.path"], "/child");
    let child = span["resource"]["process.pid"].as_u64().unwrap();
    assert_ne!(child, u64::from(parent.id()));
    Command::new("sh").args(["-c", &format!("kill {child}")]).status().unwrap();
    parent.wait().unwrap();
}
