//! One request to the other end and its answer, over gRPC or HTTP, TCP or a unix socket, with or without TLS.
//!
//! In: a body that is encoded and compressed already. Out: an [`Outcome`]. What the other end sends is untrusted: its
//! headers and body are bounded, and the caller bounds the time. A connection serves one request at a time.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

use super::answer::{self, Outcome};
use super::compress::decompress;
use super::settings::{Compression, Endpoint, Protocol, SignalConfig, Target};

/// No OTLP answer is longer.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// What precedes a message in a gRPC stream: whether it is compressed, and its length.
pub(super) const GRPC_PREFIX: usize = 5;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// How requests of one signal are made.
pub(super) struct Transport {
    endpoint: Endpoint,
    protocol: Protocol,
    tls: Option<Arc<ClientConfig>>,
    uri: Uri,
    headers: HeaderMap,
}

/// A connection that may carry another request.
pub(super) struct Connection {
    requests: Requests,
    driver: AbortHandle,
}

enum Requests {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Fills in the gRPC prefix of a body that left room for it.
pub(super) fn fill_grpc_prefix(body: &mut [u8], compressed: bool) {
    let len = u32::try_from(body.len() - GRPC_PREFIX).unwrap_or(u32::MAX);
    body[0] = u8::from(compressed);
    body[1..GRPC_PREFIX].copy_from_slice(&len.to_be_bytes());
}

impl Transport {
    pub(super) fn new(
        config: &SignalConfig,
        tls: Option<Arc<ClientConfig>>,
        traceparent: &str,
    ) -> io::Result<Self> {
        let endpoint = config.endpoint.clone();
        let scheme = if endpoint.tls { "https" } else { "http" };
        // HTTP/1.1 wants the path alone, HTTP/2 everything.
        let uri = match config.protocol {
            Protocol::Http => endpoint.path.parse(),
            Protocol::Grpc => format!("{scheme}://{}{}", endpoint.authority, endpoint.path).parse(),
        };
        let encoding = match config.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        };
        let mut headers: HeaderMap = config.headers.iter().cloned().collect();
        let mut own_trace = HeaderValue::from_str(traceparent).map_err(io::Error::other)?;
        // Spelled out in each HTTP/2 request: a capture that has missed the connection's beginning still knows it.
        own_trace.set_sensitive(true);
        headers.insert(HeaderName::from_static("traceparent"), own_trace);
        let mut set = |name: HeaderName, value: &str| -> io::Result<()> {
            headers.insert(name, HeaderValue::from_str(value).map_err(io::Error::other)?);
            Ok(())
        };
        set(header::USER_AGENT, concat!("skep/", env!("CARGO_PKG_VERSION")))?;
        match config.protocol {
            Protocol::Http => {
                set(header::HOST, &endpoint.authority)?;
                set(header::CONTENT_TYPE, "application/x-protobuf")?;
                if let Some(encoding) = encoding {
                    set(header::CONTENT_ENCODING, encoding)?;
                }
            }
            Protocol::Grpc => {
                set(header::CONTENT_TYPE, "application/grpc")?;
                set(header::TE, "trailers")?;
                let timeout = config.timeout.as_millis().min(99_999_999);
                set(HeaderName::from_static("grpc-timeout"), &format!("{timeout}m"))?;
                if let Some(encoding) = encoding {
                    set(HeaderName::from_static("grpc-encoding"), encoding)?;
                }
            }
        }
        Ok(Self { endpoint, protocol: config.protocol, tls, uri: uri.map_err(io::Error::other)?, headers })
    }

    /// Sends a body, on this connection or a new one. The connection comes back if it may be used again.
    pub(super) async fn send(
        &self,
        connection: Option<Connection>,
        body: Bytes,
    ) -> (Outcome, Option<Connection>) {
        if let Some(mut connection) = connection.filter(Connection::is_open) {
            match self.exchange(&mut connection, body.clone()).await {
                Ok((outcome, reusable)) => return (outcome, reusable.then_some(connection)),
                // The other end may have closed it meanwhile: that is no failure, and a new one is made.
                Err(error) if connection.is_open() => return (unanswered(&error), None),
                Err(_) => {}
            }
        }
        let mut connection = match self.connect().await {
            Ok(connection) => connection,
            Err(error) => return (Outcome::unanswered(error, false), None),
        };
        match self.exchange(&mut connection, body).await {
            Ok((outcome, reusable)) => (outcome, reusable.then_some(connection)),
            Err(error) => (unanswered(&error), None),
        }
    }

    async fn connect(&self) -> Result<Connection, String> {
        let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
        let stream: Box<dyn Stream> = match &self.endpoint.target {
            Target::Unix(path) => {
                Box::new(UnixStream::connect(path).await.map_err(|error| failed("connect", &error))?)
            }
            Target::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port))
                    .await
                    .map_err(|error| failed("connect", &error))?;
                stream.set_nodelay(true).map_err(|error| failed("connect", &error))?;
                match &self.tls {
                    None => Box::new(stream),
                    Some(config) => {
                        let name =
                            ServerName::try_from(host.clone()).map_err(|error| failed("TLS", &error))?;
                        let connector = TlsConnector::from(Arc::clone(config));
                        Box::new(
                            connector.connect(name, stream).await.map_err(|error| failed("TLS", &error))?,
                        )
                    }
                }
            }
        };
        let io = TokioIo::new(stream);
        let failed = |error: hyper::Error| format!("open the connection: {}", causes(&error));
        // The driver ends with the connection, and what it fails with the request is told as well.
        Ok(match self.protocol {
            Protocol::Http => {
                let mut builder = http1::Builder::new();
                builder.max_buf_size(MAX_HEADER_BYTES);
                let (requests, driver) = builder.handshake(io).await.map_err(failed)?;
                let driver = tokio::spawn(driver).abort_handle();
                Connection { requests: Requests::Http1(requests), driver }
            }
            Protocol::Grpc => {
                let mut builder = http2::Builder::new(TokioExecutor::new());
                builder.max_header_list_size(MAX_HEADER_BYTES as u32);
                let (requests, driver) = builder.handshake(io).await.map_err(failed)?;
                let driver = tokio::spawn(driver).abort_handle();
                Connection { requests: Requests::Http2(requests), driver }
            }
        })
    }

    /// One request; says as well whether the connection may be used again.
    async fn exchange(
        &self,
        connection: &mut Connection,
        body: Bytes,
    ) -> Result<(Outcome, bool), hyper::Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = self.headers.clone();
        let response = match &mut connection.requests {
            Requests::Http1(requests) => {
                requests.ready().await?;
                requests.send_request(request).await?
            }
            Requests::Http2(requests) => {
                *request.version_mut() = Version::HTTP_2;
                requests.ready().await?;
                requests.send_request(request).await?
            }
        };
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let (body, trailers) = read_body(response).await?;
        let reusable = body.is_some();
        let outcome = match self.protocol {
            Protocol::Http => {
                let retry_after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
                answer::http(status, retry_after, body.as_deref(), SystemTime::now())
            }
            Protocol::Grpc => grpc_outcome(status, &headers, trailers.as_ref(), body.as_deref()),
        };
        Ok((outcome, reusable))
    }
}

impl Connection {
    fn is_open(&self) -> bool {
        match &self.requests {
            Requests::Http1(requests) => !requests.is_closed(),
            Requests::Http2(requests) => !requests.is_closed(),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// The body, `None` if it is too long, and the trailers.
async fn read_body(
    response: Response<Incoming>,
) -> Result<(Option<Vec<u8>>, Option<HeaderMap>), hyper::Error> {
    let mut incoming = response.into_body();
    let (mut body, mut trailers) = (Vec::new(), None);
    while let Some(frame) = incoming.frame().await {
        match frame?.into_data() {
            Ok(data) if body.len() + data.len() > MAX_ANSWER_BYTES => return Ok((None, None)),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((Some(body), trailers))
}

fn grpc_outcome(
    http_status: u16,
    headers: &HeaderMap,
    trailers: Option<&HeaderMap>,
    body: Option<&[u8]>,
) -> Outcome {
    // A call that fails at once has its trailers where headers are.
    let find = |name: &HeaderName| {
        let value = trailers.and_then(|trailers| trailers.get(name)).or_else(|| headers.get(name));
        value.and_then(|value| value.to_str().ok())
    };
    if http_status != 200 {
        return answer::grpc(
            answer::grpc_status_of_http(http_status),
            &format!("HTTP status {http_status}"),
            None,
            None,
        );
    }
    let Some(status) = find(&GRPC_STATUS) else {
        // UNKNOWN, by gRPC's own rules; a page that says 200 ends here.
        return Outcome::NotOtlp { reason: "HTTP status 200 without a gRPC status".into() };
    };
    let encoding = headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes);
    let message = body.and_then(|body| unframed(body, encoding));
    answer::grpc(
        status.parse().unwrap_or(2),
        find(&GRPC_MESSAGE).unwrap_or_default(),
        find(&GRPC_DETAILS),
        message.as_deref(),
    )
}

/// The message behind its prefix. Servers compress their answer as the request was, though nobody asked them to.
fn unframed<'b>(body: &'b [u8], encoding: Option<&[u8]>) -> Option<Cow<'b, [u8]>> {
    let (prefix, message) = body.split_at_checked(GRPC_PREFIX)?;
    if message.len() != u32::from_be_bytes(prefix[1..].try_into().ok()?) as usize {
        return None;
    }
    match (prefix[0], encoding) {
        (0, _) => Some(Cow::Borrowed(message)),
        (1, Some(encoding)) => decompress(encoding, message, MAX_ANSWER_BYTES).map(Cow::Owned),
        _ => None,
    }
}

fn unanswered(error: &hyper::Error) -> Outcome {
    Outcome::unanswered(causes(error), false)
}

/// The error and what is behind it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
