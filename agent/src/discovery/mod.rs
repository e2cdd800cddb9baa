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
pub mod rules;
pub mod usage;

use std::collections::{BTreeMap, BTreeSet};

use self::rules::{Fit, RuleId, Rules};
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

/// Processes whose ports, or whose refusal, are remembered.
const MAX_REMEMBERED: usize = 4096;

/// The selection rules at work.
pub struct Discovery {
    rules: Rules,
    /// The processes of the short form, as they are told.
    pids: Vec<u32>,
    me: u32,
    selected: BTreeMap<u32, RuleId>,
    /// Ports that a rule names and a process is known to listen on.
    listening: BTreeMap<u32, BTreeSet<u16>>,
    /// Processes that the kernel side selected and no rule wants: what was seen of them in between is not shown.
    refused: BTreeSet<u32>,
}

/// What an event means for a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It is to be selected in the kernel and looked at.
    Select,
    /// It is selected and to be looked at anew.
    Learn,
    /// It is to be deselected in the kernel.
    Deselect,
}

impl Discovery {
    /// Checks the processes that were asked for by number.
    pub fn new(mut selection: Selection) -> Result<Self, SelectionError> {
        // The initial pid namespace has had this inode number since namespaces have inodes.
        const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;
        if procfs::link_inode("/proc/self/ns/pid", "pid").is_some_and(|inode| inode != INITIAL_PID_NAMESPACE)
        {
            return Err(SelectionError::ForeignNamespace);
        }
        let me = std::process::id();
        for pid in &mut selection.pids {
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
        Ok(Self {
            rules: Rules::new(&selection),
            pids: selection.pids,
            me,
            selected: BTreeMap::new(),
            listening: BTreeMap::new(),
            refused: BTreeSet::new(),
        })
    }

    /// Looks at all processes and hands those to `select` that a rule selects and that were not selected before,
    /// their descendants after them. Called before capture is live and once more when it is, so that nobody who
    /// came in between is missed.
    pub fn scan<E>(&mut self, mut select: impl FnMut(u32) -> Result<(), E>) -> Result<(), E> {
        let ports = self.rules.ports();
        if !ports.is_empty() {
            for (tgid, ports) in listeners::listening_processes(&ports) {
                self.note_ports(tgid, ports);
            }
        }
        let mut found = BTreeMap::new();
        for tgid in procfs::processes() {
            if let Fit::Rule(rule) = self.fit(tgid)
                && (procfs::exe(tgid).is_some() || !procfs::arguments(tgid).is_empty())
            {
                found.insert(tgid, rule);
            }
        }
        self.add(found, &mut select)?;
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

    /// A process runs another program.
    pub fn exec(&mut self, tgid: u32) -> Change {
        let selected = self.selected.contains_key(&tgid);
        match self.fit(tgid) {
            _ if tgid == self.me => Change::None,
            Fit::Rule(rule) => {
                self.selected(tgid, rule);
                if selected { Change::Learn } else { Change::Select }
            }
            Fit::Excluded if selected => self.refuse(tgid),
            Fit::Nothing if selected => Change::Learn,
            Fit::Excluded | Fit::Nothing => Change::None,
        }
    }

    /// A process listens on a port that a rule names; the kernel side has selected it already.
    pub fn listens(&mut self, tgid: u32, port: u16) -> Change {
        self.note_ports(tgid, BTreeSet::from([port]));
        let before = self.selected.get(&tgid).copied();
        match self.fit(tgid) {
            Fit::Rule(rule) if before == Some(rule) => Change::None,
            Fit::Rule(rule) => {
                self.selected(tgid, rule);
                Change::Learn
            }
            Fit::Nothing if before.is_some() => Change::None,
            Fit::Nothing | Fit::Excluded => self.refuse(tgid),
        }
    }

    /// A selected process made a child, which the kernel side has selected.
    pub fn forked(&mut self, parent: u32, child: u32) {
        if let Some(ports) = self.listening.get(&parent).cloned() {
            self.note_ports(child, ports);
        }
        self.selected(child, self.rule_of(parent).unwrap_or(RuleId::MAX));
    }

    /// A selected process has ended.
    pub fn ended(&mut self, tgid: u32) {
        self.selected.remove(&tgid);
        self.listening.remove(&tgid);
    }

    /// Other rules from now on. Fails, and changes nothing, if the kernel side was not prepared for them.
    pub fn reconfigure(&mut self, selection: &Selection, reports_all_exec: bool) -> Result<(), String> {
        let mut selection = selection.clone();
        // A number may be that of a thread; who is gone is not missed.
        selection.pids =
            selection.pids.iter().filter_map(|&pid| Some(procfs::tgid_and_ns_pid(pid)?.0)).collect();
        let rules = Rules::new(&selection);
        let known: BTreeSet<u16> =
            self.rules.ports().into_iter().flat_map(|(first, last)| first..=last).collect();
        let mut wanted = rules.ports().into_iter().flat_map(|(first, last)| first..=last);
        if let Some(port) = wanted.find(|port| !known.contains(port)) {
            return Err(format!("port {port} is new, and the kernel side was not told to watch it"));
        }
        if rules.ask_programs() && !reports_all_exec {
            return Err(
                "rules for programs are new, and the kernel side was not told to report programs".into()
            );
        }
        self.rules = rules;
        self.refused.clear();
        Ok(())
    }

    /// After other rules hold: the selected processes, each with what that means for it. Those that are not selected
    /// yet are found by [`Discovery::scan`].
    pub fn judge_anew(&mut self) -> Vec<(u32, Change)> {
        let all: Vec<u32> = self.selected.keys().copied().collect();
        let mut fits: BTreeMap<u32, Fit> = all.iter().map(|&tgid| (tgid, self.fit(tgid))).collect();
        // What fits nothing itself takes its nearest selected ancestor's.
        for &tgid in &all {
            let mut at = tgid;
            for _ in 0..MAX_ROUNDS {
                match fits.get(&at) {
                    Some(Fit::Nothing) => match procfs::stat(at) {
                        Some(stat) => at = stat.parent,
                        None => break,
                    },
                    Some(&fit) => {
                        fits.insert(tgid, fit);
                        break;
                    }
                    None => break,
                }
            }
        }
        let mut changes = Vec::with_capacity(all.len());
        for (tgid, fit) in fits {
            let change = match fit {
                Fit::Rule(rule) => {
                    self.selected.insert(tgid, rule);
                    Change::Learn
                }
                Fit::Nothing | Fit::Excluded => self.refuse(tgid),
            };
            changes.push((tgid, change));
        }
        changes
    }

    /// The rule that a selected process falls under.
    pub fn rule_of(&self, tgid: u32) -> Option<RuleId> {
        self.selected.get(&tgid).copied()
    }

    /// Whether the process is selected, as far as is known here.
    pub fn is_selected(&self, tgid: u32) -> bool {
        self.selected.contains_key(&tgid)
    }

    /// Whether nothing of the process is to be shown, though something was seen.
    pub fn is_refused(&self, tgid: u32) -> bool {
        !self.refused.is_empty() && self.refused.contains(&tgid)
    }

    /// All that are selected now.
    pub fn all_selected(&self) -> impl Iterator<Item = u32> + '_ {
        self.selected.keys().copied()
    }

    /// Whether programs are selected by what they are: then every exec matters.
    pub fn asks_programs(&self) -> bool {
        self.rules.ask_programs()
    }

    /// Whether rules select by what any process of the host runs or does.
    pub fn looks_at_all(&self) -> bool {
        !self.rules.only_pids()
    }

    /// Ports whose listeners are selected.
    pub fn ports(&self) -> Vec<(u16, u16)> {
        self.rules.ports()
    }

    /// Nothing is selected any more, and no rule can select anything later.
    pub fn is_over(&self) -> bool {
        self.selected.is_empty() && self.rules.only_pids()
    }

    /// Forgets processes that ended unnoticed, before capture was live. Fails when that leaves nothing to watch.
    pub fn drop_dead(&mut self) -> Result<(), SelectionError> {
        self.selected.retain(|&tgid, _| procfs::stat(tgid).is_some_and(|stat| stat.is_alive()));
        match self.pids.first() {
            Some(&pid) if self.is_over() => Err(SelectionError::EndedAtOnce(pid)),
            _ => Ok(()),
        }
    }

    fn fit(&self, tgid: u32) -> Fit {
        self.rules.fit(tgid, self.listening.get(&tgid))
    }

    fn selected(&mut self, tgid: u32, rule: RuleId) {
        self.refused.remove(&tgid);
        self.selected.insert(tgid, rule);
    }

    fn refuse(&mut self, tgid: u32) -> Change {
        self.selected.remove(&tgid);
        if self.refused.len() < MAX_REMEMBERED {
            self.refused.insert(tgid);
        }
        Change::Deselect
    }

    fn note_ports(&mut self, tgid: u32, ports: BTreeSet<u16>) {
        if self.listening.len() < MAX_REMEMBERED || self.listening.contains_key(&tgid) {
            self.listening.entry(tgid).or_default().extend(ports);
        }
    }

    /// Those that are not excluded, with their parents' rules.
    fn children_of_selected(&self) -> BTreeMap<u32, RuleId> {
        let mut children = BTreeMap::new();
        for tgid in procfs::processes() {
            if let Some(stat) = procfs::stat(tgid)
                && let Some(&rule) = self.selected.get(&stat.parent)
                && self.fit(tgid) != Fit::Excluded
            {
                children.insert(tgid, rule);
            }
        }
        children
    }

    /// Says whether any of them is new.
    fn add<E>(
        &mut self,
        found: BTreeMap<u32, RuleId>,
        select: &mut impl FnMut(u32) -> Result<(), E>,
    ) -> Result<bool, E> {
        let before = self.selected.len();
        for (tgid, rule) in found {
            if tgid != self.me && !self.selected.contains_key(&tgid) {
                self.selected(tgid, rule);
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
