//! MariaDB with clients in four languages.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Result;
use serde_json::Value;

use crate::cases::postgres::{folder_of, unprivileged};
use crate::expect::{Expect, Parent};
use crate::harness::Run;
use crate::programs::{self, Client, Server, free_addr, program};
use crate::support::tools;

/// Rows of the table `numbers`: more bytes than what is copied of a result.
const NUMBERS: u64 = 20_000;
const USER: &str = "mysql";
const ROWS: &str = "db.response.returned_rows";

/// A data folder, made once.
fn data() -> Result<PathBuf> {
    static DATA: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let install = program("mariadb-install-db", &["/usr/bin"])?;
    let made = DATA.get_or_init(|| {
        let make = || {
            let folder = folder_of(USER, tools::scratch().join("protocols/mariadb"))?;
            let mut install = unprivileged(USER, &install)?;
            let install =
                install.args(["--no-defaults", "--skip-test-db", "--auth-root-authentication-method=normal"]);
            tools::build(install.arg(format!("--datadir={}/data", folder.display())))
                .map_err(anyhow::Error::msg)?;
            Ok::<_, anyhow::Error>(folder)
        };
        make().map_err(|error| format!("{error:#}"))
    });
    made.clone().map_err(anyhow::Error::msg)
}

/// Starts the server; its tables are as new.
fn start() -> Result<Server> {
    let folder = data()?;
    let addr = free_addr()?;
    let mut mariadbd = unprivileged(USER, &program("mariadbd", &["/usr/sbin"])?)?;
    mariadbd.arg("--no-defaults").arg(format!("--datadir={}/data", folder.display()));
    mariadbd.arg(format!("--socket={}/socket", folder.display())).arg(format!("--port={}", addr.port()));
    mariadbd.args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=0"]);
    let mut ready = Command::new(program("mariadb-admin", &["/usr/bin"])?);
    ready.args([
        "--no-defaults",
        "--silent",
        "-h",
        "127.0.0.1",
        "-u",
        "root",
        "-P",
        &addr.port().to_string(),
        "ping",
    ]);
    let server = Server::start_when("mariadb", &mut mariadbd, addr, || {
        ready.output().is_ok_and(|output| output.status.success())
    })?;
    let set_up = format!(
        "CREATE OR REPLACE DATABASE shop; CREATE OR REPLACE USER ada IDENTIFIED BY 'secret'; GRANT ALL ON shop.* TO ada; \
         USE shop; CREATE TABLE songs (id int PRIMARY KEY, title text); \
         INSERT INTO songs VALUES (1, 'a'), (2, 'b'), (3, 'c'); \
         CREATE TABLE numbers AS SELECT seq AS id FROM seq_1_to_{NUMBERS}"
    );
    let mut mariadb = cli(addr.port(), "root", "")?;
    tools::build(mariadb.args(["-e", &set_up])).map_err(anyhow::Error::msg)?;
    Ok(server)
}

fn cli(port: u16, user: &str, password: &str) -> Result<Command> {
    let mut cli = Command::new(program("mariadb", &["/usr/bin"])?);
    cli.args(["--no-defaults", "--skip-ssl", "-h", "127.0.0.1", "-u", user, "-P", &port.to_string()]);
    cli.env("MYSQL_PWD", password);
    Ok(cli)
}

fn span(summary: &str, text: &str) -> Expect {
    Expect::client(summary)
        .with("db.system.name", "mariadb")
        .with("db.namespace", "shop")
        .with("db.query.summary", summary)
        .with("db.query.text", text)
        .parent(Parent::None)
}

fn one(operation: &'static str, table: &'static str, text: &str) -> Expect {
    span(&format!("{operation} {table}"), text)
        .with("db.operation.name", operation)
        .with("db.collection.name", table)
}

/// What every client does; `rows` of the long result are known if it was copied to its end.
fn common(placeholder: &str) -> Vec<Expect> {
    let mut expected = vec![
        one(
            "INSERT",
            "songs",
            &format!("INSERT INTO songs (id, title) VALUES ({placeholder}, {placeholder})"),
        ),
        one("UPDATE", "songs", "UPDATE songs SET title = ? WHERE id = ?"),
        one("SELECT", "nowhere", "SELECT secret FROM nowhere")
            .with("db.response.status_code", "1146")
            .failed("1146"),
    ];
    for _ in 0..10 {
        let text = format!("SELECT id, title FROM songs WHERE id = {placeholder}");
        expected.push(one("SELECT", "songs", &text).with(ROWS, 1));
    }
    for _ in 0..100 {
        let text = format!("SELECT count(*) FROM songs WHERE id < {placeholder}");
        expected.push(one("SELECT", "songs", &text).with(ROWS, 1));
    }
    expected
}

/// What drivers ask on their own account when they connect.
fn is_drivers_own(span: &Value) -> bool {
    let text = span["attributes"]["db.query.text"].as_str().unwrap_or_default();
    !text.is_empty() && ["songs", "nowhere", "numbers"].iter().all(|table| !text.contains(table))
}

fn drive(run: &Run, name: &str, command: &Command, server: &Server, expected: Vec<Expect>) -> Result<()> {
    let client = Client::wait(name, command)?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let pid = client.pid();
        client.finish()?;
        for expect in expected {
            notes.expect(expect.other_end());
            notes.expect(expect.pid(pid));
        }
        // Both ends may have seen the long result to its end, or not: its rows are counted as far as they are copied.
        let numbers = one("SELECT", "numbers", "SELECT id FROM numbers");
        notes.expect(numbers.other_end().may_have(ROWS, NUMBERS));
        notes.expect(numbers.pid(pid).may_have(ROWS, NUMBERS));
        notes.ignore(is_drivers_own);
        Ok(())
    })
}

pub fn with_cli(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = cli(server.addr.port(), "ada", "secret")?;
    let texts = [
        "SELECT id, title FROM songs WHERE title <> \"secret\"",
        "INSERT INTO songs VALUES (4, 'd'), (5, 'se\\'cret') RETURNING id",
        "PREPARE p FROM 'SELECT title FROM songs'",
        "SELECT id FROM numbers",
    ];
    command.args(["--batch", "--skip-auto-rehash", "shop", "-e", &texts.join(";\n")]);
    let expected = vec![
        one("SELECT", "songs", "SELECT id, title FROM songs WHERE title <> ?").with(ROWS, 3),
        one("INSERT", "songs", "INSERT INTO songs VALUES (?, ?), (?, ?) RETURNING id").with(ROWS, 2),
    ];
    drive(run, "mariadb", &command, &server, expected)
}

pub fn with_pymysql(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = Command::new(programs::python("mysql-python")?);
    command.arg(programs::clients().join("mysql-python/client.py")).arg(server.addr.port().to_string());
    let mut expected = common("?");
    let text = "SELECT id FROM songs WHERE id = ?; UPDATE songs SET title = ? WHERE id = ?; SELECT ?";
    expected.push(
        span("SELECT songs UPDATE songs SELECT", text)
            .with("db.operation.name", "BATCH")
            .with("db.operation.batch.size", 3)
            .with("db.collection.name", "songs")
            .with(ROWS, 2),
    );
    drive(run, "PyMySQL", &command, &server, expected)
}

pub fn with_mysql2(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = Command::new(program("node", &[])?);
    command.arg(programs::node("mysql-node")?.join("client.js")).arg(server.addr.port().to_string());
    drive(run, "mysql2", &command, &server, common("?"))
}

pub fn with_go(run: &Run) -> Result<()> {
    let server = start()?;
    let mut command = Command::new(programs::go("mysql-go")?);
    command.arg(server.addr.port().to_string());
    drive(run, "go-sql-driver", &command, &server, common("?"))
}
