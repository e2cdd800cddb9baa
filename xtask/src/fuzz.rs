//! `cargo xtask fuzz`: every fuzz target of the pipeline for a bounded time, on the stable compiler.
//!
//! libFuzzer needs coverage counters, which `-C passes` gives on stable too, so neither a nightly nor cargo-fuzz has to
//! be installed. A crash leaves its input in target/fuzz/artifacts/TARGET, new inputs go to target/fuzz/corpus/TARGET.

use std::env::consts::ARCH;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::check::cargo;
use crate::setup;
use crate::steps::Steps;

/// What cargo-fuzz passes, without a sanitizer (the pipeline forbids unsafe code).
const FLAGS: [&str; 7] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// How long a target runs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Budget {
    /// So many inputs from a fixed seed, the same ones every time: for CI.
    Runs(u32),
    /// New inputs, upon those of earlier runs: for a search.
    Seconds(u32),
}

pub(crate) fn run(root: &Path, seconds: u32) -> ExitCode {
    let mut steps = Steps::new();
    fuzz(root, Budget::Seconds(seconds), &mut steps);
    steps.finish()
}

pub(crate) fn fuzz(root: &Path, budget: Budget, steps: &mut Steps) {
    let folder = root.join("agent/pipeline/fuzz");
    let mut targets: Vec<String> = fs::read_dir(folder.join("fuzz_targets"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    targets.sort();
    if targets.is_empty() {
        steps.skip("fuzz", "there are no targets in agent/pipeline/fuzz/fuzz_targets");
        return;
    }
    if let Err(error) = setup::cxx() {
        steps.skip("fuzz", &format!("{error:#}"));
        return;
    }
    let triple = format!("{ARCH}-unknown-linux-gnu");
    let build_dir = root.join("target").join("fuzz");
    let mut build = cargo(root);
    build
        .args(["build", "--quiet", "--locked", "--release", "--bins", "--target", &triple, "--manifest-path"])
        .arg(folder.join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", &build_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    if !steps.program("fuzz: build", &mut build) {
        return;
    }
    for name in targets {
        let (corpus, artifacts) =
            (build_dir.join("corpus").join(&name), build_dir.join("artifacts").join(&name));
        let program = build_dir.join(&triple).join("release").join(&name);
        steps.action(&format!("fuzz: {name}"), || one(&program, &corpus, &artifacts, budget));
    }
}

fn one(program: &Path, corpus: &Path, artifacts: &Path, budget: Budget) -> Result<()> {
    fs::create_dir_all(corpus).with_context(|| format!("create {}", corpus.display()))?;
    fs::create_dir_all(artifacts).with_context(|| format!("create {}", artifacts.display()))?;
    let mut command = Command::new(program);
    command.arg(format!("-artifact_prefix={}/", artifacts.display())).args([
        "-print_final_stats=1",
        "-timeout=5",
        "-rss_limit_mb=1024",
    ]);
    match budget {
        Budget::Runs(runs) => command.arg("-seed=1").arg(format!("-runs={runs}")),
        Budget::Seconds(seconds) => command.arg(format!("-max_total_time={seconds}")).arg(corpus),
    };
    let output = command.output().with_context(|| format!("run {}", program.display()))?;
    // It says much; the end of a failure and the number of runs are what matters.
    let text = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        text.lines()
            .filter(|line| line.contains("number_of_executed_units"))
            .for_each(|line| println!("{line}"));
        return Ok(());
    }
    let lines: Vec<&str> = text.lines().collect();
    println!("{}", lines[lines.len().saturating_sub(60)..].join("\n"));
    bail!("{}; the input lies in {}", output.status, artifacts.display());
}
