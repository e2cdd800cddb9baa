//! The database part of a request: what was asked of which database, and how it answered.
//!
//! In: fields from the parsers of database protocols. Out: fields that are clean, bounded and free of literals: a
//! query's text is sanitised on the way in, so that no copy of its values exists.

use crate::text::Text;

/// A database operation and its answer.
#[derive(Clone, Debug, Default)]
pub struct DbRequest {
    /// Which database it is (`db.system.name`).
    pub system: DbSystem,
    /// Database, schema or number of the database (`db.namespace`).
    pub namespace: Text<256>,
    /// Operation, such as `SELECT` or `GET` (`db.operation.name`).
    pub operation_name: Text<64>,
    /// Table, if the operation is about exactly one (`db.collection.name`).
    pub collection_name: Text<256>,
    /// Sanitised text (`db.query.text`).
    pub query_text: Text<4096>,
    /// Low-cardinality summary (`db.query.summary`).
    pub query_summary: Text<255>,
    /// SQLSTATE, error number or error word (`db.response.status_code`); empty if the operation succeeded.
    pub response_status_code: Text<32>,
    /// Rows that were returned (`db.response.returned_rows`).
    pub returned_rows: Option<u64>,
    /// Operations in a batch (`db.operation.batch.size`); only if there are several.
    pub batch_size: Option<u64>,
}

/// `db.system.name`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DbSystem {
    /// Something that speaks SQL.
    #[default]
    OtherSql,
    /// PostgreSQL.
    PostgreSql,
    /// MySQL.
    MySql,
    /// MariaDB.
    MariaDb,
    /// Redis, and what speaks its protocol.
    Redis,
}

impl DbSystem {
    /// The value of `db.system.name`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OtherSql => "other_sql",
            Self::PostgreSql => "postgresql",
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
            Self::Redis => "redis",
        }
    }
}

impl DbRequest {
    /// Forgets everything but the allocations.
    pub fn clear(&mut self) {
        // Destructured, so that a new field cannot be forgotten here.
        let Self {
            system,
            namespace,
            operation_name,
            collection_name,
            query_text,
            query_summary,
            response_status_code,
            returned_rows,
            batch_size,
        } = self;
        *system = DbSystem::default();
        namespace.clear();
        operation_name.clear();
        collection_name.clear();
        query_text.clear();
        query_summary.clear();
        response_status_code.clear();
        (*returned_rows, *batch_size) = (None, None);
    }
}
