//! The kernel programs from user space: load, attach, drain, steer. Only this module and `kernel/` name aya.
//!
//! In: the embedded object, [`ProbeConfig`], tgids to select. Out: raw records in the order in which they were
//! made, and counters. Everything is detached when [`Probe`] is dropped or the process dies.

mod control;
mod error;
mod reap;

use std::{
    collections::HashMap,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
    path::PathBuf,
    slice, thread,
};

use agent_common::{
    counters::COUNTERS,
    globals::{RuleGlobals, rule_flags},
};
use aya::{
    Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{MapData, PerCpuArray, ProgramArray, RingBuf},
    programs::{Program, RawTracePoint},
};
use zerocopy::IntoBytes as _;

pub use self::{control::Control, error::ProbeError};
use self::{error::one_line, reap::Reaper};
use crate::kernel::{offsets, syscalls};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/skep.bpf.o"));

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
        }
    }
}

/// One program of the object and the tracepoint that it is attached to, in the order of attaching: who is selected
/// and what is closed must be known before the first call is seen.
const HOOKS: &[(&str, &str)] = &[
    ("sched_process_exit", "sched_process_exit"),
    ("sched_process_fork", "sched_process_fork"),
    ("sched_process_exec", "sched_process_exec"),
    ("tcp_destroy_sock", "tcp_destroy_sock"),
    ("inet_sock_set_state", "inet_sock_set_state"),
    ("sys_exit", "sys_exit"),
];
/// Programs behind tail calls, by their index (agent-ebpf/src/syscall.rs): the first of each that loads is used.
const TAILS: &[&[&str]] = &[
    &["sys_exit_vectored", "sys_exit_vectored_short"],
    &["sys_exit_messages", "sys_exit_messages_short"],
    &["sys_exit_other"],
    &["sys_exit_long", "sys_exit_long_short"],
];
const CONTROL: &str = "control";

/// The loaded kernel programs.
pub struct Probe {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    counters: PerCpuArray<MapData, CounterValues>,
    /// Dropping the last reference empties the array, and with it the rarer calls would go unseen.
    _tails: ProgramArray<MapData>,
    control: Control,
    reaper: Reaper,
}

/// The counters of one CPU.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct CounterValues([u64; COUNTERS]);

// SAFETY: an array of integers; every bit pattern is a value.
unsafe impl aya::Pod for CounterValues {}

impl Probe {
    /// Loads all programs. Nothing is seen before [`Self::attach`].
    ///
    /// # Errors
    /// [`ProbeError`] names what failed and the mend.
    pub fn load(config: &ProbeConfig) -> Result<Self, ProbeError> {
        let offsets = offsets::read(&config.btf)?;
        let syscalls = syscalls::table();
        let rules = rules(config);
        let ring_bytes = config.ring_bytes.max(4096).next_power_of_two();
        let wakeup_bytes = u64::from(ring_bytes) / 2;
        let mut ebpf = EbpfLoader::new()
            .btf(None)
            .verifier_log_level(VerifierLogLevel::DISABLE)
            .override_global("OFFSETS", offsets.as_bytes(), true)
            .override_global("SYSCALL_CLASS", syscalls.as_slice(), true)
            .override_global("RULES", rules.as_bytes(), true)
            .override_global("RING_WAKEUP_BYTES", &wakeup_bytes, true)
            .map_max_entries("RING", ring_bytes)
            .map_max_entries("CONN_BY_SOCK", config.max_connections)
            .map_max_entries("SELECTED_TGIDS", config.max_processes)
            .map_max_entries("WAITS_BY_TID", config.max_threads)
            .load(OBJECT)
            .map_err(|error| {
                ProbeError::from_source("make BPF maps", &error, ProbeError::Object(one_line(&error)))
            })?;
        load_programs(&mut ebpf)?;
        let mut tails: ProgramArray<MapData> = take(&mut ebpf, "TAILS")?;
        for (index, variants) in TAILS.iter().enumerate() {
            let name = variants
                .iter()
                .find(|name| is_loaded(&ebpf, name))
                .ok_or(ProbeError::Missing("tail call"))?;
            let fd = program(&mut ebpf, name)?.fd().map_err(|_| ProbeError::Missing(name))?;
            tails.set(index as u32, fd, 0).map_err(|error| ProbeError::Object(one_line(&error)))?;
        }
        let fd = program(&mut ebpf, CONTROL)?.fd().map_err(|_| ProbeError::Missing(CONTROL))?;
        let control = Control::new(fd.as_fd().try_clone_to_owned().map_err(ProbeError::Control)?);
        Ok(Self {
            ring: take(&mut ebpf, "RING")?,
            counters: take(&mut ebpf, "COUNTERS_BY_CPU")?,
            _tails: tails,
            control,
            reaper: Reaper::default(),
            ebpf,
        })
    }

    /// Name of the attach back end.
    pub fn backend(&self) -> &'static str {
        "syscall"
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

    /// Attaches all programs; capture is live when it returns.
    ///
    /// # Errors
    /// [`ProbeError::Attach`] names the tracepoint.
    pub fn attach(&mut self) -> Result<(), ProbeError> {
        for (name, hook) in HOOKS {
            program(&mut self.ebpf, name)?.attach(hook).map_err(|error| {
                let other = ProbeError::Attach { program: name, hook, message: one_line(&error) };
                ProbeError::from_source(&format!("attach to tracepoint {hook}"), &error, other)
            })?;
        }
        Ok(())
    }

    /// Hands at most `max` waiting records to `f`, in their order, and returns how many there were. Never blocks.
    pub fn drain(&mut self, max: usize, mut f: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        while count < max {
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

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut RawTracePoint, ProbeError> {
    ebpf.program_mut(name).and_then(|program| program.try_into().ok()).ok_or(ProbeError::Missing(name))
}

/// Loads all programs side by side: the verifier's work is most of the time to the first span.
fn load_programs(ebpf: &mut Ebpf) -> Result<(), ProbeError> {
    let wanted: Vec<&[&'static str]> = HOOKS
        .iter()
        .map(|(name, _)| slice::from_ref(name))
        .chain(TAILS.iter().copied())
        .chain([&[CONTROL][..]])
        .collect();
    let mut programs: HashMap<&str, &mut Program> = ebpf.programs_mut().collect();
    thread::scope(|scope| {
        let mut loads = Vec::with_capacity(wanted.len());
        for variants in wanted {
            let variants: Vec<_> = variants.iter().map(|name| (*name, programs.remove(name))).collect();
            loads.push(scope.spawn(move || load_first(variants)));
        }
        loads
            .into_iter()
            .try_for_each(|load| load.join().unwrap_or(Err(ProbeError::Missing("loading thread"))))
    })
}

/// Loads the first of several variants that this kernel takes.
fn load_first(variants: Vec<(&'static str, Option<&mut Program>)>) -> Result<(), ProbeError> {
    let mut refused = None;
    for (name, program) in variants {
        let program: &mut RawTracePoint =
            program.and_then(|program| program.try_into().ok()).ok_or(ProbeError::Missing(name))?;
        match program.load() {
            Ok(()) => return Ok(()),
            Err(error) => {
                let other = ProbeError::Program { program: name, message: one_line(&error) };
                let error = ProbeError::from_source(&format!("load kernel program {name}"), &error, other);
                // The first variant's refusal is the one to mend.
                refused = refused.or(Some(error));
            }
        }
    }
    Err(refused.unwrap_or(ProbeError::Missing("program for a tail call")))
}

fn is_loaded(ebpf: &Ebpf, name: &str) -> bool {
    ebpf.program(name).is_some_and(|program| program.fd().is_ok())
}

fn take<T: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<T, ProbeError> {
    ebpf.take_map(name).and_then(|map| map.try_into().ok()).ok_or(ProbeError::Missing(name))
}
