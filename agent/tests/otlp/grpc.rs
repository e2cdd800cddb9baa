//! The same over gRPC: statuses, retry information, and pages that are no gRPC.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::HeaderMap;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use skep::export::otlp::settings::{Compression, Protocol};
use skep::runtime::Runtime;

use crate::support::{Export, config, load};

/// What a call is answered with: HTTP status, `grpc-status` in the headers, details, response message, trailers.
#[derive(Clone, Default)]
struct Reply {
    http_status: u16,
    status: Option<&'static str>,
    details: Option<&'static str>,
    message: Option<&'static [u8]>,
    trailers: Option<&'static str>,
}

const OK: Reply = Reply {
    http_status: 200,
    status: None,
    details: None,
    message: Some(b"\0\0\0\0\0"),
    trailers: Some("0"),
};

fn fails(status: &'static str) -> Reply {
    Reply { http_status: 200, status: Some(status), ..Reply::default() }
}

type Seen = Arc<Mutex<Vec<(HeaderMap, Vec<u8>)>>>;

struct Server {
    addr: SocketAddr,
    seen: Seen,
    _runtime: Runtime,
}

/// A frame of data, then trailers.
struct Body(Vec<Frame<Bytes>>);

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::task::Poll::Ready(self.0.pop().map(Ok))
    }
}

impl Server {
    fn start(script: Vec<Reply>) -> Self {
        let runtime = Runtime::start().unwrap();
        let seen = Seen::default();
        let script = Arc::new(Mutex::new(script.into_iter()));
        let (sender, receiver) = std::sync::mpsc::channel();
        let requests = Arc::clone(&seen);
        runtime.handle().spawn(async move {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, requests) = (Arc::clone(&script), Arc::clone(&requests));
                let service = service_fn(move |request: Request<Incoming>| {
                    let reply = script.lock().unwrap().next().unwrap_or(OK);
                    let requests = Arc::clone(&requests);
                    async move {
                        let headers = request.headers().clone();
                        let body = request.into_body().collect().await.unwrap().to_bytes().to_vec();
                        requests.lock().unwrap().push((headers, body));
                        Ok::<_, Infallible>(answer(&reply))
                    }
                });
                let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { addr: receiver.recv().unwrap(), seen, _runtime: runtime }
    }
}

fn answer(reply: &Reply) -> Response<Body> {
    let mut frames = Vec::new();
    if let Some(status) = reply.trailers {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        frames.push(Frame::trailers(trailers));
    }
    if let Some(message) = reply.message {
        frames.push(Frame::data(Bytes::from_static(message)));
    }
    let mut response =
        Response::builder().status(reply.http_status).header("content-type", "application/grpc");
    for (name, value) in [("grpc-status", reply.status), ("grpc-status-details-bin", reply.details)] {
        if let Some(value) = value {
            response = response.header(name, value);
        }
    }
    response.body(Body(frames)).unwrap()
}

/// Script → what became of ten spans, and how many requests it took.
fn check(script: Vec<Reply>, expected: &str, requests: u64) {
    let server = Server::start(script);
    let mut export = Export::start(&config(Protocol::Grpc, server.addr));
    export.spans(10);
    export.settle();
    assert_eq!(export.outcome(), expected);
    assert_eq!(load(&export.stats.traces.requests), requests);
}

#[test]
fn spans_arrive_in_a_framed_message() {
    for (compression, name) in
        [(Compression::None, None), (Compression::Gzip, Some("gzip")), (Compression::Zstd, Some("zstd"))]
    {
        let server = Server::start(Vec::new());
        let mut config = config(Protocol::Grpc, server.addr);
        config.traces.as_mut().unwrap().compression = compression;
        let mut export = Export::start(&config);
        export.spans(10);
        export.settle();
        assert_eq!(export.outcome(), "delivered 10");
        let seen = server.seen.lock().unwrap();
        let (headers, body) = &seen[0];
        assert_eq!(headers.get("grpc-encoding").map(|value| value.to_str().unwrap()), name);
        assert_eq!(headers["content-type"], "application/grpc");
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["grpc-timeout"], "5000m");
        assert_eq!(body[0], u8::from(name.is_some()));
        assert_eq!(u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize, body.len() - 5);
        if name.is_none() {
            let request = ExportTraceServiceRequest::decode(&body[5..]).unwrap();
            assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 10);
        }
    }
}

#[test]
fn statuses_are_retried_as_the_specification_says() {
    for status in ["1", "4", "10", "11", "14", "15"] {
        check(vec![fails(status)], "delivered 10", 2);
    }
    for status in ["2", "3", "5", "6", "7", "8", "9", "12", "13", "16", "99", "x"] {
        check(vec![fails(status)], "delivered 0, rejected 10", 1);
    }
}

#[test]
fn an_exhausted_server_that_says_when_is_asked_again() {
    // google.rpc.Status { code: 8, details: [RetryInfo { retry_delay: 0.1 s }] }
    const DETAILS: &str = "CAgaMwoodHlwZS5nb29nbGVhcGlzLmNvbS9nb29nbGUucnBjLlJldHJ5SW5mbxIHCgUQgMLXLw";
    check(vec![Reply { details: Some(DETAILS), ..fails("8") }], "delivered 10", 2);
}

#[test]
fn failures_in_trailers_count_too() {
    check(vec![Reply { trailers: Some("14"), ..OK }], "delivered 10", 2);
    check(vec![Reply { trailers: Some("3"), ..OK }], "delivered 0, rejected 10", 1);
}

#[test]
fn what_is_no_grpc_is_no_success() {
    check(vec![Reply { trailers: None, ..OK }], "delivered 0, invalid_answer 10", 1);
    check(vec![Reply { message: None, ..OK }], "delivered 0, invalid_answer 10", 1);
    check(vec![Reply { message: Some(b"\0\0\0\0\x09<html>"), ..OK }], "delivered 0, invalid_answer 10", 1);
    check(vec![Reply { message: Some(b"\0\0\0\0\x06<html>"), ..OK }], "delivered 0, invalid_answer 10", 1);
    check(vec![Reply { message: Some(b"\x01\0\0\0\0"), ..OK }], "delivered 0, invalid_answer 10", 1);
    check(vec![Reply { http_status: 404, trailers: None, ..OK }], "delivered 0, rejected 10", 1);
    check(vec![Reply { http_status: 503, trailers: None, ..OK }], "delivered 10", 2);
}

#[test]
fn a_server_of_http1_is_no_grpc_server() {
    let server = crate::server::Server::start(Vec::new());
    let mut config = config(Protocol::Grpc, server.addr);
    config.retry_for = Duration::from_millis(200);
    config.traces.as_mut().unwrap().timeout = Duration::from_millis(300);
    let mut export = Export::start(&config);
    export.spans(10);
    export.settle();
    let outcome = export.outcome();
    assert!(
        ["delivered 0, retry_exhausted 10", "delivered 0, timeout 10"].contains(&outcome.as_str()),
        "{outcome}"
    );
}
