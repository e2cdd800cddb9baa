//! What a virtual machine needs: stock Debian kernels, QEMU, busybox and kmod, from the mirror that this machine's apt
//! already uses. Everything is unpacked into target/tools/vm; nothing is installed, and no right is needed.
//!
//! apt runs on a state of its own (lists, archives, sources), so that signatures are checked and the system's own
//! sources stay as they are. Where the mirror is no Debian mirror, the error says so.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

/// A kernel of the matrix.
pub(crate) struct Kernel {
    /// What it is asked for by, and the folder that it is unpacked in.
    pub(crate) name: &'static str,
    suite: &'static str,
    /// Of a package that carries this kernel: what stands before and behind its release.
    package: (&'static str, &'static str),
    /// What the release begins with.
    release: &'static str,
}

/// Oldest to newest.
pub(crate) const KERNELS: [Kernel; 4] = [
    Kernel {
        name: "5.10",
        suite: "bullseye-security",
        package: ("linux-image-", "-amd64-unsigned"),
        release: "5.10.",
    },
    Kernel {
        name: "6.1",
        suite: "bookworm-security",
        package: ("linux-image-", "-amd64-unsigned"),
        release: "6.1.",
    },
    Kernel {
        name: "6.12",
        suite: "bookworm-backports",
        package: ("linux-image-", "-amd64-unsigned"),
        release: "6.12.",
    },
    Kernel { name: "newest", suite: "trixie-backports", package: ("linux-image-", "-amd64"), release: "" },
];

/// Below this, code patches get lost between the processors of a guest, and it oopses.
const OLDEST_QEMU: u32 = 10;

/// Where everything lies.
pub(crate) struct Store {
    pub(crate) folder: PathBuf,
}

impl Store {
    /// The store of this checkout; nothing is fetched yet.
    pub(crate) fn new(root: &Path) -> Result<Self> {
        let folder = crate::ebpf_toolchain::tools_root(root).join("vm");
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        // The guest sees the host's root: a link on the way would not matter there, but does for mounting.
        Ok(Self { folder: folder.canonicalize()? })
    }

    /// The folder that a kernel was unpacked in.
    pub(crate) fn kernel_folder(&self, kernel: &Kernel) -> PathBuf {
        self.folder.join("kernels").join(kernel.name)
    }

    /// The statically linked busybox.
    pub(crate) fn busybox(&self) -> PathBuf {
        first_existing(&self.folder.join("tools"), &["bin/busybox", "usr/bin/busybox"])
    }

    /// depmod, modprobe and insmod in one.
    pub(crate) fn kmod(&self) -> PathBuf {
        first_existing(&self.folder.join("tools"), &["bin/kmod", "usr/bin/kmod"])
    }

    /// QEMU with its files.
    pub(crate) fn qemu(&self) -> Command {
        let root = self.folder.join("qemu");
        let usr = root.join("usr");
        let mut command = Command::new(usr.join("bin/qemu-system-x86_64"));
        let libraries = "lib/x86_64-linux-gnu";
        let paths = format!("{}:{}", usr.join(libraries).display(), root.join(libraries).display());
        command.env("LD_LIBRARY_PATH", paths);
        command.arg("-L").arg(usr.join("share/qemu")).arg("-L").arg(usr.join("share/seabios"));
        command
    }

    /// Fetches what is not there yet.
    ///
    /// # Errors
    /// One line that says what cannot be had.
    pub(crate) fn fetch(&self, kernels: &[&Kernel]) -> Result<()> {
        if std::env::consts::ARCH != "x86_64" {
            bail!("the virtual machines are x86-64 ones, and this machine is not");
        }
        let tools = !self.kmod().exists() || !self.busybox().exists();
        let qemu = !self.folder.join("qemu/usr/bin/qemu-system-x86_64").exists();
        let missing: Vec<_> =
            kernels.iter().filter(|kernel| !self.kernel_folder(kernel).join("complete").exists()).collect();
        if !tools && !qemu && missing.is_empty() {
            return Ok(());
        }
        let apt = Apt::new(&self.folder)?;
        if tools {
            let folder = self.folder.join("tools");
            for archive in apt.download(&["busybox-static".to_owned(), "kmod".to_owned()], None)? {
                unpack(&archive, &folder)?;
            }
        }
        if qemu {
            self.fetch_qemu(&apt)?;
        }
        for kernel in missing {
            self.fetch_kernel(&apt, kernel)?;
        }
        Ok(())
    }

    /// QEMU and those of its libraries that this machine lacks.
    fn fetch_qemu(&self, apt: &Apt) -> Result<()> {
        println!("fetching QEMU");
        let folder = self.folder.join("qemu");
        for archive in apt.with_dependencies("qemu-system-x86")? {
            unpack(&archive, &folder)?;
        }
        let output = self.qemu().arg("--version").stdin(Stdio::null()).output().context("run QEMU")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let major =
            text.split("version ").nth(1).and_then(|rest| rest.split('.').next()?.parse::<u32>().ok());
        match major {
            Some(major) if major >= OLDEST_QEMU => Ok(()),
            Some(major) => {
                fs::remove_dir_all(&folder)?;
                bail!(
                    "QEMU {OLDEST_QEMU} or newer is needed, and apt's mirror has {major} for this distribution"
                )
            }
            None => {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                fs::remove_dir_all(&folder)?;
                bail!("QEMU does not start: {}", said.trim())
            }
        }
    }

    fn fetch_kernel(&self, apt: &Apt, kernel: &Kernel) -> Result<()> {
        let release = apt.newest(kernel)?;
        println!("fetching Linux {release}");
        let (before, behind) = kernel.package;
        let whole = format!("{before}{release}{behind}");
        // Since 7.3 a kernel comes in three packages.
        let parts: Vec<String> = ["base", "binary", "modules"]
            .iter()
            .map(|part| format!("linux-{part}-{release}-amd64"))
            .collect();
        let packages = if parts.iter().all(|part| apt.knows(part)) { parts } else { vec![whole] };
        let folder = self.kernel_folder(kernel);
        for archive in apt.download(&packages, Some(kernel.suite))? {
            unpack(&archive, &folder)?;
        }
        // The tools look below lib/modules.
        if !folder.join("lib/modules").exists() && folder.join("usr/lib/modules").exists() {
            std::os::unix::fs::symlink("usr/lib", folder.join("lib"))?;
        }
        let release = self.release(kernel)?;
        let depmod =
            kmod(self, "depmod").arg("-b").arg(&folder).arg(&release).output().context("run depmod")?;
        if !depmod.status.success() {
            bail!("depmod for {release}: {}", String::from_utf8_lossy(&depmod.stderr).trim());
        }
        fs::write(folder.join("complete"), &release)?;
        Ok(())
    }

    /// What `uname -r` says in a kernel.
    pub(crate) fn release(&self, kernel: &Kernel) -> Result<String> {
        let modules = self.kernel_folder(kernel).join("lib/modules");
        let entry = fs::read_dir(&modules)
            .with_context(|| format!("list {}", modules.display()))?
            .next()
            .context("a kernel without modules")??;
        Ok(entry.file_name().to_string_lossy().into_owned())
    }

    /// Its release, or the reason why it has none, in two numbers: `6.12`.
    pub(crate) fn label(&self, kernel: &Kernel) -> String {
        let release = self.release(kernel).unwrap_or_else(|_| kernel.name.to_owned());
        release.split(['.', '-']).take(2).collect::<Vec<_>>().join(".")
    }
}

/// kmod under one of its names.
pub(crate) fn kmod(store: &Store, name: &str) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(store.kmod());
    command.arg0(name).stdin(Stdio::null());
    command
}

fn first_existing(folder: &Path, names: &[&str]) -> PathBuf {
    let found = names.iter().map(|name| folder.join(name)).find(|path| path.exists());
    found.unwrap_or_else(|| folder.join(names[0]))
}

fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    let status = Command::new("dpkg").arg("-x").arg(archive).arg(folder).status().context("run dpkg")?;
    if !status.success() {
        bail!("dpkg -x {}: {status}", archive.display());
    }
    fs::remove_file(archive)?;
    Ok(())
}

/// apt on a state of its own.
struct Apt {
    folder: PathBuf,
    own_backports: String,
}

impl Apt {
    fn new(store: &Path) -> Result<Self> {
        let os = fs::read_to_string("/etc/os-release").unwrap_or_default();
        let codename = os
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .map(|value| value.trim_matches('"').to_owned())
            .context("stock kernels come from Debian's mirror, and this distribution has no code name")?;
        let sites = Command::new("apt-get")
            .args(["indextargets", "--format", "$(SITE)"])
            .output()
            .map_err(|_| anyhow!("stock kernels come through apt, which is not there"))?;
        let sites = String::from_utf8_lossy(&sites.stdout).into_owned();
        let site =
            sites.lines().map(|site| site.trim_end_matches('/')).find(|site| site.ends_with("/debian"));
        let site = site.context("stock kernels come from Debian's mirror, and apt uses none here")?;
        let security = sites.lines().map(|site| site.trim_end_matches('/'));
        let security = security.into_iter().find(|site| site.ends_with("/debian-security"));
        let security = security.map_or_else(|| format!("{site}-security"), str::to_owned);

        let folder = store.join("apt");
        for part in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(folder.join(part))?;
        }
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        let signed =
            if Path::new(keyring).exists() { format!("[signed-by={keyring}] ") } else { String::new() };
        let mut suites: Vec<String> = KERNELS.iter().map(|kernel| kernel.suite.to_owned()).collect();
        suites.extend([codename.clone(), format!("{codename}-backports")]);
        suites.sort();
        suites.dedup();
        let lines = suites.iter().map(|suite| {
            let site = if suite.ends_with("-security") { &security } else { site };
            format!("deb {signed}{site} {suite} main\n")
        });
        fs::write(folder.join("sources.list"), lines.collect::<String>())?;
        let apt = Self { folder, own_backports: format!("{codename}-backports") };
        let output = apt.command("apt-get").arg("update").output().context("run apt-get")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = said.lines().find(|line| line.starts_with("E:")).unwrap_or("apt-get update failed");
            bail!("stock kernels cannot be had from the mirror that apt uses here: {line}");
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let path = |part: &str| self.folder.join(part).display().to_string();
        for option in [
            format!("Dir::Etc::sourcelist={}", path("sources.list")),
            format!("Dir::Etc::sourceparts={}", path("none")),
            format!("Dir::Etc::preferencesparts={}", path("none")),
            format!("Dir::State::Lists={}", path("lists")),
            format!("Dir::Cache::archives={}", path("archives")),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Debug::NoLocking=1".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        let _ = fs::create_dir(self.folder.join("none"));
        command.stdin(Stdio::null()).current_dir(self.folder.join("archives"));
        command
    }

    fn names(&self, pattern: &str) -> Vec<String> {
        let output = self.command("apt-cache").args(["search", "--names-only", pattern]).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.split_once(" - ")?.0.to_owned())).collect()
    }

    fn knows(&self, package: &str) -> bool {
        self.names(&format!("^{}$", package.replace('.', "\\.").replace('+', "\\+")))
            .iter()
            .any(|n| n == package)
    }

    /// The newest release of a kernel that the mirror has.
    fn newest(&self, kernel: &Kernel) -> Result<String> {
        let (before, behind) = kernel.package;
        let mut releases: Vec<String> = self
            .names(&format!("^{before}[0-9]"))
            .iter()
            .filter_map(|name| name.strip_prefix(before)?.strip_suffix(behind).map(str::to_owned))
            // Not the kernels for real time or the cloud, and not those that were built for an older Debian.
            .filter(|release| {
                release.starts_with(kernel.release) && !release.contains("-rt") && !release.contains("cloud")
            })
            .filter(|release| !release.contains("-0.deb") && !release.contains('~'))
            .collect();
        releases.sort_by(|a, b| natural(a, b));
        releases.pop().with_context(|| format!("the mirror has no package of kernel {}", kernel.name))
    }

    /// Downloads packages, from a suite where that matters.
    fn download(&self, packages: &[String], suite: Option<&str>) -> Result<Vec<PathBuf>> {
        let mut command = self.command("apt-get");
        if let Some(suite) = suite {
            command.args(["-t", suite]);
        }
        run(command.arg("download").args(packages), &packages.join(" "))?;
        self.archives()
    }

    /// Downloads a package and what it depends on and this machine lacks.
    fn with_dependencies(&self, package: &str) -> Result<Vec<PathBuf>> {
        let mut command = self.command("apt-get");
        command.args(["-t", &self.own_backports, "--yes", "--no-install-recommends", "--download-only"]);
        // Where it is installed, it and its parts are fetched again all the same.
        run(command.args(["install", "--reinstall", package]), package)?;
        self.archives()
    }

    fn archives(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(self.folder.join("archives"))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter(|path| path.extension().is_some_and(|extension| extension == "deb")).collect())
    }
}

fn run(command: &mut Command, what: &str) -> Result<()> {
    let output = command.output().context("run apt-get")?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find(|line| line.starts_with("E:")).unwrap_or("apt-get failed");
    bail!("download {what}: {line}")
}

/// Compares names so that numbers count as numbers.
fn natural(a: &str, b: &str) -> Ordering {
    let split = |text: &str| -> Vec<(String, u64)> {
        let mut parts = vec![(String::new(), 0_u64)];
        let mut in_number = false;
        for c in text.chars() {
            if let Some(digit) = c.to_digit(10) {
                in_number = true;
                if let Some(last) = parts.last_mut() {
                    last.1 = last.1.saturating_mul(10).saturating_add(u64::from(digit));
                }
            } else {
                if in_number {
                    parts.push((String::new(), 0));
                    in_number = false;
                }
                if let Some(last) = parts.last_mut() {
                    last.0.push(c);
                }
            }
        }
        parts
    };
    split(a).cmp(&split(b))
}

#[cfg(test)]
mod tests {
    use super::natural;

    #[test]
    fn numbers_in_names_count_as_numbers() {
        let mut names = ["6.12.9+deb12", "6.12.117+deb12", "6.12.90+deb12.1", "6.12.90+deb12"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["6.12.9+deb12", "6.12.90+deb12", "6.12.90+deb12.1", "6.12.117+deb12"]);
    }
}
