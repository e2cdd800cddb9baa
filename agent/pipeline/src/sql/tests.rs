use super::*;
use crate::sql::cache::Sql;
use proptest::prelude::{Just, Strategy, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};

fn read(sql: &str, dialect: Dialect) -> Statement {
    let mut statement = Statement::default();
    statement.read(sql.as_bytes(), false, dialect);
    statement
}

fn text(dialect: Dialect, sql: &str, expected: &str) {
    assert_eq!(read(sql, dialect).text.as_str(), expected, "{sql}");
}

/// Summary, operation, collection.
fn about(sql: &str, summary: &str, operation: &str, collection: &str) {
    let statement = read(sql, Dialect::POSTGRESQL);
    let found = (statement.summary.as_str(), statement.operation.as_str(), statement.collection.as_str());
    assert_eq!(found, (summary, operation, collection), "{sql}");
}

#[test]
fn literals_become_question_marks() {
    let pg = |sql, expected| text(Dialect::POSTGRESQL, sql, expected);
    pg("SELECT 1", "SELECT ?");
    pg("SELECT * FROM t WHERE a = 'it''s' AND b = 1.5e-3", "SELECT * FROM t WHERE a = ? AND b = ?");
    pg("SELECT E'a\\'b', N'x', B'01', X'ff', U&'d\\0061t', 'a\\' , 2", "SELECT ?, ?, ?, ?, ?, ? , ?");
    pg("SELECT $$it's$$, $a$ $$ $b$ $a$, $1, $2::int", "SELECT ?, ?, $1, $2::int");
    pg("SELECT .5, t.c, a.\"b\".c, 0xff, 1_000, -5", "SELECT ?, t.c, a.\"b\".c, ?, ?, -?");
    pg("SELECT t1.c2, 'x'::varchar(10), date '2020-01-01'", "SELECT t1.c2, ?::varchar(?), date ?");
    pg("SELECT TRUE, false, null, is_true", "SELECT ?, ?, null, is_true");
    pg("SELECT \"a 'b\" FROM \"t\"\"u\"", "SELECT \"a 'b\" FROM \"t\"\"u\"");
    pg("INSERT INTO t VALUES (1, 'a'), (2, 'b')", "INSERT INTO t VALUES (?, ?), (?, ?)");
    pg("SELECT :name, :e'secret', @x, a @> '{}', b ? 'k'", "SELECT :name, ?, @x, a @> ?, b ? ?");
    pg("SELECT a#>'{b}'", "SELECT a#>?");
    let my = |sql, expected| text(Dialect::MYSQL, sql, expected);
    my(
        "SELECT \"it's\", 'a\\'b', 'c\"', `d'e`, _utf8'x', 0x1F, b'01'",
        "SELECT ?, ?, ?, `d'e`, _utf8?, ?, ?",
    );
    my("SELECT 5--3, 'a'", "SELECT ?--?, ?");
    my("SELECT ? FROM t WHERE a = @b", "SELECT ? FROM t WHERE a = @b");
}

#[test]
fn comments_and_blanks_are_left_out() {
    let pg = |sql, expected| text(Dialect::POSTGRESQL, sql, expected);
    pg("  SELECT\n\t1 -- 'a\n , 2", "SELECT ? , ?");
    pg("/* a /* 'nested */ b */ SELECT/**/1", "SELECT ?");
    pg("SELECT a /* x */ /* y */ -- z", "SELECT a ");
    pg("SELECT 1 /* never closed 'a", "SELECT ? ");
    let my = |sql, expected| text(Dialect::MYSQL, sql, expected);
    my("SELECT 1 # 'a\n, 2", "SELECT ? , ?");
    my("/*!40101 SET NAMES 'utf8' */", "SET NAMES ? ");
    my("SELECT /*+ hint('a') */ 1", "SELECT ?");
    my("SELECT /* a /* b */ 1", "SELECT ?");
}

#[test]
fn long_lists_are_shortened() {
    let pg = |sql, expected| text(Dialect::POSTGRESQL, sql, expected);
    pg("SELECT * FROM t WHERE a IN (1, 2, 3) AND b", "SELECT * FROM t WHERE a IN (?) AND b");
    pg("SELECT * FROM t WHERE a in ( 'x' , -2 )", "SELECT * FROM t WHERE a in (?)");
    pg("SELECT * FROM t WHERE a IN ($1, $2)", "SELECT * FROM t WHERE a IN (?)");
    pg("SELECT * FROM t WHERE a IN ($1)", "SELECT * FROM t WHERE a IN ($1)");
    pg("SELECT * FROM t WHERE a IN (1, b, 3)", "SELECT * FROM t WHERE a IN (?, b, ?)");
    pg("SELECT * FROM t WHERE a IN (SELECT 1)", "SELECT * FROM t WHERE a IN (SELECT ?)");
    pg("SELECT * FROM t WHERE a IN (1, 'cut o", "SELECT * FROM t WHERE a IN (?");
    text(Dialect::MYSQL, "SELECT * FROM t WHERE a IN (?, ?, ?)", "SELECT * FROM t WHERE a IN (?)");
}

#[test]
fn summaries_name_operations_and_tables() {
    about("SELECT * FROM songs WHERE id = 1", "SELECT songs", "SELECT", "songs");
    about("select a from public.songs s, x", "select public.songs x", "select", "");
    about("SELECT * FROM \"song list\" WHERE a", "SELECT \"song list\"", "SELECT", "song list");
    about("SELECT * FROM a JOIN b ON a.x = b.x LEFT JOIN c USING (y)", "SELECT a b c", "SELECT", "");
    about("SELECT * FROM a JOIN a AS b ON true", "SELECT a a", "SELECT", "a");
    about("INSERT INTO t (a, b) VALUES (1, 2)", "INSERT t", "INSERT", "t");
    about("INSERT INTO s.t SELECT a FROM u", "INSERT s.t SELECT u", "INSERT", "");
    about("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 2", "INSERT t", "INSERT", "t");
    about("UPDATE t SET a = (SELECT max(b) FROM u), c = 2 WHERE d", "UPDATE t SELECT u", "UPDATE", "");
    about("DELETE FROM t WHERE a = 1", "DELETE t", "DELETE", "t");
    about(
        "SELECT * FROM (SELECT * FROM orders o JOIN customers c ON o.a = c.a) x",
        "SELECT SELECT orders customers",
        "SELECT",
        "",
    );
    about("SELECT extract(year FROM d), trim(both 'x' FROM y) FROM t", "SELECT t", "SELECT", "t");
    about("SELECT a IS DISTINCT FROM b FROM t", "SELECT t", "SELECT", "t");
    about("SELECT upper(replace(a, 'b', 'c')) FROM t ORDER BY lower(a) DESC", "SELECT t", "SELECT", "t");
    about("SELECT * FROM generate_series(1, 10) g, t", "SELECT t", "SELECT", "t");
    about(
        "WITH x AS (SELECT a FROM t), y (b) AS (SELECT 1) SELECT * FROM x, y",
        "SELECT t SELECT SELECT",
        "SELECT",
        "t",
    );
    about(
        "WITH x AS (DELETE FROM t RETURNING a) INSERT INTO u SELECT * FROM x",
        "DELETE t INSERT u SELECT",
        "INSERT",
        "",
    );
    about("SELECT 1", "SELECT", "SELECT", "");
    about("SELECT a FROM t FOR UPDATE", "SELECT t", "SELECT", "t");
    about("CREATE TABLE IF NOT EXISTS t (a int, b int)", "CREATE TABLE t", "CREATE TABLE", "t");
    about("CREATE UNIQUE INDEX i ON t (a)", "CREATE INDEX t", "CREATE INDEX", "t");
    about("DROP TABLE IF EXISTS a, b", "DROP TABLE a b", "DROP TABLE", "");
    about("ALTER TABLE t ADD a int, ADD b int", "ALTER TABLE t", "ALTER TABLE", "t");
    about("TRUNCATE t", "TRUNCATE t", "TRUNCATE", "t");
    about("COPY t (a) FROM STDIN", "COPY t", "COPY", "t");
    about("COPY (SELECT * FROM t) TO STDOUT", "COPY SELECT t", "COPY", "t");
    about("BEGIN", "BEGIN", "BEGIN", "");
    about("START TRANSACTION READ ONLY", "START TRANSACTION", "START TRANSACTION", "");
    about("CALL p(1)", "CALL p", "CALL", "");
    about("SET a = 'b'", "SET", "SET", "");
    about("EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM t", "EXPLAIN SELECT t", "EXPLAIN", "t");
    about("(SELECT a FROM t) UNION (SELECT b FROM u)", "SELECT t SELECT u", "", "");
    about("", "", "", "");
    about("nonsense 1 2 3", "", "", "");
    about("LOAD DATA LOCAL INFILE 'x' INTO TABLE t (a)", "LOAD DATA t", "LOAD DATA", "t");
}

#[test]
fn several_statements_are_a_batch() {
    about("SELECT 1; SELECT 2;", "SELECT SELECT", "BATCH SELECT", "");
    about("BEGIN; UPDATE t SET a = 1; COMMIT", "BEGIN UPDATE t COMMIT", "BATCH", "t");
    about("; ;", "", "", "");
    assert_eq!(read("SELECT 1; SELECT ';'; -- x", Dialect::POSTGRESQL).count, 2);
}

#[test]
fn summaries_are_not_cut_in_the_middle_of_a_name() {
    let tables: Vec<String> = (0..100).map(|n| format!("table_{n}")).collect();
    let statement = read(&format!("SELECT * FROM {}", tables.join(", ")), Dialect::POSTGRESQL);
    let last = statement.summary.as_str().rsplit(' ').next().unwrap_or_default();
    assert!(statement.summary.len() <= 255 && tables.iter().any(|table| table == last), "{last}");
}

#[test]
fn a_text_that_is_cut_off_names_no_collection() {
    let mut statement = Statement::default();
    statement.read(b"SELECT * FROM t WHERE a = 'secr", true, Dialect::POSTGRESQL);
    assert_eq!((statement.text.as_str(), statement.collection.as_str()), ("SELECT * FROM t WHERE a = ?", ""));
}

#[test]
fn what_is_kept_holds_no_values() {
    let mut sql = Sql::default();
    let mut db = DbRequest::default();
    sql.fill(b"SELECT a FROM t WHERE b = $1", false, Dialect::POSTGRESQL, &mut db);
    assert!(sql.holds(b"SELECT a FROM t WHERE b = $1", Dialect::POSTGRESQL));
    assert!(!sql.holds(b"SELECT a FROM t WHERE b = $1", Dialect::MYSQL));
    sql.fill(b"SELECT a FROM t WHERE b = 'secret'", false, Dialect::POSTGRESQL, &mut db);
    assert!(!sql.holds(b"SELECT a FROM t WHERE b = 'secret'", Dialect::POSTGRESQL));
}

/// A literal, in a form of its dialect, that holds the word `secret`.
fn literal(mysql: bool) -> impl Strategy<Value = String> {
    let inside = prop_oneof![
        Just("secret".to_owned()),
        "[a-z ,;()$/*#-]{0,6}".prop_map(|noise| format!("{noise}secret{noise}")),
        Just("''secret".to_owned()),
        Just("secret''".to_owned()),
    ];
    (inside, 0u8..8).prop_map(move |(inside, form)| match (form, mysql) {
        (0, false) => format!("E'\\'{inside}\\\\'"),
        (1, false) => format!("$q${inside}$q$"),
        (2, false) => format!("$${}$$", inside.replace('$', "")),
        (3, false) => format!("U&'{inside}'"),
        (0, true) => format!("'\\'{inside}\\\\'"),
        (1, true) => format!("\"{}\"", inside.replace('"', "")),
        (2, true) => format!("\"'{inside}\""),
        (3, true) => format!("_utf8mb4'{inside}'"),
        (4, _) => format!("N'{inside}'"),
        (5, _) => "0x5ec5e7".to_owned(),
        (6, _) => "12.secret".to_owned(),
        _ => format!("'{inside}'"),
    })
}

fn words(mysql: bool) -> impl Strategy<Value = String> {
    let fixed = vec![
        "SELECT",
        "FROM",
        "t",
        "WHERE",
        "a",
        "=",
        "IN",
        "(",
        ")",
        ",",
        "\n",
        "-",
        ".",
        "*",
        ";",
        "WITH",
        "AS",
        "INSERT INTO",
        "VALUES",
        "JOIN",
        "$1",
        "?",
        "::text",
        "\"q i\"",
        "/* c */",
        "b",
        "||",
        "E",
        "x",
        "NULL",
        "TRUE",
    ];
    let fixed = fixed.into_iter().filter(move |word| !(mysql && word.contains('"'))).collect::<Vec<_>>();
    // A literal stands alone: `a'…'` is another dialect's business.
    prop_oneof![
        2 => prop::sample::select(fixed).prop_map(|word| format!("{word} ")),
        1 => literal(mysql).prop_map(|literal| format!(" {literal} ")),
    ]
}

fn shows_no_literal(
    parts: &[String],
    mysql: bool,
    cut: usize,
) -> Result<(), proptest::test_runner::TestCaseError> {
    let dialect = if mysql { Dialect::MYSQL } else { Dialect::POSTGRESQL };
    let whole = parts.concat();
    for end in [whole.len(), cut.min(whole.len())] {
        let mut statement = Statement::default();
        statement.read(&whole.as_bytes()[..end], end < whole.len(), dialect);
        for text in [statement.text.as_str(), statement.summary.as_str(), statement.collection.as_str()] {
            prop_assert!(!text.contains("sec") && !text.contains("5e"), "{whole:?} shows {text:?}");
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn no_literal_survives_in_postgresql(parts in prop::collection::vec(words(false), 0..24), cut: u8) {
        shows_no_literal(&parts, false, usize::from(cut))?;
    }

    #[test]
    fn no_literal_survives_in_mysql(parts in prop::collection::vec(words(true), 0..24), cut: u8) {
        shows_no_literal(&parts, true, usize::from(cut))?;
    }

    #[test]
    fn any_bytes_are_read_to_their_end(bytes: Vec<u8>, mysql: bool, cut: bool) {
        let dialect = Dialect { mysql, backslash: mysql };
        let mut statement = Statement::default();
        statement.read(&bytes, cut, dialect);
        prop_assert!(!statement.text.as_str().contains(char::is_control));
    }

    #[test]
    fn brackets_and_words_are_read_to_their_end(text in "(SELECT |FROM |\\(|\\)|IN |a|,|;|'|WITH |\\.|INSERT ){0,80}") {
        let mut statement = Statement::default();
        statement.read(text.as_bytes(), false, Dialect::POSTGRESQL);
        // What is read twice is read in the same way.
        let first = statement.clone();
        statement.read(text.as_bytes(), false, Dialect::POSTGRESQL);
        prop_assert_eq!(first.text.as_str(), statement.text.as_str());
        prop_assert_eq!(first.summary.as_str(), statement.summary.as_str());
    }
}
