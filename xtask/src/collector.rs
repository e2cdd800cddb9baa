//! A real OpenTelemetry Collector for tests, benchmarks and the demo: apps/collector, built once into target/tools.
//!
//! Its modules come from Go's proxy: two minutes on two cores the first time, nothing afterwards. It is built again when
//! its sources differ from those that it was built of.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::{ebpf_toolchain, setup};

const SOURCES: [&str; 3] = ["main.go", "go.mod", "go.sum"];

/// Where it is, whether built or not.
pub(crate) fn path(root: &Path) -> PathBuf {
    ebpf_toolchain::tools_root(root).join("bin/skep-collector")
}

/// Builds it unless it is there.
pub(crate) fn build(root: &Path) -> Result<String> {
    let source = root.join("apps/collector");
    let mut stamp = Vec::new();
    for name in SOURCES {
        stamp.extend(fs::read(source.join(name)).with_context(|| format!("read apps/collector/{name}"))?);
    }
    let (program, built_of) = (path(root), ebpf_toolchain::tools_root(root).join("skep-collector.sources"));
    if program.is_file() && fs::read(&built_of).is_ok_and(|before| before == stamp) {
        return Ok("OpenTelemetry Collector: there".to_owned());
    }
    let go = setup::which("go").context("the OpenTelemetry Collector needs go, which is not installed")?;
    let mut command = Command::new(go);
    command
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(&source)
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null());
    println!("building the OpenTelemetry Collector from its Go modules, about two minutes");
    let output = command.output().context("run go build")?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        bail!(
            "the OpenTelemetry Collector cannot be built: {}",
            text.trim().lines().last().unwrap_or("go says nothing")
        );
    }
    fs::write(&built_of, stamp).with_context(|| format!("write {}", built_of.display()))?;
    Ok("OpenTelemetry Collector: built".to_owned())
}
