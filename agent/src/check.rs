//! `skep check`: what this kernel and these rights allow, which back end would be used and why, and how to get
//! what is missing. It really loads and attaches, with nothing selected, and detaches again.

use std::fmt::Write as _;

use crate::kernel::features::{self, Features};
use crate::probe::{Probe, ProbeConfig};
use crate::rights;

/// The report, and whether Skep can run.
pub struct Report {
    /// Lines for a person.
    pub text: String,
    /// Whether `skep run` would work.
    pub can_run: bool,
}

/// Looks around and tries.
pub fn check() -> Report {
    let facts = features::features();
    let tried =
        if facts.features.iter().all(|feature| feature.state.is_ok()) { Some(try_backend()) } else { None };
    report(&facts, tried, &surroundings())
}

/// Name of the back end that attached, or why it could not.
fn try_backend() -> Result<&'static str, String> {
    let config = ProbeConfig { ring_bytes: 64 * 1024, ..ProbeConfig::default() };
    let mut probe = Probe::load(&config).map_err(|error| error.to_string())?;
    probe.attach().map_err(|error| error.to_string())?;
    Ok(probe.backend())
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

fn report(facts: &Features, tried: Option<Result<&'static str, String>>, notes: &[String]) -> Report {
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
        .max("load and attach".len());
    let mut line = |mark: &str, name: &str, state: &str| {
        let _ = writeln!(text, "  {mark:7} {name:width$}  {state}");
    };
    for feature in &facts.features {
        match &feature.state {
            Ok(state) => line("ok", feature.name, state),
            Err(state) => line("MISSING", feature.name, state),
        }
    }
    let can_run = match &tried {
        Some(Ok(backend)) => {
            line(
                "ok",
                "load and attach",
                &format!("back end `{backend}`: loaded, attached and detached again"),
            );
            true
        }
        Some(Err(error)) => {
            line("MISSING", "load and attach", error);
            false
        }
        None => {
            line("-", "load and attach", "not tried: see above");
            false
        }
    };
    for note in notes {
        line("note", "", note);
    }
    let _ = match tried {
        Some(Ok(backend)) => write!(
            text,
            "\nSkep can run here. It uses the `{backend}` back end, the only one of this version: it needs \
             tracepoints and BTF only, and works under lockdown.\n\
             Root is not needed: `setcap {}+ep skep` lets every user who may start it run it (docs/rights.md).\n\
             Try: sudo skep run --port 8080\n",
            rights::RIGHTS.map(|right| right.name.to_ascii_lowercase()).join(",")
        ),
        _ => write!(text, "\nSkep cannot run here: mend what is missing above.\n"),
    };
    Report { text, can_run }
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
        let report = report(&facts, None, &["a note".into()]);
        assert!(!report.can_run);
        for part in ["kernel 6.1", "MISSING rights", "run with sudo", "a note", "cannot run"] {
            assert!(report.text.contains(part), "{part} in {}", report.text);
        }
    }

    #[test]
    fn success_names_the_back_end() {
        let facts =
            Features { kernel_release: "6.1".into(), lockdown: Some("none".into()), features: vec![] };
        let report = report(&facts, Some(Ok("syscall")), &[]);
        assert!(report.can_run && report.text.contains("`syscall`"));
    }
}
