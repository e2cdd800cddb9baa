//! `skep check`: what this kernel and these rights allow, which back end would be used and why, and how to get
//! what is missing. It really loads and attaches, with nothing selected, and detaches again.

use std::fmt::Write as _;

use crate::kernel::features::{self, Features};
use crate::probe::{Backend, Hook, HookState, Probe, ProbeConfig, ProbeError};
use crate::rights;

/// The report, and whether Skep can run.
pub struct Report {
    /// Lines for a person.
    pub text: String,
    /// Whether `skep run` would work.
    pub can_run: bool,
}

/// Looks around and tries.
pub fn check(programs: bool) -> Report {
    let facts = features::features();
    let tried =
        if facts.features.iter().all(|feature| feature.state.is_ok()) { try_backends() } else { Vec::new() };
    let mut report = report(&facts, &tried, &surroundings());
    if programs {
        report.text.push_str(&instructions(&tried));
    }
    report
}

/// What came of trying a back end.
struct Tried {
    backend: &'static str,
    /// What it hooks, or why it could not be used.
    hooks: Result<Vec<Hook>, String>,
    /// Each program and the instructions that the verifier walked through for it.
    programs: Vec<(String, Option<u32>)>,
}

/// A line for each program.
fn instructions(tried: &[Tried]) -> String {
    let mut text = String::new();
    for Tried { backend, programs, .. } in tried {
        for (program, count) in programs {
            let count = count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
            // Writing to a String cannot fail.
            let _ = writeln!(text, "program {backend} {program} {count} instructions");
        }
    }
    text
}

/// Tries each back end, the best first.
fn try_backends() -> Vec<Tried> {
    Backend::ALL.map(try_backend).into()
}

fn try_backend(backend: Backend) -> Tried {
    let config = ProbeConfig { ring_bytes: 64 * 1024, backend: Some(backend), ..ProbeConfig::default() };
    let mut probe = Probe::start(&config);
    let refused = match &probe {
        Ok(probe) => probe.hooks().iter().any(|hook| matches!(hook.state, HookState::Failed(_))),
        Err(error) => matches!(error, ProbeError::Program { .. }),
    };
    if refused {
        // The verifier gives its reasons only when it is asked, because writing them takes long.
        drop(probe);
        probe = Probe::start(&ProbeConfig { verifier_log: true, ..config });
    }
    let programs = probe.as_ref().map(Probe::verified_instructions).unwrap_or_default();
    let hooks = probe.map(|probe| probe.hooks().to_vec()).map_err(|error| error.to_string());
    Tried { backend: backend.name(), hooks, programs }
}

/// Things that do not stop Skep but take something away.
fn surroundings() -> Vec<String> {
    let mut notes = Vec::new();
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok();
    if namespace.is_some_and(|link| link.to_str() != Some("pid:[4026531836]")) {
        notes.push(
            "this is a container's process namespace: start with the host's (docker run --pid host)"
                .to_owned(),
        );
    }
    for right in rights::RIGHTS.iter().filter(|right| !right.required && !rights::has(right)) {
        notes.push(format!("no {}: it is needed to {}", right.name, right.needed_to));
    }
    notes
}

fn report(facts: &Features, tried: &[Tried], notes: &[String]) -> Report {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "kernel {}, lockdown {}",
        facts.kernel_release,
        facts.lockdown.as_deref().unwrap_or("not shown")
    );
    let width = facts
        .features
        .iter()
        .map(|feature| feature.name.len())
        .max()
        .unwrap_or(0)
        .max("back end fentry".len());
    let mut line = |mark: &str, name: &str, state: &str| {
        let _ = writeln!(text, "  {mark:7} {name:width$}  {state}");
    };
    for feature in &facts.features {
        match &feature.state {
            Ok(state) => line("ok", feature.name, state),
            Err(state) => line("MISSING", feature.name, state),
        }
    }
    if tried.is_empty() {
        line("-", "load and attach", "not tried: see above");
    }
    for Tried { backend, hooks, .. } in tried {
        let name = format!("back end {backend}");
        match hooks {
            Ok(hooks) => {
                let on = hooks.iter().filter(|hook| attached(&hook.state)).count();
                let fired = hooks.iter().filter(|hook| hook.state == HookState::Fires).count();
                let state = format!("{on} hooks attached, {fired} of them seen to fire, and detached again");
                line("ok", &name, &state);
                for hook in hooks {
                    if let HookState::Failed(reason) = &hook.state {
                        line("note", "", &format!("{} is not hooked: {reason}", hook.name));
                    }
                }
            }
            Err(error) => line("no", &name, error),
        }
    }
    let best = tried.iter().find(|tried| tried.hooks.is_ok()).map(|tried| tried.backend);
    for note in notes {
        line("note", "", note);
    }
    let _ = match best {
        Some(backend) => write!(
            text,
            "\nSkep can run here. It uses the `{backend}` back end, the best of those that work.\n\
             Root is not needed: `setcap {}+ep skep` lets every user who may start it run it (docs/rights.md).\n\
             Try: sudo skep run --port 8080\n",
            rights::RIGHTS.map(|right| right.name.to_ascii_lowercase()).join(",")
        ),
        None => write!(text, "\nSkep cannot run here: mend what is missing above.\n"),
    };
    Report { text, can_run: best.is_some() }
}

fn attached(state: &HookState) -> bool {
    matches!(state, HookState::Attached | HookState::Fires)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::features::Feature;

    #[test]
    fn what_is_missing_is_said_with_its_mend() {
        let facts = Features {
            kernel_release: "6.1".into(),
            lockdown: None,
            features: vec![Feature { name: "rights", state: Err("run with sudo".into()) }],
        };
        let report = report(&facts, &[], &["a note".into()]);
        assert!(!report.can_run);
        for part in ["kernel 6.1", "MISSING rights", "run with sudo", "a note", "cannot run"] {
            assert!(report.text.contains(part), "{part} in {}", report.text);
        }
    }

    #[test]
    fn success_names_the_back_end() {
        let facts =
            Features { kernel_release: "6.1".into(), lockdown: Some("none".into()), features: vec![] };
        let tried = [
            Tried { backend: "fentry", hooks: Err("not permitted".into()), programs: vec![] },
            Tried { backend: "syscall", hooks: Ok(vec![]), programs: vec![] },
        ];
        let report = report(&facts, &tried, &[]);
        assert!(report.can_run && report.text.contains("`syscall`") && report.text.contains("not permitted"));
    }
}
