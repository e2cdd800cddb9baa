//! The table of protocols: what is read, and what others read.
//!
//! A new protocol adds a row, with the tests that prove it.

/// A protocol that is read.
#[derive(Debug)]
pub struct Protocol {
    /// Its name and versions.
    pub name: &'static str,
    /// Which ends of it: `client`, `server`.
    pub ends: &'static str,
    /// What it is carried over.
    pub over: &'static str,
    /// What one span stands for.
    pub span: &'static str,
    /// To which depth.
    pub reads: &'static str,
    /// What is not understood, and bounds.
    pub limits: &'static str,
    /// What Beyla has.
    pub peer: &'static str,
    /// Tests, by path from the root.
    pub proofs: &'static [&'static str],
}

/// A protocol that is not read.
#[derive(Debug)]
pub struct Other {
    /// Its name.
    pub name: &'static str,
    /// What Beyla has.
    pub peer: &'static str,
    /// What Skep does about it.
    pub ours: &'static str,
    /// Recognised, so that it is worth a line on a terminal.
    pub told: bool,
}

const fn other(name: &'static str, peer: &'static str, ours: &'static str) -> Other {
    Other { name, peer, ours, told: false }
}

/// What is read.
pub const PROTOCOLS: &[Protocol] = &[
    Protocol {
        name: "HTTP/1.0 and 1.1",
        ends: "client, server",
        over: "TCP, unix sockets",
        span: "a request and its answer; each of pipelined requests has its own",
        reads: "every method, status, route, URL with redacted query, exact body sizes (chunked ones too), interim \
                answers, trace headers (W3C, B3, Jaeger), Forwarded headers, user agent",
        limits: "header blocks of 80 KiB; 1,024 requests that wait for an answer on a connection; what follows an \
                 Upgrade (WebSocket) is left alone",
        peer: "client and server; GET POST PUT PATCH DELETE HEAD OPTIONS only; one request in flight per connection",
        proofs: &["agent/pipeline/tests/transcripts/http1", "agent/tests/ground_truth/cases/framing.rs"],
    },
    Protocol {
        name: "HTTP/2",
        ends: "client, server",
        over: "TCP, unix sockets; prior knowledge or upgrade from HTTP/1.1",
        span: "a stream's request and its answer, hundreds at a time on a connection",
        reads: "all that HTTP/1 spans have; CONTINUATION, padding, trailers, RST_STREAM, GOAWAY, CONNECT; HPACK tables of \
                any size, recovered on connections that are older than Skep as their entries reappear",
        limits: "header blocks of 80 KiB; 4,096 open streams on a connection; pushed answers make no span; what flows \
                 through a CONNECT tunnel is left alone; a header that refers to what was missed is left out, and the \
                 span says so",
        peer: "client and server; the same methods as HTTP/1",
        proofs: &["agent/pipeline/tests/transcripts/http2", "agent/pipeline/tests/pipeline/h2.rs"],
    },
    Protocol {
        name: "gRPC",
        ends: "client, server",
        over: "HTTP/2",
        span: "a call: unary, client, server or bidirectional streaming",
        reads: "service and method, status from trailers or headers, deadline exceeded, cancelled; messages and bytes of \
                each direction, compression",
        limits: "as HTTP/2; messages themselves are not kept; gRPC-Web over HTTP/1.1 is an HTTP span, over HTTP/2 a \
                 call without its status",
        peer: "client and server: full method or `*`, status; connections older than the agent are `*`",
        proofs: &["agent/pipeline/tests/transcripts/grpc", "agent/pipeline/tests/pipeline/h2.rs"],
    },
    Protocol {
        name: "PostgreSQL",
        ends: "client, server",
        over: "TCP, unix sockets; PgBouncer, CockroachDB and others that speak protocol 3",
        span: "a Query message, or an Execute with its Parse and Bind",
        reads: "text without its literals, operation, table, summary, database, SQLSTATE, rows; prepared statements by \
                name, portals, pipelining, COPY",
        limits: "4,096 messages that wait for an answer on a connection; sessions that are encrypted or replicate are \
                 left alone; names and database are not known on connections older than Skep",
        peer: "client (and server): text opt-in, 256 to 500 bytes of it; no COPY; no text of statements prepared before",
        proofs: &["agent/pipeline/tests/transcripts/postgres", "agent/tests/protocols/cases/postgres.rs"],
    },
    Protocol {
        name: "MySQL, MariaDB",
        ends: "client, server",
        over: "TCP, unix sockets",
        span: "a COM_QUERY, an execution of a prepared statement, or a fetch of its cursor",
        reads: "text without its literals, operation, table, summary, database, error number, rows; text and binary \
                protocol, several statements and results, LOCAL INFILE",
        limits: "binlog, encryption and compression are left alone; rows are counted within 64 KiB of an answer; \
                 statements and database are not known on connections older than Skep",
        peer: "client (and server): text opt-in, 256 to 500 bytes of it",
        proofs: &["agent/pipeline/tests/transcripts/mysql", "agent/pipeline/src/protocol/mysql"],
    },
    Protocol {
        name: "PostgreSQL",
        ends: "client, server",
        over: "TCP, unix sockets",
        span: "a Query message (its statements together) or an Execute message, from the first message that \
                prepares it; a statement that cannot be prepared",
        reads: "simple and extended protocol, statements and portals by name, pipelines, COPY both ways, SQLSTATE, \
                rows returned, the database; text without literals, operation, table, summary; PgBouncer's two \
                connections each on its own",
        limits: "texts of 16 KiB, of which 4 KiB are shown; 2,048 prepared statements and 4,096 messages that wait \
                on a connection; no text of statements prepared, and no database of connections opened, before \
                Skep; of a result longer than 2 KiB the end of its last call tells the rows, and an error there \
                has no code; function calls and empty texts make no span; replication and encryption are left \
                alone",
        peer: "client, server in part: first 256 to 500 bytes, statements prepared before attach have no text, \
                pipelines paired wrongly, no COPY",
        proofs: &["agent/pipeline/tests/transcripts/postgres", "agent/tests/protocols/cases/postgres.rs"],
    },
    Protocol {
        name: "MySQL, MariaDB",
        ends: "client, server",
        over: "TCP, unix sockets",
        span: "a COM_QUERY (its statements together), an execution or a fetch of a prepared statement; a \
                statement that cannot be prepared",
        reads: "text and binary protocol, statements by number, multi-statements and multi-results, LOCAL INFILE, \
                error numbers, rows returned, the database; MySQL told from MariaDB by the greeting; text without \
                literals, operation, table, summary",
        limits: "texts of 16 KiB, of which 4 KiB are shown; 2,048 prepared statements on a connection; rows are \
                counted in the first 64 KiB of an answer, beyond that the count is left out; texts with query \
                attributes are left out; connections older than Skep are joined at a COM_QUERY and have no \
                database; ping, choice of a database and the like make no span; encryption, compression (counted) \
                and the binlog are left alone",
        peer: "client: first 256 B to 16 KiB of the text",
        proofs: &["agent/pipeline/tests/transcripts/mysql", "agent/tests/protocols/cases/mysql.rs"],
    },
    Protocol {
        name: "Redis, Valkey",
        ends: "client, server",
        over: "TCP, unix sockets",
        span: "a command and its answer; by `--redis-batches` a pipeline or transaction",
        reads: "RESP2 and RESP3 with all types, attributes and streamed ones; inline commands; MULTI, channels, pushes and \
                blocking commands; the database from SELECT; error codes, MOVED and ASK among them; the operation's \
                one or two words, and `?` for every other word",
        limits: "4,096 commands that wait for an answer on a connection; after MONITOR, PSYNC and CLIENT REPLY OFF a \
                 connection is left alone; no database number on connections older than Skep until SELECT; the end of \
                 an array longer than 8 KiB is told by the next command",
        peer: "client and server: command or `REDIS`, text opt-in, database number by a switch; unknown on old \
               connections",
        proofs: &["agent/pipeline/tests/transcripts/redis", "agent/tests/protocols/cases/redis.rs"],
    },
    Protocol {
        name: "DNS",
        ends: "client, server",
        over: "UDP, TCP",
        span: "a query, whatever attempts it takes (other servers, TCP after a truncated answer) while its id stays the \
               same",
        reads: "question, addresses and names of the answer, response code (EDNS's 16 bits too), time-outs; any resolver \
                (tested: glibc, Go, c-ares, dig), and name servers (dnsmasq)",
        limits: "opcode QUERY with one question; the first 16 answers; of a zone transfer the first message; multicast \
                 DNS, LLMNR and NetBIOS are left alone; no DNS over TLS, HTTPS or QUIC; a resolver that takes a new id \
                 for each attempt makes a span of each; a refused port reads as a time-out; both ends of a query over \
                 UDP are not joined to one trace",
        peer: "client, UDP only: `QTYPE name`, question and answers; traces off by default",
        proofs: &[
            "agent/pipeline/tests/pipeline/datagrams.rs",
            "agent/pipeline/tests/transcripts/dns",
            "agent/tests/protocols/cases/dns.rs",
        ],
    },
];

/// What is not read.
pub const OTHERS: &[Other] = &[
    Other {
        name: "TLS",
        peer: "OpenSSL, Go and Java (with an injected agent)",
        ours: "recognised and counted; not read",
        told: true,
    },
    other("HTTP/3, WebSocket messages", "none", "none"),
    other("Microsoft SQL Server", "client: text, 500 B", "none"),
    other("MongoDB ≥ 5", "client; no compressed frames", "none"),
    other("Couchbase KV, SQL++", "client", "none"),
    other("Memcached", "client and server: text protocol, first key", "none"),
    other("Aerospike", "client", "none"),
    other("Kafka", "client and server: topic, partition, offset", "none"),
    other("MQTT 3.1.1, 5", "client and server; first filter only", "none"),
    other("NATS", "client and server", "none"),
    other("AMQP 1.0", "client: TRANSFER only, no destination", "none"),
    other("AMQP 0-9-1 (RabbitMQ)", "none", "none"),
    other("SunRPC, NFS", "client and server, TCP", "none"),
    other("FastCGI", "server", "none"),
    other(
        "Failed connect",
        "client: `CONNECT` with the error",
        "none: a connection that was never made has no span",
    ),
    other("GraphQL", "off by default: type and name of the operation", "the HTTP request"),
    other("Elasticsearch, OpenSearch", "off by default", "the HTTP request"),
    other("AWS S3, SQS", "off by default: 7 operations", "the HTTP request"),
    other("Generative AI", "off by default: models, tokens, messages opt-in", "the HTTP request"),
    other("MCP, JSON-RPC", "off by default", "the HTTP request"),
    other("CUDA", "metrics only", "none"),
    other("Manual spans", "Go's OpenTelemetry API, a bridge for Node", "none"),
    other("Cassandra, ClickHouse, Oracle, Pulsar, ZooKeeper, Thrift, Dubbo, LDAP, SMTP", "none", "none"),
];
