//! albums-twin: what golang-app is, in Rust, and as silent. It can take golang-app's place in the demo: what Skep shows
//! of it must be the same.
//!
//! Variables: `LISTEN` (0.0.0.0:8002), `USERS_URL` (http://localhost:8000).

use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http_body_util::Empty;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

const TIMEOUT: Duration = Duration::from_secs(30);
/// Id, title, artist, price, number of the owner.
const ALBUMS: [(&str, &str, &str, f64, u32); 3] = [
    ("1", "Blue Train", "John Coltrane", 56.99, 1),
    ("2", "Jeru", "Gerry Mulligan", 17.99, 2),
    ("3", "Sarah Vaughan and Clifford Brown", "Sarah Vaughan", 39.99, 3),
];

struct App {
    users_url: String,
    client: Client<HttpConnector, Empty<Bytes>>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let app = Arc::new(App {
        users_url: variable("USERS_URL", "http://localhost:8000"),
        client: Client::builder(TokioExecutor::new()).build_http(),
    });
    let router = Router::new()
        .route("/albums", get(list))
        .route("/albums/{id}/owner", get(owner))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async || "ready\n"))
        .with_state(app);
    let address = variable("LISTEN", "0.0.0.0:8002");
    let listener =
        tokio::net::TcpListener::bind(&address).await.with_context(|| format!("listen on {address}"))?;
    axum::serve(listener, router).with_graceful_shutdown(asked_to_stop()).await?;
    Ok(())
}

async fn list(headers: HeaderMap) -> Response {
    log("/albums", &headers);
    let albums = ALBUMS.map(
        |(id, title, artist, price, _)| json!({ "id": id, "title": title, "artist": artist, "price": price }),
    );
    Json(albums).into_response()
}

/// Asks users-app who owns an album.
async fn owner(State(app): State<Arc<App>>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    log(&format!("/albums/{id}/owner"), &headers);
    let Some(&(.., owner)) = ALBUMS.iter().find(|album| album.0 == id) else {
        return failure(StatusCode::NOT_FOUND, "there is no such album");
    };
    let Ok(uri) = format!("{}/users/{owner}", app.users_url).parse::<Uri>() else {
        return failure(StatusCode::INTERNAL_SERVER_ERROR, "USERS_URL makes no address");
    };
    match tokio::time::timeout(TIMEOUT, app.client.get(uri)).await {
        Ok(Ok(response)) => response.map(Body::new).into_response(),
        Ok(Err(_)) => failure(StatusCode::BAD_GATEWAY, "users-app did not answer"),
        Err(_) => failure(StatusCode::GATEWAY_TIMEOUT, "users-app did not answer"),
    }
}

/// One line a request. The header is what came over the wire: nothing here understands it.
fn log(path: &str, headers: &HeaderMap) {
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let line: Value = json!({ "msg": "request", "method": "GET", "path": path, "traceparent": traceparent });
    eprintln!("{line}");
}

fn failure(status: StatusCode, detail: &str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(json!({ "detail": detail }))).into_response()
}

async fn asked_to_stop() {
    let Ok(mut terminate) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}
