//! Finds a compiler for the kernel programs and builds them.
//!
//! In: what is installed (a rustup nightly with rust-src, or Debian's rustc with its prebuilt BPF core; bpf-linker).
//! Out: the path of the object, or one text that says exactly what to install. Std only, because `agent/build.rs`
//! includes this file too. It installs nothing; `cargo xtask setup` does.

use std::env;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The target triple of the kernel programs; every machine that Skep runs on is little-endian.
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";

/// Set to `nightly` or `debian` to be independent of what else is installed.
pub(crate) const CHOICE_VARIABLE: &str = "SKEP_BPF_TOOLCHAIN";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// A rustup toolchain by its name; core is built from rust-src.
    Nightly { name: String },
    /// Debian's packages; core comes prebuilt.
    Debian,
}

#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    /// As `rustc --version` says it.
    pub(crate) version: String,
    pub(crate) linker: PathBuf,
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.compiler {
            Compiler::Nightly { name } => write!(f, "{} with rust-src (rustup's {name})", self.version)?,
            Compiler::Debian => write!(f, "{} with core for {BPF_TARGET} (Debian's packages)", self.version)?,
        }
        write!(f, ", linker {}", self.linker.display())
    }
}

/// Builds the kernel programs into `target_dir` and returns the object's path. Cargo decides whether there is
/// anything to do.
pub(crate) fn build(
    toolchain: &Toolchain,
    root: &Path,
    target_dir: &Path,
    arch: &str,
) -> Result<PathBuf, String> {
    let mut command = toolchain.cargo(root, target_dir, arch, "build");
    command.arg("--release");
    let status = command.status().map_err(|error| format!("run {:?}: {error}", command.get_program()))?;
    if !status.success() {
        return Err(format!("the kernel programs do not build with {toolchain}: {status}"));
    }
    let object = target_dir.join(BPF_TARGET).join("release").join("skep");
    if object.is_file() {
        Ok(object)
    } else {
        Err(format!("{} is missing after the build", object.display()))
    }
}

/// A nightly with rust-src if there is one, else Debian's packages; the error says what to install.
pub(crate) fn find(root: &Path) -> Result<Toolchain, String> {
    let choice = env::var(CHOICE_VARIABLE).unwrap_or_default();
    let mut missing = Vec::new();
    if choice != "debian" {
        match find_nightly(root) {
            Ok(found) => return Ok(found),
            Err(reason) => missing.push(format!("  nightly: {reason}")),
        }
    }
    if choice != "nightly" {
        match find_debian(root) {
            Ok(found) => return Ok(found),
            Err(reason) => missing.push(format!("  Debian:  {reason}")),
        }
    }
    Err(format!(
        "no compiler for the kernel programs:\n{}\n\
         Let `cargo xtask setup` install it, or do one of these by hand:\n  \
         anywhere:  rustup toolchain install nightly --profile minimal --component rust-src\n             \
         cargo binstall bpf-linker    (or put bpf-linker's release binary on PATH)\n  \
         Debian 12: sudo apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf llvm-22-dev\n             \
         LLVM_SYS_221_PREFIX=/usr/lib/llvm-22 LLVM_PREFIX=/usr/lib/llvm-22 \\\n               \
         cargo install bpf-linker --locked --version 0.13.0 --no-default-features --features llvm-22 --root {}",
        missing.join("\n"),
        tools_root(root).display(),
    ))
}

/// Where the project's own tools are installed.
pub(crate) fn tools_root(root: &Path) -> PathBuf {
    root.join("target").join("tools")
}

/// Where `cargo xtask setup` puts the bpf-linker for a nightly, whose LLVM may be newer than Debian's.
pub(crate) fn nightly_tools_root(root: &Path) -> PathBuf {
    tools_root(root).join("nightly")
}

impl Toolchain {
    /// `cargo VERB` in agent-ebpf with this toolchain: flags, linker and target are set, the environment of an
    /// outer cargo is taken away (it would change compiler, wrapper and target directory).
    pub(crate) fn cargo(&self, root: &Path, target_dir: &Path, arch: &str, verb: &str) -> Command {
        let mut command = self.bare_cargo(verb);
        let flags = [
            "-C".to_owned(),
            format!("linker={}", self.linker.display()),
            "-C".to_owned(),
            "link-arg=--btf".to_owned(),
            "-C".to_owned(),
            "debuginfo=2".to_owned(),
            format!("--cfg=bpf_target_arch=\"{arch}\""),
        ];
        if matches!(self.compiler, Compiler::Nightly { .. }) {
            command.arg("-Zbuild-std=core");
        }
        command
            .current_dir(root.join("agent-ebpf"))
            .env("CARGO_TARGET_DIR", target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .args(["--locked", "--target", BPF_TARGET]);
        command
    }

    pub(crate) fn has_clippy(&self) -> bool {
        output(self.bare_cargo("clippy").arg("--version")).is_some()
    }

    fn bare_cargo(&self, verb: &str) -> Command {
        let mut command = match &self.compiler {
            Compiler::Nightly { name } => {
                let mut command = Command::new("rustup");
                command.args(["run", name, "cargo", verb]);
                clean_environment(&mut command);
                command
            }
            Compiler::Debian => {
                // Debian's cargo looks for its subcommands on PATH and would find rustup's: name them.
                let program = if verb == "clippy" { "/usr/bin/cargo-clippy" } else { DEBIAN_CARGO };
                let mut command = Command::new(program);
                command.arg(verb);
                clean_environment(&mut command);
                command.env("CARGO", DEBIAN_CARGO).env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1");
                command
            }
        };
        command.stdin(Stdio::null());
        command
    }
}

fn find_nightly(root: &Path) -> Result<Toolchain, String> {
    let listed = output(Command::new("rustup").args(["toolchain", "list"]))
        .ok_or("rustup is not on PATH (or does not answer)")?;
    let mut reason = "rustup has no nightly toolchain".to_owned();
    for name in listed.lines().filter_map(|line| line.split_whitespace().next()) {
        if !name.starts_with("nightly") {
            continue;
        }
        let Some(sysroot) = output(rustup_rustc(name).args(["--print", "sysroot"])) else {
            continue;
        };
        if !Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file() {
            reason = format!("{name} has no rust-src");
            continue;
        }
        let own = nightly_tools_root(root);
        let Some(linker) = find_linker(&[], &[&own.join("bin")]) else {
            reason = format!("{name} has rust-src, but bpf-linker is missing");
            continue;
        };
        let version = output(rustup_rustc(name).arg("--version")).unwrap_or_default();
        return Ok(Toolchain {
            compiler: Compiler::Nightly { name: name.to_owned() },
            version: version.trim().to_owned(),
            linker,
        });
    }
    Err(reason)
}

fn find_debian(root: &Path) -> Result<Toolchain, String> {
    let version = debian_compiler()?;
    let own = tools_root(root).join("bin");
    let linker = find_linker(&[&own], &[])
        .ok_or_else(|| format!("{version} can compile for {BPF_TARGET}, but bpf-linker is missing"))?;
    Ok(Toolchain { compiler: Compiler::Debian, version, linker })
}

/// The version of Debian's rustc, if it and its prebuilt core fit together.
pub(crate) fn debian_compiler() -> Result<String, String> {
    let version = output(Command::new(DEBIAN_RUSTC).arg("--version"))
        .ok_or_else(|| format!("{DEBIAN_RUSTC} is missing (package rustc-web)"))?;
    let version = version.trim().to_owned();
    let minor: u32 = version
        .strip_prefix("rustc 1.")
        .and_then(|rest| rest.split('.').next())
        .and_then(|minor| minor.parse().ok())
        .unwrap_or(0);
    if minor < 88 {
        return Err(format!("{DEBIAN_RUSTC} is {version}, 1.88 is needed (package rustc-web)"));
    }
    if !Path::new(DEBIAN_CARGO).is_file() {
        return Err(format!("{DEBIAN_CARGO} is missing (package cargo-web)"));
    }
    if core_fits() {
        Ok(version)
    } else {
        Err(format!("{version} has no fitting core for {BPF_TARGET} (package libstd-rust-web-dev-bpf)"))
    }
}

/// A core of another version than the compiler's is found, but refused: so compile something. The output goes to a
/// folder of its own, because rustc renames over what it writes (as root even over /dev/null).
fn core_fits() -> bool {
    let folder = env::temp_dir().join(format!("skep-bpf-core-{}", std::process::id()));
    let source = folder.join("probe.rs");
    let mut rustc = Command::new(DEBIAN_RUSTC);
    clean_environment(&mut rustc);
    rustc
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["--crate-type=lib", "--emit=metadata", "--target", BPF_TARGET, "--out-dir"])
        .args([&folder, &source]);
    let fits = fs::create_dir(&folder).is_ok()
        && fs::write(&source, "#![no_std]\npub fn some(x: u8) -> Option<u8> { Some(x) }\n").is_ok()
        && output(&mut rustc).is_some();
    // Nothing depends on this: a temporary folder of two small files may stay.
    let _ = fs::remove_dir_all(&folder);
    fits
}

/// The major version of the LLVM that Debian's rustc uses: bpf-linker must be built with the same one.
pub(crate) fn debian_llvm_major() -> Option<u32> {
    let verbose = output(Command::new(DEBIAN_RUSTC).arg("-vV"))?;
    verbose.lines().find_map(|line| line.strip_prefix("LLVM version: "))?.split('.').next()?.parse().ok()
}

/// bpf-linker in `first`, on PATH, in cargo's own folder, in `last`.
fn find_linker(first: &[&Path], last: &[&Path]) -> Option<PathBuf> {
    let path: Vec<PathBuf> =
        env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .map(|home| home.join("bin"));
    first
        .iter()
        .map(|folder| folder.to_path_buf())
        .chain(path)
        .chain(cargo_home)
        .chain(last.iter().map(|folder| folder.to_path_buf()))
        .map(|folder| folder.join("bpf-linker"))
        .find(|candidate| candidate.is_file())
}

fn rustup_rustc(name: &str) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", name, "rustc"]);
    clean_environment(&mut command);
    command
}

/// Takes away what an outer cargo, rustup or clippy has set; registries, proxies and CARGO_HOME stay.
fn clean_environment(command: &mut Command) {
    const KEPT: [&str; 7] = [
        "CARGO_HOME",
        "CARGO_NET_",
        "CARGO_HTTP_",
        "CARGO_REGISTRY_",
        "CARGO_REGISTRIES_",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const TAKEN: [&str; 18] = [
        "RUSTC",
        "RUSTDOC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTFLAGS",
        "RUSTDOCFLAGS",
        "RUSTC_LINKER",
        "RUSTUP_TOOLCHAIN",
        "RUST_RECURSION_COUNT",
        "MAKEFLAGS",
        "MFLAGS",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "LD_LIBRARY_PATH",
    ];
    let inherited: Vec<OsString> = env::vars_os().map(|(name, _)| name).collect();
    for name in inherited {
        let text = name.to_string_lossy();
        let of_cargo = text.starts_with("CARGO") && !KEPT.iter().any(|kept| text.starts_with(kept));
        if of_cargo || text.starts_with("CLIPPY_") || TAKEN.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
}

fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
