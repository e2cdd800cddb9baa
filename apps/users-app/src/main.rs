//! users-app: the users, out of PostgreSQL, with telemetry written by hand: spans, metrics with exemplars on
//! `/metrics`, logs with trace ids, and CPU profiles whose samples name the span that burnt.
//!
//! A share of the requests is slow or fails on purpose (`faults.rs`). It starts before its database and waits for it.
//!
//! Variables: `LISTEN` (0.0.0.0:8000), `DATABASE_URL`, `PYROSCOPE_URL` (empty: no profiles), `FAULT_*`, and
//! OpenTelemetry's own.

mod db;
mod faults;
mod handlers;
mod metrics;
mod observe;
mod profile;

use std::env;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use axum::routing::get;
use axum::{Router, middleware};
use demo_telemetry::{Telemetry, asked_to_stop, health};

use crate::db::Users;
use crate::faults::Faults;
use crate::metrics::Metrics;
use crate::profile::Profiler;

const NAME: &str = "users-app";
/// Threads that may burn or wait at a time; more requests queue.
const BLOCKING_THREADS: usize = 40;

/// What the handlers share.
pub(crate) struct App {
    pub(crate) users: Users,
    pub(crate) faults: Faults,
    pub(crate) metrics: Metrics,
    pub(crate) profiler: Profiler,
}

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .context("start the runtime")?;
    // The profiler's signals reach every thread that starts after it.
    let profiler = Profiler::start(NAME)?;
    runtime.block_on(serve(profiler))
}

async fn serve(profiler: Profiler) -> Result<()> {
    let telemetry = Telemetry::start(NAME, env!("CARGO_PKG_VERSION"))?;
    let url = variable("DATABASE_URL", "postgresql://user:password@localhost:5432/db");
    let app = Arc::new(App {
        users: Users::connect(&url)?,
        faults: Faults::from_env()?,
        metrics: Metrics::new(),
        profiler,
    });
    let migrations = tokio::spawn(app.users.clone().migrate());

    let ready = app.users.clone();
    let router = Router::new()
        .route("/", get(handlers::index))
        .route("/users", get(handlers::users))
        .route("/users/{id}", get(handlers::user))
        .route("/do_long_work", get(handlers::do_long_work))
        .fallback(handlers::not_found)
        .method_not_allowed_fallback(handlers::method_not_allowed)
        .layer(middleware::from_fn_with_state(Arc::clone(&app), observe::request))
        .route("/docs", get(handlers::docs))
        .route("/openapi.json", get(handlers::openapi))
        .route("/metrics", get(handlers::metrics))
        .with_state(Arc::clone(&app))
        .merge(health::routes(move || ready.is_ready()));

    let address = variable("LISTEN", "0.0.0.0:8000");
    let listener =
        tokio::net::TcpListener::bind(&address).await.with_context(|| format!("listen on {address}"))?;
    tracing::info!("{NAME} listens on {address}");
    axum::serve(listener, router).with_graceful_shutdown(asked_to_stop()).await?;
    migrations.abort();
    app.users.close().await;
    tokio::task::spawn_blocking(move || {
        app.profiler.stop();
        telemetry.shutdown();
    })
    .await?;
    Ok(())
}

pub(crate) fn variable(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}
