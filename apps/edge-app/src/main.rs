//! edge-app: what clients talk to. It passes requests on to users-app and golang-app.
//!
//! Not one line of telemetry in the handlers: a server layer and an instrumented client do it all. What goes wrong
//! behind it is told as JSON, 502 or 504.
//!
//! Variables: `LISTEN` (0.0.0.0:8001), `USERS_URL` (http://localhost:8000), `ALBUMS_URL` (http://localhost:8002),
//! `UPSTREAM_TIMEOUT_SECONDS` (30), and OpenTelemetry's own.

use std::env;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use demo_telemetry::client::{Client, Failure};
use demo_telemetry::{Telemetry, asked_to_stop, health, server};
use serde_json::{Value, json};

const NAME: &str = "edge-app";

struct App {
    client: Client,
    users_url: String,
    albums_url: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let telemetry = Telemetry::start(NAME, env!("CARGO_PKG_VERSION"))?;
    let timeout = variable("UPSTREAM_TIMEOUT_SECONDS", "30");
    let timeout = timeout.parse().with_context(|| format!("UPSTREAM_TIMEOUT_SECONDS={timeout}"))?;
    let app = Arc::new(App {
        client: Client::new(Duration::from_secs(timeout)),
        users_url: variable("USERS_URL", "http://localhost:8000"),
        albums_url: variable("ALBUMS_URL", "http://localhost:8002"),
    });
    let router = Router::new()
        .route("/", get(index))
        .route("/users", get(users))
        .route("/albums", get(albums))
        .route("/albums/{id}/owner", get(album_owner))
        .route("/user/{name}", get(user))
        .fallback(not_found)
        .layer(middleware::from_fn(server::observe))
        .with_state(app)
        .merge(health::routes(|| true));

    let address = variable("LISTEN", "0.0.0.0:8001");
    let listener =
        tokio::net::TcpListener::bind(&address).await.with_context(|| format!("listen on {address}"))?;
    tracing::info!("{NAME} listens on {address}");
    axum::serve(listener, router).with_graceful_shutdown(asked_to_stop()).await?;
    tokio::task::spawn_blocking(|| telemetry.shutdown()).await?;
    Ok(())
}

async fn index() -> &'static str {
    "edge-app\n"
}

async fn users(State(app): State<Arc<App>>) -> Response {
    app.pass_on(&app.users_url, "/users").await
}

async fn albums(State(app): State<Arc<App>>) -> Response {
    app.pass_on(&app.albums_url, "/albums").await
}

async fn album_owner(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    app.pass_on(&app.albums_url, &format!("/albums/{}/owner", encoded(&id))).await
}

/// The one user of this name.
async fn user(State(app): State<Arc<App>>, Path(name): Path<String>) -> Response {
    match app.ask(&app.users_url, &format!("/users?name={}", encoded(&name))).await {
        Ok((StatusCode::OK, Value::Array(mut users))) if !users.is_empty() => {
            Json(users.swap_remove(0)).into_response()
        }
        Ok((StatusCode::OK, Value::Array(_))) => failure(StatusCode::NOT_FOUND, "no user has this name"),
        Ok((StatusCode::OK, _)) => {
            failure(StatusCode::BAD_GATEWAY, "users-app answered something else than a list")
        }
        Ok((status, answer)) => (status, Json(answer)).into_response(),
        Err(response) => response,
    }
}

async fn not_found(uri: Uri) -> Response {
    failure(StatusCode::NOT_FOUND, &format!("nothing is at {}", uri.path()))
}

impl App {
    /// Hands an answer through, status included.
    async fn pass_on(&self, base: &str, path: &str) -> Response {
        match self.ask(base, path).await {
            Ok((status, answer)) => (status, Json(answer)).into_response(),
            Err(response) => response,
        }
    }

    /// Asks a service behind; whatever is no JSON answer becomes a response that says so.
    async fn ask(&self, base: &str, path: &str) -> Result<(StatusCode, Value), Response> {
        let uri = format!("{base}{path}");
        let uri: Uri = uri.parse().map_err(|_| failure(StatusCode::BAD_REQUEST, "this makes no address"))?;
        let host = uri.host().unwrap_or_default().to_owned();
        let (status, body) = self.client.get(uri).await.map_err(|reason| match reason {
            Failure::Timeout => {
                failure(StatusCode::GATEWAY_TIMEOUT, &format!("{host} did not answer in time"))
            }
            Failure::Unreachable => failure(StatusCode::BAD_GATEWAY, &format!("{host} cannot be reached")),
        })?;
        let answer = serde_json::from_slice(&body).map_err(|_| {
            failure(StatusCode::BAD_GATEWAY, &format!("{host} answered {status} without JSON"))
        })?;
        Ok((status, answer))
    }
}

fn failure(status: StatusCode, detail: &str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], Json(json!({ "detail": detail }))).into_response()
}

/// Percent-encoding of everything but RFC 3986's unreserved characters.
fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
        encoded
    })
}

fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn names_cannot_leave_their_place_in_an_address() {
        assert_eq!(encoded("a b/../?x=1&y#é"), "a%20b%2F..%2F%3Fx%3D1%26y%23%C3%A9");
    }
}
