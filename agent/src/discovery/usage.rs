//! What a process uses: CPU time, memory, file descriptors; a look at /proc when somebody asks.

use std::fs;
use std::sync::OnceLock;

use super::procfs;
use crate::kernel::clock_ticks_per_second;

/// Descriptors that are counted one by one where the kernel does not tell their number.
const MAX_COUNTED: usize = 65_536;

/// What a process uses at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessUsage {
    /// CPU time in user mode.
    pub user_s: f64,
    /// CPU time in the kernel.
    pub system_s: f64,
    /// Resident memory.
    pub resident_bytes: u64,
    /// Virtual memory.
    pub virtual_bytes: u64,
    /// Open file descriptors, where they may be counted.
    pub descriptors: Option<u64>,
    /// When it started, wall clock.
    pub start_unix_ns: u64,
}

impl ProcessUsage {
    /// Adds what another process uses; the start is that of the first of them.
    pub fn add(&mut self, other: &Self) {
        self.user_s += other.user_s;
        self.system_s += other.system_s;
        self.resident_bytes += other.resident_bytes;
        self.virtual_bytes = self.virtual_bytes.saturating_add(other.virtual_bytes);
        self.descriptors = self.descriptors.zip(other.descriptors).map(|(one, two)| one + two);
        self.start_unix_ns = self.start_unix_ns.min(other.start_unix_ns);
    }
}

/// Asks the kernel; `None` if the process is gone.
pub fn read(tgid: u32) -> Option<ProcessUsage> {
    let usage = parse(&procfs::read_of(tgid, "stat", 4096)?, clock_ticks_per_second(), boot_unix_ns())?;
    Some(ProcessUsage { descriptors: descriptors(tgid), ..usage })
}

/// Reads a line of /proc/PID/stat (proc_pid_stat(5)); the fields behind the name's closing bracket.
fn parse(stat: &[u8], ticks_per_second: u64, boot_unix_ns: u64) -> Option<ProcessUsage> {
    const PAGE_BYTES: u64 = 4096;
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let fields: Vec<&str> = std::str::from_utf8(&stat[end + 1..]).ok()?.split_ascii_whitespace().collect();
    // Field 3, the state, is the first of them.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second as f64;
    let start_ns = u128::from(field(22)?) * 1_000_000_000 / u128::from(ticks_per_second);
    Some(ProcessUsage {
        user_s: seconds(field(14)?),
        system_s: seconds(field(15)?),
        virtual_bytes: field(23)?,
        resident_bytes: field(24)?.saturating_mul(PAGE_BYTES),
        descriptors: None,
        start_unix_ns: boot_unix_ns.saturating_add(u64::try_from(start_ns).unwrap_or(u64::MAX)),
    })
}

fn descriptors(tgid: u32) -> Option<u64> {
    let path = format!("/proc/{tgid}/fd");
    // Since Linux 6.2 the folder's size is the number of its entries.
    match fs::metadata(&path).ok()?.len() {
        0 => Some(fs::read_dir(&path).ok()?.take(MAX_COUNTED).count() as u64),
        count => Some(count),
    }
}

/// When the host was started; read once, so that start times never move.
fn boot_unix_ns() -> u64 {
    static BOOT: OnceLock<u64> = OnceLock::new();
    *BOOT.get_or_init(|| {
        let stat = procfs::read("/proc/stat", 1 << 20).unwrap_or_default();
        let seconds = String::from_utf8_lossy(&stat)
            .lines()
            .find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
        seconds.unwrap_or(0).saturating_mul(1_000_000_000)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let line = b"7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 300 4096000 25 18446744073709551615";
        let usage = parse(line, 100, 1_000_000_000_000).unwrap();
        assert_eq!((usage.user_s, usage.system_s), (2.5, 0.5));
        assert_eq!((usage.virtual_bytes, usage.resident_bytes), (4_096_000, 25 * 4096));
        assert_eq!(usage.start_unix_ns, 1_003_000_000_000);
        assert_eq!(parse(b"7 (a", 100, 0), None);
        assert_eq!(parse(b"7 (a) S 1", 100, 0), None);
    }

    #[test]
    fn this_process_uses_something() {
        let usage = read(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 100_000 && usage.virtual_bytes > usage.resident_bytes);
        assert!(usage.descriptors.is_some_and(|count| count >= 3));
        assert!(read(u32::MAX).is_none());
    }
}
