//! The kernel programs from user space: load, attach, drain, steer. Only this module and `kernel/` name aya.
//!
//! In: the embedded object, [`ProbeConfig`], tgids to select. Out: raw records in the order in which they were
//! made, and counters. Everything is detached when [`Probe`] is dropped or the process dies.

mod control;
mod error;
mod hooks;
mod load;
mod reap;
mod self_test;
mod tracing;

use std::{
    collections::{HashMap, VecDeque},
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    path::PathBuf,
};

use agent_common::{
    counters::COUNTERS,
    globals::{RuleGlobals, rule_flags},
};
use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::Program,
};

pub use self::{
    control::Control,
    error::ProbeError,
    hooks::{Backend, Hook, HookState},
};
use self::{
    hooks::{CONTROL, FUNCTIONS, Shown},
    reap::Reaper,
    self_test::Seen,
};
use crate::kernel::offsets::{self, Known};

/// What a [`Probe`] is made from.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Size of the ring buffer in bytes; rounded up to a power of two of at least a page.
    pub ring_bytes: u32,
    /// Connections that are followed at the same time.
    pub max_connections: u32,
    /// Processes that are selected at the same time.
    pub max_processes: u32,
    /// Threads of selected processes whose waits are counted.
    pub max_threads: u32,
    /// Report every exec on the host as a process event.
    pub report_all_exec: bool,
    /// Ranges of ports, both ends included: who begins to listen there is selected.
    pub ports: Vec<(u16, u16)>,
    /// The kernel's type information.
    pub btf: PathBuf,
    /// This back end and no other.
    pub backend: Option<Backend>,
    /// Have the verifier say why it refuses a program; slow.
    pub verifier_log: bool,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            ring_bytes: 4 * 1024 * 1024,
            max_connections: 16_384,
            max_processes: 4096,
            max_threads: 8192,
            report_all_exec: false,
            ports: Vec::new(),
            btf: offsets::VMLINUX_BTF.into(),
            backend: None,
            verifier_log: false,
        }
    }
}

/// The loaded kernel programs.
pub struct Probe {
    backend: Backend,
    hooks: Vec<Hook>,
    refused: Vec<(&'static str, String)>,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, CounterValues>,
    /// Dropping the last reference empties the array, and with it the rarer calls would go unseen.
    _tails: Option<ProgramArray<MapData>>,
    control: Control,
    reaper: Reaper,
    /// Records of others that came while the self-test ran.
    early: VecDeque<Vec<u8>>,
    /// Counters when the self-test was over.
    before: [u64; COUNTERS],
    ebpf: Ebpf,
}

/// The counters of one CPU.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct CounterValues([u64; COUNTERS]);

// SAFETY: an array of integers; every bit pattern is a value.
unsafe impl aya::Pod for CounterValues {}

impl Probe {
    /// Loads and attaches the best back end that this kernel really runs, or the one that is asked for: capture is live
    /// when it returns. Each is tried with a few bytes over loopback sockets.
    ///
    /// # Errors
    /// [`ProbeError`] names what failed and the mend; of several back ends, the last one's.
    pub fn start(config: &ProbeConfig) -> Result<Self, ProbeError> {
        let known = offsets::read(&config.btf, &load::functions())?;
        let candidates = match config.backend {
            Some(backend) => vec![backend],
            None => Backend::ALL.to_vec(),
        };
        let last = candidates.len() - 1;
        let mut refused = Vec::new();
        for (index, backend) in candidates.into_iter().enumerate() {
            match Self::try_backend(config, &known, backend) {
                Ok(mut probe) => {
                    probe.refused = refused;
                    return Ok(probe);
                }
                Err(error) if index == last => return Err(error),
                Err(error) => refused.push((backend.name(), error.to_string())),
            }
        }
        Err(ProbeError::Missing("back end"))
    }

    fn try_backend(config: &ProbeConfig, known: &Known, backend: Backend) -> Result<Self, ProbeError> {
        let mut loaded = load::load(config, known, backend)?;
        let fd = loaded.ebpf.program(CONTROL).and_then(|program| program.fd().ok());
        let fd = fd.ok_or(ProbeError::Missing(CONTROL))?;
        let control = Control::new(fd.as_fd().try_clone_to_owned().map_err(ProbeError::Control)?);
        let (ring, counters) = (take(&mut loaded.ebpf, "RING")?, take(&mut loaded.ebpf, "COUNTERS_BY_CPU")?);
        let hooks = loaded.attach()?;
        let mut probe = Self {
            backend,
            hooks,
            refused: Vec::new(),
            ring,
            counters,
            _tails: loaded.tails,
            control,
            reaper: Reaper::default(),
            early: VecDeque::new(),
            before: [0; COUNTERS],
            ebpf: loaded.ebpf,
        };
        probe.test()?;
        Ok(probe)
    }

    /// Talks to itself and looks at the records: a hook that does not fire has failed, an essential one with its back end.
    fn test(&mut self) -> Result<(), ProbeError> {
        let own = std::process::id();
        self.control.select(own)?;
        let tried = self_test::exchange();
        self.control.deselect(own)?;
        let mut seen = Seen::default();
        self.take_early(&mut seen);
        for (conn_id, sock) in std::mem::take(&mut seen.to_reap) {
            self.control.reap(conn_id, sock)?;
        }
        self.take_early(&mut seen);
        self.before = self.raw_counters();
        // What this machine's loopback does not carry proves nothing about the kernel.
        let Ok(tried) = tried else { return Ok(()) };
        let silent = |shown: &Shown| tried.contains(shown) && !seen.shown.contains(shown);
        if [Shown::TcpSent, Shown::TcpReceived].iter().any(silent) {
            let what = "attached, but the self-test's bytes were not seen".to_owned();
            return Err(ProbeError::Unavailable(self.backend.name(), what));
        }
        for function in FUNCTIONS {
            let Some(hook) = self.hooks.iter_mut().find(|hook| hook.name == function.name) else { continue };
            if let (HookState::Attached, Some(shown)) = (&hook.state, function.shown_by) {
                if silent(&shown) {
                    hook.state = HookState::Failed("attached, but does not fire".to_owned());
                } else if seen.shown.contains(&shown) {
                    hook.state = HookState::Fires;
                }
            }
        }
        Ok(())
    }

    /// Empties the ring buffer: the test's records are looked at, those of others are kept for the first drain.
    fn take_early(&mut self, seen: &mut Seen) {
        while let Some(item) = self.ring.next() {
            if !seen.observe(&item) {
                self.early.push_back(item.to_vec());
            }
        }
    }

    /// The attach back end.
    pub fn backend(&self) -> &'static str {
        self.backend.name()
    }

    /// Each hook and what became of it.
    pub fn hooks(&self) -> &[Hook] {
        &self.hooks
    }

    /// The better back ends that were tried, and why they are not used.
    pub fn refused(&self) -> &[(&'static str, String)] {
        &self.refused
    }

    /// Selects a process; its later children follow by themselves.
    ///
    /// # Errors
    /// [`ProbeError::SelectionFull`], [`ProbeError::Control`].
    pub fn select(&self, tgid: u32) -> Result<(), ProbeError> {
        self.control.select(tgid)
    }

    /// Stops following a process. One that is not selected is no error.
    ///
    /// # Errors
    /// [`ProbeError::Control`].
    pub fn deselect(&self, tgid: u32) -> Result<(), ProbeError> {
        self.control.deselect(tgid)
    }

    /// Hands at most `max` waiting records to `f`, in their order, and returns how many there were. Never blocks.
    pub fn drain(&mut self, max: usize, mut f: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < max {
            if let Some(record) = self.early.pop_front() {
                self.reaper.observe(&record);
                f(&record);
                count += 1;
                continue;
            }
            let Some(item) = self.ring.next() else { break };
            self.reaper.observe(&item);
            f(&item);
            count += 1;
        }
        self.reaper.reap(&self.control);
        count
    }

    /// Readable when a process event came or the ring buffer is half full; otherwise drain every 10 ms.
    pub fn ring_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// What steers the programs from any thread.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Whether what is loaded can still be steered and asked with the rights that this thread has now.
    pub fn answers(&self) -> bool {
        self.control.deselect(0).is_ok() && self.counters.get(&0, 0).is_ok()
    }

    /// Name of each loaded program and the instructions that the verifier walked through for it, where the kernel tells.
    pub fn verified_instructions(&self) -> Vec<(String, Option<u32>)> {
        let programs = self.ebpf.programs();
        let info = |program: &Program| program.info().ok()?.verified_instruction_count();
        programs
            .filter(|(_, program)| program.fd().is_ok())
            .map(|(name, program)| (name.to_owned(), info(program)))
            .collect()
    }

    /// The kernel side's counters, summed over all CPUs; indexed by `agent_common::counters::Counter`.
    pub fn counters(&self) -> [u64; COUNTERS] {
        let mut counters = self.raw_counters();
        for (counter, before) in counters.iter_mut().zip(self.before) {
            *counter = counter.wrapping_sub(before);
        }
        counters
    }

    fn raw_counters(&self) -> [u64; COUNTERS] {
        let mut sums = [0_u64; COUNTERS];
        if let Ok(values) = self.counters.get(&0, 0) {
            for cpu in values.iter() {
                for (sum, value) in sums.iter_mut().zip(cpu.0) {
                    *sum = sum.wrapping_add(value);
                }
            }
        }
        sums
    }

    /// Kernel memory of all maps of this process in bytes, as the kernel reports it.
    pub fn map_memory_bytes(&self) -> u64 {
        let Ok(entries) = std::fs::read_dir("/proc/self/fdinfo") else { return 0 };
        let texts = entries.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        let by_id: HashMap<u64, u64> =
            texts.filter_map(|text| Some((line(&text, "map_id:")?, line(&text, "memlock:")?))).collect();
        by_id.values().sum()
    }
}

/// A number in the text that the kernel shows of a descriptor (kernel/bpf/syscall.c, bpf_map_show_fdinfo).
fn line(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn rules(config: &ProbeConfig) -> RuleGlobals {
    let flags = if config.report_all_exec { rule_flags::REPORT_ALL_EXEC } else { 0 };
    let mut rules = RuleGlobals { flags, reserved: 0, ports: [0; 8192] };
    for port in config.ports.iter().flat_map(|(first, last)| *first..=*last) {
        rules.ports[usize::from(port / 8)] |= 1 << (port % 8);
    }
    rules
}

fn take<T: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, ProbeError> {
    ebpf.take_map(name).and_then(|map| map.try_into().ok()).ok_or(ProbeError::Missing(name))
}
