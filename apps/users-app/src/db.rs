//! The users in PostgreSQL. Each query has a CLIENT span, written by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use opentelemetry::trace::{FutureExt as _, SpanKind, Status, TraceContextExt as _, Tracer as _};
use opentelemetry::{Context, KeyValue, global};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};

/// Between two attempts to reach the database.
const RETRY: Duration = Duration::from_secs(1);
const MAX_CONNECTIONS: u32 = 10;
/// How long a request waits for a connection.
const PATIENCE: Duration = Duration::from_secs(3);

/// One row.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub(crate) struct User {
    id: i32,
    name: String,
    age: Option<i32>,
}

/// All rows.
#[derive(Clone)]
pub(crate) struct Users {
    pool: PgPool,
    ready: Arc<AtomicBool>,
    /// What every span says.
    attributes: Arc<[KeyValue]>,
}

impl Users {
    /// Connects when it is first needed.
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let options: PgConnectOptions = url.parse().context("DATABASE_URL")?;
        let options = options.application_name("users-app");
        let attributes = [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", options.get_database().unwrap_or("postgres").to_owned()),
            KeyValue::new("server.address", options.get_host().to_owned()),
            KeyValue::new("server.port", i64::from(options.get_port())),
        ];
        let pool = PgPoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options);
        Ok(Self { pool, ready: Arc::default(), attributes: attributes.into() })
    }

    /// Brings the tables up to date, as soon as there is a database.
    pub(crate) async fn migrate(self) {
        loop {
            match sqlx::migrate!().run(&self.pool).await {
                Ok(()) => break,
                Err(error) => tracing::warn!("the database is not ready, trying again: {error}"),
            }
            tokio::time::sleep(RETRY).await;
        }
        self.ready.store(true, Ordering::Release);
        tracing::info!("the database is ready");
    }

    /// Whether the tables are there.
    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// All users, or those of one name.
    pub(crate) async fn list(&self, name: Option<&str>) -> Result<Vec<User>, sqlx::Error> {
        match name {
            None => {
                const QUERY: &str = "SELECT id, name, age FROM users ORDER BY id";
                self.observed(QUERY, sqlx::query_as(QUERY).fetch_all(&self.pool)).await
            }
            Some(name) => {
                const QUERY: &str = "SELECT id, name, age FROM users WHERE name = $1 ORDER BY id";
                self.observed(QUERY, sqlx::query_as(QUERY).bind(name).fetch_all(&self.pool)).await
            }
        }
    }

    /// One user.
    pub(crate) async fn get(&self, id: i32) -> Result<Option<User>, sqlx::Error> {
        const QUERY: &str = "SELECT id, name, age FROM users WHERE id = $1";
        self.observed(QUERY, sqlx::query_as(QUERY).bind(id).fetch_optional(&self.pool)).await
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }

    /// Runs a query in a span of its own.
    async fn observed<T>(
        &self,
        query: &'static str,
        run: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        let tracer = global::tracer("users-app");
        let builder = tracer.span_builder("SELECT users").with_kind(SpanKind::Client).with_attributes(
            self.attributes.iter().cloned().chain([
                KeyValue::new("db.operation.name", "SELECT"),
                KeyValue::new("db.collection.name", "users"),
                KeyValue::new("db.query.summary", "SELECT users"),
                KeyValue::new("db.query.text", query),
            ]),
        );
        let context = Context::current_with_span(tracer.build_with_context(builder, &Context::current()));
        let outcome = run.with_context(context.clone()).await;
        if let Err(error) = &outcome {
            let span = context.span();
            let code = error.as_database_error().and_then(|error| error.code()).map(|code| code.into_owned());
            if let Some(code) = &code {
                span.set_attribute(KeyValue::new("db.response.status_code", code.clone()));
            }
            span.set_attribute(KeyValue::new("error.type", code.unwrap_or_else(|| "_OTHER".to_owned())));
            span.set_status(Status::error(error.to_string()));
            let _current = context.clone().attach();
            tracing::error!("the query failed: {error}");
        }
        context.span().end();
        outcome
    }
}
