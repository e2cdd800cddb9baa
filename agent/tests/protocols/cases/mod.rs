//! The cases: one file per protocol, one row per case.

mod dns;
mod grpc;
mod http1;
mod http2;
mod mysql;
mod postgres;
mod redis;

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
    Case { name: "redis: redis-cli, both ends", run: redis::redis_cli, slow: false },
    Case { name: "redis: redis-py, RESP2", run: redis::redis_py, slow: false },
    Case { name: "redis: redis-py, RESP3", run: redis::redis_py_resp3, slow: false },
    Case { name: "redis: node-redis", run: redis::node_redis, slow: false },
    Case { name: "redis: go-redis", run: redis::go_redis, slow: false },
    Case { name: "redis: redis-benchmark, pipelines of 16", run: redis::redis_benchmark, slow: false },
    Case { name: "redis: what is not asked for", run: redis::unasked, slow: false },
    Case { name: "redis: long values", run: redis::long_values, slow: false },
    Case { name: "redis: joined while open", run: redis::joined, slow: false },
    Case { name: "redis: pipelines as one span", run: redis::batches, slow: false },
    Case { name: "redis: Flask's requests are the parents", run: redis::flask, slow: false },
    Case { name: "dns: glibc, both families at once", run: dns::getaddrinfo, slow: false },
    Case { name: "dns: glibc, from UDP to TCP", run: dns::truncated, slow: false },
    Case { name: "dns: glibc, a server that is silent", run: dns::silent, slow: false },
    Case { name: "dns: Go", run: dns::go_resolver, slow: false },
    Case { name: "dns: c-ares", run: dns::c_ares, slow: false },
    Case { name: "dns: dig over TCP", run: dns::tcp, slow: false },
    Case { name: "dns: requests are the parents", run: dns::parents, slow: false },
    Case { name: "mysql: mariadb's own client", run: mysql::with_cli, slow: false },
    Case { name: "mysql: pymysql", run: mysql::with_pymysql, slow: false },
    Case { name: "mysql: mysql2", run: mysql::with_mysql2, slow: false },
    Case { name: "mysql: go-sql-driver", run: mysql::with_go, slow: false },
    Case { name: "http/2: h2load, nghttpd", run: http2::h2load, slow: false },
    Case { name: "http/2: go", run: http2::go_both_ends, slow: false },
    Case { name: "http/2: node server", run: http2::node_server, slow: false },
    Case { name: "http/2: node client", run: http2::node_client, slow: false },
    Case { name: "grpc: python", run: grpc::python_both_ends, slow: false },
];
