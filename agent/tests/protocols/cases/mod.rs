//! The cases: one file per protocol, one row per case.

mod http1;
mod postgres;

use crate::harness::Case;

/// In the order in which they run.
pub const CASES: &[Case] = &[
    Case { name: "http/1: the harness itself", run: http1::both_ends, slow: false },
    Case { name: "postgresql: psql", run: postgres::with_psql, slow: false },
    Case { name: "postgresql: pgbench", run: postgres::with_pgbench, slow: false },
    Case { name: "postgresql: psycopg", run: postgres::with_psycopg, slow: false },
    Case { name: "postgresql: node-postgres", run: postgres::with_node, slow: false },
    Case { name: "postgresql: pgx", run: postgres::with_pgx, slow: false },
    Case { name: "postgresql: jdbc", run: postgres::with_jdbc, slow: false },
    Case { name: "postgresql: pgbouncer", run: postgres::with_pgbouncer, slow: false },
    Case { name: "postgresql: older than skep", run: postgres::older, slow: false },
];
