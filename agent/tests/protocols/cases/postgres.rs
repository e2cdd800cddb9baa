//! PostgreSQL 15 with clients in six languages, and PgBouncer between.

use std::net::SocketAddr;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::expect::{Expect, Parent};
use crate::harness::{Missing, Notes, Run};
use crate::programs::{self, Client, Server, free_addr, program};
use crate::support::tools;

const FOLDERS: &[&str] = &[
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/14/bin",
];
/// Rows of the table `numbers`: a result far longer than what is copied.
const NUMBERS: u64 = 50_000;
/// It refuses to run as root.
const USER: &str = "postgres";

/// A command as the user that a database server wants to be.
pub fn unprivileged(user: &str, program: &Path) -> Result<Command> {
    let mut command = Command::new(programs::program("setpriv", &["/usr/bin"])?);
    command.args(["--reuid", user, "--regid", user, "--clear-groups"]).arg(program);
    Ok(command)
}

/// Numbers of a user and its group.
pub fn ids_of(user: &str) -> Result<(u32, u32)> {
    let passwd = std::fs::read_to_string("/etc/passwd")?;
    let line = passwd.lines().find(|line| line.split(':').next() == Some(user));
    let line = line.ok_or_else(|| Missing(format!("there is no user {user}")))?;
    let mut fields = line.split(':').skip(2).map(str::parse);
    match (fields.next(), fields.next()) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok((uid, gid)),
        _ => Err(Missing(format!("the user {user} has no numbers")).into()),
    }
}

/// A folder that belongs to a user, empty.
pub fn folder_of(user: &str, path: PathBuf) -> Result<PathBuf> {
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path)?;
    let (uid, gid) = ids_of(user)?;
    chown(&path, Some(uid), Some(gid))?;
    Ok(path)
}

/// A new cluster in a folder, made once.
fn cluster() -> Result<&'static Path> {
    static CLUSTER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let initdb = program("initdb", FOLDERS)?;
    let made = CLUSTER.get_or_init(|| {
        let make = || {
            let folder = folder_of(USER, tools::scratch().join("protocols/postgresql"))?;
            let mut initdb = unprivileged(USER, &initdb)?;
            let initdb = initdb
                .args(["-U", "ada", "-A", "trust", "-N", "-E", "UTF8", "--no-locale", "-D"])
                .arg(folder.join("data"));
            tools::build(initdb).map_err(anyhow::Error::msg)?;
            Ok::<_, anyhow::Error>(folder)
        };
        make().map_err(|error| format!("{error:#}"))
    });
    made.as_deref().map_err(|reason| anyhow::anyhow!("{reason}"))
}

/// Starts the server; its tables are as new.
pub fn start() -> Result<Server> {
    let folder = cluster()?;
    let addr = free_addr()?;
    let mut postgres = unprivileged(USER, &program("postgres", FOLDERS)?)?;
    postgres
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-h", "127.0.0.1", "-p", &addr.port().to_string(), "-k"])
        .arg(folder);
    postgres.args(["-c", "fsync=off", "-c", "autovacuum=off", "-c", "max_connections=50", "-c", "jit=off"]);
    let ready = {
        let mut ready = Command::new(program("pg_isready", FOLDERS)?);
        ready.args(["-q", "-h", "127.0.0.1", "-p", &addr.port().to_string()]);
        ready
    };
    let mut ready = ready;
    let server = Server::start_when("postgresql", &mut postgres, addr, || {
        ready.status().is_ok_and(|status| status.success())
    })?;
    let set_up = format!(
        "DROP TABLE IF EXISTS songs, numbers; CREATE TABLE songs (id int PRIMARY KEY, title text); \
         INSERT INTO songs VALUES (1, 'a'), (2, 'b'), (3, 'c'); \
         CREATE TABLE numbers AS SELECT generate_series(1, {NUMBERS}) AS id"
    );
    tools::build(psql(addr)?.args(["-c", &set_up])).map_err(anyhow::Error::msg)?;
    Ok(server)
}

fn psql(addr: SocketAddr) -> Result<Command> {
    let mut psql = Command::new(program("psql", FOLDERS)?);
    psql.args(["-X", "-q", "-h", "127.0.0.1", "-U", "ada", "-d", "postgres", "-p", &addr.port().to_string()]);
    Ok(psql)
}

pub fn url(addr: SocketAddr) -> String {
    format!("postgresql://ada@{addr}/postgres?sslmode=disable")
}

/// What is true of every span of these tests.
fn span(summary: &str, text: &str) -> Expect {
    Expect::client(summary)
        .with("db.system.name", "postgresql")
        .with("db.namespace", "postgres")
        .with("db.query.summary", summary)
        .with("db.query.text", text)
        .parent(Parent::None)
}

/// A span of one operation on one table.
fn one(operation: &'static str, table: &'static str, text: &str) -> Expect {
    span(&format!("{operation} {table}"), text)
        .with("db.operation.name", operation)
        .with("db.collection.name", table)
}

const ROWS: &str = "db.response.returned_rows";

/// What every client does; placeholders as the driver writes them.
fn common(count: usize) -> Vec<Expect> {
    let mut expected = vec![
        one("INSERT", "songs", "INSERT INTO songs (id, title) VALUES ($1, $2)"),
        one("UPDATE", "songs", "UPDATE songs SET title = ? WHERE id = ?"),
        one("SELECT", "nowhere", "SELECT secret FROM nowhere")
            .with("db.response.status_code", "42P01")
            .failed("42P01"),
        one("SELECT", "numbers", "SELECT id FROM numbers").with(ROWS, NUMBERS),
    ];
    for _ in 0..10 {
        expected.push(one("SELECT", "songs", "SELECT id, title FROM songs WHERE id = $1").with(ROWS, 1));
    }
    for _ in 0..count {
        expected.push(one("SELECT", "songs", "SELECT count(*) FROM songs WHERE id < $1").with(ROWS, 1));
    }
    expected
}

/// What drivers ask on their own account when they connect.
fn is_drivers_own(span: &Value) -> bool {
    let text = span["attributes"]["db.query.text"].as_str().unwrap_or_default();
    ["songs", "nowhere", "numbers"].iter().all(|table| !text.contains(table)) && !text.is_empty()
}

/// Both ends of every operation.
fn both(notes: &Notes, expected: Vec<Expect>) {
    for expect in expected {
        notes.expect(expect.other_end());
        notes.expect(expect);
    }
    notes.ignore(is_drivers_own);
}

fn drive(run: &Run, name: &str, command: &Command, server: &Server, expected: Vec<Expect>) -> Result<()> {
    let client = Client::wait(name, command)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let pid = client.pid();
        client.finish()?;
        both(notes, expected.into_iter().map(|expect| expect.pid(pid)).collect());
        Ok(())
    })
}

pub fn with_psql(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = psql(server.addr)?;
    for text in [
        "SELECT id, title FROM songs WHERE title <> 'secret'",
        "INSERT INTO songs VALUES (4, 'd'), (5, 'secret') RETURNING id",
        "SELECT 1; SELECT id FROM songs -- secret",
        "BEGIN; UPDATE songs SET title = E'se\\'cret'; ROLLBACK",
        "COPY songs TO STDOUT",
        "SELECT id FROM numbers",
        "SELECT secret FROM nowhere",
    ] {
        command.args(["-c", text]);
    }
    // The last one fails, and psql goes on to the next -c or ends with it.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "\"$@\" >/dev/null; [ $? = 1 ]", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let client = Client::wait("psql", &shell)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        client.finish()?;
        both(
            notes,
            vec![
                one("SELECT", "songs", "SELECT id, title FROM songs WHERE title <> ?").with(ROWS, 3),
                one("INSERT", "songs", "INSERT INTO songs VALUES (?, ?), (?, ?) RETURNING id").with(ROWS, 2),
                span("SELECT SELECT songs", "SELECT ?; SELECT id FROM songs ")
                    .with("db.operation.name", "BATCH SELECT")
                    .with("db.operation.batch.size", 2)
                    .with("db.collection.name", "songs")
                    .with(ROWS, 6),
                span("BEGIN UPDATE songs ROLLBACK", "BEGIN; UPDATE songs SET title = ?; ROLLBACK")
                    .with("db.operation.name", "BATCH")
                    .with("db.operation.batch.size", 3)
                    .with("db.collection.name", "songs"),
                one("COPY", "songs", "COPY songs TO STDOUT").with(ROWS, 5),
                one("SELECT", "numbers", "SELECT id FROM numbers").with(ROWS, NUMBERS),
                one("SELECT", "nowhere", "SELECT secret FROM nowhere")
                    .with("db.response.status_code", "42P01")
                    .failed("42P01"),
            ],
        );
        Ok(())
    })
}

/// pgbench in its three modes, with four connections each, and the third as pipelines.
pub fn with_pgbench(run: &Run) -> Result<()> {
    let server = start()?;
    let folder = run.folder()?;
    let plain = "\\set id random(1, 3)\nSELECT title FROM songs WHERE id = :id;\n";
    std::fs::write(folder.join("plain.sql"), plain)?;
    std::fs::write(
        folder.join("pipeline.sql"),
        format!("\\startpipeline\n{plain}{plain}{plain}\\endpipeline\n"),
    )?;
    let modes = [
        ("simple", "plain", "?", 200),
        ("extended", "plain", "$1", 200),
        ("prepared", "plain", "$1", 200),
        ("extended", "pipeline", "$1", 600),
        ("prepared", "pipeline", "$1", 600),
    ];
    for (mode, script, placeholder, count) in modes {
        let mut command = Command::new(program("pgbench", FOLDERS)?);
        command.args([
            "-n",
            "-c",
            "4",
            "-j",
            "2",
            "-t",
            if run.full { "500" } else { "50" },
            "-M",
            mode,
            "-h",
            "127.0.0.1",
            "-U",
            "ada",
            "-p",
            &server.addr.port().to_string(),
        ]);
        command.arg("-f").arg(folder.join(format!("{script}.sql"))).arg("postgres");
        let text = format!("SELECT title FROM songs WHERE id = {placeholder};");
        let expected = (0..if run.full { 10 * count } else { count })
            .map(|_| one("SELECT", "songs", &text).with(ROWS, 1))
            .collect();
        drive(run, &format!("pgbench {mode}"), &command, &server, expected)?;
    }
    Ok(())
}

pub fn with_psycopg(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = Command::new(programs::python("pg-python")?);
    command.arg(programs::clients().join("pg-python/client.py")).arg(url(server.addr));
    let mut expected = common(100);
    for _ in 0..20 {
        expected.push(one("SELECT", "songs", "SELECT title FROM songs WHERE id = $1").with(ROWS, 1));
    }
    expected.push(one("COPY", "songs", "COPY songs (id, title) FROM STDIN"));
    expected.push(one("COPY", "songs", "COPY songs TO STDOUT").with(ROWS, 1004));
    drive(run, "psycopg", &command, &server, expected)
}

pub fn with_node(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = Command::new(program("node", &[])?);
    command.arg(programs::node("pg-node")?.join("client.js")).arg(url(server.addr));
    drive(run, "node-postgres", &command, &server, common(100))
}

pub fn with_pgx(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = Command::new(programs::go("pg-go")?);
    command.arg(url(server.addr));
    let mut expected = common(100);
    for _ in 0..20 {
        expected.push(one("SELECT", "songs", "SELECT title FROM songs WHERE id = $1").with(ROWS, 1));
    }
    drive(run, "pgx", &command, &server, expected)
}

pub fn with_jdbc(run: &Run) -> Result<()> {
    let server = start()?;
    let jar = programs::maven("org/postgresql/postgresql/42.7.4/postgresql-42.7.4.jar")?;
    let classes = programs::java("pg-java", "Client.java")?;
    let mut command = Command::new(program("java", &[])?);
    command.arg("-cp").arg(format!("{}:{}", classes.display(), jar.display())).arg("Client");
    command.arg(format!("jdbc:postgresql://{}/postgres?user=ada&sslmode=disable", server.addr));
    let mut expected = common(100);
    for _ in 0..20 {
        expected.push(one("SELECT", "songs", "SELECT title FROM songs WHERE id = $1").with(ROWS, 1));
    }
    drive(run, "jdbc", &command, &server, expected)
}

/// PgBouncer between: each of its two connections stands alone, so that the server has two spans and it has both kinds.
pub fn with_pgbouncer(run: &Run) -> Result<()> {
    let server = start()?;
    let pgbouncer = program("pgbouncer", &["/usr/sbin"])?;
    let folder = folder_of(USER, run.folder()?)?;
    let addr = free_addr()?;
    std::fs::write(folder.join("users.txt"), "\"ada\" \"\"\n")?;
    std::fs::write(
        folder.join("pgbouncer.ini"),
        format!(
            "[databases]\npostgres = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             auth_type = trust\nauth_file = {}/users.txt\npool_mode = transaction\nunix_socket_dir =\n",
            server.addr.port(),
            addr.port(),
            folder.display()
        ),
    )?;
    let mut command = unprivileged(USER, &pgbouncer)?;
    command.arg(folder.join("pgbouncer.ini"));
    let bouncer = Server::start("pgbouncer", &mut command, addr)?;
    let mut pgbench = Command::new(program("pgbench", FOLDERS)?);
    std::fs::write(
        folder.join("plain.sql"),
        "\\set id random(1, 3)\nSELECT title FROM songs WHERE id = :id;\n",
    )?;
    pgbench.args([
        "-n",
        "-c",
        "4",
        "-t",
        "50",
        "-M",
        "extended",
        "-h",
        "127.0.0.1",
        "-U",
        "ada",
        "-p",
        &addr.port().to_string(),
    ]);
    pgbench.arg("-f").arg(folder.join("plain.sql")).arg("postgres");
    let client = Client::wait("pgbench", &pgbench)?;
    let text = "SELECT title FROM songs WHERE id = $1;";
    run.session(&[server.pid(), bouncer.pid(), client.pid()], |notes| {
        let pid = client.pid();
        client.finish()?;
        for _ in 0..200 {
            // From pgbench to PgBouncer, and from PgBouncer to the server.
            let asked = one("SELECT", "songs", text).with(ROWS, 1);
            notes.expect(asked.clone().pid(pid));
            notes.expect(asked.other_end().pid(bouncer.pid()));
            notes.expect(asked.clone().parent(Parent::Any).pid(bouncer.pid()));
            notes.expect(asked.other_end());
        }
        notes.ignore(is_drivers_own);
        Ok(())
    })
}

/// A connection that is older than Skep: its statements' names are not known.
pub fn older(run: &Run) -> Result<()> {
    let server = start()?;
    let folder = run.folder()?;
    std::fs::write(
        folder.join("plain.sql"),
        "\\set id random(1, 3)\n\\sleep 2 ms\nSELECT title FROM songs WHERE id = :id;\n",
    )?;
    let mut pgbench = Command::new(program("pgbench", FOLDERS)?);
    pgbench.args([
        "-n",
        "-c",
        "1",
        "-t",
        "2000",
        "-M",
        "prepared",
        "-h",
        "127.0.0.1",
        "-U",
        "ada",
        "-p",
        &server.addr.port().to_string(),
    ]);
    pgbench.arg("-f").arg(folder.join("plain.sql")).arg("postgres");
    let mut client = Client::wait("pgbench", &pgbench)?;
    client.begin()?;
    // The server says when it has run its statement: by then it is prepared.
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench' AND query LIKE 'SELECT title%'";
    let mut ask = psql(server.addr)?;
    ask.args(["-A", "-t", "-c", asked]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while ask.output()?.stdout != b"1\n" {
        ensure!(std::time::Instant::now() < deadline, "pgbench does not begin");
    }
    let outcome = run.spans(&[client.pid()], || {
        client.end().context("pgbench")?;
        Ok(())
    })?;
    ensure!(outcome.len() > 100, "{} spans", outcome.len());
    for span in outcome {
        let attributes = &span["attributes"];
        let unnamed = attributes["db.query.text"].is_null() && attributes["db.namespace"].is_null();
        if !unnamed || attributes["db.system.name"] != "postgresql" || attributes[ROWS] != 1 {
            run.fault(format!("{span}"));
        }
    }
    Ok(())
}
