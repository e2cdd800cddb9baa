//! Which processes are watched: a look at /proc when Skep starts, kernel events from then on, no polling.
//!
//! In: the selection rules and the kernel side's process events. Out: process numbers to select, and
//! [`processes::Processes`], who they are. Children are selected by the kernel side itself, at fork.

mod container;
mod elf;
mod language;
mod listeners;
pub mod processes;
mod procfs;
mod program;
pub mod resource;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::Selection;

/// Rounds of looking for children of children: each is one look at all processes.
const MAX_ROUNDS: usize = 16;

/// A process that was asked for by number cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum SelectionError {
    /// There is none.
    #[error(
        "process {0} does not exist: `pgrep -a NAME` lists process numbers, or select by --port or --exe"
    )]
    NoSuchProcess(u32),
    /// It is dead, only its parent has not noticed.
    #[error("process {0} has ended: select its successor, or use --port or --exe to wait for one")]
    Ended(u32),
    /// All processes that were asked for ended before capture was live.
    #[error(
        "process {0} ended before Skep could watch it: use --exe or --port for processes that come and go"
    )]
    EndedAtOnce(u32),
    /// It runs no program.
    #[error("process {0} is a thread of the kernel itself: there is no service to watch in it")]
    KernelThread(u32),
    /// It is this process.
    #[error("process {0} is Skep itself, which it never watches")]
    Myself(u32),
    /// /proc shows another namespace than the kernel side's numbers.
    #[error(
        "/proc shows a process namespace of a container: start Skep with the host's (docker run --pid host, hostPID: true)"
    )]
    ForeignNamespace,
}

/// The selection rules at work.
pub struct Discovery {
    rules: Selection,
    me: u32,
    selected: BTreeSet<u32>,
}

impl Discovery {
    /// Checks the processes that were asked for by number.
    pub fn new(mut rules: Selection) -> Result<Self, SelectionError> {
        // The initial pid namespace has had this inode number since namespaces have inodes.
        const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
        if procfs::link_inode("/proc/self/ns/pid", "pid").is_some_and(|inode| inode != INITIAL_PID_NAMESPACE)
        {
            return Err(SelectionError::ForeignNamespace);
        }
        let me = std::process::id();
        for pid in &mut rules.pids {
            let asked = *pid;
            let (tgid, _) = procfs::tgid_and_ns_pid(asked).ok_or(SelectionError::NoSuchProcess(asked))?;
            if !procfs::stat(tgid).ok_or(SelectionError::NoSuchProcess(asked))?.is_alive() {
                return Err(SelectionError::Ended(asked));
            }
            if tgid == me {
                return Err(SelectionError::Myself(asked));
            }
            if procfs::arguments(tgid).is_empty() && procfs::exe(tgid).is_none() && is_kernel_thread(tgid) {
                return Err(SelectionError::KernelThread(asked));
            }
            *pid = tgid;
        }
        Ok(Self { rules, me, selected: BTreeSet::new() })
    }

    /// Looks at all processes and hands those to `select` that a rule selects and that were not selected before,
    /// their descendants after them. Called before capture is live and once more when it is, so that nobody who
    /// came in between is missed.
    pub fn scan<E>(&mut self, mut select: impl FnMut(u32) -> Result<(), E>) -> Result<(), E> {
        let mut matching: BTreeSet<u32> = self.rules.pids.iter().copied().collect();
        if !self.rules.ports.is_empty() {
            matching.extend(listeners::listening_processes(&self.rules.ports));
        }
        if !self.rules.exes.is_empty() {
            matching.extend(procfs::processes().into_iter().filter(|&tgid| self.exe_matches(tgid)));
        }
        self.add(matching, &mut select)?;
        // A child made after its parent was selected is selected by the kernel side; older ones are looked for
        // until a look finds no more.
        for _ in 0..MAX_ROUNDS {
            let children = self.children_of_selected();
            if !self.add(children, &mut select)? {
                break;
            }
        }
        Ok(())
    }

    /// A process runs another program: whether a rule selects it now. It was not selected before.
    pub fn exec_matches(&mut self, tgid: u32) -> bool {
        tgid != self.me && !self.selected.contains(&tgid) && self.exe_matches(tgid)
    }

    /// A process was selected, here or by the kernel side.
    pub fn selected(&mut self, tgid: u32) {
        self.selected.insert(tgid);
    }

    /// Whether the process is selected, as far as is known here.
    pub fn is_selected(&self, tgid: u32) -> bool {
        self.selected.contains(&tgid)
    }

    /// A selected process has ended.
    pub fn ended(&mut self, tgid: u32) {
        self.selected.remove(&tgid);
    }

    /// All that are selected now.
    pub fn all_selected(&self) -> impl Iterator<Item = u32> + '_ {
        self.selected.iter().copied()
    }

    /// Whether programs are selected by path: then every exec matters.
    pub fn has_exe_rules(&self) -> bool {
        !self.rules.exes.is_empty()
    }

    /// Whether rules select by what any process of the host runs or does.
    pub fn looks_at_all(&self) -> bool {
        self.has_exe_rules() || !self.rules.ports.is_empty()
    }

    /// Ports whose listeners are selected.
    pub fn ports(&self) -> &[(u16, u16)] {
        &self.rules.ports
    }

    /// Nothing is selected any more, and no rule can select anything later.
    pub fn is_over(&self) -> bool {
        self.rules.ports.is_empty() && self.rules.exes.is_empty() && self.selected.is_empty()
    }

    /// Forgets processes that ended unnoticed, before capture was live. Fails when that leaves nothing to watch.
    pub fn drop_dead(&mut self) -> Result<(), SelectionError> {
        self.selected.retain(|&tgid| procfs::stat(tgid).is_some_and(|stat| stat.is_alive()));
        match self.rules.pids.first() {
            Some(&pid) if self.is_over() => Err(SelectionError::EndedAtOnce(pid)),
            _ => Ok(()),
        }
    }

    fn exe_matches(&self, tgid: u32) -> bool {
        !self.rules.exes.is_empty()
            && procfs::exe(tgid)
                .is_some_and(|path| self.rules.exes.iter().any(|glob| glob.matches_path(&path)))
    }

    fn children_of_selected(&self) -> BTreeSet<u32> {
        let mut children = BTreeMap::<u32, Vec<u32>>::new();
        for tgid in procfs::processes() {
            if let Some(stat) = procfs::stat(tgid) {
                children.entry(stat.parent).or_default().push(tgid);
            }
        }
        self.selected.iter().filter_map(|tgid| children.get(tgid)).flatten().copied().collect()
    }

    /// Says whether any of them is new.
    fn add<E>(
        &mut self,
        found: BTreeSet<u32>,
        select: &mut impl FnMut(u32) -> Result<(), E>,
    ) -> Result<bool, E> {
        let before = self.selected.len();
        for tgid in found {
            if tgid != self.me && self.selected.insert(tgid) {
                select(tgid)?;
            }
        }
        Ok(self.selected.len() > before)
    }
}

/// PF_KTHREAD in the flags of /proc/PID/stat; kernel threads are children of kthreadd (2) or it itself.
fn is_kernel_thread(tgid: u32) -> bool {
    tgid == 2 || procfs::stat(tgid).is_some_and(|stat| stat.parent == 2)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::process::Command;

    use agent_pipeline::glob::Glob;

    use super::*;

    fn scan(rules: Selection) -> Vec<u32> {
        let mut discovery = Discovery::new(rules).unwrap();
        let mut found = Vec::new();
        discovery
            .scan(|tgid| {
                found.push(tgid);
                Ok::<_, Infallible>(())
            })
            .unwrap();
        found
    }

    #[test]
    fn descendants_come_with_their_process() {
        let mut child = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        let grandchild = loop {
            let found = scan(Selection { pids: vec![child.id()], ..Selection::default() });
            assert_eq!(found[0], child.id());
            if let Some(&grandchild) = found.get(1) {
                break grandchild;
            }
            assert!(std::time::Instant::now() < deadline);
        };
        assert_eq!(procfs::stat(grandchild).unwrap().parent, child.id());
        Command::new("sh").args(["-c", &format!("kill {grandchild}")]).status().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn programs_are_found_by_path_but_never_skep_itself() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        // The child may still be this test's own image, between fork and exec.
        while procfs::exe(child.id()) == procfs::exe(std::process::id()) {}
        let exes = vec![Glob::new("*").unwrap()];
        let found = scan(Selection { exes, ..Selection::default() });
        child.kill().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert!(found.contains(&pid));
        assert!(!found.contains(&std::process::id()));
    }

    #[test]
    fn impossible_processes_are_refused_with_their_number() {
        let refuse = |pid| {
            let rules = Selection { pids: vec![pid], ..Selection::default() };
            Discovery::new(rules).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(refuse(4_194_304).contains("process 4194304 does not exist"));
        assert!(refuse(std::process::id()).contains("Skep itself"));
        let mut zombie = Command::new("true").spawn().unwrap();
        while procfs::stat(zombie.id()).is_some_and(|stat| stat.is_alive()) {}
        assert!(refuse(zombie.id()).contains("has ended"));
        zombie.wait().unwrap();
    }
}
