//! The smallest set of capabilities, by taking each away: as an ordinary user Skep sees a process of root's with the
//! whole set, and without any one of it something is missing and said. What it does not need any more it gives up.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, process, thread};

use skep::rights::RIGHTS;

use crate::harness::{Run, alone, copy_program, may_load, one_request, serve};

/// A copy of the program in a place that every user can reach.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let folder = env::temp_dir().join(format!("skep-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        assert!(copy_program(env!("CARGO_BIN_EXE_skep"), &folder.join("skep")));
        Self(folder)
    }

    /// `skep run` as nobody, with these capabilities alone.
    fn run(&self, rights: &[&str], arguments: &[&str]) -> Command {
        let set = rights.iter().fold("-all".to_owned(), |set, name| {
            set + ",+" + &name.trim_start_matches("CAP_").to_ascii_lowercase()
        });
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        for kind in ["--inh-caps", "--ambient-caps", "--bounding-set"] {
            command.arg(kind).arg(&set);
        }
        command.arg(self.0.join("skep")).args(["run", "--print", "json"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A line of a `status` file.
fn status(task: &Path, name: &str) -> String {
    let text = fs::read_to_string(task.join("status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// A server of root's to be found by its port.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || serve(listener));
    port
}

#[test]
fn an_ordinary_user_with_the_whole_set_sees_everything_and_keeps_little() {
    if !may_load("an_ordinary_user_with_the_whole_set_sees_everything_and_keeps_little") {
        return;
    }
    let _alone = alone();
    let copy = Copy::new("whole");
    let port = server();
    let names = RIGHTS.map(|right| right.name);
    let mut run = Run::start(copy.run(&names, &["--port", &port.to_string()]));
    run.wait_for("1 process selected");

    let process = PathBuf::from(format!("/proc/{}", run.child.id()));
    assert_eq!(status(&process, "NoNewPrivs"), "1");
    let watching = format!("{:016x}", 1 << 2 | 1 << 19); // CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE
    for task in fs::read_dir(process.join("task")).unwrap() {
        let task = task.unwrap().path();
        let expected =
            if task.ends_with(run.child.id().to_string()) { &watching } else { "0000000000000000" };
        for set in ["CapEff", "CapPrm", "CapInh", "CapAmb"] {
            let expected = if set == "CapEff" || set == "CapPrm" { expected } else { "0000000000000000" };
            let name = fs::read_to_string(task.join("comm")).unwrap();
            assert_eq!(status(&task, set), expected, "{set} of {name}");
        }
    }

    one_request(port, "/seen");
    run.signal(libc::SIGINT);
    let spans = std::io::read_to_string(run.child.stdout.take().unwrap()).unwrap();
    let (code, _, log) = run.end();
    assert_eq!(code, Some(0), "{log}");
    let servers: Vec<serde_json::Value> = spans
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|span: &serde_json::Value| span["kind"] == "server")
        .collect();
    assert_eq!(servers.len(), 1, "{spans}\n{log}");
    assert_eq!(servers[0]["attributes"]["url.path"], "/seen");
    assert_ne!(servers[0]["resource"]["service.name"], "unknown_service");
}

#[test]
fn without_any_one_of_them_something_is_missing_and_said() {
    if !may_load("without_any_one_of_them_something_is_missing_and_said") {
        return;
    }
    let _alone = alone();
    let copy = Copy::new("parts");
    let port = server();
    for missing in &RIGHTS {
        let names: Vec<_> =
            RIGHTS.iter().map(|right| right.name).filter(|name| *name != missing.name).collect();
        let mut run = Run::start(copy.run(&names, &["--port", &port.to_string()]));
        if missing.required {
            let (code, _, log) = run.end();
            assert_eq!(code, Some(1), "without {}: {log}", missing.name);
            assert!(log.contains(missing.name) && log.contains("not permitted"), "{log}");
        } else {
            let line = run.wait_for("without");
            assert!(line.contains(missing.name), "{line}");
            run.wait_for("0 processes selected");
            run.signal(libc::SIGINT);
            assert_eq!(run.end().0, Some(0));
        }
    }
}
