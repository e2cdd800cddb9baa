//! Bounded reads of /proc: everything below it was written by the processes that are watched, and may be huge,
//! strange or gone a moment later. A read that fails gives `None`; nothing here is an error.

use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// What /proc/PID/stat tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    /// `Z` is a zombie, `X` is dead.
    pub state: u8,
    /// Parent process.
    pub parent: u32,
    /// Clock ticks between boot and the start of the process.
    pub start_ticks: u64,
}

impl Stat {
    /// Whether the process still runs code.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// At most `max` bytes of a file.
pub(super) fn read(path: impl AsRef<Path>, max: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(max as u64).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// A file below /proc/PID, at most `max` bytes of it.
pub(super) fn read_of(tgid: u32, name: &str, max: usize) -> Option<Vec<u8>> {
    read(format!("/proc/{tgid}/{name}"), max)
}

/// A file seen from inside the process's own mount namespace and root.
pub(super) fn path_inside(tgid: u32, path: &[u8]) -> PathBuf {
    let mut inside = format!("/proc/{tgid}/root").into_bytes();
    if path.first() != Some(&b'/') {
        inside.push(b'/');
    }
    inside.extend_from_slice(path);
    PathBuf::from(std::ffi::OsString::from_vec(inside))
}

/// All processes of this pid namespace.
pub(super) fn processes() -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

/// State, parent and start of a process.
pub(super) fn stat(tgid: u32) -> Option<Stat> {
    parse_stat(&read_of(tgid, "stat", 4096)?)
}

/// Path of the program, without the kernel's mark for a deleted file.
pub(super) fn exe(tgid: u32) -> Option<Vec<u8>> {
    let mut path = std::fs::read_link(format!("/proc/{tgid}/exe")).ok()?.into_os_string().into_vec();
    if path.ends_with(b" (deleted)") {
        path.truncate(path.len() - b" (deleted)".len());
    }
    Some(path)
}

/// Arguments of the process, the program's name first.
pub(super) fn arguments(tgid: u32) -> Vec<Vec<u8>> {
    const MAX_BYTES: usize = 64 * 1024;
    const MAX_ARGUMENTS: usize = 1024;
    let bytes = read_of(tgid, "cmdline", MAX_BYTES).unwrap_or_default();
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(&bytes);
    if bytes.is_empty() {
        return Vec::new();
    }
    bytes.split(|&byte| byte == 0).take(MAX_ARGUMENTS).map(<[u8]>::to_vec).collect()
}

/// The thread's name; the process's own where the thread is gone.
pub(super) fn thread_name(tgid: u32, tid: u32) -> Option<Vec<u8>> {
    let mut name = read(format!("/proc/{tgid}/task/{tid}/comm"), 64)?;
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    Some(name)
}

/// The process that a thread number belongs to, and the number in the process's own innermost pid namespace.
pub(super) fn tgid_and_ns_pid(pid: u32) -> Option<(u32, Option<u32>)> {
    let status = read_of(pid, "status", 64 * 1024)?;
    let field = |name: &[u8]| {
        status
            .split(|&byte| byte == b'\n')
            .find_map(|line| line.strip_prefix(name))
            .map(String::from_utf8_lossy)
    };
    let tgid = field(b"Tgid:")?.trim().parse().ok()?;
    let ns_pid = field(b"NStgid:").and_then(|line| line.split_whitespace().last()?.parse().ok());
    Some((tgid, ns_pid))
}

/// Inode number behind a link such as `net:[4026531840]` or `socket:[1234]`.
pub(super) fn link_inode(path: impl AsRef<Path>, kind: &str) -> Option<u64> {
    let target = std::fs::read_link(path).ok()?;
    target.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?.strip_suffix(']')?.parse().ok()
}

/// The name of a program may hold spaces and parentheses, so the fields begin behind the last `)`.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let rest = std::str::from_utf8(&bytes[memchr::memrchr(b')', bytes)? + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let parent = fields.next()?.parse().ok()?;
    // proc(5): start time is field 22; state was field 3.
    let start_ticks = fields.nth(17)?.parse().ok()?;
    Some(Stat { state, parent, start_ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_a_hostile_name() {
        let line = b"7 (a) R 1) (b) S 42 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2 3\n";
        assert_eq!(parse_stat(line), Some(Stat { state: b'S', parent: 42, start_ticks: 98_765 }));
        for bad in [&b""[..], b"7 (a", b"7 (a)", b"7 (a) S", b"7 (a) S x", b")"] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn this_process_can_be_read() {
        let pid = std::process::id();
        assert!(processes().contains(&pid));
        assert!(stat(pid).is_some_and(|stat| stat.is_alive()));
        assert!(exe(pid).is_some_and(|path| path.starts_with(b"/")));
        assert!(!arguments(pid).is_empty());
        assert_eq!(tgid_and_ns_pid(pid).map(|(tgid, _)| tgid), Some(pid));
        assert!(link_inode(format!("/proc/{pid}/ns/net"), "net").is_some());
    }

    #[test]
    fn reads_are_bounded() {
        assert_eq!(read("/dev/zero", 10).map(|bytes| bytes.len()), Some(10));
    }
}
