//! What a process costs, read from /proc: CPU time, resident memory, memory of its BPF maps.

use std::collections::HashMap;
use std::fs;

use anyhow::{Context, Result};

/// CPU time of all threads that live now, in nanoseconds.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    Ok(cpu_ns_by_thread(pid)?.iter().map(|(_, ns)| ns).sum())
}

/// The same by thread, with its name (schedstat; /proc/PID/stat counts in ticks of 10 ms only).
pub(crate) fn cpu_ns_by_thread(pid: u32) -> Result<Vec<(String, u64)>> {
    let mut threads = Vec::new();
    for task in
        fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("list the threads of {pid}"))?
    {
        let folder = task?.path();
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(folder.join("schedstat")) else {
            continue;
        };
        let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
        let ns = text.split_whitespace().next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
        threads.push((name.trim().to_owned(), ns));
    }
    Ok(threads)
}

/// `VmRSS` or `VmHWM` in bytes.
pub(crate) fn memory_bytes(pid: u32, field: &str) -> Result<u64> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("read status of {pid}"))?;
    value(&status, field).map(|kib| kib * 1024).with_context(|| format!("{field} of {pid}"))
}

/// Kernel memory of the BPF maps that a process holds, each map once.
pub(crate) fn map_bytes(pid: u32) -> Result<u64> {
    let mut maps = HashMap::new();
    for fd in fs::read_dir(format!("/proc/{pid}/fdinfo")).with_context(|| format!("list the fds of {pid}"))? {
        let Ok(info) = fs::read_to_string(fd?.path()) else {
            continue;
        };
        if let (Some(id), Some(bytes)) = (value(&info, "map_id"), value(&info, "memlock")) {
            maps.insert(id, bytes);
        }
    }
    Ok(maps.values().sum())
}

/// The number behind `field:` in a file of lines `name:\tvalue`.
fn value(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::value;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let text = "VmHWMx:\t9 kB\nVmHWM:\t  31 kB\nVmRSS:\t  20 kB\n";
        assert_eq!(value(text, "VmHWM"), Some(31));
        assert_eq!(value(text, "VmSwap"), None);
    }
}
