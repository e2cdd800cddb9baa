//! Test target: axum on a multi-threaded tokio runtime, asynchronous outbound calls, no instrumentation.
//!
//! Usage: rust-target PORT (or PORT in the environment; 0 picks a free one). Endpoints: see ../README.md.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use futures_util::stream;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

type Arguments = Query<HashMap<String, String>>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port = std::env::args().nth(1).or_else(|| std::env::var("PORT").ok()).unwrap_or_else(|| "0".into());
    let client: Client<HttpConnector, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let mut router = Router::new()
        .route("/", get(async || "hello\n"))
        .route("/hello/{name}", get(async |Path(name): Path<String>| format!("hello {name}\n")))
        .route("/users/{id}", get(async |Path(id): Path<String>| format!("{{\"id\":\"{id}\"}}\n")))
        .route("/status/{code}", any(async |Path(code): Path<u16>| status(code)))
        .route("/status/{code}/{tag}", any(async |Path((code, _)): Path<(u16, String)>| status(code)));
    // With a further segment too, so that a test can make each path unique.
    for suffix in ["", "/{tag}"] {
        let client = client.clone();
        router = router
            .route(&format!("/work{suffix}"), get(work))
            .route(&format!("/echo{suffix}"), any(async |body: Bytes| body))
            .route(&format!("/chunked{suffix}"), get(chunked))
            .route(&format!("/sse{suffix}"), get(sse))
            .route(&format!("/big{suffix}"), get(big))
            .route(&format!("/slow{suffix}"), get(slow))
            .route(
                &format!("/call{suffix}"),
                get(async move |arguments: Arguments| call(client, arguments).await),
            );
    }
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

fn number(arguments: &Arguments, key: &str, fallback: u64) -> u64 {
    arguments.get(key).and_then(|value| value.parse().ok()).unwrap_or(fallback)
}

fn status(code: u16) -> Response {
    let code = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    match code {
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => code.into_response(),
        _ => (code, format!("status {}\n", code.as_u16())).into_response(),
    }
}

async fn work(arguments: Arguments) -> &'static str {
    let end = Instant::now() + Duration::from_micros(number(&arguments, "us", 100));
    while Instant::now() < end {
        std::hint::spin_loop();
    }
    "worked\n"
}

async fn slow(arguments: Arguments) -> &'static str {
    tokio::time::sleep(Duration::from_millis(number(&arguments, "ms", 10))).await;
    "slept\n"
}

async fn chunked(arguments: Arguments) -> Body {
    pieces(number(&arguments, "n", 4), vec![b'x'; 1024].into(), Duration::ZERO)
}

async fn sse(arguments: Arguments) -> impl IntoResponse {
    let body = pieces(number(&arguments, "n", 5), "data: tick\n\n".into(), Duration::from_millis(2));
    ([(header::CONTENT_TYPE, "text/event-stream")], body)
}

async fn big(arguments: Arguments) -> impl IntoResponse {
    let mb = number(&arguments, "mb", 1);
    let body = pieces(mb * 16, vec![0; 65536].into(), Duration::ZERO);
    ([(header::CONTENT_LENGTH, (mb << 20).to_string())], body)
}

/// A body of `n` equal pieces, each its own frame.
fn pieces(n: u64, piece: Bytes, pause: Duration) -> Body {
    Body::from_stream(stream::unfold(0, move |sent| {
        let piece = piece.clone();
        async move {
            if sent == n {
                return None;
            }
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            Some((Ok::<_, Infallible>(piece), sent + 1))
        }
    }))
}

async fn call(client: Client<HttpConnector, Empty<Bytes>>, arguments: Arguments) -> Response {
    let Some(Ok(url)) = arguments.get("url").map(|url| url.parse()) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match client.get(url).await {
        Ok(answer) => {
            let code = answer.status().as_u16();
            let _ = answer.into_body().collect().await;
            format!("called {code}\n").into_response()
        }
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{error}\n")).into_response(),
    }
}
