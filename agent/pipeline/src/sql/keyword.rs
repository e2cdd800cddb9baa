//! The words that say what a statement does and where names of tables stand.

/// What a word means at the place where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    /// Reads from what follows `FROM`; an operation wherever it stands.
    Select,
    /// An operation at the start of a statement, and what comes next.
    Operation(Then),
    With,
    From,
    Join,
    On,
    In,
    Distinct,
    /// Ends a list of tables.
    EndsFrom,
    /// May stand between an operation and its table.
    Skipped,
    /// What is created, altered or dropped; whether its name is a collection.
    Object(Named),
    True,
    False,
}

/// What follows an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    /// Nothing, and as part of another statement it ends a list of tables.
    EndsFrom,
    /// A table, or several.
    Target,
    /// A procedure.
    Call,
    /// `FROM` and a table.
    From,
    /// A kind of object, and one of them.
    Object,
    /// A kind of object, and some of them.
    Objects,
    /// Another statement.
    Statement,
}

/// Where the name of an object's collection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    Next,
    AfterOn,
    Nowhere,
}

/// Longest keyword.
const LONGEST: usize = 12;

/// What a word means, whatever its case.
#[inline]
pub(super) fn keyword(word: &[u8]) -> Option<Keyword> {
    use Keyword::{Distinct, EndsFrom, From, In, Join, Object, On, Operation, Select, Skipped, With};
    if !(2..=LONGEST).contains(&word.len()) {
        return None;
    }
    let mut upper = [0; LONGEST];
    for (to, from) in upper.iter_mut().zip(word) {
        *to = from.to_ascii_uppercase();
    }
    Some(match &upper[..word.len()] {
        b"SELECT" => Select,
        b"FROM" => From,
        b"JOIN" | b"STRAIGHT_JOIN" => Join,
        b"WITH" => With,
        b"ON" => On,
        b"IN" => In,
        b"DISTINCT" => Distinct,
        b"TRUE" => Keyword::True,
        b"FALSE" => Keyword::False,
        b"WHERE" | b"GROUP" | b"ORDER" | b"HAVING" | b"LIMIT" | b"UNION" | b"INTERSECT" | b"EXCEPT"
        | b"RETURNING" | b"WINDOW" | b"FOR" | b"OFFSET" => EndsFrom,
        b"SET" | b"VALUES" => Operation(Then::EndsFrom),
        b"CALL" => Operation(Then::Call),
        b"INSERT" | b"REPLACE" | b"MERGE" | b"UPDATE" | b"TRUNCATE" | b"COPY" | b"LOCK" | b"VACUUM"
        | b"ANALYZE" | b"ANALYSE" | b"OPTIMIZE" | b"REPAIR" | b"DESCRIBE" | b"DESC" => {
            Operation(Then::Target)
        }
        b"DELETE" => Operation(Then::From),
        b"DROP" => Operation(Then::Objects),
        b"CREATE" | b"ALTER" | b"START" | b"REFRESH" | b"LOAD" | b"RENAME" => Operation(Then::Object),
        b"EXPLAIN" => Operation(Then::Statement),
        b"SHOW" | b"USE" | b"BEGIN" | b"COMMIT" | b"ROLLBACK" | b"SAVEPOINT" | b"RELEASE" | b"END"
        | b"ABORT" | b"DISCARD" | b"RESET" | b"LISTEN" | b"NOTIFY" | b"UNLISTEN" | b"DEALLOCATE"
        | b"CLOSE" | b"FETCH" | b"MOVE" | b"CHECKPOINT" | b"GRANT" | b"REVOKE" | b"COMMENT" | b"DO"
        | b"KILL" | b"FLUSH" | b"HANDLER" | b"PREPARE" | b"EXECUTE" | b"DECLARE" | b"XA" | b"REINDEX"
        | b"CLUSTER" | b"UNLOCK" | b"IMPORT" | b"SECURITY" | b"REASSIGN" => Operation(Then::Nothing),
        b"INTO" | b"ONLY" | b"IGNORE" | b"LOW_PRIORITY" | b"DELAYED" | b"QUICK" | b"IF" | b"NOT"
        | b"EXISTS" | b"LATERAL" | b"TABLES" | b"FULL" | b"FREEZE" | b"VERBOSE" | b"OR" | b"TEMP"
        | b"TEMPORARY" | b"UNLOGGED" | b"UNIQUE" | b"GLOBAL" | b"LOCAL" | b"RECURSIVE" | b"CONCURRENTLY"
        | b"MATERIALIZED" | b"INFILE" | b"CONCURRENT" | b"FULLTEXT" | b"SPATIAL" | b"EXTENDED" => Skipped,
        b"TABLE" | b"VIEW" | b"DATA" => Object(Named::Next),
        b"INDEX" | b"TRIGGER" | b"POLICY" | b"RULE" => Object(Named::AfterOn),
        b"DATABASE" | b"SCHEMA" | b"SEQUENCE" | b"USER" | b"ROLE" | b"FUNCTION" | b"PROCEDURE" | b"TYPE"
        | b"EXTENSION" | b"DOMAIN" | b"SERVER" | b"EVENT" | b"TRANSACTION" | b"AGGREGATE"
        | b"PUBLICATION" | b"SUBSCRIPTION" | b"SYSTEM" | b"TABLESPACE" => Object(Named::Nowhere),
        _ => return None,
    })
}
