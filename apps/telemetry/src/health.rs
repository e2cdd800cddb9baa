//! `/healthz` and `/readyz`: outside every layer, so that they appear in no trace, metric or log.

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;

/// The two routes; `ready` says whether the service can answer requests. Merge it after all layers.
pub fn routes<F>(ready: F) -> Router
where
    F: Fn() -> bool + Clone + Send + Sync + 'static,
{
    Router::new().route("/healthz", get(async || "ok\n")).route(
        "/readyz",
        get(async move || {
            if ready() {
                (StatusCode::OK, "ready\n")
            } else {
                (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
            }
        }),
    )
}
