//! Whole runs on this kernel: start, output, end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Instant;

use crate::harness::{DEADLINE, Run, Target, alone, may_load, one_request, output, serve, skep, stderr};

#[test]
fn check_says_that_skep_can_run() {
    if !may_load("check_says_that_skep_can_run") {
        return;
    }
    let check = output(&["check"]);
    let text = String::from_utf8(check.stdout).unwrap();
    assert!(check.status.success(), "{text}");
    assert!(text.contains("Skep can run here. It uses the `"), "{text}");
}

#[test]
fn a_signal_ends_a_run_and_the_books_close() {
    if !may_load("a_signal_ends_a_run_and_the_books_close") {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let target = Target::start();
        let mut run = Run::start(skep(&["run", "--pid", &target.pid(), "--print", "none"]));
        let ready = run.wait_for("ready");
        assert!(
            ready.contains("syscall") && ready.contains(&target.pid()) && ready.contains(" ms"),
            "{ready}"
        );
        run.signal(signal);
        let (code, _, log) = run.end();
        assert_eq!(code, Some(0), "{log}");
        assert!(log.contains("books:") && log.contains("0 lost"), "{log}");
    }
}

#[test]
fn logs_can_be_json() {
    if !may_load("logs_can_be_json") {
        return;
    }
    let target = Target::start();
    let run = output(&["run", "--pid", &target.pid(), "--log-format", "json", "--duration", "0.1"]);
    assert!(run.status.success());
    let lines: Vec<serde_json::Value> =
        stderr(&run).lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert!(
        lines.iter().any(|line| line["message"].as_str().is_some_and(|message| message.starts_with("ready")))
    );
}

#[test]
fn a_run_ends_with_the_last_process_that_it_could_watch() {
    if !may_load("a_run_ends_with_the_last_process_that_it_could_watch") {
        return;
    }
    let target = Target::start();
    let mut run = Run::start(skep(&["run", "--pid", &target.pid()]));
    run.wait_for("ready");
    drop(target);
    run.wait_for("all watched processes have ended");
    assert_eq!(run.end().0, Some(0));
}

#[test]
fn the_service_manager_is_told() {
    if !may_load("the_service_manager_is_told") {
        return;
    }
    let path = std::env::temp_dir().join(format!("skep-notify-{}", std::process::id()));
    let socket = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let target = Target::start();
    let mut command = skep(&["run", "--pid", &target.pid(), "--duration", "0.1"]);
    command.env("NOTIFY_SOCKET", &path);
    let run = Run::start(command);
    for expected in ["READY=1", "STOPPING=1"] {
        let mut message = [0; 64];
        let length = socket.recv(&mut message).unwrap();
        assert_eq!(std::str::from_utf8(&message[..length]), Ok(expected));
    }
    assert_eq!(run.end().0, Some(0));
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn spans_come_out_as_json_and_a_closed_reader_is_named() {
    if !may_load("spans_come_out_as_json_and_a_closed_reader_is_named") {
        return;
    }
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve(listener));

    let mut command = skep(&["run", "--port", &port.to_string(), "--print", "json"]);
    command.stdout(Stdio::piped());
    let mut run = Run::start(command);
    let mut spans = BufReader::new(run.child.stdout.take().unwrap());
    run.wait_for("ready");
    one_request(port, "/first");
    // This process is both ends: two spans of one trace.
    let mut both = Vec::new();
    for _ in 0..2 {
        let mut line = String::new();
        spans.read_line(&mut line).unwrap();
        both.push(serde_json::from_str::<serde_json::Value>(&line).expect(&line));
    }
    both.sort_by_key(|span| span["kind"].as_str().unwrap().to_owned());
    for (span, kind) in both.iter().zip(["client", "server"]) {
        assert_eq!(span["kind"], kind, "{span}");
        assert_eq!(span["attributes"]["http.response.status_code"], 200, "{span}");
        assert_eq!(span["attributes"]["http.response.body.size"], 5, "{span}");
        assert_eq!(span["resource"]["process.pid"], std::process::id(), "{span}");
        assert!(span["end_unix_ns"].as_u64() >= span["start_unix_ns"].as_u64(), "{span}");
        assert!(span["links"].is_array(), "{span}");
    }

    drop(spans);
    // Requests until the writer has noticed.
    let deadline = Instant::now() + DEADLINE;
    while run.child.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "a closed reader is not noticed");
        one_request(port, "/again");
    }
    let (code, _, log) = run.end();
    assert_eq!(code, Some(1), "{log}");
    let error = log.lines().find(|line| line.contains(" error ")).unwrap_or_default();
    assert!(error.contains("standard output") && error.contains("--print none"), "{log}");
}

#[test]
fn text_and_summary_name_the_service_and_its_route() {
    if !may_load("text_and_summary_name_the_service_and_its_route") {
        return;
    }
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve(listener));
    let mut command = skep(&["run", "--port", &port.to_string(), "--summary", "--route", "/users/{id}"]);
    command.stdout(Stdio::piped());
    let mut run = Run::start(command);
    run.wait_for("ready");
    one_request(port, "/users/42");
    let mut out = BufReader::new(run.child.stdout.take().unwrap());
    let mut text = String::new();
    while !(text.contains("server") && text.contains("client")) {
        assert_ne!(out.read_line(&mut text).unwrap(), 0, "{text}");
    }
    run.signal(libc::SIGINT);
    out.read_to_string(&mut text).unwrap();
    for part in ["200", "/users/42", "SERVICE", "P99", "GET /users/{id}"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(run.end().0, Some(0));
}

const REQUEST: &[u8] = b"GET /a-path-that-fills-the-queue HTTP/1.1\r\nhost: test\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/// Sends requests over one connection, `count` of them, and reads all answers.
fn many_requests(port: u16, count: usize) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut answer = [0; ANSWER.len()];
    for _ in 0..count {
        stream.write_all(REQUEST).unwrap();
        stream.read_exact(&mut answer).unwrap();
    }
}

fn serve_kept_alive(listener: TcpListener) {
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let mut request = [0; REQUEST.len()];
        while stream.read_exact(&mut request).is_ok() {
            stream.write_all(ANSWER).unwrap();
        }
    }
}

#[test]
fn a_reader_that_stands_still_costs_spans_but_neither_capture_nor_the_end() {
    if !may_load("a_reader_that_stands_still_costs_spans_but_neither_capture_nor_the_end") {
        return;
    }
    let _alone = alone();
    const REQUESTS: usize = 4000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || serve_kept_alive(listener));
    let mut command = skep(&["run", "--port", &port.to_string(), "--print", "json"]);
    command.stdout(Stdio::piped());
    let mut run = Run::start(command);
    let unread = run.child.stdout.take();
    run.wait_for("ready");
    many_requests(port, REQUESTS);
    run.signal(libc::SIGTERM);
    let (code, _, log) = run.end();
    drop(unread);
    assert_eq!(code, Some(0), "{log}");
    let number = |name: &str| -> usize {
        let at = log.find(name).unwrap_or_else(|| panic!("{name} in {log}")) + name.len();
        log[at..].trim_start().split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
    };
    assert!(number("output/queue_full") > 0, "{log}");
    // Server and client end of each request, and none is unaccounted for.
    assert_eq!(number(" spans"), 2 * REQUESTS, "{log}");
    assert_eq!(number("output/queue_full") + number(" written"), 2 * REQUESTS, "{log}");
    assert!(log.contains(" 0 lost"), "{log}");
}

#[test]
fn a_process_that_speaks_only_tls_is_warned_about_once() {
    if !may_load("a_process_that_speaks_only_tls_is_warned_about_once") {
        return;
    }
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    // The beginning of a TLS 1.2 ClientHello record, then silence: enough to be recognised.
    let hello = [&[0x16, 3, 1, 0, 0x80, 1, 0, 0, 0x7c, 3, 3][..], &[7; 122]].concat();
    let mut run = Run::start(skep(&["run", "--port", &port.to_string()]));
    run.wait_for("ready");
    let mut client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&hello).unwrap();
    server.read_exact(&mut vec![0; hello.len()]).unwrap();
    let warning = run.wait_for(" warn ");
    assert!(warning.contains("only TLS") && warning.contains(&std::process::id().to_string()), "{warning}");
    run.signal(libc::SIGINT);
    let (code, _, log) = run.end();
    assert_eq!((code, log.matches("only TLS").count()), (Some(0), 1), "{log}");
}
