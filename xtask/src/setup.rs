//! `cargo xtask setup`: installs what the other verbs need and this machine does not have.
//!
//! Debian's and Ubuntu's packages through apt-get (as root, else through sudo), Rust tools through `cargo install` into
//! target/tools, nothing elsewhere. What is there is left alone, nothing is ever removed, and every installation is
//! announced. A failure is one line that names the thing and the mend; the verbs that can do without go on.

use std::env;
use std::fs;
use std::io::IsTerminal;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow, bail};

use crate::collector;
use crate::ebpf_toolchain::{self, Toolchain};

/// A program that some verb runs, and the package that brings it.
pub(crate) struct Program {
    pub(crate) command: &'static str,
    /// Arguments with which it succeeds only if it is complete; empty: being there is enough.
    probe: &'static [&'static str],
    packages: &'static [&'static str],
    what: &'static str,
}

/// What the ground-truth tests and the demo attach to and drive; whichever cannot be had is left out there.
pub(crate) const RUNTIMES: [Program; 17] = [
    Program { command: "curl", probe: &[], packages: &["curl"], what: "client" },
    Program {
        command: "python3",
        // Debian splits off what a virtual environment needs.
        probe: &["-c", "import ensurepip, venv"],
        packages: &["python3", "python3-venv"],
        what: "Python servers",
    },
    Program { command: "node", probe: &[], packages: &["nodejs"], what: "Node server" },
    Program { command: "go", probe: &[], packages: &["golang-go"], what: "Go server" },
    Program { command: "javac", probe: &[], packages: &["default-jdk-headless"], what: "Java server" },
    Program { command: "nginx", probe: &[], packages: &["nginx-light"], what: "nginx" },
    Program {
        command: "redis-server",
        probe: &[],
        packages: &["redis-server", "redis-tools"],
        what: "Redis and its own clients",
    },
    Program { command: "nghttpd", probe: &[], packages: &["nghttp2-server"], what: "HTTP/2 server" },
    Program { command: "h2load", probe: &[], packages: &["nghttp2-client"], what: "HTTP/2 load generator" },
    Program { command: "dnsmasq", probe: &[], packages: &["dnsmasq-base"], what: "name server" },
    Program { command: "dig", probe: &[], packages: &["bind9-dnsutils"], what: "DNS client" },
    Program { command: "openssl", probe: &[], packages: &["openssl"], what: "certificates" },
    Program { command: "npm", probe: &[], packages: &["npm"], what: "Node clients" },
    Program {
        command: "psql",
        probe: &[],
        packages: &["postgresql", "postgresql-client"],
        what: "PostgreSQL and pgbench",
    },
    Program { command: "pgbouncer", probe: &[], packages: &["pgbouncer"], what: "PgBouncer" },
    Program {
        command: "mariadbd",
        probe: &[],
        packages: &["mariadb-server", "mariadb-client"],
        what: "MariaDB",
    },
    Program {
        command: "prometheus",
        // The checker comes with it.
        probe: &["--version"],
        packages: &["prometheus"],
        what: "a real scraper, and promtool",
    },
];

/// What the tests of the page and of `skep top` drive, and what takes the demo's pictures.
const VIEWERS: [Program; 3] = [
    Program { command: "chromium", probe: &[], packages: &["chromium"], what: "browser" },
    Program { command: "npm", probe: &[], packages: &["npm"], what: "what installs Playwright" },
    Program { command: "tmux", probe: &[], packages: &["tmux"], what: "terminal for tests" },
];

/// Rust tools of `cargo xtask check`, pinned. Built without optimisation: they run for a second and build for minutes.
const LINT_TOOLS: [(&str, &str); 3] =
    [("cargo-deny", "0.20.2"), ("cargo-machete", "0.9.2"), ("typos-cli", "1.52.0")];

const BPF_LINKER_VERSION: &str = "0.13.0";
const DEBIAN_COMPILER: [&str; 3] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"];

/// Programs whose packages start a service as soon as they are installed.
const SERVICES: [(&str, &str); 6] = [
    ("nginx", "nginx"),
    ("redis-server", "redis-server"),
    ("psql", "postgresql"),
    ("pgbouncer", "pgbouncer"),
    ("mariadbd", "mariadb"),
    ("prometheus", "prometheus"),
];

/// apt's lists are brought up to date once, and only if something is to be installed.
static LISTS_UPDATED: AtomicBool = AtomicBool::new(false);

pub(crate) fn run(root: &Path) -> Result<()> {
    println!("kernel programs: {}", kernel_toolchain(root)?);
    let mut missing = Vec::new();
    let tools = [kernel_clippy(root), lint_tools(root), browser(root)].into_iter();
    let collector = std::iter::once_with(|| collector::build(root));
    for outcome in tools.chain(RUNTIMES.iter().map(program)).chain(collector) {
        match outcome {
            Ok(found) => println!("{found}"),
            Err(error) => missing.push(format!("{error:#}")),
        }
    }
    if missing.is_empty() {
        Ok(())
    } else {
        bail!("not everything could be had:\n  {}", missing.join("\n  "))
    }
}

/// A toolchain for the kernel programs, installed if there is none.
pub(crate) fn kernel_toolchain(root: &Path) -> Result<Toolchain> {
    if let Ok(found) = ebpf_toolchain::find(root) {
        return Ok(found);
    }
    let attempt = if ebpf_toolchain::debian_compiler().is_ok() || candidate("libstd-rust-web-dev-bpf") {
        install_debian_toolchain(root)
    } else {
        install_nightly(root)
    };
    ebpf_toolchain::find(root).map_err(|message| match attempt {
        Ok(()) => anyhow!(message),
        Err(error) => anyhow!("{error:#}\n{message}"),
    })
}

fn install_debian_toolchain(root: &Path) -> Result<()> {
    if ebpf_toolchain::debian_compiler().is_err() {
        apt_install(&DEBIAN_COMPILER, "compiler for the kernel programs")?;
    }
    let major = ebpf_toolchain::debian_llvm_major().context("ask /usr/bin/rustc for its LLVM's version")?;
    let prefix = format!("/usr/lib/llvm-{major}");
    if !Path::new(&prefix).join("bin/llvm-config").is_file() {
        apt_install(&[&format!("llvm-{major}-dev")], "LLVM, to build bpf-linker")?;
    }
    cxx()?;
    let feature = format!("llvm-{major}");
    let mut install =
        cargo_install(root, &ebpf_toolchain::tools_root(root), "bpf-linker", BPF_LINKER_VERSION);
    install
        .args(["--no-default-features", "--features", &feature])
        .env(format!("LLVM_SYS_{major}1_PREFIX"), &prefix)
        .env("LLVM_PREFIX", &prefix);
    announce_and_run(&mut install, "bpf-linker, about a minute")
}

/// A C++ compiler, for bpf-linker and libFuzzer.
pub(crate) fn cxx() -> Result<()> {
    if on_path("c++") { Ok(()) } else { apt_install(&["g++"], "C++ compiler") }
}

/// Where apt has no BPF core (Ubuntu), rustup has; bpf-linker's own releases carry the LLVM that fits.
fn install_nightly(root: &Path) -> Result<()> {
    if !on_path("rustup") {
        bail!("neither apt nor rustup offers a compiler for the kernel programs");
    }
    let mut rustup = Command::new("rustup");
    rustup.args(["toolchain", "install", "nightly", "--profile", "minimal"]);
    rustup.args(["--component", "rust-src,clippy"]);
    announce_and_run(&mut rustup, "a nightly with rust-src")?;
    if ebpf_toolchain::find(root).is_ok() {
        return Ok(());
    }
    let tools = ebpf_toolchain::tools_root(root);
    if !on_path("cargo-binstall") && !tools.join("bin/cargo-binstall").is_file() {
        let mut install = cargo_install(root, &tools, "cargo-binstall", "1");
        announce_and_run(&mut install, "cargo-binstall, which fetches bpf-linker's release, some minutes")?;
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([tools.join("bin")]);
    let mut binstall = Command::new("cargo-binstall");
    binstall
        .env("PATH", env::join_paths(folders)?)
        .args(["--no-confirm", "--root"])
        .arg(ebpf_toolchain::nightly_tools_root(root))
        .arg(format!("bpf-linker@{BPF_LINKER_VERSION}"));
    announce_and_run(&mut binstall, "bpf-linker")
}

/// Clippy for the kernel programs: a package of its own on Debian.
pub(crate) fn kernel_clippy(root: &Path) -> Result<String> {
    let toolchain = kernel_toolchain(root)?;
    if !toolchain.has_clippy() {
        match toolchain.compiler {
            ebpf_toolchain::Compiler::Debian => {
                apt_install(&["rust-web-clippy"], "clippy for the kernel side")?;
            }
            ebpf_toolchain::Compiler::Nightly { ref name } => {
                let mut rustup = Command::new("rustup");
                rustup.args(["component", "add", "clippy", "--toolchain", name]);
                announce_and_run(&mut rustup, "clippy for the kernel side")?;
            }
        }
    }
    Ok("kernel side's clippy: there".to_owned())
}

/// rustfmt and clippy of the user's toolchain, and the tools of `cargo xtask check`.
pub(crate) fn lint_tools(root: &Path) -> Result<String> {
    for (command, component) in [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")] {
        if !succeeds(Command::new(command).arg("--version")) {
            let mut rustup = Command::new("rustup");
            announce_and_run(rustup.args(["component", "add", component]), component)?;
        }
    }
    let tools = ebpf_toolchain::tools_root(root);
    let installed = fs::read_to_string(tools.join(".crates.toml")).unwrap_or_default();
    for (name, version) in LINT_TOOLS {
        if !installed.contains(&format!("\"{name} {version} ")) {
            let mut install = cargo_install(root, &tools, name, version);
            announce_and_run(install.arg("--debug"), &format!("{name} {version}, a minute or two"))?;
        }
    }
    Ok(format!("tools of check: in {}", tools.display()))
}

/// Chromium, tmux, and Playwright and axe by the lock file beside the tests that use them.
pub(crate) fn browser(root: &Path) -> Result<String> {
    for viewer in &VIEWERS {
        program(viewer)?;
    }
    let folder = browser_folder(root);
    if !folder.join("node_modules/playwright-core").is_dir() || !folder.join("node_modules/axe-core").is_dir()
    {
        let mut install = Command::new("npm");
        // Playwright's own browsers are not fetched: Debian's serves.
        install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
        announce_and_run(&mut install, "playwright-core and axe-core")?;
    }
    Ok("browser, terminal and what drives them: there".to_owned())
}

/// Where the scripts that drive the browser lie.
pub(crate) fn browser_folder(root: &Path) -> PathBuf {
    root.join("agent/tests/ui/browser")
}

/// Makes sure that a program is on PATH.
pub(crate) fn program(wanted: &Program) -> Result<String> {
    let Program { command, probe, packages, what } = wanted;
    let complete = || on_path(command) && (probe.is_empty() || succeeds(Command::new(command).args(*probe)));
    if !complete() {
        let service = SERVICES
            .iter()
            .find(|(program, _)| program == command)
            .filter(|(_, unit)| !Path::new(&format!("/lib/systemd/system/{unit}.service")).exists());
        apt_install(packages, what)?;
        if let Some((_, unit)) = service {
            // Debian starts a server as soon as it is installed; nobody asked for that here.
            let _ = privileged("systemctl").args(["disable", "--now", "--quiet", unit]).status();
        }
        if !complete() {
            bail!("{command} from PATH is still not complete: {}", packages.join(" "));
        }
    }
    Ok(format!("{command}: there ({what})"))
}

/// Whether a program is on PATH (nginx lies in sbin, which a user's PATH often lacks).
pub(crate) fn on_path(command: &str) -> bool {
    which(command).is_some()
}

pub(crate) fn which(command: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
        .map(|folder| folder.join(command))
        .find(|candidate| candidate.metadata().is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0))
}

pub(crate) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// A command that runs as root: as it is for root, else through sudo (which may ask only a person).
pub(crate) fn privileged(program: impl AsRef<std::ffi::OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    if !std::io::stdin().is_terminal() {
        sudo.arg("--non-interactive");
    }
    sudo.arg("--").arg(program);
    sudo
}

/// Why nothing can be run as root, if so.
pub(crate) fn no_privileges() -> Option<&'static str> {
    if is_root() {
        None
    } else if !on_path("sudo") {
        Some("this needs root, and sudo is not installed: run it as root")
    } else if !std::io::stdin().is_terminal() && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        Some("this needs root, and sudo would ask for a password: run `sudo -v` first, or run it as root")
    } else {
        None
    }
}

fn apt_install(packages: &[&str], what: &str) -> Result<()> {
    let list = packages.join(" ");
    if !on_path("apt-get") {
        bail!("{what} is missing, and there is no apt-get here: install the equivalent of {list} by hand");
    }
    if let Some(reason) = no_privileges() {
        bail!("{what} is missing (apt-get install {list}): {reason}");
    }
    if !LISTS_UPDATED.swap(true, Ordering::Relaxed) {
        let mut update = privileged("apt-get");
        // Stale lists often still serve; the installation says so if not.
        if let Err(error) = announce_and_run(update.args(["update", "-q=2"]), "apt's package lists") {
            eprintln!("{error:#}");
        }
    }
    let mut install = privileged("env");
    install.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-remove", "-q=2"]);
    install.args(["--no-install-recommends", "-o", "Dpkg::Use-Pty=0"]).args(packages);
    // apt's chatter is kept back unless it matters.
    println!("installing {what}: {}", shown(&install));
    let output = install.stdin(Stdio::null()).output().context("run apt-get")?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let reason = stderr.lines().find(|line| line.starts_with("E:")).unwrap_or("apt-get failed").to_owned();
    bail!("{what} could not be installed ({reason}): install {list} by hand, then run this again")
}

/// Whether apt knows an installable version; an empty machine's lists are fetched first.
fn candidate(package: &str) -> bool {
    let known = || {
        Command::new("apt-cache").args(["policy", package]).stderr(Stdio::null()).output().is_ok_and(
            |output| {
                let text = String::from_utf8_lossy(&output.stdout);
                text.contains("Candidate:") && !text.contains("Candidate: (none)")
            },
        )
    };
    if known() || no_privileges().is_some() || !on_path("apt-get") {
        return known();
    }
    if !LISTS_UPDATED.swap(true, Ordering::Relaxed) {
        let mut update = privileged("apt-get");
        if announce_and_run(update.args(["update", "-q=2"]), "apt's package lists").is_err() {
            return false;
        }
    }
    known()
}

fn cargo_install(root: &Path, tools: &Path, name: &str, version: &str) -> Command {
    let mut command = Command::new(cargo());
    command
        .args(["install", "--quiet", "--locked", "--root"])
        .arg(tools)
        .args([name, "--version", version])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", ebpf_toolchain::tools_root(root).join("build"));
    command
}

/// The cargo that runs us, else the one on PATH.
pub(crate) fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn announce_and_run(command: &mut Command, what: &str) -> Result<()> {
    println!("installing {what}: {}", shown(command));
    let status = command.stdin(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("{what} could not be installed: `{}` ended with {status}", shown(command)),
        Err(error) => bail!("{what} could not be installed: run `{}`: {error}", shown(command)),
    }
}

fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}
