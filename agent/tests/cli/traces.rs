//! What a run leaves in the kernel: nothing, however it ends.

use std::collections::HashSet;
use std::fs;
use std::time::Instant;

use crate::harness::{DEADLINE, Run, Target, may_load, skep};

/// Ids of the kernel programs that a process holds, as the kernel shows them beside its descriptors.
fn programs_of(pid: u32) -> HashSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.path()).ok());
    texts
        .filter_map(|text| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect()
}

/// Those of `ids` that are loaded, by whomever.
fn still_loaded(ids: &HashSet<u32>) -> HashSet<u32> {
    aya::programs::loaded_programs()
        .flatten()
        .map(|program| program.id())
        .filter(|id| ids.contains(id))
        .collect()
}

#[test]
fn nothing_stays_loaded_however_a_run_ends() {
    if !may_load("nothing_stays_loaded_however_a_run_ends") {
        return;
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGKILL] {
        let target = Target::start();
        let mut run = Run::start(skep(&["run", "--pid", &target.pid(), "--print", "none"]));
        run.wait_for("ready");
        let ids = programs_of(run.child.id());
        assert!(ids.len() >= 10, "{ids:?}");
        assert_eq!(still_loaded(&ids), ids);
        run.signal(signal);
        run.end();
        // The kernel frees programs a moment after their last user.
        let deadline = Instant::now() + DEADLINE;
        while !still_loaded(&ids).is_empty() {
            assert!(Instant::now() < deadline, "signal {signal} leaves {:?}", still_loaded(&ids));
            std::thread::yield_now();
        }
    }
}
