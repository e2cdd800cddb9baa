//! `cargo xtask vm-test`: the ground-truth suite in each stock kernel, for every attach back end that kernel has, as a table
//! kernels × back ends × cases. A kernel is booted once. What is built is built on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fetch::{KERNELS, Kernel, Store};
use super::machine::{Ended, Machine};
use crate::check::cargo;

/// The smoke: what differs by kernel and back end, on the suite's own servers.
const SMOKE: [&str; 6] = [
    "calls: read-write",
    "calls: many-segments",
    "calls: recvmmsg-sendmmsg",
    "calls: sendfile",
    "calls: splice",
    "model: prefork",
];
/// The verifier gives up at a million instructions; a program that comes near is a program that fails elsewhere.
const MOST_INSTRUCTIONS: u64 = 250_000;
/// How many times as long things may take in an emulated machine on a busy host.
const SLOW: &str = "20";
/// Between two lines of the guest's output a word of ours, which no program prints.
const MARK: &str = "@vm-test";

/// What to run.
pub(crate) struct Wanted<'a> {
    pub(crate) kernels: &'a [String],
    /// Empty: every one that the kernel has.
    pub(crate) backends: &'a [String],
    /// Parts of case or server; empty: the smoke, or all with `full`.
    pub(crate) cases: &'a [String],
    pub(crate) full: bool,
    /// Seconds for one kernel.
    pub(crate) timeout: u64,
}

/// What came of one case in one column of the table.
#[derive(Clone, Copy, Default)]
struct Cell {
    passed: u32,
    failed: u32,
    skipped: u32,
}

/// What came of all.
#[derive(Default)]
pub(crate) struct Outcome {
    /// By case, then by the number of the kernel and back end.
    cells: BTreeMap<String, BTreeMap<usize, Cell>>,
    columns: Vec<String>,
    /// What failed without a case.
    failures: Vec<String>,
    /// Instructions that the verifier walked through: kernel, back end, program.
    instructions: Vec<(String, String, u64)>,
}

pub(crate) fn run(root: &Path, wanted: &Wanted<'_>) -> Result<ExitCode> {
    let store = Store::new(root)?;
    let kernels: Vec<&Kernel> = if wanted.kernels.is_empty() {
        KERNELS.iter().collect()
    } else {
        wanted.kernels.iter().map(|name| super::by_name(&store, name)).collect::<Result<_>>()?
    };
    if let Err(error) = store.fetch(&kernels) {
        println!("no virtual machines: {error:#}\nvm-test: 0 passed, 0 failed, 1 skipped");
        return Ok(ExitCode::SUCCESS);
    }
    let (agent, suite) = build(root)?;
    let mut outcome = Outcome::default();
    for kernel in kernels {
        run_kernel(root, &store, kernel, wanted, (&agent, &suite), &mut outcome)?;
    }
    Ok(report(&outcome))
}

/// The agent and the suite; `SKEP_BIN` and `GROUND_TRUTH_BIN` name others.
fn build(root: &Path) -> Result<(PathBuf, PathBuf)> {
    let given = |name| std::env::var_os(name).map(PathBuf::from);
    if let (Some(agent), Some(suite)) = (given("SKEP_BIN"), given("GROUND_TRUTH_BIN")) {
        return Ok((agent.canonicalize()?, suite.canonicalize()?));
    }
    let mut command = cargo(root);
    command.args([
        "test",
        "--release",
        "--locked",
        "--package",
        "skep",
        "--test",
        "ground_truth",
        "--no-run",
    ]);
    command.args(["--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().context("run cargo")?;
    if !output.status.success() {
        bail!("the suite does not build");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let executable = |name: &str| {
        let marks = [format!("\"name\":\"{name}\""), "\"executable\":\"".to_owned()];
        let line = text.lines().find(|line| marks.iter().all(|mark| line.contains(mark)))?;
        Some(PathBuf::from(line.split_once(&marks[1])?.1.split('"').next()?))
    };
    let suite = executable("ground_truth").context("cargo names no ground_truth")?;
    let prepared =
        std::process::Command::new(&suite).arg("prepare").status().context("prepare the targets")?;
    if !prepared.success() {
        bail!("the targets do not build");
    }
    Ok((root.join("target/release/skep"), suite))
}

fn run_kernel(
    root: &Path,
    store: &Store,
    kernel: &Kernel,
    wanted: &Wanted<'_>,
    (agent, suite): (&Path, &Path),
    outcome: &mut Outcome,
) -> Result<()> {
    let label = store.label(kernel);
    println!("\n== Linux {}", store.release(kernel)?);
    let began = Instant::now();
    let machine = Machine {
        store,
        kernel,
        cpus: 2,
        memory: "4G",
        limit: Duration::from_secs(wanted.timeout),
        append: "",
    };
    let cases: Vec<String> = match (wanted.cases, wanted.full) {
        ([], false) => SMOKE.map(str::to_owned).to_vec(),
        ([], true) => Vec::new(),
        (cases, _) => cases.to_vec(),
    };
    let script = guest_script(agent, suite, wanted.backends, &cases, kernel.name, store);
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let agent = agent.to_string_lossy();
    let environment = [
        ("PATH", path.as_str()),
        ("SKEP_BIN", agent.as_ref()),
        ("GROUND_TRUTH_SLOW", SLOW),
        ("GROUND_TRUTH_PREPARED", "1"),
    ];
    let mut column = None;
    let mut backends = BTreeSet::new();
    let ended = machine.run(root, &environment, &["sh", "-c", &script], |line| {
        if let Some(rest) = line.strip_prefix(MARK) {
            let words: Vec<&str> = rest.split_whitespace().collect();
            match words.as_slice() {
                ["backend", backend] => {
                    println!("-- {label} {backend}, {:.0} s after the start", began.elapsed().as_secs_f32());
                    backends.insert((*backend).to_owned());
                    outcome.columns.push(format!("{label} {backend}"));
                    column = Some(outcome.columns.len() - 1);
                }
                ["ended", "0"] => column = None,
                ["ended", code] => {
                    let of = column.take().map(|column| outcome.columns[column].clone()).unwrap_or_default();
                    if *code != "1" {
                        outcome.failures.push(format!("{of}: the suite ended with {code}"));
                    }
                }
                _ => {}
            }
            return;
        }
        if let Some((backend, program, count)) = instructions(line) {
            outcome.instructions.push((format!("{label} {backend}"), program.to_owned(), count));
            return;
        }
        if let Some((case, cell)) = column.and_then(|_| row(line)) {
            let cells = outcome.cells.entry(case).or_default().entry(column.unwrap_or_default()).or_default();
            cells.passed += cell.passed;
            cells.failed += cell.failed;
            cells.skipped += cell.skipped;
            if cell.failed == 0 {
                return;
            }
        }
        // The suite's own count would be taken for ours.
        if !line.starts_with("ground truth: ") && !line.starts_with("case  ") {
            println!("{line}");
        }
    })?;
    match ended {
        Ended::Code(0) => {}
        Ended::Code(code) => outcome.failures.push(format!("{label}: the guest's script ended with {code}")),
        Ended::TimedOut => outcome.failures.push(format!("{label}: not over after {} s", wanted.timeout)),
        Ended::Died => outcome.failures.push(format!("{label}: the machine died")),
    }
    if backends.is_empty() {
        outcome.failures.push(format!("{label}: no back end works"));
    }
    println!("-- {label}: {:.0} s", began.elapsed().as_secs_f32());
    Ok(())
}

/// What the guest runs: which back ends there are, then the suite for each.
fn guest_script(
    agent: &Path,
    suite: &Path,
    backends: &[String],
    cases: &[String],
    name: &str,
    store: &Store,
) -> String {
    let (agent, suite) = (agent.display(), suite.display());
    let cases: Vec<String> = cases.iter().map(|case| format!("'{case}'")).collect();
    let cases = cases.join(" ");
    let keep = store.folder.join("out").join(format!("btf-{name}"));
    let wanted = if backends.is_empty() {
        "$(sed -n 's/^ *ok *back end \\([a-z]*\\) .*/\\1/p' /tmp/check)".to_owned()
    } else {
        backends.join(" ")
    };
    format!(
        "cp /sys/kernel/btf/vmlinux {keep} 2>/dev/null\n\
         {agent} check --programs >/tmp/check 2>&1\n\
         cat /tmp/check\n\
         for backend in {wanted}; do\n\
         echo '{MARK}' backend $backend\n\
         SKEP_BACKEND=$backend {suite} {cases} 2>&1\n\
         echo '{MARK}' ended $?\n\
         done",
        keep = keep.display()
    )
}

/// `program BACKEND NAME N instructions`, as `skep check --programs` prints it.
fn instructions(line: &str) -> Option<(&str, &str, u64)> {
    let mut words = line.split_whitespace();
    if words.next()? != "program" {
        return None;
    }
    let (backend, program, count) = (words.next()?, words.next()?, words.next()?.parse().ok()?);
    (words.next()? == "instructions").then_some((backend, program, count))
}

/// A row of the suite's table: `case server requests missing extra wrong state`, the first two of fixed width.
fn row(line: &str) -> Option<(String, Cell)> {
    let case = line.get(..34)?.trim_end();
    let rest: Vec<&str> = line.get(34..)?.split_whitespace().collect();
    let numbers = rest.iter().filter(|word| word.parse::<u64>().is_ok()).count();
    if case.is_empty() || case == "case" || numbers < 4 {
        return None;
    }
    let mut cell = Cell::default();
    if rest.contains(&"FAILED") {
        cell.failed = 1;
    } else if rest.contains(&"skipped:") {
        cell.skipped = 1;
    } else {
        cell.passed = 1;
    }
    Some((case.to_owned(), cell))
}

fn report(outcome: &Outcome) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, outcome.failures.len() as u32, 0);
    println!("\nInstructions that the verifier walked through, most of a back end:");
    let mut most: BTreeMap<&str, (&str, u64)> = BTreeMap::new();
    for (column, program, count) in &outcome.instructions {
        let entry = most.entry(column).or_insert((program, 0));
        if *count > entry.1 {
            *entry = (program, *count);
        }
    }
    for (column, (program, count)) in most {
        let mark = if count > MOST_INSTRUCTIONS { "  FAILED" } else { "" };
        println!("  {column:<16} {count:>8}  {program}{mark}");
        failed += u32::from(count > MOST_INSTRUCTIONS);
    }
    println!("\nPassed of run, by case; each case may run on several servers.");
    let width = outcome.columns.iter().map(String::len).max().unwrap_or(0).max(8);
    let titles: Vec<String> = outcome.columns.iter().map(|column| format!("{column:>width$}")).collect();
    println!("{:<36}{}", "case", titles.join("  "));
    for (case, cells) in &outcome.cells {
        let mut line = format!("{case:<36}");
        for column in 0..outcome.columns.len() {
            let text = match cells.get(&column) {
                None => "-".to_owned(),
                Some(Cell { passed: ok, failed: bad, skipped: left }) => {
                    (passed, failed, skipped) = (passed + ok, failed + bad, skipped + left);
                    match (ok + bad, bad) {
                        (0, _) => "skipped".to_owned(),
                        (all, 0) => format!("{all}/{all}"),
                        (all, _) => format!("{ok}/{all} FAIL"),
                    }
                }
            };
            line.push_str(&format!("{text:>width$}  "));
        }
        println!("{}", line.trim_end());
    }
    for failure in &outcome.failures {
        println!("FAILED  {failure}");
    }
    println!("\nvm-test: {passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::{instructions, row};

    #[test]
    fn rows_of_the_suite_are_told_from_other_lines() {
        let line = "calls: sendfile                    families             80        0      0      0  ";
        assert!(row(line).is_some_and(|(case, cell)| case == "calls: sendfile" && cell.passed == 1));
        let line =
            "calls: sendfile                    families             80        2      0      0  FAILED";
        assert!(row(line).is_some_and(|(_, cell)| cell.failed == 1));
        for line in
            ["", "case                               server         requests  missing  extra  wrong", "12 s"]
        {
            assert!(row(line).is_none(), "{line}");
        }
    }

    #[test]
    fn instruction_counts_are_read() {
        assert_eq!(
            instructions("program fentry tcp_sendmsg_exit 4653 instructions"),
            Some(("fentry", "tcp_sendmsg_exit", 4653))
        );
        assert_eq!(instructions("program fentry x"), None);
    }
}
