//! Which processes listen on which TCP ports: /proc/net/tcp{,6} of each network namespace, then the descriptors of the
//! processes in it. Used at start and when rules change; later listeners are told by the kernel side.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use super::procfs;

/// A table of sockets is read this far (about 400,000 sockets).
const MAX_TABLE_BYTES: u64 = 64 * 1024 * 1024;
/// Descriptors of one process that are looked at.
const MAX_DESCRIPTORS: usize = 100_000;

/// Processes that listen on ports of the inclusive `ranges`, with those ports.
pub(super) fn listening_processes(ranges: &[(u16, u16)]) -> BTreeMap<u32, BTreeSet<u16>> {
    let mut by_namespace = BTreeMap::<u64, Vec<u32>>::new();
    for pid in procfs::processes() {
        if let Some(namespace) = procfs::link_inode(format!("/proc/{pid}/ns/net"), "net") {
            by_namespace.entry(namespace).or_default().push(pid);
        }
    }
    let mut found = BTreeMap::new();
    for pids in by_namespace.values() {
        let mut sockets = BTreeMap::new();
        // Any process of the namespace shows its table; one that has just ended shows none.
        for table in ["tcp", "tcp6"] {
            let open = |pid: &u32| File::open(format!("/proc/{pid}/net/{table}")).ok();
            if let Some(file) = pids.iter().find_map(open) {
                read_table(file, ranges, &mut sockets);
            }
        }
        if !sockets.is_empty() {
            let ports = pids.iter().map(|&pid| (pid, ports_of(pid, &sockets)));
            found.extend(ports.filter(|(_, ports)| !ports.is_empty()));
        }
    }
    found
}

fn read_table(file: impl Read, ranges: &[(u16, u16)], sockets: &mut BTreeMap<u64, u16>) {
    let mut reader = BufReader::new(file.take(MAX_TABLE_BYTES));
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        if let Some((port, inode)) = parse_listener(&line)
            && ranges.iter().any(|&(first, last)| (first..=last).contains(&port))
        {
            sockets.insert(inode, port);
        }
        line.clear();
    }
}

/// `sl local_address rem_address st … inode`: port and inode of a line in state LISTEN (0A).
fn parse_listener(line: &[u8]) -> Option<(u16, u64)> {
    let mut fields = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?.parse().ok()?;
    (state == "0A").then_some((u16::from_str_radix(port, 16).ok()?, inode))
}

fn ports_of(pid: u32, sockets: &BTreeMap<u64, u16>) -> BTreeSet<u16> {
    let Ok(entries) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return BTreeSet::new() };
    entries
        .take(MAX_DESCRIPTORS)
        .filter_map(Result::ok)
        .filter_map(|entry| procfs::link_inode(entry.path(), "socket"))
        .filter_map(|inode| sockets.get(&inode).copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1111 1 x 100 0 0 10 0
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 2222 1 x 100 0 0 10 0
   2: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 3333 1 x
";

    fn check(ranges: &[(u16, u16)], expected: &[u64]) {
        let mut sockets = BTreeMap::new();
        read_table(TABLE.as_bytes(), ranges, &mut sockets);
        assert_eq!(sockets.into_keys().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn only_listeners_in_range_count() {
        check(&[(8080, 8080)], &[1111]);
        check(&[(80, 80), (8000, 9000)], &[1111, 3333]);
        check(&[(81, 8079)], &[]);
    }

    #[test]
    fn this_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listening_processes(&[(port, port)])[&std::process::id()].contains(&port));
    }
}
