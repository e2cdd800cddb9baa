//! What is known of each watched process: its facts, read while it lives; its resource, made when its first span
//! needs it; and whether its threads keep to one request. Bounded; a process is kept a while after its end, because
//! its last spans come later.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_pipeline::ThreadContext;
use rustc_hash::FxHashMap;

use super::elf::{self, ElfTraces};
use super::language;
use super::procfs;
use super::resource::{Facts, Host, Identity, Resource};
use super::rules::RuleId;

/// Processes kept, those that have ended included.
const MAX_PROCESSES: usize = 8192;
/// Executables whose traces are remembered.
const MAX_EXECUTABLES: usize = 256;
/// Threads whose names are remembered.
const MAX_THREADS: usize = 16_384;
/// How long a process is kept after its end.
const KEPT_AFTER_END: Duration = Duration::from_secs(10);
/// How long an answer about a process's libraries or a thread's name holds.
const VALID: Duration = Duration::from_secs(1);

/// All watched processes.
pub struct Processes {
    host: Host,
    /// By the number of the rule; the last one is for all others.
    identities: Vec<Identity>,
    entries: FxHashMap<u32, Entry>,
    /// By device, inode, size and modification time.
    executables: FxHashMap<(u64, u64, u64, i64), ElfTraces>,
    threads: FxHashMap<(u32, u32), (bool, Instant)>,
    ended: VecDeque<(Instant, u32)>,
    /// For processes beyond the table's size.
    nobody: Arc<Resource>,
}

struct Entry {
    facts: Facts,
    traces: ElfTraces,
    rule: RuleId,
    resource: Option<Arc<Resource>>,
    context: ThreadContext,
    context_checked: Instant,
}

impl Processes {
    /// An empty table.
    pub fn new(host: Host) -> Self {
        let nobody = (RuleId::MAX, &Identity::default());
        let nobody = Arc::new(Resource::new(&host, &Facts::default(), None, nobody));
        Self {
            host,
            identities: Vec::new(),
            entries: FxHashMap::default(),
            executables: FxHashMap::default(),
            threads: FxHashMap::default(),
            ended: VecDeque::new(),
            nobody,
        }
    }

    /// What the rules say of the processes that fall under them, by the number of the rule.
    pub fn set_identities(&mut self, identities: Vec<Identity>) {
        self.identities = identities;
        for entry in self.entries.values_mut() {
            entry.resource = None;
        }
    }

    /// A process falls under this rule from now on.
    pub fn set_rule(&mut self, tgid: u32, rule: RuleId) {
        if let Some(entry) = self.entries.get_mut(&tgid)
            && entry.rule != rule
        {
            entry.rule = rule;
            entry.resource = None;
        }
    }

    /// A process is watched from now on, or runs another program than before: reads who it is. Says whether its
    /// threads keep to one request, as far as can be seen now.
    pub fn learn(&mut self, tgid: u32) -> ThreadContext {
        let facts = Facts::read(tgid);
        if facts.exe.is_empty()
            && let Some(before) = self.entries.get(&tgid)
        {
            // It ran another program and ended before that could be read: what it was is the better answer.
            return before.context;
        }
        let traces = self.traces(tgid);
        let context = look_closer(tgid, &facts.exe, traces);
        let rule = self.entries.get(&tgid).map_or(RuleId::MAX, |before| before.rule);
        let context_checked = Instant::now();
        self.insert(tgid, Entry { facts, traces, rule, resource: None, context, context_checked })
    }

    /// A child of `parent` is watched from now on. It has its parent's program, environment and libraries, so only
    /// what differs is read.
    pub fn learn_child(&mut self, parent: u32, tgid: u32) -> ThreadContext {
        let Some(parent) = self.entries.get(&parent) else { return self.learn(tgid) };
        let entry = Entry {
            facts: parent.facts.of_child(tgid),
            traces: parent.traces,
            rule: parent.rule,
            resource: None,
            context: parent.context,
            context_checked: parent.context_checked,
        };
        self.insert(tgid, entry)
    }

    /// The process has ended; it is forgotten some time later.
    pub fn end(&mut self, tgid: u32, now: Instant) {
        self.ended.push_back((now, tgid));
    }

    /// Forgets processes that ended long ago and tells which.
    pub fn forget_ended(&mut self, now: Instant, mut forgotten: impl FnMut(u32)) {
        while let Some(&(end, tgid)) = self.ended.front()
            && (now.duration_since(end) >= KEPT_AFTER_END || self.ended.len() > MAX_PROCESSES)
        {
            self.ended.pop_front();
            // The number may belong to a new process already.
            if self.entries.get(&tgid).is_some_and(|entry| {
                procfs::stat(tgid)
                    .is_none_or(|stat| stat.start_ticks == entry.facts.start_ticks && !stat.is_alive())
            }) {
                self.entries.remove(&tgid);
                self.threads.retain(|&(owner, _), _| owner != tgid);
                forgotten(tgid);
            }
        }
    }

    /// Who the process is.
    pub fn resource(&mut self, tgid: u32) -> &Arc<Resource> {
        if !self.entries.contains_key(&tgid) {
            self.learn(tgid);
        }
        let Some(entry) = self.entries.get_mut(&tgid) else { return &self.nobody };
        entry.resource.get_or_insert_with(|| {
            let mapped = language::mapped_files(tgid).unwrap_or_default();
            let language = language::language(&entry.facts.exe, entry.traces, &mapped);
            let nothing = Identity::default();
            let identity = self.identities.get(entry.rule).unwrap_or(&nothing);
            Arc::new(Resource::new(&self.host, &entry.facts, language, (entry.rule, identity)))
        })
    }

    /// A short name for messages: `python3.11 (4242)`.
    pub fn label(&self, tgid: u32) -> String {
        let exe = self.entries.get(&tgid).map(|entry| entry.facts.exe.clone()).or_else(|| procfs::exe(tgid));
        match exe.as_deref().map(super::program::file_name) {
            Some(name) if !name.is_empty() => format!("{} ({tgid})", String::from_utf8_lossy(name)),
            _ => format!("process {tgid}"),
        }
    }

    /// Whether a thread that read a request may have left it for another one: asked before a client request is
    /// given the thread's open server request as its parent. A library that makes it so may have been loaded since
    /// the process was first looked at, so the answer is at most [`VALID`] old.
    pub fn thread_is_event_loop(&mut self, tgid: u32, tid: u32, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(&tgid) else { return true };
        if entry.context == ThreadContext::Threads && now.duration_since(entry.context_checked) >= VALID {
            entry.context = look_closer(tgid, &entry.facts.exe, entry.traces);
            entry.context_checked = now;
        }
        if entry.context == ThreadContext::Never {
            return true;
        }
        if let Some(&(answer, asked)) = self.threads.get(&(tgid, tid))
            && now.duration_since(asked) < VALID
        {
            return answer;
        }
        let answer = match procfs::thread_name(tgid, tid) {
            Some(name) => language::is_event_loop_thread(&name),
            // It ended right after its request, as no event loop does; unless all of the process ended.
            None => !procfs::stat(tgid).is_some_and(|stat| stat.is_alive()),
        };
        if self.threads.len() >= MAX_THREADS {
            self.threads.clear();
        }
        self.threads.insert((tgid, tid), (answer, now));
        answer
    }

    fn insert(&mut self, tgid: u32, entry: Entry) -> ThreadContext {
        if self.entries.len() >= MAX_PROCESSES && !self.entries.contains_key(&tgid) {
            return ThreadContext::Never;
        }
        let context = entry.context;
        self.entries.insert(tgid, entry);
        self.threads.retain(|&(owner, _), _| owner != tgid);
        context
    }

    fn traces(&mut self, tgid: u32) -> ElfTraces {
        let Ok(file) = File::open(format!("/proc/{tgid}/exe")) else { return ElfTraces::default() };
        let Ok(metadata) = file.metadata() else { return ElfTraces::default() };
        let key = (metadata.dev(), metadata.ino(), metadata.size(), metadata.mtime());
        if let Some(&traces) = self.executables.get(&key) {
            return traces;
        }
        let traces = elf::read_traces(&file);
        if self.executables.len() >= MAX_EXECUTABLES {
            self.executables.clear();
        }
        self.executables.insert(key, traces);
        traces
    }
}

fn look_closer(tgid: u32, exe: &[u8], traces: ElfTraces) -> ThreadContext {
    let mapped = language::mapped_files(tgid);
    let language = language::language(exe, traces, mapped.as_deref().unwrap_or_default());
    language::thread_context(language, traces, mapped.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_as_rust_and_never_by_thread() {
        let me = std::process::id();
        let mut processes = Processes::new(Host::read());
        assert_eq!(processes.learn(me), ThreadContext::Never);
        let resource = processes.resource(me);
        let json: serde_json::Value = serde_json::from_slice(&resource.json).unwrap();
        assert_eq!(json["telemetry.sdk.language"], "rust");
        assert_eq!(json["process.pid"], me);
        assert!(processes.thread_is_event_loop(me, me, Instant::now()));
    }

    #[test]
    fn a_process_that_is_gone_has_a_resource_all_the_same() {
        let mut processes = Processes::new(Host::read());
        let json: serde_json::Value = serde_json::from_slice(&processes.resource(u32::MAX).json).unwrap();
        assert_eq!(json["service.name"], "unknown_service");
    }

    #[test]
    fn ended_processes_are_forgotten_later() {
        let mut processes = Processes::new(Host::read());
        processes.learn(u32::MAX);
        let now = Instant::now();
        processes.end(u32::MAX, now);
        processes.forget_ended(now, |_| panic!("too soon"));
        let mut forgotten = Vec::new();
        processes.forget_ended(now + KEPT_AFTER_END, |tgid| forgotten.push(tgid));
        assert_eq!(forgotten, [u32::MAX]);
        assert!(processes.entries.is_empty());
    }
}
