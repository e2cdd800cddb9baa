//! From the embedded object to attached programs: which variants load, which hooks attach, what became of the rest.

use std::{collections::HashMap, thread};

use aya::{
    Btf, Ebpf, EbpfLoader, Endianness, VerifierLogLevel,
    maps::{MapData, ProgramArray},
    programs::{Program, ProgramError},
};
use zerocopy::IntoBytes as _;

use super::{
    ProbeConfig,
    error::{ProbeError, one_line},
    hooks::{Backend, CONTROL, FUNCTIONS, Function, Hook, HookState, Kprobe, Need, SHARED, SYS_EXIT, TAILS},
    tracing,
};
use crate::kernel::{offsets::Known, syscalls};

static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/skep.bpf.o"));

/// Places for a record per CPU where programs may be preempted (agent-ebpf/src/slot.rs).
const SLOTS: u32 = 3;

/// What is loaded for one function.
struct Loaded {
    function: &'static Function,
    /// The programs that were taken, or why there is none.
    programs: Result<Vec<(&'static str, &'static str)>, HookState>,
}

/// A back end that is loaded, not attached.
pub(super) struct BackEnd {
    pub(super) ebpf: Ebpf,
    /// Dropping the last reference empties the array, and with it the rarer calls would go unseen.
    pub(super) tails: Option<ProgramArray<MapData>>,
    backend: Backend,
    loaded: Vec<Loaded>,
}

/// One thing to load.
struct Item<'a> {
    name: &'static str,
    program: Option<&'a mut Program>,
    /// The function that fentry programs are made for.
    function: &'static str,
}

/// Makes the maps and loads the programs of a back end.
pub(super) fn load(config: &ProbeConfig, known: &Known, backend: Backend) -> Result<BackEnd, ProbeError> {
    if backend != Backend::Syscall {
        known.socket_calls.clone().map_err(|missing| ProbeError::Unavailable(backend.name(), missing))?;
    }
    if let (Backend::Fentry, Some(function)) = (backend, known.functions.get("tcp_sendmsg")) {
        tracing::is_allowed(*function).map_err(|error| {
            ProbeError::Unavailable(
                backend.name(),
                format!("load a program behind a function's return: {error}"),
            )
        })?;
    }
    let btf = match backend {
        Backend::Fentry => Some(
            Btf::parse_file(&config.btf, Endianness::default())
                .map_err(|error| ProbeError::Unavailable(backend.name(), one_line(&error)))?,
        ),
        _ => None,
    };
    let mut ebpf = make_maps(config, known, backend)?;
    let functions = load_programs(&mut ebpf, known, backend, btf.as_ref())?;
    let tails = if backend == Backend::Syscall { Some(fill_tails(&mut ebpf)?) } else { None };
    Ok(BackEnd { ebpf, tails, backend, loaded: functions })
}

fn make_maps(config: &ProbeConfig, known: &Known, backend: Backend) -> Result<Ebpf, ProbeError> {
    let mut offsets = known.offsets;
    // Behind a function's return a program may be preempted; at tracepoints and kprobes it is not.
    offsets.preemptible = u32::from(backend == Backend::Fentry);
    let slots = if backend == Backend::Fentry { SLOTS } else { 1 };
    let calls = if backend == Backend::Kprobe { config.max_threads } else { 1 };
    let syscalls = syscalls::table();
    let rules = super::rules(config);
    let ring_bytes = config.ring_bytes.max(4096).next_power_of_two();
    let wakeup_bytes = u64::from(ring_bytes) / 2;
    let log = if config.verifier_log {
        VerifierLogLevel::DEBUG | VerifierLogLevel::STATS
    } else {
        VerifierLogLevel::DISABLE
    };
    EbpfLoader::new()
        .btf(None)
        .verifier_log_level(log)
        .override_global("OFFSETS", offsets.as_bytes(), true)
        .override_global("SYSCALL_CLASS", syscalls.as_slice(), true)
        .override_global("RULES", rules.as_bytes(), true)
        .override_global("OPENINGS", agent_pipeline::openings().as_bytes(), true)
        .override_global("RING_WAKEUP_BYTES", &wakeup_bytes, true)
        .map_max_entries("RING", ring_bytes)
        .map_max_entries("CONN_BY_SOCK", config.max_connections)
        .map_max_entries("SELECTED_TGIDS", config.max_processes)
        .map_max_entries("WAITS_BY_TID", config.max_threads)
        .map_max_entries("SCRATCH", slots)
        .map_max_entries("GATHER", slots)
        .map_max_entries("CALLS_BY_TID", calls)
        .load(OBJECT)
        .map_err(|error| {
            ProbeError::from_source("make BPF maps", &error, ProbeError::Object(one_line(&error)))
        })
}

/// Loads all programs side by side: the verifier's work is most of the time to the first span.
fn load_programs(
    ebpf: &mut Ebpf,
    known: &Known,
    backend: Backend,
    btf: Option<&Btf>,
) -> Result<Vec<Loaded>, ProbeError> {
    let mut programs: HashMap<&str, &mut Program> = ebpf.programs_mut().collect();
    let mut item = |names: &[&'static str], function| {
        let name = variant(names, known.has_loop);
        Item { name, program: programs.remove(name), function }
    };
    let mut always: Vec<Item<'_>> = SHARED.iter().map(|(program, _)| item(&[program], "")).collect();
    always.push(item(&[CONTROL], ""));
    if backend == Backend::Syscall {
        always.push(item(&[SYS_EXIT.0], ""));
        always.extend(TAILS.iter().map(|names| item(names, "")));
    }
    // One program may serve several functions.
    let mut wanted = Vec::new();
    let mut once: HashMap<&'static str, Item<'_>> = HashMap::new();
    for function in FUNCTIONS.iter().filter(|_| backend != Backend::Syscall) {
        let uses: Vec<(&'static str, &'static str)> = match backend {
            Backend::Fentry => vec![(variant(function.fentry, known.has_loop), function.name)],
            _ => {
                let uses = function.kprobe.iter();
                uses.map(|kprobe| (variant(kprobe.programs, known.has_loop), kprobe.function)).collect()
            }
        };
        // Without a prototype its arguments are not known.
        let there = |name: &str| known.functions.contains_key(name);
        let absent = !there(function.name) || uses.iter().any(|(_, at)| !there(at));
        if !absent {
            for (program, at) in &uses {
                once.entry(program).or_insert_with(|| item(&[program], at));
            }
        }
        wanted.push((function, absent, uses));
    }
    let mut results = HashMap::new();
    thread::scope(|scope| {
        let always: Vec<_> =
            always.into_iter().map(|item| scope.spawn(move || load_item(item, btf))).collect();
        let once: Vec<_> =
            once.into_iter().map(|(name, item)| (name, scope.spawn(move || load_item(item, btf)))).collect();
        let died = || Err(ProbeError::Missing("loading thread"));
        for (name, load) in once {
            results.insert(name, load.join().unwrap_or_else(|_| died()));
        }
        always.into_iter().try_for_each(|load| load.join().unwrap_or_else(|_| died()).map(|_| ()))
    })?;
    let mut loaded = Vec::with_capacity(wanted.len());
    for (function, absent, uses) in wanted {
        let refused = uses.iter().find(|(program, _)| matches!(results.get(program), Some(Err(_))));
        let programs = match refused {
            _ if absent && function.need == Need::Essential => {
                let missing = format!("this kernel has no function {}", function.name);
                return Err(ProbeError::Unavailable(backend.name(), missing));
            }
            _ if absent && function.need == Need::MayBeAbsent => Err(HookState::Absent),
            _ if absent => Err(HookState::Failed("this kernel has no such function".to_owned())),
            Some((program, _)) => match (function.need, results.get(program)) {
                (Need::Essential, _) => {
                    return Err(results
                        .remove(program)
                        .and_then(Result::err)
                        .unwrap_or(ProbeError::Missing(program)));
                }
                (_, Some(Err(error))) => Err(HookState::Failed(error.to_string())),
                _ => Err(HookState::Absent),
            },
            None => Ok(uses),
        };
        loaded.push(Loaded { function, programs });
    }
    Ok(loaded)
}

/// Of two variants, the second is for kernels without bpf_loop.
fn variant(names: &[&'static str], has_loop: bool) -> &'static str {
    if has_loop { names[0] } else { names[names.len() - 1] }
}

fn load_item(item: Item<'_>, btf: Option<&Btf>) -> Result<&'static str, ProbeError> {
    let Item { name, program, function } = item;
    let program = program.ok_or(ProbeError::Missing(name))?;
    load_one(program, function, btf).map_err(|error| {
        let other = ProbeError::Program { program: name, message: one_line(&error) };
        ProbeError::from_source(&format!("load kernel program {name}"), &error, other)
    })?;
    Ok(name)
}

fn load_one(program: &mut Program, function: &str, btf: Option<&Btf>) -> Result<(), ProgramError> {
    match (program, btf) {
        (Program::RawTracePoint(program), _) => program.load(),
        (Program::KProbe(program), _) => program.load(),
        (Program::FExit(program), Some(btf)) => program.load(function, btf),
        _ => Err(ProgramError::UnexpectedProgramType),
    }
}

fn fill_tails(ebpf: &mut Ebpf) -> Result<ProgramArray<MapData>, ProbeError> {
    let mut tails: ProgramArray<MapData> = super::take(ebpf, "TAILS")?;
    for (index, variants) in TAILS.iter().enumerate() {
        let loaded = variants.iter().find_map(|name| ebpf.program(name)?.fd().ok());
        let fd = loaded.ok_or(ProbeError::Missing("program for a tail call"))?;
        tails.set(index as u32, fd, 0).map_err(|error| ProbeError::Object(one_line(&error)))?;
    }
    Ok(tails)
}

impl BackEnd {
    /// Attaches everything; what became of each hook.
    pub(super) fn attach(&mut self) -> Result<Vec<Hook>, ProbeError> {
        let mut hooks = Vec::new();
        let tracepoints = SHARED.iter().chain((self.backend == Backend::Syscall).then_some(&SYS_EXIT));
        for (program, tracepoint) in tracepoints {
            self.attach_one(program, tracepoint)?;
            hooks.push(Hook { name: tracepoint, via: "tracepoint", state: HookState::Attached });
        }
        for Loaded { function, programs } in std::mem::take(&mut self.loaded) {
            let state = match programs {
                Err(state) => state,
                Ok(programs) => {
                    let attached = programs.iter().try_for_each(|(program, at)| self.attach_one(program, at));
                    match attached {
                        Ok(()) => HookState::Attached,
                        Err(error) if function.need == Need::Essential => return Err(error),
                        Err(error) => HookState::Failed(error.to_string()),
                    }
                }
            };
            hooks.push(Hook { name: function.name, via: self.backend.name(), state });
        }
        Ok(hooks)
    }

    fn attach_one(&mut self, name: &'static str, hook: &'static str) -> Result<(), ProbeError> {
        let attached = match self.ebpf.program_mut(name) {
            Some(Program::RawTracePoint(program)) => program.attach(hook).map(|_| ()),
            Some(Program::FExit(program)) => program.attach().map(|_| ()),
            Some(Program::KProbe(program)) => program.attach(hook, 0).map(|_| ()),
            _ => return Err(ProbeError::Missing(name)),
        };
        attached.map_err(|error| {
            let other = ProbeError::Attach { program: name, hook, message: one_line(&error) };
            ProbeError::from_source(&format!("attach to {hook}"), &error, other)
        })
    }
}

/// All functions whose prototypes or ids are asked for.
pub(super) fn functions() -> Vec<&'static str> {
    let kprobes =
        FUNCTIONS.iter().flat_map(|function| function.kprobe.iter().map(|Kprobe { function, .. }| *function));
    FUNCTIONS.iter().map(|function| function.name).chain(kprobes).collect()
}
