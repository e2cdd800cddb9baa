//! Connections and requests of the Prometheus endpoint, bounded in number, size and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_pipeline::metrics::Reader;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

use super::body::Body;
use super::negotiate;
use super::text::Writer;
use crate::metrics::collection::Collection;
use crate::metrics::exchange::Exchange;

/// Connections at the same time; more are closed at once.
const MAX_CONNECTIONS: usize = 64;
/// Responses that are made at the same time: each holds a moment's metrics.
const MAX_SCRAPES: usize = 4;
/// How long a scrape waits for its turn, and for the drain thread.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the head of a request may take.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// How long a connection may take in all: one request and its answer.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(30);
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// After a failed accept, of too many descriptors for instance.
const PAUSE: Duration = Duration::from_millis(100);

/// What came of requests; the names are those of `skep.prometheus.requests`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Answered.
    Ok,
    /// No turn or no answer of the drain thread in time.
    Busy,
    /// A connection beyond those that are allowed at a time.
    Refused,
    /// Whatever was asked for is not there.
    NotFound,
}

const OUTCOMES: [&str; 4] = ["ok", "busy", "refused", "not_found"];

/// The endpoint.
pub struct Server {
    exchange: Arc<Exchange>,
    started_unix_ns: u64,
    connections: Arc<Semaphore>,
    scrapes: Arc<Semaphore>,
    outcomes: [AtomicU64; OUTCOMES.len()],
}

impl Server {
    pub(super) fn new(exchange: Arc<Exchange>, started_unix_ns: u64) -> Self {
        Self {
            exchange,
            started_unix_ns,
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            scrapes: Arc::new(Semaphore::new(MAX_SCRAPES)),
            outcomes: Default::default(),
        }
    }

    /// Requests by what came of them.
    pub fn outcomes(&self) -> Vec<(&'static str, u64)> {
        let count = |outcome: &AtomicU64| outcome.load(Ordering::Relaxed);
        OUTCOMES.iter().copied().zip(self.outcomes.iter().map(count)).collect()
    }

    /// Takes connections for ever.
    pub(super) async fn accept(self: Arc<Self>, listener: TcpListener) {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .fallback(not_found)
            .with_state(Arc::clone(&self));
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                sleep(PAUSE).await;
                continue;
            };
            match Arc::clone(&self.connections).try_acquire_owned() {
                Ok(place) => {
                    let router = router.clone();
                    tokio::spawn(async move {
                        serve(stream, router).await;
                        drop(place);
                    });
                }
                Err(_) => self.count(Outcome::Refused),
            }
        }
    }

    fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// One connection: one request, one answer. A new connection costs a scraper less than its scrape.
async fn serve(stream: TcpStream, router: Router) {
    // Latency alone; the answer is as good without.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    // What is wrong with a scraper is its own business.
    let _ = timeout(EXCHANGE_WITHIN, connection).await;
}

async fn metrics(State(server): State<Arc<Server>>, headers: HeaderMap) -> Response {
    let all = |name: HeaderName| {
        let values: Vec<&str> =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        values.join(",")
    };
    let format = negotiate::format(&all(header::ACCEPT));
    let gzip = negotiate::gzip(&all(header::ACCEPT_ENCODING));
    let Ok(Ok(place)) = timeout(PATIENCE, Arc::clone(&server.scrapes).acquire_owned()).await else {
        server.count(Outcome::Busy);
        return busy("too many scrapes at the same time");
    };
    let Ok(Some(moment)) = timeout(PATIENCE, server.exchange.ask(Reader::Pull)).await else {
        server.count(Outcome::Busy);
        return busy("no metrics to be had right now");
    };
    server.count(Outcome::Ok);
    let collection = Collection::new(&moment, server.started_unix_ns, &server.outcomes());
    drop(moment);
    let body = axum::body::Body::new(Body::new(Writer::new(collection, format), gzip, place));
    let mut response = ([(header::CONTENT_TYPE, format.content_type())], body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::VARY, header::HeaderValue::from_static("Accept, Accept-Encoding"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
    }
    response
}

/// The drain thread is at work.
async fn healthz(State(server): State<Arc<Server>>) -> Response {
    state(server.exchange.is_alive(), "ok\n", "the thread that drains the ring buffer is stuck\n")
}

/// Capture is live.
async fn readyz(State(server): State<Arc<Server>>) -> Response {
    let ready = server.exchange.is_ready() && server.exchange.is_alive();
    state(ready, "ready\n", "capture is not live\n")
}

async fn not_found(State(server): State<Arc<Server>>) -> Response {
    server.count(Outcome::NotFound);
    (StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n").into_response()
}

fn state(good: bool, yes: &'static str, no: &'static str) -> Response {
    if good { yes.into_response() } else { (StatusCode::SERVICE_UNAVAILABLE, no).into_response() }
}

fn busy(why: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], format!("{why}\n")).into_response()
}
