//! Steps of a verb: run one after the other, output streamed, failures collected, counts summed.
//!
//! A step's failure never hides the later ones. Test programs are counted by the lines that they print
//! (`test result: …` of cargo's harness, or our own `…: N passed, N failed, N skipped`); any other step counts as one.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// What came of the steps so far.
pub(crate) struct Steps {
    counts: Counts,
    remarks: Vec<String>,
    started: Instant,
}

impl Steps {
    pub(crate) fn new() -> Self {
        Self { counts: Counts::default(), remarks: Vec::new(), started: Instant::now() }
    }

    /// A step that is one program: passed if it exits 0.
    pub(crate) fn program(&mut self, name: &str, command: &mut Command) -> bool {
        self.action(name, || match command.stdin(Stdio::null()).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(status.to_string()),
            Err(error) => Err(format!("run {:?}: {error}", command.get_program())),
        })
    }

    /// A step that is a function: passed if it returns Ok.
    pub(crate) fn action<E: std::fmt::Display>(
        &mut self,
        name: &str,
        action: impl FnOnce() -> Result<(), E>,
    ) -> bool {
        let begin = self.begin(name);
        match action() {
            Ok(()) => {
                self.counts.passed += 1;
                println!("-- {name}: ok, {:.1} s", begin.elapsed().as_secs_f32());
                true
            }
            Err(error) => {
                self.fail(name, &format!("{error:#}"));
                false
            }
        }
    }

    /// A step whose program says how many tests it ran.
    pub(crate) fn tests(&mut self, name: &str, command: &mut Command) -> bool {
        let begin = self.begin(name);
        match counted(command) {
            Ok((mut counts, success)) => {
                let silent = counts == Counts::default();
                if (!success && counts.failed == 0) || silent {
                    // It did not build, died half-way, or ran nothing at all.
                    counts.failed += 1;
                }
                self.counts.passed += counts.passed;
                self.counts.failed += counts.failed;
                self.counts.skipped += counts.skipped;
                let Counts { passed, failed, skipped } = counts;
                let seconds = begin.elapsed().as_secs_f32();
                println!("-- {name}: {passed} passed, {failed} failed, {skipped} skipped, {seconds:.1} s");
                if failed > 0 {
                    let why = if silent { "no test ran".to_owned() } else { format!("{failed} failed") };
                    self.remarks.push(format!("FAILED  {name}: {why}"));
                }
                failed == 0
            }
            Err(error) => {
                self.fail(name, &error);
                false
            }
        }
    }

    pub(crate) fn skip(&mut self, name: &str, reason: &str) {
        self.counts.skipped += 1;
        println!("-- {name}: SKIPPED, {reason}");
        self.remarks.push(format!("skipped {name}: {reason}"));
    }

    pub(crate) fn fail(&mut self, name: &str, reason: &str) {
        self.counts.failed += 1;
        println!("-- {name}: FAILED, {reason}");
        self.remarks.push(format!("FAILED  {name}: {reason}"));
    }

    /// Repeats what failed and what was skipped, then the count line, always the last one.
    pub(crate) fn finish(self) -> ExitCode {
        println!("\n== {:.0} s in all", self.started.elapsed().as_secs_f32());
        for remark in &self.remarks {
            println!("{remark}");
        }
        let Counts { passed, failed, skipped } = self.counts;
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn begin(&self, name: &str) -> Instant {
        println!("\n== {name}");
        Instant::now()
    }
}

/// Runs a test program: its lines are passed on and counted.
fn counted(command: &mut Command) -> Result<(Counts, bool), String> {
    let program = command.get_program().to_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("run {}: {error}", program.display()))?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        let mut reader = BufReader::new(stdout);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).map_err(|error| error.to_string())? > 0 {
            // Where nobody reads our output any more, the count still matters.
            let _ = std::io::stdout().write_all(&line);
            if let Some(more) = counts_in(&String::from_utf8_lossy(&line)) {
                counts.passed += more.passed;
                counts.failed += more.failed;
                counts.skipped += more.skipped;
            }
            line.clear();
        }
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    Ok((counts, status.success()))
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; …` or `ground truth: 3 passed, 0 failed, 1 skipped`.
fn counts_in(line: &str) -> Option<Counts> {
    let (head, rest) = line.trim_end().rsplit_once(": ")?;
    let rest = if head.ends_with("test result") { rest.split_once(". ")?.1 } else { rest };
    let mut words = rest.split([' ', ',', ';']).filter(|word| !word.is_empty());
    let mut next = |label: &[&str]| -> Option<u64> {
        let number = words.next()?.parse().ok()?;
        label.contains(&words.next()?).then_some(number)
    };
    Some(Counts {
        passed: next(&["passed"])?,
        failed: next(&["failed"])?,
        skipped: next(&["ignored", "skipped"])?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_both_kinds_are_counted() {
        let three = Some(Counts { passed: 3, failed: 2, skipped: 1 });
        assert_eq!(
            counts_in(
                "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s\n"
            ),
            three
        );
        assert_eq!(counts_in("ground truth: 3 passed, 2 failed, 1 skipped\n"), three);
    }

    #[test]
    fn other_lines_are_not_counted() {
        for line in ["", "test a ... ok", "-- step: ok, 1.0 s", "error: 3 files", "note: 3 passed by"] {
            assert_eq!(counts_in(line), None, "{line}");
        }
    }
}
