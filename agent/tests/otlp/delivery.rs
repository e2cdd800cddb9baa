//! What a well-behaved server gets.

use std::io::Read;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use skep::export::otlp::queue::MetricsBatch;
use skep::export::otlp::settings::{Compression, OtlpConfig, Protocol, Target};

use crate::server::{Server, status};
use crate::support::{Export, config, load, wait};

fn ids(body: &[u8]) -> Vec<u64> {
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let spans = request.resource_spans.iter().flat_map(|of| &of.scope_spans).flat_map(|of| &of.spans);
    spans.map(|span| u64::from_be_bytes(span.span_id.as_slice().try_into().unwrap())).collect()
}

#[test]
fn every_span_arrives_once_with_the_headers_that_were_asked_for() {
    let server = Server::start(Vec::new());
    let mut config = config(Protocol::Http, server.addr);
    let traces = config.traces.as_mut().unwrap();
    traces.headers = vec![(HeaderName::from_static("api-key"), HeaderValue::from_static("a b"))];
    let mut export = Export::start(&config);
    export.spans(35);
    export.finish(Duration::from_secs(10));
    assert_eq!(export.outcome(), "delivered 35");
    let requests = server.requests();
    let mut found: Vec<u64> = requests.iter().flat_map(|request| ids(&request.body)).collect();
    found.sort_unstable();
    assert_eq!(found, (1..=35).collect::<Vec<_>>());
    assert_eq!(requests.len(), 4, "ten a batch");
    for request in &requests {
        let head = request.head.to_ascii_lowercase();
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        for line in [
            "content-type: application/x-protobuf",
            "api-key: a b",
            &format!("host: {}", server.addr),
            &format!("user-agent: skep/{}", env!("CARGO_PKG_VERSION")),
            "traceparent: 00-",
        ] {
            assert!(head.contains(&format!("\r\n{line}")), "{line} in {head}");
        }
    }
    assert_eq!(load(&export.stats.traces.requests), 4);
    let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
    assert_eq!(load(&export.stats.traces.sent_bytes), bytes as u64);
}

#[test]
fn bodies_are_compressed_as_their_header_says() {
    for (compression, name) in [(Compression::Gzip, "gzip"), (Compression::Zstd, "zstd")] {
        let server = Server::start(Vec::new());
        let mut config = config(Protocol::Http, server.addr);
        config.traces.as_mut().unwrap().compression = compression;
        let mut export = Export::start(&config);
        export.spans(10);
        let request = server.request();
        assert!(request.head.contains(&format!("content-encoding: {name}\r\n")), "{}", request.head);
        let mut body = Vec::new();
        match compression {
            Compression::Gzip => {
                flate2::read::GzDecoder::new(request.body.as_slice()).read_to_end(&mut body).unwrap();
            }
            _ => body = zstd::decode_all(request.body.as_slice()).unwrap(),
        }
        assert_eq!(ids(&body), (1..=10).collect::<Vec<_>>());
        assert!(request.body.len() * 2 < body.len());
        export.settle();
        assert_eq!(export.outcome(), "delivered 10");
    }
}

#[test]
fn metrics_go_their_own_way() {
    let server = Server::start(vec![status(429, "retry-after: 0\r\n", b"")]);
    let export = Export::start(&OtlpConfig { traces: None, ..config(Protocol::Http, server.addr) });
    let metrics = export.exporter.metrics().unwrap();
    assert!(metrics.send(MetricsBatch { message: b"\x0a\x00".to_vec(), points: 3 }));
    for _ in 0..2 {
        let request = server.request();
        assert!(request.head.starts_with("POST /v1/metrics HTTP/1.1\r\n"), "{}", request.head);
        assert_eq!(request.body, b"\x0a\x00");
    }
    wait("it is delivered", || load(&metrics.stats().delivered) == 3);
    assert_eq!(load(&metrics.stats().queued), 0);
    assert!(!metrics.send(MetricsBatch { message: vec![0; 2 << 20], points: 5 }), "no room for that");
    assert_eq!(metrics.stats().drops().map(|(_, count)| count).sum::<u64>(), 5);
}

#[test]
fn a_partial_success_is_counted() {
    // partial_success = 1 { rejected_spans = 1: 3, error_message = 2: "x" }
    let answer = [0x0a, 5, 0x08, 3, 0x12, 1, b'x'];
    let server = Server::start(vec![status(200, "", &answer)]);
    let mut export = Export::start(&config(Protocol::Http, server.addr));
    export.spans(10);
    export.settle();
    assert_eq!(export.outcome(), "delivered 7, partial_success 3");
}

#[test]
fn a_unix_socket_is_an_endpoint() {
    let path = std::env::temp_dir().join(format!("skep-otlp-{}.sock", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let mut config = config(Protocol::Http, "127.0.0.1:1".parse().unwrap());
    config.traces.as_mut().unwrap().endpoint.target = Target::Unix(path.clone());
    let mut export = Export::start(&config);
    export.spans(10);
    let (mut stream, _) = listener.accept().unwrap();
    let mut first = [0; 16];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"POST /v1/traces ");
    std::fs::remove_file(path).unwrap();
}
