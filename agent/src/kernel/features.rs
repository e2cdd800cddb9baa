//! What this kernel and these rights allow, found by trying; the facts behind `skep check`.

use std::fs;

use crate::rights;

/// One thing that a back end needs.
#[derive(Clone, Debug)]
pub struct Feature {
    /// What it is, in the kernel's words.
    pub name: &'static str,
    /// Whether it is there, and if not, why it is needed and how to get it.
    pub state: Result<String, String>,
}

/// The facts, in the order in which a person asks for them.
#[derive(Clone, Debug)]
pub struct Features {
    /// `uname -r`
    pub kernel_release: String,
    /// Kernel lockdown: `none`, `integrity`, `confidentiality`, or unknown.
    pub lockdown: Option<String>,
    /// What was looked at without loading anything.
    pub features: Vec<Feature>,
}

/// Looks around without loading anything; what loads and attaches is told by [`crate::probe::Probe::load`].
pub fn features() -> Features {
    Features {
        kernel_release: read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".to_owned()),
        lockdown: lockdown(),
        features: vec![type_information(), rights()],
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The bracketed word of `none [integrity] confidentiality`.
fn lockdown() -> Option<String> {
    let text = read("/sys/kernel/security/lockdown")?;
    Some(text.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn type_information() -> Feature {
    let path = super::offsets::VMLINUX_BTF;
    let state = match super::offsets::read(std::path::Path::new(path), &[]) {
        Ok(_) => Ok(format!("{path}, all structure members found")),
        Err(error) => Err(error.to_string()),
    };
    Feature { name: "kernel type information (BTF)", state }
}

fn rights() -> Feature {
    let missing = rights::missing(true);
    let state = if missing.is_empty() {
        Ok("CAP_BPF and CAP_PERFMON".to_owned())
    } else {
        Err(format!("{} missing: run with sudo or as root, or see docs/rights.md", missing.join(" and ")))
    };
    Feature { name: "rights to load and attach", state }
}
