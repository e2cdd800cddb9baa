//! `cargo xtask test`: everything that CI runs, from a clean checkout on a machine with nothing but cargo.
//!
//! Set-up, check, tests without rights, then the ground truth: the real agent in this machine's kernel, attached to
//! real servers, as root or through sudo. The last line is `N passed, N failed, N skipped`.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::check::{self, cargo};
use crate::collector;
use crate::fuzz::{self, Budget};
use crate::setup;
use crate::steps::Steps;

pub(crate) fn run(root: &Path, full: bool) -> ExitCode {
    let mut steps = Steps::new();
    let kernel_side = steps.action("setup: compiler for the kernel programs", || {
        setup::kernel_toolchain(root).map(|toolchain| println!("{toolchain}"))
    });
    for runtime in &setup::RUNTIMES {
        if let Err(error) = setup::program(runtime) {
            steps.skip(&format!("setup: {}", runtime.command), &format!("{error:#}"));
        }
    }
    check::check(root, &mut steps);

    let mut tests = cargo(root);
    steps.tests("tests", tests.args(["test", "--quiet", "--locked", "--workspace", "--no-fail-fast"]));

    let mut services = cargo(root);
    services.args(["test", "--quiet", "--locked", "--manifest-path", check::SERVICES, "--workspace"]);
    steps.tests("tests of the demo's services", services.arg("--no-fail-fast"));
    if setup::on_path("go") {
        let mut go = Command::new("go");
        go.current_dir(root.join("apps/golang-app")).env("GOTOOLCHAIN", "local").args(["test", "./..."]);
        steps.program("tests of golang-app", &mut go);
    } else {
        steps.skip("tests of golang-app", "there is no Go");
    }

    alert_rules(root, &mut steps);

    let budget = if full { Budget::Seconds(120) } else { Budget::Runs(200_000) };
    fuzz::fuzz(root, budget, &mut steps);

    let mut build = cargo(root);
    build.args(["build", "--quiet", "--locked", "--release", "--package", "skep"]);
    let built = steps.program("build: target/release/skep", &mut build);
    // Each round has other paths, times and sizes: the seed is drawn anew.
    for round in 1..=if full { 3 } else { 1 } {
        if kernel_side && built {
            ground_truth(root, round, &mut steps);
        } else {
            steps.fail("ground truth", "there is no agent to test");
        }
    }
    if kernel_side && built {
        protocols(root, full, &mut steps);
        metrics(root, &mut steps);
        export(root, &mut steps);
    }
    if kernel_side && built {
        views(root, &mut steps);
    }
    steps.finish()
}

/// The demo's alerts, by Prometheus' own tool: when they fire, and when they stay quiet.
fn alert_rules(root: &Path, steps: &mut Steps) {
    if !setup::on_path("promtool") {
        steps.skip("alert rules of the demo", "there is no promtool: apt-get install prometheus");
        return;
    }
    let mut promtool = Command::new("promtool");
    promtool.current_dir(root.join("deploy/prometheus")).args(["check", "config", "prometheus.yaml"]);
    steps.program("configuration of the demo's Prometheus", promtool.stdout(Stdio::null()));
    let mut promtool = Command::new("promtool");
    promtool.current_dir(root.join("deploy/prometheus/tests"));
    promtool.args(["test", "rules", "services.yaml", "skep.yaml"]);
    steps.program("alert rules of the demo", promtool.stdout(Stdio::null()));
}

fn ground_truth(root: &Path, round: u32, steps: &mut Steps) {
    let name = format!("ground truth, round {round}");
    if let Some(reason) = setup::no_privileges() {
        steps.fail(&name, reason);
        return;
    }
    let mut tests = cargo(root);
    tests.args(["test", "--quiet", "--locked", "--release", "--package", "skep", "--test", "ground_truth"]);
    run_as_root(&mut tests);
    steps.tests(&name, &mut tests);
}

/// A real Collector gets what Skep exports. Where it cannot be built, its tests skip aloud.
fn export(root: &Path, steps: &mut Steps) {
    if let Some(reason) = setup::no_privileges() {
        steps.fail("export", reason);
        return;
    }
    match collector::build(root) {
        Ok(found) => println!("{found}"),
        Err(error) => println!("{error:#}"),
    }
    let mut tests = cargo(root);
    tests.args(["test", "--quiet", "--locked", "--release", "--package", "skep", "--test", "export"]);
    run_as_root(&mut tests);
    steps.tests("export", &mut tests);
}

/// Databases, HTTP/2, gRPC, DNS: real servers and clients, as far as this machine has them.
fn protocols(root: &Path, full: bool, steps: &mut Steps) {
    if let Some(reason) = setup::no_privileges() {
        steps.fail("protocols", reason);
        return;
    }
    let mut tests = cargo(root);
    tests.args([
        "test",
        "--quiet",
        "--locked",
        "--release",
        "--package",
        "skep",
        "--test",
        "protocols",
        "--",
    ]);
    if full {
        tests.arg("--full");
    }
    run_as_root(&mut tests);
    steps.tests("protocols", &mut tests);
}

/// The page in a browser, `skep top` in a terminal, the store. What cannot be had there is skipped by the tests.
fn views(root: &Path, steps: &mut Steps) {
    if let Some(reason) = setup::no_privileges() {
        steps.fail("ui", reason);
        return;
    }
    if let Err(error) = setup::browser(root) {
        steps.skip("setup: browser", &format!("{error:#}"));
    }
    let mut tests = cargo(root);
    tests.args(["test", "--quiet", "--locked", "--release", "--package", "skep", "--test", "ui"]);
    run_as_root(&mut tests);
    steps.tests("ui", &mut tests);
}

/// Metrics against the truth, a real Prometheus and hostile scrapers.
fn metrics(root: &Path, steps: &mut Steps) {
    if let Some(reason) = setup::no_privileges() {
        steps.fail("metrics", reason);
        return;
    }
    let mut tests = cargo(root);
    tests.args(["test", "--quiet", "--locked", "--release", "--package", "skep", "--test", "metrics"]);
    run_as_root(&mut tests);
    steps.tests("metrics", &mut tests);
}

/// Only the test program needs rights, not cargo: cargo runs it through what this variable names. sudo clears the
/// environment, so the path to the runtimes is handed on, with the folder that a user's path lacks and nginx lies in.
fn run_as_root(tests: &mut Command) {
    let path = format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default());
    if !setup::is_root() {
        let variable = format!("CARGO_TARGET_{}_UNKNOWN_LINUX_GNU_RUNNER", env::consts::ARCH.to_uppercase());
        tests.env(variable, format!("sudo -- env PATH={path}"));
    }
    tests.env("PATH", path);
}
