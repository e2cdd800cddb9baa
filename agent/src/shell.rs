//! What the pipeline talks to: spans go to the output, wishes to the kernel side, process events to discovery.
//!
//! In: calls of [`Sink`] while records are parsed. Out: [`Shell::settle`] hands back what must be told to the
//! pipeline and the probe once neither is busy.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use agent_common::capture::CaptureMode;
use agent_common::event::{UNSEEN_COMPAT, UNSEEN_IO_URING, UNSEEN_KERNEL_TLS};
use agent_pipeline::span::Span;
use agent_pipeline::stats::Stats;
use agent_pipeline::{Pipeline, ProcessEvent, Sink, ThreadContext};

use crate::clock::Clock;
use crate::discovery::processes::Processes;
use crate::discovery::rules::RuleId;
use crate::discovery::{Change, Discovery};
use crate::export::otlp::Exporter;
use crate::gate::Gate;
use crate::metrics::Meter;
use crate::metrics::own::OwnCounters;
use crate::output::Output;
use crate::probe::{Control, HookState, Probe};
use crate::ui::hub::Tap;

/// Processes that have been warned about; a bound, because process numbers come from outside.
const MAX_WARNED: usize = 4096;

/// The user side around the pipeline.
pub struct Shell {
    /// Kernel time to wall clock.
    pub clock: Clock,
    /// Which processes are watched.
    pub discovery: Discovery,
    /// Who they are.
    pub processes: Processes,
    /// Which spans leave.
    pub gate: Gate,
    /// What is measured, if somebody may ask.
    pub meter: Option<Meter>,
    /// Where spans go.
    pub output: Output,
    /// Where they go over the network.
    pub export: Exporter,
    /// Spans of Skep's own exports, seen because the collector is watched too, and left out.
    pub own_spans: u64,
    /// The way to the page and to `skep top`.
    pub tap: Tap,
    /// Wishes that the kernel side refused.
    pub control_failed: u64,
    /// Most bytes that one look found in the ring buffer since metrics were last read.
    pub ring_most_bytes: u64,
    control: Control,
    events: VecDeque<ProcessEvent>,
    to_select: Vec<(u32, bool)>,
    warned: HashSet<(u32, Warning)>,
    now: Instant,
}

/// Where finished spans go, all three of them.
pub struct Outlets {
    /// Standard output.
    pub output: Output,
    /// The network.
    pub export: Exporter,
    /// The page and `skep top`.
    pub tap: Tap,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Warning {
    OnlyTls,
    Unseen(u32),
}

/// Says which back end is used, why no better one, and what is not hooked.
pub fn report_hooks(probe: &Probe) {
    for (backend, reason) in probe.refused() {
        log::debug!("back end {backend} is not used: {reason}");
    }
    for hook in probe.hooks() {
        if let HookState::Failed(reason) = &hook.state {
            log::warn!("{} is not hooked ({}), what passes it is not seen: {reason}", hook.name, hook.via);
        }
    }
}

impl Sink for Shell {
    fn span(&mut self, span: &Span<'_>) {
        if self.export.is_own(span.trace_id) {
            self.own_spans += 1;
            return;
        }
        if self.discovery.is_refused(span.tgid) {
            return;
        }
        let resource = self.processes.resource(span.tgid);
        // What the views show is neither filtered nor sampled: it stays on this machine, and figures are exact.
        self.tap.span(span, resource, &self.clock);
        let mut span = *span;
        let sampled = self.gate.passes_to_traces(&mut span, resource);
        // Metrics and the summary count every request that their filter leaves in, sampled or not.
        let is_measured = self.meter.is_some() || self.output.has_summary();
        if is_measured && self.gate.passes_to_metrics(&span, resource) {
            self.output.count(&span, resource);
            if let Some(meter) = &mut self.meter {
                meter.span(&span, sampled, resource);
            }
        }
        if sampled {
            self.output.span(&span, resource, &self.clock);
            self.export.span(&span, resource, &self.clock);
        }
    }

    fn set_capture(&mut self, conn_id: u64, sock: u64, mode: CaptureMode) {
        if self.control.set_capture(conn_id, sock, mode).is_err() {
            self.control_failed += 1;
        }
    }

    fn process(&mut self, event: ProcessEvent) {
        self.events.push_back(event);
    }

    fn thread_is_event_loop(&mut self, tgid: u32, tid: u32) -> bool {
        self.processes.thread_is_event_loop(tgid, tid, self.now)
    }
}

impl Shell {
    /// Around a pipeline that has seen nothing yet.
    pub fn new(
        discovery: Discovery,
        processes: Processes,
        gate: Gate,
        outlets: Outlets,
        clock: Clock,
        control: Control,
    ) -> Self {
        let Outlets { output, export, tap } = outlets;
        Self {
            clock,
            discovery,
            processes,
            gate,
            meter: None,
            output,
            export,
            own_spans: 0,
            tap,
            control_failed: 0,
            ring_most_bytes: 0,
            control,
            events: VecDeque::new(),
            to_select: Vec::new(),
            warned: HashSet::new(),
            now: Instant::now(),
        }
    }

    /// Time goes on; read once a tick, not once an event.
    pub fn tick(&mut self, now: Instant) {
        self.now = now;
        self.export.tick(now);
    }

    /// Acts on process events. Called after each record, so that a child's first request already finds it known.
    pub fn settle(&mut self, pipeline: &mut Pipeline) {
        while let Some(event) = self.events.pop_front() {
            match event {
                ProcessEvent::Fork { parent, child } => {
                    self.discovery.forked(parent, child);
                    let context = self.processes.learn_child(parent, child);
                    self.follow(child, context, pipeline);
                }
                ProcessEvent::Exec { tgid } => {
                    let change = self.discovery.exec(tgid);
                    self.change(tgid, change, pipeline);
                }
                ProcessEvent::Listen { tgid, port } => {
                    let new = !self.discovery.is_selected(tgid);
                    let change = self.discovery.listens(tgid, port);
                    self.change(tgid, change, pipeline);
                    if new && change == Change::Learn {
                        log::info!("watching {}: it listens on port {port}", self.processes.label(tgid));
                    }
                }
                ProcessEvent::Exit { tgid } => {
                    self.discovery.ended(tgid);
                    self.processes.end(tgid, self.now);
                }
                ProcessEvent::Unseen { tgid, what } => self.warn_unseen(tgid, what),
            }
        }
    }

    /// Processes that are to be selected in the kernel and then learned, or no longer to be selected, since the last call.
    pub fn take_to_select(&mut self) -> Vec<(u32, bool)> {
        std::mem::take(&mut self.to_select)
    }

    /// A process is watched from now on: reads who it is.
    pub fn learn(&mut self, tgid: u32, pipeline: &mut Pipeline) {
        let context = self.processes.learn(tgid);
        self.follow(tgid, context, pipeline);
    }

    /// Acts on what discovery says of a process.
    pub fn change(&mut self, tgid: u32, change: Change, pipeline: &mut Pipeline) {
        match change {
            Change::None => {}
            Change::Learn => self.learn(tgid, pipeline),
            Change::Select => self.to_select.push((tgid, true)),
            Change::Deselect => self.to_select.push((tgid, false)),
        }
    }

    /// Looks for processes that the rules select and that are not selected yet.
    pub fn scan(&mut self) {
        let to_select = &mut self.to_select;
        let Ok(()) = self.discovery.scan(|tgid| {
            to_select.push((tgid, true));
            Ok::<_, std::convert::Infallible>(())
        });
    }

    /// Hands on anew how all watched processes are treated.
    pub fn follow_all(&mut self, pipeline: &mut Pipeline) {
        for tgid in self.discovery.all_selected().collect::<Vec<_>>() {
            let rule = self.discovery.rule_of(tgid);
            self.processes.set_rule(tgid, rule.unwrap_or(RuleId::MAX));
            pipeline.set_route_set(tgid, rule);
        }
    }

    /// Hands on how a process is treated.
    fn follow(&mut self, tgid: u32, context: ThreadContext, pipeline: &mut Pipeline) {
        let rule = self.discovery.rule_of(tgid);
        self.processes.set_rule(tgid, rule.unwrap_or(RuleId::MAX));
        pipeline.set_route_set(tgid, rule);
        if let Some(meter) = &mut self.meter {
            meter.forget_process(tgid);
        }
        pipeline.set_thread_context(tgid, context);
        // Where threads tell nothing, the kernel side need not count their waits either.
        if self.control.set_quiet(tgid, context == ThreadContext::Never).is_err() {
            self.control_failed += 1;
        }
    }

    /// The watched processes in a few words.
    pub fn selected_label(&self) -> String {
        const NAMED: usize = 4;
        let all: Vec<u32> = self.discovery.all_selected().collect();
        if all.is_empty() {
            return "0 processes selected yet".to_owned();
        }
        let names: Vec<_> = all.iter().take(NAMED).map(|&tgid| self.processes.label(tgid)).collect();
        let more = if all.len() > NAMED { ", …" } else { "" };
        let plural = if all.len() == 1 { "process" } else { "processes" };
        format!("{} {plural} selected: {}{more}", all.len(), names.join(", "))
    }

    /// What is done once a second: the clock, processes that are gone, processes that speak only TLS.
    pub fn every_second(&mut self, pipeline: &mut Pipeline) {
        self.clock.follow();
        let meter = &mut self.meter;
        self.processes.forget_ended(self.now, |tgid| {
            pipeline.forget_process(tgid);
            if let Some(meter) = meter {
                meter.forget_process(tgid);
            }
        });
        if let Some(meter) = meter {
            meter.every_second(self.clock.now());
        }
        self.warn_only_tls(pipeline.stats());
    }

    /// Each tick: whether somebody asks for metrics.
    pub fn is_asked_for_metrics(&self) -> bool {
        self.meter.as_ref().is_some_and(|meter| meter.is_asked(self.now))
    }

    /// Answers those who ask for metrics.
    pub fn answer_metrics(&mut self, own: OwnCounters, pipeline: &Pipeline) {
        let selected: Vec<u32> = self.discovery.all_selected().collect();
        let (now, processes) = (self.clock.now(), &mut self.processes);
        if let Some(meter) = &mut self.meter {
            meter.answer(now, own, pipeline, &selected, |tgid| Arc::clone(processes.resource(tgid)));
        }
    }

    fn warn_only_tls(&mut self, stats: &Stats) {
        for (tgid, kinds) in stats.processes() {
            if tgid != 0 && kinds.tls > 0 && kinds.http1 == 0 && self.first_time(tgid, Warning::OnlyTls) {
                log::warn!(
                    "{} speaks only TLS, which Skep cannot read yet: watch the plain HTTP side, for instance the \
                     service behind the proxy that ends TLS",
                    self.processes.label(tgid)
                );
            }
        }
    }

    fn warn_unseen(&mut self, tgid: u32, what: u32) {
        if !self.first_time(tgid, Warning::Unseen(what)) {
            return;
        }
        let label = self.processes.label(tgid);
        match what {
            UNSEEN_COMPAT => log::warn!(
                "{label} makes 32-bit system calls, which Skep does not read: its requests are missing; use a 64-bit \
                 build of it"
            ),
            UNSEEN_IO_URING => log::warn!(
                "{label} uses io_uring, which this back end does not see: requests that go that way are missing; \
                 switch io_uring off in it (Node.js: UV_USE_IO_URING=0)"
            ),
            UNSEEN_KERNEL_TLS => log::warn!(
                "{label} lets the kernel encrypt a connection (kernel TLS), which Skep does not read: requests on it \
                 are missing"
            ),
            other => log::warn!("{label} does something that this back end does not see (code {other})"),
        }
    }

    fn first_time(&mut self, tgid: u32, warning: Warning) -> bool {
        self.warned.len() < MAX_WARNED && self.warned.insert((tgid, warning))
    }
}
