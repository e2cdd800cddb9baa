//! OTLP from services that instrument themselves (`--otlp-listen`): their spans join the traces that Skep sees.
//!
//! In: `ExportTraceServiceRequest`s, as gRPC or as HTTP with protobuf, on one port, plain or gzip. Out: records for the
//! store. Traces only, nothing is passed on. Everything is bounded: connections, time, sizes before and after
//! unpacking; what the store's queue has no room for is refused, so that the sender tries again.

mod convert;

use std::convert::Infallible;
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::body::Bytes;
use http_body_util::{BodyExt, Full, Limited, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tokio::net::TcpStream;

use self::convert::Converter;
use crate::ui::connection::Places;
use crate::ui::hub::Hub;

/// A request as it comes, and unpacked.
const MAX_BYTES: usize = 4 << 20;
const MAX_UNPACKED: u64 = 16 << 20;
const BODY_WITHIN: Duration = Duration::from_secs(20);
const HEAD_WITHIN: Duration = Duration::from_secs(60);
const GRPC_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const HTTP_PATH: &str = "/v1/traces";
/// What every HTTP/2 connection begins with.
const HTTP2: &[u8] = b"PRI";

type Answer = Response<BoxBody<Bytes, Infallible>>;

/// Listens and takes spans from now on.
///
/// # Errors
/// Where the address cannot be had.
pub fn start(
    address: SocketAddr,
    hub: &Arc<Hub>,
    runtime: &tokio::runtime::Handle,
) -> anyhow::Result<SocketAddr> {
    let listener =
        TcpListener::bind(address).with_context(|| format!("--otlp-listen: listen on {address}"))?;
    listener.set_nonblocking(true).context("--otlp-listen: set the socket up")?;
    let address = listener.local_addr().context("--otlp-listen: ask for the address")?;
    if !address.ip().is_loopback() {
        log::warn!("spans are taken on {address}, beyond this machine: anybody there can send some");
    }
    let _inside = runtime.enter();
    let listener = tokio::net::TcpListener::from_std(listener).context("--otlp-listen: watch the socket")?;
    let receiver = Arc::new(Receiver { hub: Arc::clone(hub), converter: Mutex::default() });
    runtime.spawn(accept(listener, receiver));
    Ok(address)
}

struct Receiver {
    hub: Arc<Hub>,
    converter: Mutex<Converter>,
}

/// Why a request is not taken: as HTTP and as gRPC say it.
struct Refusal(StatusCode, u8, &'static str);

async fn accept(listener: tokio::net::TcpListener, receiver: Arc<Receiver>) {
    let places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Some(place) = places.take() {
                    let receiver = Arc::clone(&receiver);
                    tokio::spawn(async move {
                        serve(stream, receiver).await;
                        drop(place);
                    });
                }
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: TcpStream, receiver: Arc<Receiver>) {
    let mut start = [0; HTTP2.len()];
    let begun = async {
        loop {
            match stream.peek(&mut start).await {
                Ok(count) if count == start.len() => return true,
                // Three bytes come together, but for whoever plays tricks.
                Ok(1..) => tokio::time::sleep(Duration::from_millis(5)).await,
                _ => return false,
            }
        }
    };
    if !tokio::time::timeout(HEAD_WITHIN, begun).await.unwrap_or(false) {
        return;
    }
    let service = service_fn(move |request| {
        let receiver = Arc::clone(&receiver);
        async move { Ok::<_, Infallible>(answer(request, &receiver).await) }
    });
    let io = TokioIo::new(stream);
    // What went wrong with one sender is its own business: it sends again.
    if start == HTTP2 {
        let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(HEAD_WITHIN)
            .max_concurrent_streams(16)
            .max_header_list_size(16 * 1024)
            .initial_stream_window_size(256 * 1024)
            .serve_connection(io, service)
            .await;
    } else {
        let _ = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_WITHIN)
            .max_buf_size(16 * 1024)
            .serve_connection(io, service)
            .await;
    }
}

async fn answer(request: Request<Incoming>, receiver: &Receiver) -> Answer {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let grpc = kind.starts_with(b"application/grpc");
    match take(request, grpc, receiver).await {
        Ok(()) if grpc => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            // An empty ExportTraceServiceResponse: all was taken.
            let body = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
            response(StatusCode::OK, "application/grpc", body.boxed())
        }
        Ok(()) => response(StatusCode::OK, "application/x-protobuf", Full::default().boxed()),
        Err(Refusal(_, code, why)) if grpc => {
            let mut answer = response(StatusCode::OK, "application/grpc", Full::default().boxed());
            answer.headers_mut().insert("grpc-status", HeaderValue::from(u16::from(code)));
            answer.headers_mut().insert("grpc-message", HeaderValue::from_static(why));
            answer
        }
        Err(Refusal(status, _, why)) => {
            response(status, "text/plain", Full::new(Bytes::from_static(why.as_bytes())).boxed())
        }
    }
}

fn response(status: StatusCode, kind: &'static str, body: BoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

async fn take(request: Request<Incoming>, grpc: bool, receiver: &Receiver) -> Result<(), Refusal> {
    let (head, body) = request.into_parts();
    if head.method != Method::POST {
        return Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, 12, "only POST"));
    }
    if head.uri.path() != if grpc { GRPC_PATH } else { HTTP_PATH } {
        return Err(Refusal(StatusCode::NOT_FOUND, 12, "skep takes traces only"));
    }
    let is_protobuf = head.headers.get(CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.as_bytes();
        kind == b"application/x-protobuf" || kind.starts_with(b"application/x-protobuf;")
    });
    if !grpc && !is_protobuf {
        return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, 3, "only application/x-protobuf"));
    }
    let whole = tokio::time::timeout(BODY_WITHIN, Limited::new(body, MAX_BYTES).collect())
        .await
        .map_err(|_| Refusal(StatusCode::REQUEST_TIMEOUT, 4, "the body is too slow"))?
        .map_err(|_| Refusal(StatusCode::PAYLOAD_TOO_LARGE, 8, "the body is too long, or broke off"))?;
    let bytes = whole.to_bytes();
    let (bytes, packed) = if grpc {
        let (&[packed, a, b, c, d], message) = bytes.split_first_chunk::<5>().ok_or(MALFORMED)?;
        if u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
            return Err(MALFORMED);
        }
        (bytes.slice(5..), packed == 1)
    } else {
        let packed = head.headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
        (bytes, packed)
    };
    let encoding = head.headers.get(if grpc { "grpc-encoding" } else { "content-encoding" });
    let bytes = match packed {
        false => bytes,
        true if encoding.is_some_and(|encoding| encoding == "gzip") => unpack(&bytes)?.into(),
        true => return Err(Refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, 12, "only gzip")),
    };
    let export = ExportTraceServiceRequest::decode(bytes).map_err(|_| MALFORMED)?;
    let mut converter = receiver.converter.lock().unwrap_or_else(PoisonError::into_inner);
    if converter.give(&export, &receiver.hub) {
        Ok(())
    } else {
        Err(Refusal(StatusCode::SERVICE_UNAVAILABLE, 14, "there is no room just now"))
    }
}

const MALFORMED: Refusal = Refusal(StatusCode::BAD_REQUEST, 3, "the message cannot be read");

fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut unpacked = Vec::new();
    let read = flate2::read::GzDecoder::new(bytes).take(MAX_UNPACKED + 1).read_to_end(&mut unpacked);
    match read {
        Ok(count) if count as u64 <= MAX_UNPACKED => Ok(unpacked),
        Ok(_) => Err(Refusal(StatusCode::PAYLOAD_TOO_LARGE, 8, "the message is too long")),
        Err(_) => Err(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};

    use super::*;
    use crate::runtime::Runtime;
    use crate::store::query::parse_trace_id;

    fn text(key: &str, value: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) });
        KeyValue { key: key.into(), value, ..KeyValue::default() }
    }

    fn request() -> Vec<u8> {
        let span = Span {
            trace_id: vec![7; 16],
            span_id: vec![8; 8],
            parent_span_id: vec![9; 8],
            name: "work\u{1b}[31m".into(),
            kind: 1,
            start_time_unix_nano: 1_000,
            end_time_unix_nano: 5_000,
            attributes: vec![text("step", "<b>one</b>")],
            ..Span::default()
        };
        let bad = Span { trace_id: vec![0; 16], span_id: vec![1; 3], ..Span::default() };
        let resource =
            Some(Resource { attributes: vec![text("service.name", "inner")], ..Resource::default() });
        let scope_spans = vec![ScopeSpans { spans: vec![span, bad], ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }.encode_to_vec()
    }

    /// Posts a body and returns the status.
    fn post(address: SocketAddr, head: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let head = format!("{head}Host: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // Whoever is refused early may not read all of it.
        let _ = stream.write_all(body);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn spans_of_others_join_the_store_and_rubbish_is_refused() {
        let runtime = Runtime::start().unwrap();
        let hub = Arc::new(Hub::new(1 << 20));
        hub.want();
        let address = start("127.0.0.1:0".parse().unwrap(), &hub, runtime.handle()).unwrap();
        let protobuf = "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n";
        assert_eq!(post(address, protobuf, &request()), 200);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&request()).unwrap();
        let packed = gzip.finish().unwrap();
        assert_eq!(post(address, &format!("{protobuf}Content-Encoding: gzip\r\n"), &packed), 200);
        let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        bomb.write_all(&vec![0; MAX_UNPACKED as usize + 10]).unwrap();
        let bomb = bomb.finish().unwrap();
        assert_eq!(post(address, &format!("{protobuf}Content-Encoding: gzip\r\n"), &bomb), 413);
        assert_eq!(post(address, &format!("{protobuf}Content-Encoding: br\r\n"), &packed), 415);
        assert_eq!(post(address, protobuf, b"rubbish"), 400);
        assert_eq!(post(address, protobuf, &vec![0; MAX_BYTES + 1]), 413);
        let json = "POST /v1/traces HTTP/1.1\r\nContent-Type: application/json\r\n";
        assert_eq!(post(address, json, b"{}"), 415);
        let logs = "POST /v1/logs HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n";
        assert_eq!(post(address, logs, b""), 404);
        assert_eq!(post(address, "OPTIONS /v1/traces HTTP/1.1\r\n", b""), 405);

        let id = parse_trace_id(&"07".repeat(16)).unwrap();
        let trace = hub.read(|store| store.trace(&id)).unwrap();
        assert_eq!(trace.spans.len(), 2, "twice the same, sent twice");
        let span = &trace.spans[0];
        assert_eq!((span.service.as_str(), span.source, span.duration_ns), ("inner", "otlp", 4_000));
        assert_eq!((span.name.as_str(), &span.attributes["step"]), ("work\\u{1b}[31m", &"<b>one</b>".into()));
        assert_eq!(hub.read(|store| store.counts().spans), 2, "a span without ids is none");
        assert!(runtime.finish(Duration::from_secs(10)));
    }
}
