//! Skep, the agent: [`run`] wires the stages in the order in which data passes through them.
//!
//! selection → kernel programs → ring buffer → pipeline → [`shell::Shell`] → standard output, exporters, and the store
//! behind the page and `skep top`. One thread drains and parses; a second one writes, a third one keeps, answers and
//! exports.

pub mod check;
pub mod cli;
pub mod clock;
pub mod config;
pub mod discovery;
pub mod export;
pub mod gate;
pub mod kernel;
pub mod logging;
pub mod metrics;
pub mod notify;
pub mod output;
pub mod probe;
pub mod protocols;
pub mod receive;
pub mod reload;
pub mod rights;
pub mod runtime;
pub mod settings;
pub mod shell;
pub mod stats;
pub mod store;
pub mod top;
pub mod ui;
pub mod wake;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_common::counters::Counter;
use agent_pipeline::Pipeline;
use anyhow::Context;

use crate::clock::Clock;
use crate::config::Config;
use crate::discovery::Discovery;
use crate::discovery::processes::Processes;
use crate::discovery::resource::{Host, Resource};
use crate::export::otlp::Exporter;
use crate::export::prometheus;
use crate::gate::Gate;
use crate::kernel::ktime_ns;
use crate::metrics::Meter;
use crate::metrics::config::MeterConfig;
use crate::metrics::own::{Fixed, OwnCounters};
use crate::metrics::push::Pusher;
use crate::output::Output;
use crate::probe::{Backend, Probe, ProbeConfig};
use crate::reload::Reloader;
use crate::runtime::Runtime;
use crate::shell::{Outlets, Shell};
use crate::stats::Books;
use crate::ui::health::Health;
use crate::ui::hub::Tap;
use crate::wake::{Signals, Wake, Woken};

/// Between two looks at the ring buffer while something happens, and while nothing does.
const TICK: Duration = Duration::from_millis(10);
const IDLE_TICK: Duration = Duration::from_millis(50);
/// Ticks without a record after which nothing happens.
const IDLE_TICKS: u32 = 100;
/// Records taken before the rest of the loop has its turn.
const BATCH: usize = 4096;
const BATCHES_PER_TICK: usize = 64;
const STATS_INTERVAL: Duration = Duration::from_secs(10);
/// How long a run goes on after the last watched process has ended: its connections close after it.
const AFTER_THE_LAST: Duration = Duration::from_millis(200);
/// What standard output may take at the end, so that all is over within a second.
const LAST_WRITE: Duration = Duration::from_millis(400);
/// The same for the exporters, at the same time.
const LAST_EXPORT: Duration = Duration::from_millis(500);
/// What the last export of metrics may take to be put together.
const LAST_METRICS: Duration = Duration::from_millis(200);
/// What the thread for networks may take at the end.
const LAST_ANSWER: Duration = Duration::from_millis(100);

/// Watches the selected processes until a signal, the time or the end of all of them.
///
/// # Errors
/// One line that names the object and the mend.
pub fn run(config: Config, mut reloader: Reloader, started: Instant) -> anyhow::Result<()> {
    let signals = Signals::block().context("block signals")?;
    rights::never_gain_any().context("give up the way to more rights")?;
    let rules = config.selection.rules.clone();
    // An address that is taken is an error before anything else begins.
    let prometheus = config.metrics.prometheus.map(prometheus::bind).transpose()?;
    let mut discovery = Discovery::new(config.selection)?;
    let runtime = Runtime::start().context("start the thread for networks")?;
    let export = Exporter::start(&config.otlp, &runtime, random_seed()?)?;
    let ui = ui::start(config.ui, runtime.handle())?;
    let received =
        config.otlp_listen.map(|address| receive::start(address, &ui.hub, runtime.handle())).transpose()?;
    let report_all_exec = discovery.asks_programs() || reloader.may_ask_programs();
    reloader.set_reports_all_exec(report_all_exec);
    let mut probe = Probe::start(&ProbeConfig {
        ring_bytes: config.limits.ring_bytes,
        max_connections: config.limits.max_connections,
        max_processes: config.limits.max_processes,
        max_threads: config.limits.max_threads,
        report_all_exec,
        ports: discovery.ports(),
        btf: config.btf,
        backend: config.backend,
        verifier_log: false,
    })?;
    shell::report_hooks(&probe);
    discovery.scan(|tgid| probe.select(tgid))?;
    discovery.drop_dead()?;
    let live = started.elapsed();
    warn_of_missing_rights(&discovery);
    // Before any other thread starts: each takes its maker's rights.
    let kept = rights::keep_what_watching_needs(|| probe.answers()).context("give up rights")?;
    log::debug!("rights kept: {}", rights::names(kept));

    let pipeline_config = agent_pipeline::Config {
        routes: config.routes,
        redis_batches: config.redis_batches,
        seed: random_seed()?,
        max_connections: config.limits.max_connections as usize * 2,
        ..agent_pipeline::Config::default()
    };
    let mut pipeline = Pipeline::new(pipeline_config.clone());
    let output = Output::start(config.output).context("start the writer of standard output")?;
    let mut processes = Processes::new(Host::read());
    processes.set_identities(rules.iter().map(|rule| rule.identity.clone()).collect());
    let outlets = Outlets { output, export, tap: Tap::new(Arc::clone(&ui.hub)) };
    let gate = Gate::new(config.gate, &rules);
    let mut shell = Shell::new(discovery, processes, gate, outlets, Clock::start(), probe.control());
    shell.meter = meter(&config.metrics, &shell, &probe, &pipeline_config, config.limits.ring_bytes);
    let pusher = match &shell.meter {
        None => None,
        Some(meter) => {
            let (exchange, now) = (Arc::clone(&meter.exchange), shell.clock.now());
            let server = match prometheus {
                None => None,
                Some(listener) => {
                    log::info!("Prometheus metrics on http://{}/metrics", listener.local_addr()?);
                    let server = prometheus::start(listener, Arc::clone(&exchange), now.unix_ns, &runtime);
                    Some(server.context("watch the socket of --prometheus-listen")?)
                }
            };
            let sender = shell.export.metrics();
            sender
                .map(|sender| Pusher::start(&config.metrics, exchange, sender, server, now.unix_ns, &runtime))
        }
    };
    for tgid in shell.discovery.all_selected().collect::<Vec<_>>() {
        shell.learn(tgid, &mut pipeline);
    }
    log::info!(
        "ready: back end {}, {}, {} ms since start",
        probe.backend(),
        shell.selected_label(),
        live.as_millis()
    );
    notify::notify("READY=1");
    if let Some(address) = received {
        log::info!("spans of others are taken on {address}, OTLP over gRPC or HTTP");
    }
    if let Some(link) = &ui.link {
        log::info!("page: {link}");
    }

    give_back_start_up_memory();
    publish(&mut probe, &pipeline, &shell, live);
    let wake = Wake::new(probe.ring_fd(), signals).context("watch the ring buffer")?;
    let times = Times { duration: config.duration, print_stats: config.stats };
    let end = drain_until_end(times, &wake, &mut reloader, &mut probe, &mut pipeline, &mut shell)?;
    log::info!("stopping: {end}");
    notify::notify("STOPPING=1");

    // Nothing new from here on, so that the books can close.
    for tgid in shell.discovery.all_selected().collect::<Vec<_>>() {
        probe.deselect(tgid)?;
    }
    drain(&mut probe, &mut pipeline, &mut shell)?;
    pipeline.finish(ktime_ns(), &mut shell);
    let elapsed = started.elapsed();
    if let Some(pusher) = pusher {
        // What came since the last export leaves as well.
        pusher.finish(LAST_METRICS, || answer_metrics(&mut probe, &pipeline, &mut shell, elapsed));
    }
    let (kernel, map_memory_bytes) = (probe.counters(), probe.map_memory_bytes());
    drop(probe);
    let exported = shell.export.begin_finish(LAST_EXPORT);
    let output = shell.output.finish(LAST_WRITE);
    exported.wait();
    let books = Books {
        elapsed,
        kernel,
        pipeline: pipeline.stats(),
        output,
        left_out: shell.gate.left_out(),
        export: shell.export.stats(),
        own_spans: shell.own_spans,
        control_failed: shell.control_failed,
        map_memory_bytes,
    };
    books.lines().iter().for_each(|line| log::info!("{line}"));
    drop(ui);
    runtime.finish(LAST_ANSWER);
    still_writable(&shell.output)
}

/// What happens at which time.
struct Times {
    duration: Option<Duration>,
    print_stats: bool,
}

/// The loop. Says why it ended.
fn drain_until_end(
    Times { duration, print_stats }: Times,
    wake: &Wake,
    reloader: &mut Reloader,
    probe: &mut Probe,
    pipeline: &mut Pipeline,
    shell: &mut Shell,
) -> anyhow::Result<&'static str> {
    let started = Instant::now();
    let (mut last_second, mut last_stats) = (started, started);
    let mut idle_ticks = 0_u32;
    let mut over_since = None;
    loop {
        let now = Instant::now();
        let left = duration.map_or(TICK, |duration| duration.saturating_sub(now - started));
        let pause = if idle_ticks < IDLE_TICKS { TICK } else { IDLE_TICK };
        match wake.wait(pause.min(left.max(Duration::from_millis(1)))).context("wait for the ring buffer")? {
            Woken::Work => {}
            Woken::Reload => reloader.reload(pipeline, shell),
            Woken::Stop => return Ok("signal"),
        }
        let now = Instant::now();
        shell.tick(now);
        let records = drain(probe, pipeline, shell)?;
        idle_ticks = if records == 0 { idle_ticks.saturating_add(1) } else { 0 };
        pipeline.on_tick(ktime_ns(), shell);
        shell.output.flush();
        shell.tap.tick(now);
        still_writable(&shell.output)?;
        if shell.is_asked_for_metrics() {
            answer_metrics(probe, pipeline, shell, now - started);
        }

        if now - last_second >= Duration::from_secs(1) {
            last_second = now;
            shell.every_second(pipeline);
            publish(probe, pipeline, shell, now - started);
        }
        if print_stats && now - last_stats >= STATS_INTERVAL {
            last_stats = now;
            let books = books(probe, pipeline, shell, now - started);
            books.lines().iter().for_each(|line| log::info!("{line}"));
        }
        if duration.is_some_and(|duration| now - started >= duration) {
            return Ok("the time is over");
        }
        // Where a process event was lost, somebody unknown may still be there.
        if shell.discovery.is_over() && probe.counters()[Counter::RingFullProcess as usize] == 0 {
            if now - *over_since.get_or_insert(now) >= AFTER_THE_LAST {
                return Ok("all watched processes have ended");
            }
        } else {
            over_since = None;
        }
    }
}

/// Counts, if somebody may read.
fn meter(
    config: &MeterConfig,
    shell: &Shell,
    probe: &Probe,
    pipeline: &agent_pipeline::Config,
    ring_bytes: u32,
) -> Option<Meter> {
    let aggregation = config.aggregation(shell.export.metrics().is_some())?;
    let own = Arc::new(Resource::own(&Host::read()));
    let fixed = Fixed {
        backends: Backend::ALL.map(|backend| (backend.name(), backend.name() == probe.backend())).to_vec(),
        ring_bytes: ring_bytes.into(),
        max_connections: pipeline.max_connections as u64,
        max_requests: pipeline.max_requests as u64,
        max_buffered_bytes: pipeline.max_buffered_bytes as u64,
    };
    let export = Arc::clone(shell.export.stats());
    Some(Meter::new(aggregation, own, shell.clock.now(), fixed, export).with_processes(config.processes))
}

fn books<'a>(probe: &mut Probe, pipeline: &'a Pipeline, shell: &'a Shell, elapsed: Duration) -> Books<'a> {
    Books {
        elapsed,
        kernel: probe.counters(),
        pipeline: pipeline.stats(),
        output: shell.output.stats(),
        left_out: shell.gate.left_out(),
        export: shell.export.stats(),
        own_spans: shell.own_spans,
        control_failed: shell.control_failed,
        map_memory_bytes: probe.map_memory_bytes(),
    }
}

/// Answers those who ask for metrics.
fn answer_metrics(probe: &mut Probe, pipeline: &Pipeline, shell: &mut Shell, elapsed: Duration) {
    let mut own = OwnCounters::new(&books(probe, pipeline, shell, elapsed));
    own.ring_most_bytes = std::mem::take(&mut shell.ring_most_bytes);
    shell.answer_metrics(own, pipeline);
}

/// Tells the views how the agent is doing.
fn publish(probe: &mut Probe, pipeline: &Pipeline, shell: &Shell, elapsed: Duration) {
    let backend = probe.backend().to_string();
    let processes = shell.discovery.all_selected().count();
    let health = Health::new(&backend, processes, &books(probe, pipeline, shell, elapsed));
    shell.tap.hub().publish(health);
}

/// Takes what the ring buffer holds. Returns the number of records.
fn drain(probe: &mut Probe, pipeline: &mut Pipeline, shell: &mut Shell) -> anyhow::Result<usize> {
    let (mut total, mut bytes) = (0, 0);
    for _ in 0..BATCHES_PER_TICK {
        let count = probe.drain(BATCH, |record| {
            // With its header, as the ring buffer holds it.
            bytes += (record.len() as u64 + 8).next_multiple_of(8);
            pipeline.on_record(record, shell);
            shell.settle(pipeline);
        });
        total += count;
        for (tgid, selected) in shell.take_to_select() {
            if selected {
                probe.select(tgid)?;
                shell.learn(tgid, pipeline);
            } else {
                probe.deselect(tgid)?;
            }
        }
        if count < BATCH {
            break;
        }
    }
    shell.ring_most_bytes = shell.ring_most_bytes.max(bytes);
    Ok(total)
}

fn still_writable(output: &Output) -> anyhow::Result<()> {
    match output.failure() {
        None => Ok(()),
        Some(error) => anyhow::bail!(
            "write spans to standard output: {error}; its reader is gone: keep it running, or use --print none"
        ),
    }
}

/// Whoever selects by what other users' processes do must be able to look at them.
fn warn_of_missing_rights(discovery: &Discovery) {
    let missing = rights::missing(false);
    if !missing.is_empty() {
        let mend = "run Skep as root or give it those capabilities too (docs/rights.md)";
        let what = if discovery.looks_at_all() {
            "processes of other users may not be found, and those that are have no name"
        } else {
            "processes of other users have no name"
        };
        log::warn!("without {}, {what}: {mend}", missing.join(" and "));
    }
}

/// Reading type information and loading programs takes memory that is not needed again; glibc keeps it unless told.
fn give_back_start_up_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only releases memory that the allocator holds free.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn random_seed() -> anyhow::Result<[u64; 2]> {
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes))
        .context("read /dev/urandom")?;
    let seed = u128::from_ne_bytes(bytes);
    Ok([seed as u64, (seed >> 64) as u64])
}
