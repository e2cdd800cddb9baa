//! One command in a throw-away virtual machine that boots a stock kernel.
//!
//! The guest sees the host's root file system read-only under a tmpfs: what it writes is gone at power-off, except below
//! the store's `out` folder. The command runs as root; its output comes back line by line. The processor is emulated,
//! so that no /dev/kvm is needed: only ratios mean anything in there.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::fetch::{Kernel, Store, kmod};

const INIT: &str = include_str!("init.sh");
/// What is needed to reach the root file system.
const MODULES: [&str; 4] = ["virtio_pci", "9pnet_virtio", "9p", "overlay"];
/// Lines of the kernel's console that are shown when a guest dies.
const CONSOLE_LINES: usize = 40;

/// How a machine is made.
pub(crate) struct Machine<'a> {
    pub(crate) store: &'a Store,
    pub(crate) kernel: &'a Kernel,
    pub(crate) cpus: u32,
    pub(crate) memory: &'a str,
    pub(crate) limit: Duration,
    /// More words for the kernel's command line.
    pub(crate) append: &'a str,
}

/// How a command in a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Code(i32),
    TimedOut,
    /// The machine died before the command ended.
    Died,
}

impl Machine<'_> {
    /// Boots, runs the command in a folder, hands its output on line by line.
    pub(crate) fn run<S: AsRef<OsStr>>(
        &self,
        folder: &Path,
        environment: &[(&str, &str)],
        command: &[S],
        mut on_line: impl FnMut(&str),
    ) -> Result<Ended> {
        let image = self.initramfs()?;
        fs::create_dir_all(self.store.folder.join("out"))?;
        let job = Job::new(&self.store.folder)?;
        fs::write(job.0.join("command"), script(folder, environment, command))?;

        let mut qemu = self.qemu(&image, &job.0)?;
        let mut child = qemu.spawn().context("start QEMU")?;
        let deadline = Instant::now() + self.limit;
        let stdout = child.stdout.take().context("QEMU's output")?;
        let (sender, lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let mut timed_out = false;
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => on_line(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    timed_out = true;
                    child.kill().context("end QEMU")?;
                    break;
                }
            }
        }
        let status = child.wait().context("wait for QEMU")?;
        drop(lines);
        let _ = reader.join();
        if status.signal().is_some_and(|signal| signal == libc::SIGINT) {
            bail!("interrupted");
        }
        let code = fs::read_to_string(job.0.join("rc")).ok().and_then(|text| text.trim().parse().ok());
        let ended = match code {
            Some(code) => Ended::Code(code),
            None if timed_out => Ended::TimedOut,
            None => Ended::Died,
        };
        if !matches!(ended, Ended::Code(_)) {
            let console = fs::read(job.0.join("console")).unwrap_or_default();
            let console = String::from_utf8_lossy(&console).into_owned();
            let lines: Vec<_> = console.lines().collect();
            for line in &lines[lines.len().saturating_sub(CONSOLE_LINES)..] {
                eprintln!("vm: {line}");
            }
        }
        Ok(ended)
    }

    fn qemu(&self, image: &Path, job: &Path) -> Result<Command> {
        let folder = self.store.kernel_folder(self.kernel);
        let release = self.store.release(self.kernel)?;
        let kernel = [
            folder.join("boot").join(format!("vmlinuz-{release}")),
            folder.join("lib/modules").join(&release).join("vmlinuz"),
        ];
        let kernel =
            kernel.into_iter().find(|path| path.exists()).context("a kernel package without kernel")?;
        let modules = folder.join("lib/modules").canonicalize()?;
        let share = "local,security_model=none,multidevs=remap";
        let store = self.store.folder.display();
        // The guest reads the host's time stamp counter; telling its frequency spares a calibration that goes wrong
        // under emulation.
        let words = format!(
            "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable {} mitigations=off random.trust_cpu=on \
             skepvm.vm_dir={store} skepvm.modules={} {}",
            frequency(),
            modules.display(),
            self.append
        );
        let mut qemu = self.store.qemu();
        qemu.args(["-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,la57=off"])
            .args(["-smp", &self.cpus.to_string(), "-m", self.memory])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(image)
            .arg("-append")
            .arg(words)
            .args(["-chardev", "stdio,id=stdout,signal=off"])
            .arg("-serial")
            .arg(format!("file:{}", job.join("console").display()))
            .args(["-serial", "chardev:stdout", "-device", "virtio-rng-pci"]);
        for (number, (tag, path, extra)) in [
            ("rootfs", "/".to_owned(), ",readonly=on"),
            ("out", format!("{store}/out"), ""),
            ("job", job.display().to_string(), ""),
        ]
        .into_iter()
        .enumerate()
        {
            qemu.arg("-fsdev").arg(format!("{share},id=f{number},path={path}{extra}"));
            qemu.arg("-device").arg(format!("virtio-9p-pci,fsdev=f{number},mount_tag={tag}"));
        }
        qemu.stdin(Stdio::null()).stdout(Stdio::piped());
        // SAFETY: the function may be called between fork and exec.
        unsafe { qemu.pre_exec(die_with_parent) };
        Ok(qemu)
    }

    /// busybox, the first process and the modules that reach the root file system, in the order of loading.
    fn initramfs(&self) -> Result<PathBuf> {
        let release = self.store.release(self.kernel)?;
        let out = self.store.folder.join(format!("initramfs-{}", self.kernel.name));
        let mut archive = Cpio::default();
        for folder in ["bin", "proc", "dev", "sys", "m"] {
            archive.add(folder, 0o040_755, b"");
        }
        archive.add("init", 0o100_755, INIT.as_bytes());
        archive.add("bin/busybox", 0o100_755, &fs::read(self.store.busybox())?);
        archive.add("kmod", 0o100_755, &fs::read(self.store.kmod())?);
        let mut load = String::new();
        for path in self.modules(&release)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let name = name.split(".ko").next().unwrap_or_default().to_owned();
            archive.add(&format!("m/{name}.ko"), 0o100_644, &uncompressed(&path)?);
            load.push_str(&format!("/m/{name}.ko\n"));
        }
        archive.add("modules.load", 0o100_644, load.as_bytes());
        // Renamed into place: another machine may be booting from it.
        let new = self.store.folder.join(format!("initramfs-{}.{}", self.kernel.name, std::process::id()));
        fs::write(&new, archive.finish())?;
        fs::rename(&new, &out)?;
        Ok(out)
    }

    fn modules(&self, release: &str) -> Result<Vec<PathBuf>> {
        let mut paths: Vec<PathBuf> = Vec::new();
        for module in MODULES {
            let output = kmod(self.store, "modprobe")
                .arg("-d")
                .arg(self.store.kernel_folder(self.kernel))
                .args(["-S", release, "--show-depends", module])
                .output()
                .context("run modprobe")?;
            for line in String::from_utf8_lossy(&output.stdout).lines() {
                let path = line.strip_prefix("insmod ").map(|path| PathBuf::from(path.trim()));
                if let Some(path) = path.filter(|path| !paths.contains(path)) {
                    paths.push(path);
                }
            }
        }
        Ok(paths)
    }
}

/// A machine must not outlive who waits for it.
fn die_with_parent() -> std::io::Result<()> {
    // SAFETY: no memory is passed.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    Ok(())
}

/// A folder of one run, removed with it.
struct Job(PathBuf);

impl Job {
    fn new(store: &Path) -> Result<Self> {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
        let folder = store.join(format!("job.{}.{now}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self(folder))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The shell script that the guest runs.
fn script<S: AsRef<OsStr>>(folder: &Path, environment: &[(&str, &str)], command: &[S]) -> String {
    let mut script = String::new();
    for name in ["PATH", "HOME", "LANG"] {
        if let Ok(value) = std::env::var(name) {
            script.push_str(&format!("export {name}={}\n", quoted(&value)));
        }
    }
    for (name, value) in environment {
        script.push_str(&format!("export {name}={}\n", quoted(value)));
    }
    script.push_str(&format!("cd {}\nexec", quoted(&folder.to_string_lossy())));
    for word in command {
        script.push(' ');
        script.push_str(&quoted(&word.as_ref().to_string_lossy()));
    }
    script.push('\n');
    script
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn frequency() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mhz = info
        .lines()
        .find_map(|line| line.strip_prefix("cpu MHz")?.split_once(':')?.1.trim().parse::<f64>().ok());
    mhz.map(|mhz| format!("tsc_early_khz={:.0}", mhz * 1000.0)).unwrap_or_default()
}

fn uncompressed(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(OsStr::to_str) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return Ok(fs::read(path)?),
    };
    let output = Command::new(program).arg("-dc").arg(path).output();
    let output = output.with_context(|| format!("run {program} to unpack {}", path.display()))?;
    if !output.status.success() {
        bail!("{program} -dc {}: {}", path.display(), output.status);
    }
    Ok(output.stdout)
}

/// An archive as the kernel's initramfs wants it (cpio, "newc").
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    inodes: u32,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inodes += 1;
        let numbers =
            [self.inodes, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for number in numbers {
            // Writing to a Vec cannot fail.
            let _ = write!(self.bytes, "{number:08X}");
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.inodes = 0;
        self.add("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Cpio, script};

    #[test]
    fn an_archive_is_padded_and_ended() {
        let mut archive = Cpio::default();
        archive.add("a", 0o100_644, b"hello");
        let bytes = archive.finish();
        assert_eq!(bytes.len() % 4, 0);
        assert!(bytes.starts_with(b"07070100000001000081A4"));
        assert!(bytes.windows(5).any(|window| window == b"hello"));
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }

    #[test]
    fn words_reach_the_guest_as_they_are() {
        let script = script(Path::new("/a b"), &[("X", "it's")], &["echo", "$HOME", ""]);
        assert!(script.contains(r"export X='it'\''s'"), "{script}");
        assert!(script.ends_with("cd '/a b'\nexec 'echo' '$HOME' ''\n"), "{script}");
    }
}
