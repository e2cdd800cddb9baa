//! What the pipeline counts: totals, drops by stage and reason, and connections of each process by kind.
//!
//! In: increments from every stage. Out: a borrowed view for `--stats` and the lines at exit. Counters only grow.

use rustc_hash::FxHashMap;

/// Processes whose connections are counted one by one; more are counted together under tgid 0.
const MAX_PROCESSES: usize = 4096;

/// Declares the drops once: constant, stage, reason and meaning stay side by side.
macro_rules! drops {
    ($($(#[doc = $doc:literal])* $name:ident = $stage:literal, $reason:literal;)*) => {
        /// Something that was seen and did not become a span, or only in part.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Drop { $($(#[doc = $doc])* $name,)* }
        /// Stage and reason of each drop, in the order of the enum.
        pub const DROPS: &[(&str, &str)] = &[$(($stage, $reason),)*];
    };
}

drops! {
    /// A record shorter than its kind says.
    ShortRecord = "event", "short_record";
    /// A record of a kind that this version does not know.
    UnknownKind = "event", "unknown_kind";
    /// A record whose lengths contradict each other.
    BadLength = "event", "bad_length";
    /// A datagram that is not DNS, of a socket that was not let go yet.
    Datagram = "event", "datagram";
    /// A connection forgotten because the table was full.
    ConnectionEvicted = "connection", "table_full";
    /// A connection that was not seen to open: its addresses are unknown.
    ConnectionUnopened = "connection", "open_not_seen";
    /// Bytes that were sent again or came after the connection had ended.
    LateBytes = "connection", "late_bytes";
    /// Bytes that the kernel side could not hand over (a jump of the stream offset).
    LostBytes = "stream", "lost_bytes";
    /// Turns that were not seen (a jump of the turn number).
    LostTurns = "stream", "lost_turns";
    /// A connection's opening bytes grew beyond what is held to tell its protocol.
    OpeningTooLong = "protocol", "opening_too_long";
    /// A turn that does not begin with a message, after messages were lost.
    FramesMidStream = "frames", "mid_stream";
    /// Where messages begin was lost in a gap.
    FramesGap = "frames", "gap";
    /// Where messages begin was lost because a header was not copied.
    FramesHole = "frames", "hole";
    /// Where messages begin was lost because a header is not valid.
    FramesInvalid = "frames", "invalid";
    /// A header block that was cut off or is not valid: what it held is not known.
    Http2HeaderBlock = "http2", "header_block";
    /// A header block of which it is not known whether it begins a request.
    Http2Unclear = "http2", "unclear";
    /// An answer to a request that was not seen.
    Http2AnswerWithoutRequest = "http2", "answer_without_request";
    /// Streams beyond those that may be open on one connection.
    Http2TooManyStreams = "http2", "too_many_streams";
    /// A request the end of whose answer may have been lost in a gap.
    Http2Gap = "http2", "gap";
    /// A request still open when the run ended.
    Http2OpenAtEnd = "http2", "open_at_end";
    /// A message whose beginning was missed.
    MidStream = "http1", "mid_stream";
    /// A request whose answer, or an answer whose request, was lost in a gap.
    Gap = "http1", "gap";
    /// A request that is not HTTP/1 after others were.
    InvalidRequest = "http1", "invalid_request";
    /// A header block that was cut off; its span has no body size.
    HeaderTruncated = "http1", "header_truncated";
    /// A request that ended in the middle of its header block.
    HeaderUnfinished = "http1", "header_unfinished";
    /// An answer to no request that was seen.
    AnswerWithoutRequest = "http1", "answer_without_request";
    /// Requests beyond those that may wait for an answer on one connection.
    TooManyOutstanding = "http1", "too_many_outstanding";
    /// A span without the size of the request's body, because it was longer than what is captured.
    UnknownRequestSize = "http", "unknown_request_size";
    /// A span without the size of the response's body, because it was longer than what is captured.
    UnknownResponseSize = "http", "unknown_response_size";
    /// Bytes that waited for others to be understood when the connection closed (requests behind an `Upgrade`
    /// without an answer, an answer without its request).
    HeldAtClose = "http1", "held_at_close";
    /// A request still open when the run ended.
    OpenAtEnd = "http1", "open_at_end";
    /// An operation of a database whose answer, or an answer whose operation, was lost.
    DbGap = "database", "gap";
    /// An answer that does not fit the operation that it should answer: another one was missed.
    DbMismatch = "database", "mismatch";
    /// An answer to no operation that was seen.
    DbAnswerWithoutRequest = "database", "answer_without_request";
    /// Operations beyond those that may wait for an answer on one connection.
    DbTooManyOutstanding = "database", "too_many_outstanding";
    /// A prepared statement whose text was not kept, because as much as is allowed was; its spans have none.
    DbStatementNotKept = "database", "statement_not_kept";
    /// A connection of a database whose bytes are compressed: it is not understood.
    DbCompressed = "database", "compressed";
    /// An operation of a database that was still open when the run ended.
    DbOpenAtEnd = "database", "open_at_end";
    /// A turn of a Redis connection that was skipped until one began with a whole command.
    RedisMidStream = "redis", "mid_stream";
    /// A place where commands and answers could no longer be matched, and each command lost there.
    RedisGap = "redis", "gap";
    /// Bytes that are not RESP after others were.
    RedisInvalid = "redis", "invalid";
    /// A command whose end was not captured; commands behind it may be missing.
    RedisTruncated = "redis", "truncated";
    /// An answer to no command that was seen.
    RedisAnswerWithoutRequest = "redis", "answer_without_request";
    /// An answer that its command cannot have.
    RedisMismatch = "redis", "mismatch";
    /// Commands beyond those that may wait for an answer on one connection.
    RedisTooManyOutstanding = "redis", "too_many_outstanding";
    /// A command that ended in the middle.
    RedisUnfinished = "redis", "unfinished";
    /// A command that waited for its answer when the connection left what is understood.
    RedisUnanswered = "redis", "unanswered";
    /// A command still open when the run ended.
    RedisOpenAtEnd = "redis", "open_at_end";
    /// A DNS message over TCP that is none.
    DnsInvalid = "dns", "invalid";
    /// A DNS answer to no query that is open: a second one, or one that came too late.
    DnsAnswerWithoutQuery = "dns", "answer_without_query";
    /// A DNS query still open when the run ended.
    DnsOpenAtEnd = "dns", "open_at_end";
    /// A request dropped because as many as are allowed were open.
    RequestTableFull = "request", "table_full";
    /// Bytes not held because the buffers were full.
    BuffersFull = "request", "buffers_full";
    /// A client request with more than one candidate for its parent.
    AmbiguousParent = "context", "ambiguous_parent";
}

/// Declares the kinds once: variant, counter and meaning stay side by side.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $field:ident;)*) => {
        /// Connections of one process, by what they speak.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Kinds {
            $($(#[doc = $doc])* pub $field: u64,)*
            /// Open, and nothing is known yet.
            pub undecided: u64,
        }

        /// What a connection was found to speak.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum Kind {
            /// Not known yet.
            #[default]
            Undecided,
            $($(#[doc = $doc])* $kind,)*
        }

        impl Kinds {
            /// Name and number of each kind, those that are undecided last.
            pub fn by_name(&self) -> Vec<(&'static str, u64)> {
                let mut by_name = vec![$((stringify!($field), self.$field),)*];
                by_name.push(("undecided", self.undecided));
                by_name
            }

            /// Adds another process' connections.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
                self.undecided += other.undecided;
            }

            fn counter(&mut self, kind: Kind) -> &mut u64 {
                match kind {
                    Kind::Undecided => &mut self.undecided,
                    $(Kind::$kind => &mut self.$field,)*
                }
            }
        }
    };
}

kinds! {
    /// HTTP/1.0 or 1.1.
    Http1 = http1;
    /// HTTP/2 in clear text.
    Http2 = http2;
    /// Redis and what speaks its protocol.
    Redis = redis;
    /// DNS over TCP.
    Dns = dns;
    /// PostgreSQL.
    PostgreSql = postgresql;
    /// MySQL and MariaDB.
    MySql = mysql;
    /// TLS: bytes that only the process can read.
    Tls = tls;
    /// Something that is not parsed.
    Other = other;
    /// Opened before Skep saw them, and no message has begun since.
    MidStream = mid_stream;
}

/// The pipeline's counters.
#[derive(Clone, Debug)]
pub struct Stats {
    /// Records taken.
    pub records: u64,
    /// Captured payload bytes in them.
    pub bytes: u64,
    /// Turns (changes of direction) observed.
    pub turns: u64,
    /// Turns of connections that are not captured on purpose, as the kernel counted them.
    pub turns_not_captured: u64,
    /// Connections seen to open.
    pub connections: u64,
    /// Requests whose beginning was understood.
    pub requests: u64,
    /// Spans handed to the sink.
    pub spans: u64,
    /// Spans without a size of the request's or response's body.
    pub spans_without_size: u64,
    drops: [u64; DROPS.len()],
    kinds: FxHashMap<u32, Kinds>,
}

impl Stats {
    /// Drops so far: stage, reason, how many.
    pub fn drops(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> + '_ {
        DROPS.iter().zip(self.drops).map(|(&(stage, reason), count)| (stage, reason, count))
    }

    /// How often one thing was dropped.
    pub fn dropped(&self, drop: Drop) -> u64 {
        self.drops[drop as usize]
    }

    /// Connections of a process by kind.
    pub fn kinds(&self, tgid: u32) -> Kinds {
        self.kinds.get(&tgid).copied().unwrap_or_default()
    }

    /// All processes that had a connection.
    pub fn processes(&self) -> impl Iterator<Item = (u32, Kinds)> + '_ {
        self.kinds.iter().map(|(&tgid, &kinds)| (tgid, kinds))
    }

    pub(crate) fn new() -> Self {
        Self {
            records: 0,
            bytes: 0,
            turns: 0,
            turns_not_captured: 0,
            connections: 0,
            requests: 0,
            spans: 0,
            spans_without_size: 0,
            drops: [0; DROPS.len()],
            kinds: FxHashMap::default(),
        }
    }

    pub(crate) fn drop(&mut self, drop: Drop) {
        self.drop_many(drop, 1);
    }

    pub(crate) fn drop_many(&mut self, drop: Drop, count: u64) {
        let counter = &mut self.drops[drop as usize];
        *counter = counter.saturating_add(count);
    }

    /// A connection of `tgid` was `from` and is `to` now.
    pub(crate) fn recount(&mut self, tgid: u32, from: Option<Kind>, to: Option<Kind>) {
        let key = if self.kinds.len() < MAX_PROCESSES || self.kinds.contains_key(&tgid) { tgid } else { 0 };
        let kinds = self.kinds.entry(key).or_default();
        if let Some(from) = from {
            let counter = kinds.counter(from);
            *counter = counter.saturating_sub(1);
        }
        if let Some(to) = to {
            *kinds.counter(to) += 1;
        }
    }

    pub(crate) fn forget_process(&mut self, tgid: u32) {
        self.kinds.remove(&tgid);
    }
}
