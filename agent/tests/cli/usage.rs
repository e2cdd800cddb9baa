//! Flags, help, exit codes and the errors that a run may begin with.

use std::process::Command;
use std::time::Instant;

use crate::harness::{DEADLINE, Target, check_failure, copy_program, may_load, output};

#[test]
fn help_shows_examples_and_exit_codes() {
    let help = output(&["--help"]);
    assert!(help.status.success());
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("sudo skep run --port 8080"), "{text}");
    let run = String::from_utf8(output(&["run", "--help"]).stdout).unwrap();
    assert!(run.contains("Exit codes") && run.contains("--duration"), "{run}");
    assert!(text.lines().chain(run.lines()).all(|line| line.len() <= 110), "{text}{run}");
}

#[test]
fn bad_usage_exits_2_and_names_the_flag() {
    check_failure(&output(&["run"]), 2, &["--pid", "--port", "--exe"]);
    check_failure(&output(&["run", "--port", "99999"]), 2, &["--port 99999"]);
    check_failure(&output(&["run", "--exe", "[a"]), 2, &["--exe [a"]);
    check_failure(&output(&["run", "--pid", "1", "--duration", "0"]), 2, &["--duration"]);
    check_failure(
        &output(&["run", "--pid", "1", "--route", "users"]),
        2,
        &["--route", "`users`", "must begin with `/`"],
    );
    assert_eq!(output(&["run", "--pid", "x"]).status.code(), Some(2));
    assert_eq!(output(&["fly"]).status.code(), Some(2));
    assert_eq!(output(&[]).status.code(), Some(2));
}

#[test]
fn completions_are_there_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = output(&["completions", shell]);
        assert!(script.status.success());
        assert!(String::from_utf8(script.stdout).unwrap().contains("summary"), "{shell}");
    }
}

#[test]
fn a_pid_that_does_not_exist_is_named() {
    check_failure(&output(&["run", "--pid", "4194304"]), 1, &["process 4194304 does not exist", "--port"]);
}

#[test]
fn a_pid_that_has_ended_is_named() {
    let mut zombie = Command::new("true").spawn().unwrap();
    let deadline = Instant::now() + DEADLINE;
    let stat = format!("/proc/{}/stat", zombie.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
        assert!(Instant::now() < deadline);
    }
    let pid = zombie.id().to_string();
    check_failure(&output(&["run", "--pid", &pid]), 1, &["process", &pid, "has ended"]);
    zombie.wait().unwrap();
}

#[test]
fn a_kernel_without_btf_is_told_what_it_lacks() {
    let target = Target::start();
    let run = output(&["run", "--pid", &target.pid(), "--btf", "/nowhere/vmlinux"]);
    check_failure(&run, 1, &["/nowhere/vmlinux", "CONFIG_DEBUG_INFO_BTF"]);
}

#[test]
fn without_rights_the_mend_is_named() {
    if !may_load("without_rights_the_mend_is_named (becomes another user)") {
        return;
    }
    let target = Target::start();
    let nobody = |arguments: &[&str]| {
        use std::os::unix::process::CommandExt;
        // The build folder may be closed to others; /proc/self/exe of a copy is not.
        let copy = std::env::temp_dir().join(format!("skep-cli-{}", std::process::id()));
        assert!(copy_program(env!("CARGO_BIN_EXE_skep"), &copy));
        let output = Command::new(&copy).args(arguments).uid(65_534).gid(65_534).output();
        std::fs::remove_file(&copy).unwrap();
        output.unwrap()
    };
    check_failure(&nobody(&["run", "--pid", &target.pid()]), 1, &["not permitted", "root", "CAP_BPF"]);
    let check = nobody(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    assert!(String::from_utf8(check.stdout).unwrap().contains("MISSING"));
}
