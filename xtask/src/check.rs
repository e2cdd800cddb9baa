//! `cargo xtask check`: format, lints of both sides, licences and sources, unused dependencies, spelling.
//!
//! Each is a step of its own, so one failure does not hide the others; what cannot run here is skipped aloud.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Result, bail};

use crate::ebpf_toolchain;
use crate::setup;
use crate::steps::Steps;

/// Workspaces beside the root's, where they exist.
const OTHER_WORKSPACES: [&str; 4] = [
    "agent-ebpf/Cargo.toml",
    "agent/pipeline/fuzz/Cargo.toml",
    "apps/Cargo.toml",
    "apps/targets/rust/Cargo.toml",
];

/// The demo's services.
pub(crate) const SERVICES: &str = "apps/Cargo.toml";

pub(crate) fn run(root: &Path) -> ExitCode {
    let mut steps = Steps::new();
    check(root, &mut steps);
    steps.finish()
}

pub(crate) fn check(root: &Path, steps: &mut Steps) {
    steps.action("check: tools", || setup::lint_tools(root).map(drop));
    steps.program("check: format", cargo(root).args(["fmt", "--all", "--check"]));
    for manifest in OTHER_WORKSPACES.iter().filter(|manifest| root.join(manifest).is_file()) {
        let mut format = cargo(root);
        format.args(["fmt", "--all", "--check", "--manifest-path", manifest]);
        steps.program(&format!("check: format of {manifest}"), &mut format);
    }
    let mut clippy = cargo(root);
    clippy.args(["clippy", "--quiet", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]);
    steps.program("check: clippy", &mut clippy);
    steps.action("check: kernel side", || kernel_side(root));
    let mut clippy = cargo(root);
    clippy.args([
        "clippy",
        "--quiet",
        "--locked",
        "--manifest-path",
        SERVICES,
        "--workspace",
        "--all-targets",
    ]);
    steps.program("check: clippy of the demo's services", clippy.args(["--", "-D", "warnings"]));

    for manifest in ["Cargo.toml", "agent-ebpf/Cargo.toml"] {
        let mut deny = deny(root, manifest);
        deny.args(["check", "--hide-inclusion-graph", "licenses", "sources", "bans"]);
        steps.program(&format!("check: licences and sources of {manifest}"), &mut deny);
    }
    advisories(root, steps);

    let mut machete = tool(root, "cargo-machete");
    steps.program("check: unused dependencies", machete.args(["--skip-target-dir", "."]));
    steps.program("check: spelling", tool(root, "typos").args(["--config", "typos.toml"]));
}

/// Clippy on the kernel programs with the compiler that builds them.
fn kernel_side(root: &Path) -> Result<()> {
    let toolchain = setup::kernel_toolchain(root)?;
    println!("{toolchain}");
    if let Err(error) = setup::kernel_clippy(root) {
        bail!("the kernel side is not linted: {error:#}");
    }
    let target_dir = root.join("target").join("bpf");
    let mut clippy = toolchain.cargo(root, &target_dir, std::env::consts::ARCH, "clippy");
    let status = clippy.args(["--quiet", "--release", "--", "-D", "warnings"]).status()?;
    if status.success() { Ok(()) } else { bail!("clippy: {status}") }
}

/// Known vulnerabilities need a database from the network; without it the step says so.
fn advisories(root: &Path, steps: &mut Steps) {
    const NAME: &str = "check: advisories";
    let fetched = deny(root, "Cargo.toml").args(["fetch", "db"]).output();
    if !fetched.is_ok_and(|output| output.status.success()) {
        steps.skip(NAME, "the advisory database cannot be fetched here");
        return;
    }
    for manifest in ["Cargo.toml", "agent-ebpf/Cargo.toml"] {
        let mut deny = deny(root, manifest);
        steps
            .program(&format!("{NAME} of {manifest}"), deny.args(["check", "--disable-fetch", "advisories"]));
    }
}

fn deny(root: &Path, manifest: &str) -> Command {
    let mut deny = tool(root, "cargo-deny");
    deny.arg("--manifest-path").arg(root.join(manifest)).arg("--config").arg(root.join("deny.toml"));
    deny
}

fn tool(root: &Path, name: &str) -> Command {
    let mut command = Command::new(ebpf_toolchain::tools_root(root).join("bin").join(name));
    command.current_dir(root);
    command
}

pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(setup::cargo());
    command.current_dir(root);
    command
}
