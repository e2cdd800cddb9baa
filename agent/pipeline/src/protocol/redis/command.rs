//! Commands that are known: how many words name the operation, how many arguments they take, what they answer.
//!
//! In: the first words of a command. Out: a [`Known`], from a sorted table. Valkey, KeyDB, Dragonfly and modules
//! have more: those are shown by their first word, if it looks like one.

/// What kind of value may answer a command.
pub(super) type Answers = u8;
/// `+`
const S: Answers = 1;
/// `:`
const I: Answers = 2;
/// A string or null.
const B: Answers = 4;
/// An array, a map or a set.
const A: Answers = 8;
/// Anything.
const ANY: Answers = 255;

/// What is special about a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Plain,
    /// Changes the database.
    Select,
    /// Back to the first database.
    Reset,
    /// Begins a transaction.
    Multi,
    Exec,
    Discard,
    /// Confirmed by one push or array for each channel, with the command's name.
    Subscribe,
    /// What follows its answer is no answer to anything.
    Takeover,
    /// The server closes the connection, perhaps without an answer.
    Last,
    /// May turn answers off.
    Client,
}

/// A command.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: &'static str,
    /// How many words name the operation.
    pub(super) words: u8,
    /// Fewest and most words, the name included; 0: no limit.
    least: u8,
    most: u8,
    pub(super) answers: Answers,
    pub(super) role: Role,
}

const fn known(name: &'static str, least: u8, most: u8, answers: Answers) -> Known {
    Known { name, words: 1, least, most, answers, role: Role::Plain }
}

const fn group(name: &'static str) -> Known {
    Known { name, words: 2, least: 1, most: 0, answers: ANY, role: Role::Plain }
}

const fn special(name: &'static str, least: u8, most: u8, role: Role) -> Known {
    Known { name, words: 1, least, most, answers: ANY, role }
}

/// Sorted by name.
#[rustfmt::skip]
const KNOWN: &[Known] = &[
    group("ACL"), known("APPEND", 3, 3, I), special("ASKING", 1, 1, Role::Plain), special("AUTH", 2, 3, Role::Plain),
    known("BGREWRITEAOF", 1, 1, S), known("BGSAVE", 1, 2, S), known("BITCOUNT", 2, 5, I), known("BITFIELD", 2, 0, A),
    known("BITFIELD_RO", 2, 0, A), known("BITOP", 4, 0, I), known("BITPOS", 3, 6, I), known("BLMOVE", 6, 6, B | A),
    known("BLMPOP", 5, 0, B | A), known("BLPOP", 3, 0, B | A), known("BRPOP", 3, 0, B | A),
    known("BRPOPLPUSH", 4, 4, B | A), known("BZMPOP", 5, 0, B | A), known("BZPOPMAX", 3, 0, B | A),
    known("BZPOPMIN", 3, 0, B | A),
    Known { name: "CLIENT", words: 2, least: 1, most: 0, answers: ANY, role: Role::Client },
    group("CLUSTER"), group("COMMAND"), group("CONFIG"), known("COPY", 3, 0, I),
    known("DBSIZE", 1, 1, I), group("DEBUG"), known("DECR", 2, 2, I), known("DECRBY", 3, 3, I), known("DEL", 2, 0, I),
    special("DISCARD", 1, 1, Role::Discard), known("DUMP", 2, 2, B),
    known("ECHO", 2, 2, B), known("EVAL", 3, 0, ANY), known("EVALSHA", 3, 0, ANY), known("EVALSHA_RO", 3, 0, ANY),
    known("EVAL_RO", 3, 0, ANY), special("EXEC", 1, 1, Role::Exec), known("EXISTS", 2, 0, I),
    known("EXPIRE", 3, 0, I), known("EXPIREAT", 3, 0, I), known("EXPIRETIME", 2, 2, I), special("FAILOVER", 1, 0, Role::Plain),
    known("FCALL", 3, 0, ANY), known("FCALL_RO", 3, 0, ANY), known("FLUSHALL", 1, 2, S), known("FLUSHDB", 1, 2, S),
    group("FUNCTION"),
    known("GEOADD", 5, 0, I), known("GEODIST", 4, 5, B), known("GEOHASH", 2, 0, A), known("GEOPOS", 2, 0, A),
    known("GEORADIUS", 6, 0, ANY), known("GEORADIUSBYMEMBER", 5, 0, ANY), known("GEORADIUSBYMEMBER_RO", 5, 0, ANY),
    known("GEORADIUS_RO", 6, 0, ANY), known("GEOSEARCH", 7, 0, A), known("GEOSEARCHSTORE", 8, 0, I),
    known("GET", 2, 2, B), known("GETBIT", 3, 3, I), known("GETDEL", 2, 2, B), known("GETEX", 2, 0, B),
    known("GETRANGE", 4, 4, B), known("GETSET", 3, 3, B),
    known("HDEL", 3, 0, I), known("HELLO", 1, 0, A), known("HEXISTS", 3, 3, I), known("HEXPIRE", 6, 0, A),
    known("HGET", 3, 3, B), known("HGETALL", 2, 2, A), known("HGETDEL", 5, 0, A), known("HGETEX", 4, 0, A),
    known("HINCRBY", 4, 4, I), known("HINCRBYFLOAT", 4, 4, B), known("HKEYS", 2, 2, A), known("HLEN", 2, 2, I),
    known("HMGET", 3, 0, A), known("HMSET", 4, 0, S), known("HPERSIST", 5, 0, A), known("HPEXPIRE", 6, 0, A),
    known("HPTTL", 5, 0, A), known("HRANDFIELD", 2, 4, B | A), known("HSCAN", 3, 0, A), known("HSET", 4, 0, I),
    known("HSETEX", 5, 0, I), known("HSETNX", 4, 4, I), known("HSTRLEN", 3, 3, I), known("HTTL", 5, 0, A),
    known("HVALS", 2, 2, A),
    known("INCR", 2, 2, I), known("INCRBY", 3, 3, I), known("INCRBYFLOAT", 3, 3, B), known("INFO", 1, 0, B),
    known("KEYS", 2, 2, A), known("LASTSAVE", 1, 1, I), group("LATENCY"), known("LCS", 3, 0, ANY),
    known("LINDEX", 3, 3, B), known("LINSERT", 5, 5, I), known("LLEN", 2, 2, I), known("LMOVE", 5, 5, B),
    known("LMPOP", 4, 0, B | A), known("LOLWUT", 1, 0, B), known("LPOP", 2, 3, B | A), known("LPOS", 3, 0, I | B | A),
    known("LPUSH", 3, 0, I), known("LPUSHX", 3, 0, I), known("LRANGE", 4, 4, A), known("LREM", 4, 4, I),
    known("LSET", 4, 4, S), known("LTRIM", 4, 4, S),
    group("MEMORY"), known("MGET", 2, 0, A), known("MIGRATE", 6, 0, S), group("MODULE"),
    special("MONITOR", 1, 1, Role::Takeover), known("MOVE", 3, 3, I), known("MSET", 3, 0, S), known("MSETNX", 3, 0, I),
    special("MULTI", 1, 1, Role::Multi), group("OBJECT"), known("PERSIST", 2, 2, I), known("PEXPIRE", 3, 0, I),
    known("PEXPIREAT", 3, 0, I), known("PEXPIRETIME", 2, 2, I), known("PFADD", 2, 0, I), known("PFCOUNT", 2, 0, I),
    known("PFMERGE", 2, 0, S), known("PING", 1, 2, S | B | A), known("PSETEX", 4, 4, S),
    special("PSUBSCRIBE", 2, 0, Role::Subscribe), special("PSYNC", 3, 4, Role::Takeover), known("PTTL", 2, 2, I),
    known("PUBLISH", 3, 3, I), group("PUBSUB"), special("PUNSUBSCRIBE", 1, 0, Role::Subscribe),
    special("QUIT", 1, 1, Role::Last), known("RANDOMKEY", 1, 1, B), known("READONLY", 1, 1, S),
    known("READWRITE", 1, 1, S), known("RENAME", 3, 3, S), known("RENAMENX", 3, 3, I), known("REPLCONF", 1, 0, ANY),
    known("REPLICAOF", 3, 3, S), special("RESET", 1, 1, Role::Reset), known("RESTORE", 4, 0, S), known("ROLE", 1, 1, A),
    known("RPOP", 2, 3, B | A), known("RPOPLPUSH", 3, 3, B), known("RPUSH", 3, 0, I), known("RPUSHX", 3, 0, I),
    known("SADD", 3, 0, I), known("SAVE", 1, 1, S), known("SCAN", 2, 0, A), known("SCARD", 2, 2, I), group("SCRIPT"),
    known("SDIFF", 2, 0, A), known("SDIFFSTORE", 3, 0, I), special("SELECT", 2, 2, Role::Select), group("SENTINEL"),
    known("SET", 3, 0, S | B), known("SETBIT", 4, 4, I), known("SETEX", 4, 4, S), known("SETNX", 3, 3, I),
    known("SETRANGE", 4, 4, I), special("SHUTDOWN", 1, 0, Role::Last), known("SINTER", 2, 0, A),
    known("SINTERCARD", 3, 0, I), known("SINTERSTORE", 3, 0, I), known("SISMEMBER", 3, 3, I),
    known("SLAVEOF", 3, 3, S), group("SLOWLOG"), known("SMEMBERS", 2, 2, A), known("SMISMEMBER", 3, 0, A),
    known("SMOVE", 4, 4, I), known("SORT", 2, 0, I | A), known("SORT_RO", 2, 0, A), known("SPOP", 2, 3, B | A),
    known("SPUBLISH", 3, 3, I), known("SRANDMEMBER", 2, 3, B | A), known("SREM", 3, 0, I), known("SSCAN", 3, 0, A),
    special("SSUBSCRIBE", 2, 0, Role::Subscribe), known("STRLEN", 2, 2, I), special("SUBSCRIBE", 2, 0, Role::Subscribe),
    known("SUBSTR", 4, 4, B), known("SUNION", 2, 0, A), known("SUNIONSTORE", 3, 0, I),
    special("SUNSUBSCRIBE", 1, 0, Role::Subscribe), known("SWAPDB", 3, 3, S), special("SYNC", 1, 1, Role::Takeover),
    known("TIME", 1, 1, A), known("TOUCH", 2, 0, I), known("TTL", 2, 2, I), known("TYPE", 2, 2, S),
    known("UNLINK", 2, 0, I), special("UNSUBSCRIBE", 1, 0, Role::Subscribe), known("UNWATCH", 1, 1, S),
    known("WAIT", 3, 3, I), known("WAITAOF", 4, 4, A), known("WATCH", 2, 0, S),
    known("XACK", 4, 0, I), known("XADD", 5, 0, B), known("XAUTOCLAIM", 6, 0, A), known("XCLAIM", 6, 0, A),
    known("XDEL", 3, 0, I), group("XGROUP"), group("XINFO"), known("XLEN", 2, 2, I), known("XPENDING", 3, 0, A),
    known("XRANGE", 4, 0, A), known("XREAD", 4, 0, B | A), known("XREADGROUP", 7, 0, B | A), known("XREVRANGE", 4, 0, A),
    known("XSETID", 3, 0, S), known("XTRIM", 4, 0, I),
    known("ZADD", 4, 0, I | B), known("ZCARD", 2, 2, I), known("ZCOUNT", 4, 4, I), known("ZDIFF", 3, 0, A),
    known("ZDIFFSTORE", 4, 0, I), known("ZINCRBY", 4, 4, B), known("ZINTER", 3, 0, A), known("ZINTERCARD", 3, 0, I),
    known("ZINTERSTORE", 4, 0, I), known("ZLEXCOUNT", 4, 4, I), known("ZMPOP", 4, 0, B | A), known("ZMSCORE", 3, 0, A),
    known("ZPOPMAX", 2, 3, A), known("ZPOPMIN", 2, 3, A), known("ZRANDMEMBER", 2, 4, B | A), known("ZRANGE", 4, 0, A),
    known("ZRANGEBYLEX", 4, 0, A), known("ZRANGEBYSCORE", 4, 0, A), known("ZRANGESTORE", 5, 0, I),
    known("ZRANK", 3, 4, I | B | A), known("ZREM", 3, 0, I), known("ZREMRANGEBYLEX", 4, 4, I),
    known("ZREMRANGEBYRANK", 4, 4, I), known("ZREMRANGEBYSCORE", 4, 4, I), known("ZREVRANGE", 4, 0, A),
    known("ZREVRANGEBYLEX", 4, 0, A), known("ZREVRANGEBYSCORE", 4, 0, A), known("ZREVRANK", 3, 4, I | B | A),
    known("ZSCAN", 3, 0, A), known("ZSCORE", 3, 3, B), known("ZUNION", 3, 0, A), known("ZUNIONSTORE", 4, 0, I),
];

/// What is assumed of a command that is not in the table.
const UNKNOWN: Known = known("", 1, 0, ANY);

/// Number of a command in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Command(u8);

const NO_COMMAND: u8 = u8::MAX;
const _: () = assert!(KNOWN.len() < NO_COMMAND as usize);

impl Default for Command {
    fn default() -> Self {
        Self(NO_COMMAND)
    }
}

impl Command {
    /// Looks a name up, in any case.
    #[inline]
    pub(super) fn find(name: &[u8]) -> Self {
        let found = KNOWN.binary_search_by(|known| {
            let ours = known.name.bytes();
            ours.cmp(name.iter().map(u8::to_ascii_uppercase))
        });
        Self(found.map_or(NO_COMMAND, |index| index as u8))
    }

    #[inline]
    pub(super) fn known(self) -> &'static Known {
        KNOWN.get(usize::from(self.0)).unwrap_or(&UNKNOWN)
    }

    pub(super) fn is_known(self) -> bool {
        self.0 != NO_COMMAND
    }

    /// Whether so many words, the name included, may be this command.
    pub(super) fn fits(self, words: u64) -> bool {
        let Known { least, most, .. } = *self.known();
        words >= u64::from(least) && (most == 0 || words <= u64::from(most))
    }

    /// Whether a value that begins with this byte may be the answer; errors always may.
    #[inline]
    pub(super) fn may_be_answered_by(self, kind: u8) -> bool {
        let class = match kind {
            b'+' => S,
            b':' => I,
            b'$' | b'_' | b'=' => B,
            b'*' | b'%' | b'~' => A,
            // RESP3 numbers and booleans take the place of several others; an error may always be.
            _ => return true,
        };
        let Known { answers, .. } = *self.known();
        // RESP2 writes doubles as strings and an array that is not there as a null array.
        answers & class != 0 || (class == A && answers & B != 0)
    }
}

/// Whether this may be the name of a command: what is shown of one that is not in the table.
#[inline]
pub(super) fn is_name(word: &[u8]) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=NAME_MAX).contains(&word.len()) && word[0].is_ascii_alphabetic() && word.iter().all(inner)
}

/// Longest word of an operation's name.
pub(super) const NAME_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_found_in_any_case() {
        for pair in KNOWN.windows(2) {
            assert!(pair[0].name < pair[1].name, "{} {}", pair[0].name, pair[1].name);
        }
        for known in KNOWN {
            assert_eq!(Command::find(known.name.as_bytes()).known().name, known.name);
            assert_eq!(Command::find(known.name.to_lowercase().as_bytes()).known().name, known.name);
        }
        assert!(!Command::find(b"JSON.SET").is_known() && !Command::find(b"").is_known());
    }

    #[test]
    fn numbers_of_words_and_answers_are_checked() {
        let get = Command::find(b"get");
        assert!(get.fits(2) && !get.fits(1) && !get.fits(3));
        assert!(Command::find(b"MSET").fits(2001));
        assert!(
            get.may_be_answered_by(b'$') && get.may_be_answered_by(b'-') && !get.may_be_answered_by(b':')
        );
        assert!(Command::default().may_be_answered_by(b':') && Command::default().fits(1));
    }

    #[test]
    fn names_are_told_from_values() {
        assert!(is_name(b"JSON.SET") && is_name(b"georadius_ro"));
        assert!(!is_name(b"") && !is_name(b"my key") && !is_name(b"1abc") && !is_name(&[b'a'; 33]));
    }
}
