//! `cargo xtask check-protos`: the `match-proto:` lines of the kernel programs against the type information of every
//! kernel of the matrix and of the running one.
//!
//! A hook's documentation names the prototype that it reads, with the oldest and newest version where it changed:
//! `match-proto: int f(struct sock *sk) [..6.4]`. Type information is kept as files by `vm-test`; a kernel without is
//! booted for it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::vm::fetch::{KERNELS, Store};
use crate::vm::machine::{Ended, Machine};

#[path = "../../agent/src/kernel/btf.rs"]
#[cfg_attr(not(test), expect(dead_code, reason = "the agent uses more of it"))]
#[expect(unreachable_pub, reason = "the agent's own")]
mod btf;

/// One line of a hook's documentation.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    /// As BTF spells it: without names of parameters.
    prototype: String,
    function: String,
    oldest: (u32, u32),
    newest: (u32, u32),
}

const EVER: (u32, u32) = (0, 0);
const STILL: (u32, u32) = (u32::MAX, u32::MAX);

pub(crate) fn run(root: &Path) -> Result<ExitCode> {
    let lines = lines(root)?;
    let mut kernels: Vec<((u32, u32), String, Vec<u8>)> = Vec::new();
    if let Ok(bytes) = fs::read("/sys/kernel/btf/vmlinux") {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        kernels.push((
            version(release.trim()).unwrap_or(STILL),
            format!("{} (running)", release.trim()),
            bytes,
        ));
    }
    let store = Store::new(root)?;
    let mut skipped = 0;
    match store.fetch(&KERNELS.iter().collect::<Vec<_>>()) {
        Ok(()) => {
            for kernel in &KERNELS {
                let release = store.release(kernel)?;
                kernels.push((
                    version(&release).unwrap_or(STILL),
                    release,
                    type_information(root, &store, kernel)?,
                ));
            }
        }
        Err(error) => {
            println!("skipped: the stock kernels: {error:#}");
            skipped += 1;
        }
    }
    let (mut passed, mut failed) = (0, 0);
    for (version, release, bytes) in &kernels {
        let tracepoints: Vec<String> =
            lines.iter().map(|line| format!("btf_trace_{}", line.function)).collect();
        let names: Vec<&str> = lines
            .iter()
            .map(|line| line.function.as_str())
            .chain(tracepoints.iter().map(String::as_str))
            .collect();
        let btf = btf::Btf::parse(bytes, &names).map_err(|error| anyhow::anyhow!("{release}: {error}"))?;
        let (mut alike, mut absent) = (0, Vec::new());
        let mut by_function: BTreeMap<&str, Vec<&Line>> = BTreeMap::new();
        lines.iter().for_each(|line| by_function.entry(&line.function).or_default().push(line));
        for (function, lines) in by_function {
            let due: Vec<_> =
                lines.iter().filter(|line| (line.oldest..=line.newest).contains(version)).collect();
            match btf.prototype(function).or_else(|| btf.tracepoint(function)) {
                None => absent.push(function),
                Some(found) if due.iter().any(|line| line.prototype == found) => alike += 1,
                Some(found) => {
                    failed += 1;
                    println!("FAILED  {release}: {found}");
                    for line in due {
                        println!("        documented: {}", line.prototype);
                    }
                }
            }
        }
        passed += alike;
        println!("{release}: {alike} as documented; not there: {}", absent.join(", "));
    }
    println!("\ncheck-protos: {passed} passed, {failed} failed, {skipped} skipped");
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The kept file, or what a booted kernel shows.
fn type_information(root: &Path, store: &Store, kernel: &crate::vm::fetch::Kernel) -> Result<Vec<u8>> {
    let kept = store.folder.join("out").join(format!("btf-{}", kernel.name));
    if let Ok(bytes) = fs::read(&kept) {
        return Ok(bytes);
    }
    let limit = Duration::from_secs(180);
    let machine = Machine { store, kernel, cpus: 1, memory: "1G", limit, append: "" };
    let to = kept.display().to_string();
    match machine.run(root, &[], &["cp", "/sys/kernel/btf/vmlinux", &to], |line| println!("{line}"))? {
        Ended::Code(0) => fs::read(&kept).with_context(|| format!("read {to}")),
        ended => bail!("kernel {} does not show its type information: {ended:?}", kernel.name),
    }
}

/// All `match-proto:` lines of the kernel programs.
fn lines(root: &Path) -> Result<Vec<Line>> {
    let folder = root.join("agent-ebpf/src");
    let mut lines = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        for (number, text) in fs::read_to_string(&path)?.lines().enumerate() {
            let Some((_, text)) = text.split_once("match-proto: ") else { continue };
            let line = parse(text)
                .with_context(|| format!("{}:{}: not a prototype: {text}", path.display(), number + 1))?;
            lines.push(line);
        }
    }
    Ok(lines)
}

/// `int f(struct sock *sk, int flags) [5.19..]`
fn parse(text: &str) -> Option<Line> {
    let (prototype, range) = text.trim().split_once(')')?;
    let (head, parameters) = prototype.split_once('(')?;
    let (result, function) = split_name(head)?;
    let parameters: Vec<String> = parameters
        .split(',')
        .map(|parameter| split_name(parameter.trim()).map(|(ty, _)| ty))
        .collect::<Option<_>>()?;
    let range = range.trim().trim_start_matches('[').trim_end_matches(']');
    let (oldest, newest) = range.split_once("..").unwrap_or(("", ""));
    Some(Line {
        prototype: format!("{result} {function}({})", parameters.join(", ")),
        function,
        oldest: if oldest.is_empty() { EVER } else { version(oldest)? },
        newest: if newest.is_empty() { STILL } else { version(newest)? },
    })
}

/// `struct sock *sk` → (`struct sock *`, `sk`)
fn split_name(text: &str) -> Option<(String, String)> {
    let at = text.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))? + 1;
    let (ty, name) = text.split_at(at);
    Some((ty.trim().to_owned(), name.to_owned())).filter(|(ty, name)| !ty.is_empty() && !name.is_empty())
}

/// `6.12.117+deb12-amd64` → (6, 12)
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prototypes_lose_the_names_of_their_parameters() {
        let line = parse("int tcp_recvmsg(struct sock *sk, size_t len, int *addr_len) [5.19..6.12]").unwrap();
        assert_eq!(line.prototype, "int tcp_recvmsg(struct sock *, size_t, int *)");
        assert_eq!((line.oldest, line.newest), ((5, 19), (6, 12)));
        let line = parse("ssize_t f(const struct sock *sk) [..6.4]").unwrap();
        assert_eq!(
            (line.prototype.as_str(), line.oldest, line.newest),
            ("ssize_t f(const struct sock *)", EVER, (6, 4))
        );
        assert!(parse("int f").is_none());
    }
}
