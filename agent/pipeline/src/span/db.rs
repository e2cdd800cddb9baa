//! Name and attributes of database spans. Name: the query's summary, else `{operation} {collection or namespace}`, as
//! far as they are known, else the system.

use super::{Span, SpanName, Value, visit_size, visit_text};
use crate::db_request::DbRequest;
use crate::semconv;

pub(super) fn name(db: &DbRequest) -> SpanName<'_> {
    let target = db.collection_name.get().or(db.namespace.get());
    match (db.query_summary.get(), db.operation_name.get()) {
        (Some(summary), _) => SpanName { verb: summary, object: None },
        (None, Some(operation)) => SpanName { verb: operation, object: target },
        (None, None) => SpanName { verb: target.unwrap_or(db.system.as_str()), object: None },
    }
}

pub(super) fn attributes(span: &Span<'_>, db: &DbRequest, visit: &mut impl FnMut(&'static str, Value<'_>)) {
    visit(semconv::DB_SYSTEM_NAME, Value::Str(db.system.as_str()));
    visit_text(semconv::DB_NAMESPACE, db.namespace.get(), visit);
    visit_text(semconv::DB_OPERATION_NAME, db.operation_name.get(), visit);
    visit_text(semconv::DB_COLLECTION_NAME, db.collection_name.get(), visit);
    visit_text(semconv::DB_QUERY_SUMMARY, db.query_summary.get(), visit);
    visit_text(semconv::DB_QUERY_TEXT, db.query_text.get(), visit);
    visit_text(semconv::DB_RESPONSE_STATUS_CODE, db.response_status_code.get(), visit);
    span.error_attribute(visit);
    visit_size(semconv::DB_RESPONSE_RETURNED_ROWS, db.returned_rows, visit);
    visit_size(semconv::DB_OPERATION_BATCH_SIZE, db.batch_size, visit);
    span.server_socket_attributes(visit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_use_what_is_known() {
        let check = |summary: &str, operation: &str, collection: &str, namespace: &str, expected: &str| {
            let mut db = DbRequest::default();
            db.query_summary.set(summary.as_bytes());
            db.operation_name.set(operation.as_bytes());
            db.collection_name.set(collection.as_bytes());
            db.namespace.set(namespace.as_bytes());
            assert_eq!(name(&db).to_string(), expected);
        };
        check("SELECT users", "SELECT", "users", "shop", "SELECT users");
        check("", "INSERT", "users", "shop", "INSERT users");
        check("", "GET", "", "0", "GET 0");
        check("", "", "", "shop", "shop");
        check("", "", "", "", "other_sql");
    }
}
