//! Programs that tests build or run: whether this machine has them, and what is made of sources. Build products live
//! in cargo's scratch folder for tests; nothing is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A folder for build products.
pub fn scratch() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
}

/// Whether a program can be started at all.
pub fn have(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Runs a build step; what it says is shown only when it fails.
pub fn build(command: &mut Command) -> Result<(), String> {
    if std::env::var_os("GROUND_TRUTH_PREPARED").is_some() {
        return Ok(());
    }
    let what = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let last = text.trim().lines().last().unwrap_or("no message").to_owned();
    Err(format!("{what}: {last}"))
}

/// A program that the targets need, or the reason for leaving one out.
pub fn need(program: &str) -> Result<(), String> {
    if have(program) { Ok(()) } else { Err(format!("{program} is not installed")) }
}

/// Builds a Go program; the go command knows by itself whether there is anything to do.
pub fn build_go(source: &Path, name: &str) -> Result<PathBuf, String> {
    let program = scratch().join(name);
    build(Command::new("go").args(["build", "-o"]).arg(&program).arg(".").current_dir(source))?;
    Ok(program)
}

/// A virtual environment with what a target asks for; made once.
pub fn python_with(requirements: &Path, name: &str) -> Result<PathBuf, String> {
    need("python3")?;
    let folder = scratch().join(format!("venv-{name}"));
    let (python, done) = (folder.join("bin/python"), folder.join("requirements.txt"));
    let wanted =
        std::fs::read(requirements).map_err(|error| format!("{}: {error}", requirements.display()))?;
    if std::fs::read(&done).ok().as_ref() != Some(&wanted) {
        build(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let mut pip = Command::new(&python);
        build(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(requirements))?;
        std::fs::write(&done, wanted).map_err(|error| error.to_string())?;
    }
    Ok(python)
}

/// The folder with the targets' sources.
pub fn targets() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../apps/targets")
}
