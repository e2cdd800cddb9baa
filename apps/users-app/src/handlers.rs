//! What is answered. Spans get what only the handler knows: which fault was drawn, which user was asked for.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri, header};
use axum::response::{Html, IntoResponse, Response};
use opentelemetry::trace::{FutureExt as _, SpanKind, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use serde::Deserialize;
use serde_json::json;

use crate::App;
use crate::faults::{Fault, MAX_BURN};
use crate::metrics;

const OPENAPI: &str = include_str!("../openapi.json");
const DOCS: &str = include_str!("../docs.html");

#[derive(Deserialize)]
pub(crate) struct Filter {
    name: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Work {
    #[serde(default)]
    sec: u64,
}

pub(crate) async fn index() -> Response {
    tracing::info!("hello");
    Json(json!({ "message": "users-app" })).into_response()
}

/// All users, or those of one name; now and then slowly, or not at all.
pub(crate) async fn users(
    State(app): State<Arc<App>>,
    filter: Result<Query<Filter>, QueryRejection>,
) -> Response {
    let Query(filter) = match filter {
        Ok(filter) => filter,
        Err(error) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &error.body_text()),
    };
    match app.faults.draw() {
        Fault::None => {}
        Fault::Slow(duration) => {
            tracing::warn!("this request is slow on purpose: {} s", duration.as_secs_f64());
            note("demo.fault", "slow");
            burn(&app, duration).await;
        }
        Fault::Error => {
            tracing::error!("this request fails on purpose");
            note("demo.fault", "error");
            return failure(StatusCode::INTERNAL_SERVER_ERROR, "this request was chosen to fail");
        }
    }
    match app.users.list(filter.name.as_deref()).await {
        Ok(users) => Json(users).into_response(),
        Err(error) => unavailable(&error),
    }
}

/// One user.
pub(crate) async fn user(State(app): State<Arc<App>>, id: Result<Path<i32>, PathRejection>) -> Response {
    let Path(id) = match id {
        Ok(id) => id,
        Err(_) => return failure(StatusCode::UNPROCESSABLE_ENTITY, "a user's id is a whole number"),
    };
    match app.users.get(id).await {
        Ok(Some(user)) => Json(user).into_response(),
        Ok(None) => failure(StatusCode::NOT_FOUND, &format!("there is no user {id}")),
        Err(error) => unavailable(&error),
    }
}

/// Burns for `sec` seconds.
pub(crate) async fn do_long_work(
    State(app): State<Arc<App>>,
    work: Result<Query<Work>, QueryRejection>,
) -> Response {
    let sec = match work {
        Ok(Query(Work { sec })) => sec.min(MAX_BURN.as_secs()),
        Err(error) => return failure(StatusCode::UNPROCESSABLE_ENTITY, &error.body_text()),
    };
    burn(&app, Duration::from_secs(sec)).await;
    Json(json!({ "worked_seconds": sec })).into_response()
}

pub(crate) async fn not_found(uri: Uri) -> Response {
    failure(StatusCode::NOT_FOUND, &format!("nothing is at {}", uri.path()))
}

pub(crate) async fn method_not_allowed() -> Response {
    failure(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here")
}

pub(crate) async fn docs() -> Html<&'static str> {
    Html(DOCS)
}

pub(crate) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    match app.metrics.render() {
        Ok(page) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], page).into_response(),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Burns on a thread that may block, in a span of its own, with samples that name the request's span.
async fn burn(app: &App, duration: Duration) {
    let context = Context::current();
    let request_span = context.span().span_context().span_id().to_string();
    let tracer = global::tracer("users-app");
    let builder = tracer
        .span_builder("do_long_work")
        .with_kind(SpanKind::Internal)
        .with_attributes([KeyValue::new("demo.work.seconds", duration.as_secs_f64())]);
    let work = Context::current_with_span(tracer.build_with_context(builder, &context));
    let burner = app.profiler.burner();
    let burning = tokio::task::spawn_blocking(move || burner.burn(&request_span, duration));
    if let Err(error) = burning.with_context(work.clone()).await {
        tracing::error!("the work was broken off: {error}");
    }
    work.span().end();
}

fn note(name: &'static str, value: &'static str) {
    Context::current().span().set_attribute(KeyValue::new(name, value));
}

fn unavailable(error: &sqlx::Error) -> Response {
    note("demo.fault", "database");
    let detail = match error {
        sqlx::Error::Database(_) => "the database refused the query",
        _ => "the database cannot be reached",
    };
    failure(StatusCode::SERVICE_UNAVAILABLE, detail)
}

fn failure(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}
