//! Processes: a child of a selected one is selected before it runs; exec and exit are told to user space.
//!
//! Hooks: `sched_process_fork`, `sched_process_exec`, `sched_process_exit` (raw tracepoints).
//! Events: ProcessFork, ProcessExec, ProcessExit.

use agent_common::{
    counters::Counter,
    event::{EventKind, ProcessFork, ProcessUnseen},
};
use aya_ebpf::{helpers::bpf_get_current_pid_tgid, macros::raw_tracepoint, programs::RawTracePointContext};

use crate::{
    emit,
    globals::{offset, report_all_exec},
    kernel::Kernel,
    maps::CALLS_BY_TID,
    select, waits,
};

/// Reports, once per process, what a back end cannot see.
#[inline(always)]
pub fn unseen<T>(tgid: u32, what: u32) -> Option<T> {
    let selected = select::get(tgid)?;
    // SAFETY: the pointer is to a map value.
    let selected = unsafe { &mut *selected };
    if selected.reported & 1 << what == 0 {
        selected.reported |= 1 << what;
        let record =
            ProcessUnseen { header: emit::header(EventKind::PROCESS_UNSEEN, 0, tgid, 0), what, reserved: 0 };
        emit::record(&record, true, Counter::RingFullProcess);
    }
    None
}

/// match-proto: void sched_process_fork(struct task_struct *parent, struct task_struct *child)
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn sched_process_fork(ctx: RawTracePointContext) -> i32 {
    let parent_tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    if !select::is_selected(parent_tgid) {
        return 0;
    }
    let child = Kernel(ctx.arg(1));
    let tgid: u32 = child.read(offset!(task_tgid)).unwrap_or(0);
    if tgid == parent_tgid || tgid == 0 || !select::add(tgid) {
        return 0;
    }
    let record =
        ProcessFork { header: emit::header(EventKind::PROCESS_FORK, 0, tgid, 0), parent_tgid, reserved: 0 };
    emit::record(&record, true, Counter::RingFullProcess);
    0
}

/// match-proto: void sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn sched_process_exec(_ctx: RawTracePointContext) -> i32 {
    let tgid = (bpf_get_current_pid_tgid() >> 32) as u32;
    let selected = select::is_selected(tgid);
    if selected {
        // Another program may be another runtime.
        select::set_quiet(tgid, false);
    }
    if selected || report_all_exec() {
        emit::record(&emit::header(EventKind::PROCESS_EXEC, 0, tgid, 0), true, Counter::RingFullProcess);
    }
    0
}

/// Fires for every thread, before its files are closed.
///
/// match-proto: void sched_process_exit(struct task_struct *p) [..6.12]
/// match-proto: void sched_process_exit(struct task_struct *p, bool group_dead) [6.18..]
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn sched_process_exit(ctx: RawTracePointContext) -> i32 {
    let ids = bpf_get_current_pid_tgid();
    let tgid = (ids >> 32) as u32;
    if !select::is_selected(tgid) {
        return 0;
    }
    waits::forget(ids as u32);
    let _ = CALLS_BY_TID.remove(ids as u32);
    let task = Kernel(ctx.arg(0));
    let live = task.pointer(offset!(task_signal)).and_then(|signal| signal.read::<i32>(offset!(signal_live)));
    if live == Some(0) && select::remove(tgid) {
        emit::record(&emit::header(EventKind::PROCESS_EXIT, 0, tgid, 0), true, Counter::RingFullProcess);
    }
    0
}
