//! `/api/v1/…` (docs/api.md): one function per question. Read-only.
//!
//! In: a query string. Out: JSON. Answers that many readers ask for at once are made once.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use super::hub::Hub;
use crate::store::query::{Filter, MAX_ROWS, Subject, parse_trace_id};

/// Readers of the live stream at the same time.
const MAX_LIVE: usize = 16;
/// How often they hear something, if they listen.
const LIVE_EVERY: Duration = Duration::from_secs(2);
/// After that they have to ask again: nobody holds a place for ever.
const LIVE_FOR: Duration = Duration::from_secs(600);
const MAX_TEXT: usize = 512;
const DEFAULT_WINDOW_S: u64 = 300;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The question that everything can be asked with.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Ask {
    window: Option<u64>,
    to: Option<u64>,
    from: Option<u64>,
    service: Option<String>,
    kind: Option<String>,
    name: Option<String>,
    status: Option<String>,
    min_ns: Option<u64>,
    max_ns: Option<u64>,
    q: Option<String>,
    sort: Option<String>,
    limit: Option<usize>,
}

impl Ask {
    fn window(&self) -> u64 {
        self.window.unwrap_or(DEFAULT_WINDOW_S)
    }

    fn subject(&self) -> Subject {
        let text = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Subject { service: text(&self.service), kind: text(&self.kind), name: text(&self.name) }
    }

    fn checked(self) -> Result<Self, Refusal> {
        let texts = [&self.service, &self.kind, &self.name, &self.q];
        if texts.into_iter().flatten().any(|text| text.len() > MAX_TEXT) {
            return Err(refusal(StatusCode::BAD_REQUEST, format!("a text is longer than {MAX_TEXT} bytes")));
        }
        let known = |value: &Option<String>, words: &[&str]| {
            value.as_deref().is_none_or(|value| value.is_empty() || words.contains(&value))
        };
        if !known(&self.sort, &["newest", "slowest"]) {
            return Err(refusal(StatusCode::BAD_REQUEST, "sort is newest or slowest"));
        }
        if !known(&self.status, &["any", "error"]) {
            return Err(refusal(StatusCode::BAD_REQUEST, "status is any or error"));
        }
        if !known(&self.kind, &["server", "client", "producer", "consumer", "internal"]) {
            return Err(refusal(StatusCode::BAD_REQUEST, "kind is a span kind in lower case"));
        }
        Ok(self)
    }
}

type Asked = Result<Query<Ask>, QueryRejection>;

fn asked(asked: Asked) -> Result<Ask, Refusal> {
    match asked {
        Ok(Query(ask)) => ask.checked(),
        Err(rejection) => Err(refusal(StatusCode::BAD_REQUEST, rejection.body_text())),
    }
}

/// The API's routes.
pub(super) fn routes(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/overview", get(overview))
        .route("/api/v1/operations", get(operations))
        .route("/api/v1/series", get(series))
        .route("/api/v1/heatmap", get(heatmap))
        .route("/api/v1/traces", get(traces))
        .route("/api/v1/traces/{id}", get(trace))
        .route("/api/v1/live", get(live))
        .with_state(hub)
}

async fn status(State(hub): State<Arc<Hub>>) -> Response {
    shared(&hub, "status", |hub| json(&hub.status()))
}

async fn overview(State(hub): State<Arc<Hub>>, ask: Asked) -> Result<Response, Refusal> {
    let window = asked(ask)?.window();
    Ok(shared(&hub, &format!("overview {window}"), |hub| json(&hub.read(|store| store.overview(window)))))
}

async fn operations(State(hub): State<Arc<Hub>>, ask: Asked) -> Result<Response, Refusal> {
    let ask = asked(ask)?;
    let (window, subject) = (ask.window(), ask.subject());
    let key = format!("operations {window} {subject:?}");
    Ok(shared(&hub, &key, |hub| json(&hub.read(|store| store.operations(window, &subject)))))
}

async fn series(State(hub): State<Arc<Hub>>, ask: Asked) -> Result<Response, Refusal> {
    let ask = asked(ask)?;
    let (window, to, subject) = (ask.window(), ask.to, ask.subject());
    let key = format!("series {window} {to:?} {subject:?}");
    Ok(shared(&hub, &key, |hub| json(&hub.read(|store| store.series(window, to, &subject)))))
}

async fn heatmap(State(hub): State<Arc<Hub>>, ask: Asked) -> Result<Response, Refusal> {
    let ask = asked(ask)?;
    let (window, to, subject) = (ask.window(), ask.to, ask.subject());
    let key = format!("heatmap {window} {to:?} {subject:?}");
    Ok(shared(&hub, &key, |hub| json(&hub.read(|store| store.heatmap(window, to, &subject)))))
}

async fn traces(State(hub): State<Arc<Hub>>, ask: Asked) -> Result<Response, Refusal> {
    let ask = asked(ask)?;
    let filter = Filter {
        subject: ask.subject(),
        failed: ask.status.as_deref() == Some("error"),
        from_unix_us: ask.from,
        to_unix_us: ask.to,
        min_ns: ask.min_ns,
        max_ns: ask.max_ns,
        slowest: ask.sort.as_deref() == Some("slowest"),
        limit: ask.limit.unwrap_or(100).min(MAX_ROWS),
        text: ask.q.unwrap_or_default(),
    };
    let key = format!("traces {filter:?}");
    Ok(shared(&hub, &key, |hub| json(&hub.read(|store| store.find(&filter)))))
}

async fn trace(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Response {
    let Some(id) = parse_trace_id(&id) else {
        return error(StatusCode::BAD_REQUEST, "a trace id has 32 hexadecimal digits");
    };
    match hub.read(|store| store.trace(&id)) {
        Some(trace) => answer(json(&trace)),
        None => error(StatusCode::NOT_FOUND, "this trace is not kept, or not any more"),
    }
}

/// The overview every two seconds. Made only when the reader has taken the last one: a slow reader hears less.
async fn live(State(hub): State<Arc<Hub>>, ask: Asked) -> Result<Response, Refusal> {
    let window = asked(ask)?.window();
    let Some(place) = Place::take() else {
        return Err(refusal(StatusCode::SERVICE_UNAVAILABLE, "too many readers of the live stream"));
    };
    let mut every = tokio::time::interval(LIVE_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stream = Live { hub, window, every, until: Instant::now() + LIVE_FOR, _place: place };
    Ok(([(header::CONTENT_TYPE, "text/event-stream")], Body::new(stream)).into_response())
}

/// A place among the readers of the live stream.
struct Place;

impl Place {
    fn take() -> Option<Self> {
        let more = |taken: usize| (taken < MAX_LIVE).then_some(taken + 1);
        LIVE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        LIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Live {
    hub: Arc<Hub>,
    window: u64,
    every: Interval,
    until: Instant,
    _place: Place,
}

impl hyper::body::Body for Live {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        if Instant::now() > self.until {
            return Poll::Ready(None);
        }
        match self.every.poll_tick(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(_) => {
                let window = self.window;
                let overview = self.hub.shared(&format!("overview {window}"), || {
                    json(&self.hub.read(|store| store.overview(window)))
                });
                let mut event = Vec::with_capacity(overview.len() + 32);
                event.extend_from_slice(b"event: overview\ndata: ");
                // JSON has no raw line breaks, so it is one line.
                event.extend_from_slice(&overview);
                event.extend_from_slice(b"\n\n");
                Poll::Ready(Some(Ok(hyper::body::Frame::data(event.into()))))
            }
        }
    }
}

fn shared(hub: &Arc<Hub>, key: &str, make: impl FnOnce(&Hub) -> Bytes) -> Response {
    answer(hub.shared(key, || make(hub)))
}

fn json(value: &impl Serialize) -> Bytes {
    // Only maps with keys that are no texts could fail, and there are none.
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn answer(bytes: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
}

/// Why a question has no answer.
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        error(self.0, &self.1)
    }
}

fn refusal(status: StatusCode, message: impl Into<String>) -> Refusal {
    Refusal(status, message.into())
}

fn error(status: StatusCode, message: &str) -> Response {
    let body = serde_json::json!({ "error": message }).to_string();
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
