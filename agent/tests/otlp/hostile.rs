//! What a bad server does to the exporter: nothing but numbers.

use std::net::TcpListener;
use std::time::Duration;

use skep::export::otlp::queue::QueueLimits;
use skep::export::otlp::settings::{OtlpConfig, Protocol, TlsFiles};

use crate::server::{Reply, Server, ok, status};
use crate::support::{Export, config, load, wait};

const PATIENCE: Duration = Duration::from_millis(300);
/// Far above what ending takes, far below what a hang would.
const SOON: Duration = Duration::from_secs(3);

/// Script → what became of ten spans, and how many requests it took.
fn check(script: Vec<Reply>, expected: &str, requests: u64) {
    check_with(script, expected, requests, |_| {});
}

fn check_with(script: Vec<Reply>, expected: &str, requests: u64, change: impl FnOnce(&mut OtlpConfig)) {
    let server = Server::start(script);
    let mut config = config(Protocol::Http, server.addr);
    change(&mut config);
    let mut export = Export::start(&config);
    export.spans(10);
    export.settle();
    assert_eq!(export.outcome(), expected);
    assert_eq!(load(&export.stats.traces.requests), requests);
}

#[test]
fn what_may_pass_is_tried_again() {
    check(vec![status(503, "", b"busy"), ok()], "delivered 10", 2);
    check(vec![status(429, "retry-after: 0\r\n", b""), ok()], "delivered 10", 2);
    check(vec![status(502, "", b""), ok()], "delivered 10", 2);
    check(vec![status(504, "", b""), ok()], "delivered 10", 2);
}

#[test]
fn what_will_not_pass_is_not() {
    for refused in [400, 401, 403, 404, 413, 500, 501, 301] {
        check(vec![status(refused, "location: /\r\n", b"no")], "delivered 0, rejected 10", 1);
    }
}

#[test]
fn broken_answers_are_tried_again() {
    check(vec![Reply::Reset, ok()], "delivered 10", 2);
    check(vec![Reply::Last(Vec::new()), ok()], "delivered 10", 2);
    check(vec![Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-le".to_vec()), ok()], "delivered 10", 2);
    check(
        vec![Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf".to_vec()), ok()],
        "delivered 10",
        2,
    );
    check(
        vec![Reply::Last(b"\x16\x03\x01 no HTTP at all \xff\xff\r\n\r\n".to_vec()), ok()],
        "delivered 10",
        2,
    );
}

#[test]
fn a_page_that_says_200_is_no_collector() {
    let page = status(200, "content-type: text/html\r\n", b"<!doctype html><h1>Welcome to nginx!</h1>");
    check(vec![page], "delivered 0, invalid_answer 10", 1);
}

#[test]
fn endless_answers_are_cut() {
    for head in [
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
        "HTTP/1.1 503 x\r\ncontent-length: 99999999999\r\n\r\n",
    ] {
        let server = Server::start(vec![Reply::Endless(head)]);
        let mut export = Export::start(&config(Protocol::Http, server.addr));
        export.spans(10);
        let taken = server.taken.recv_timeout(crate::support::DEADLINE).unwrap();
        // What the sockets hold comes on top of what the exporter reads.
        assert!(taken < 8 << 20, "{taken}");
        export.settle();
        assert!(["delivered 10", "delivered 0, invalid_answer 10"].contains(&export.outcome().as_str()));
    }
    // Headers without end: a failure like any other.
    let server = Server::start(vec![Reply::Endless("HTTP/1.1 200 OK\r\nx: ")]);
    let mut export = Export::start(&config(Protocol::Http, server.addr));
    export.spans(10);
    export.settle();
    assert_eq!(export.outcome(), "delivered 10");
}

#[test]
fn a_server_that_hangs_times_out_until_it_is_too_late() {
    check_with(vec![Reply::Hang; 50], "delivered 0, timeout 10", 1, |config| {
        config.traces.as_mut().unwrap().timeout = Duration::from_millis(50);
        config.retry_for = Duration::from_millis(100);
    });
    check_with(vec![Reply::Hang], "delivered 10", 2, |config| {
        config.traces.as_mut().unwrap().timeout = Duration::from_millis(50);
    });
}

#[test]
fn nobody_there_is_tried_until_it_is_too_late() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut config = config(Protocol::Http, gone);
    config.retry_for = Duration::from_secs(1);
    let mut export = Export::start(&config);
    export.spans(10);
    export.settle();
    assert_eq!(export.outcome(), "delivered 0, retry_exhausted 10");
    assert!(load(&export.stats.traces.requests) >= 2);
}

#[test]
fn retry_after_is_waited_for() {
    let server = Server::start(vec![status(503, "retry-after: 2\r\n", b"")]);
    let mut export = Export::start(&config(Protocol::Http, server.addr));
    export.spans(10);
    let (first, second) = (server.request(), server.request());
    assert!(second.at - first.at >= Duration::from_millis(1900), "{:?}", second.at - first.at);
    export.settle();
    assert_eq!(export.outcome(), "delivered 10");
}

#[test]
fn a_pause_longer_than_the_time_for_retries_is_the_end() {
    check(vec![status(503, "retry-after: 3600\r\n", b"")], "delivered 0, retry_exhausted 10", 1);
}

#[test]
fn one_request_alone_tries_a_server_that_failed() {
    let mut script = vec![status(503, "retry-after: 0\r\n", b""); 4];
    script.push(Reply::Hang);
    let server = Server::start(script);
    let mut config = config(Protocol::Http, server.addr);
    config.traces.as_mut().unwrap().timeout = Duration::from_millis(300);
    let mut export = Export::start(&config);
    export.spans(100);
    let traces = &export.stats.traces;
    wait("all of the script is played", || {
        let (requests, failures) = (load(&traces.requests), load(&traces.failures));
        assert!(
            failures < 4 || requests <= failures + 1 || failures >= 5,
            "{requests} requests, {failures} failures"
        );
        failures >= 5
    });
    export.settle();
    assert_eq!(export.outcome(), "delivered 100");
}

#[test]
fn memory_is_bounded_and_what_finds_no_room_is_counted() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let limit = 64 << 10;
    let mut export = Export::start(&OtlpConfig {
        queue: QueueLimits { bytes: limit, items: u64::MAX },
        ..config(Protocol::Http, gone)
    });
    for _ in 0..1000 {
        export.spans(10);
        assert!(load(&export.stats.traces.queued_bytes) <= limit);
    }
    let took = export.finish(PATIENCE);
    assert!(took < SOON, "{took:?}");
    let outcome = export.outcome();
    assert!(outcome.starts_with("delivered 0, queue_full ") && outcome.contains(", shutdown "), "{outcome}");
    assert_eq!(load(&export.stats.traces.handed_over), 10_000);
    assert_eq!((load(&export.stats.traces.queued), load(&export.stats.traces.queued_bytes)), (0, 0));
}

#[test]
fn the_end_does_not_wait_for_a_server_that_hangs() {
    let server = Server::start(vec![Reply::Hang; 50]);
    let mut export = Export::start(&config(Protocol::Http, server.addr));
    export.spans(55);
    server.request();
    let took = export.finish(PATIENCE);
    assert!(took < SOON, "{took:?}");
    assert_eq!(export.outcome(), "delivered 0, shutdown 55");
}

#[test]
fn the_end_delivers_what_is_there() {
    let server = Server::start(vec![status(503, "retry-after: 30\r\n", b"")]);
    let mut export = Export::start(&config(Protocol::Http, server.addr));
    export.spans(10);
    server.request();
    wait("the first attempt fails", || load(&export.stats.traces.failures) == 1);
    // Although the server asked for half a minute: the end is the last chance.
    export.spans(5);
    export.finish(Duration::from_secs(10));
    assert_eq!(export.outcome(), "delivered 15");
}

#[test]
fn a_closed_connection_is_opened_again_without_a_failure() {
    let server =
        Server::start(vec![Reply::Last(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()); 5]);
    let mut export = Export::start(&config(Protocol::Http, server.addr));
    for _ in 0..5 {
        export.spans(10);
        server.request();
        export.settle();
    }
    assert_eq!(export.outcome(), "delivered 50");
    assert_eq!(load(&export.stats.traces.failures), 0);
}

#[test]
fn tls_against_a_server_that_speaks_none_fails_like_any_other() {
    let server = Server::start(Vec::new());
    let mut config = config(Protocol::Http, server.addr);
    config.retry_for = Duration::from_millis(200);
    let traces = config.traces.as_mut().unwrap();
    traces.endpoint.tls = true;
    traces.timeout = Duration::from_millis(300);
    traces.tls = TlsFiles { certificate: Some(certificate()), ..TlsFiles::default() };
    let mut export = Export::start(&config);
    export.spans(10);
    export.settle();
    let outcome = export.outcome();
    assert!(
        ["delivered 0, retry_exhausted 10", "delivered 0, timeout 10"].contains(&outcome.as_str()),
        "{outcome}"
    );
}

/// Any certificate will do: the handshake never comes that far.
fn certificate() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp/ca.pem")
}
