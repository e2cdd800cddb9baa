//! Metrics over OTLP: asked for at an interval and at the end, encoded and handed to the exporter, on `skep-io`.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use agent_pipeline::metrics::Reader;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::collection::Collection;
use super::config::MeterConfig;
use super::exchange::Exchange;
use crate::export::otlp::MetricsSender;
use crate::export::otlp::metrics::MetricsEncoder;
use crate::export::prometheus::server::Server;
use crate::runtime::Runtime;

/// Between two looks at whether the last export is asked for.
const LOOK: Duration = Duration::from_millis(1);

/// The task that pushes.
pub struct Pusher {
    exchange: Arc<Exchange>,
    stop: Arc<Notify>,
    done: Receiver<()>,
}

struct Task {
    interval: Duration,
    encoder: MetricsEncoder,
    exchange: Arc<Exchange>,
    sender: MetricsSender,
    server: Option<Arc<Server>>,
    started_unix_ns: u64,
    stop: Arc<Notify>,
    done: SyncSender<()>,
}

impl Pusher {
    /// Begins; the first export comes after an interval.
    pub fn start(
        config: &MeterConfig,
        exchange: Arc<Exchange>,
        sender: MetricsSender,
        server: Option<Arc<Server>>,
        started_unix_ns: u64,
        runtime: &Runtime,
    ) -> Self {
        let (done, ended) = sync_channel(1);
        let stop = Arc::new(Notify::new());
        let task = Task {
            interval: config.export_interval,
            encoder: MetricsEncoder::new(config.temporality),
            exchange: Arc::clone(&exchange),
            sender,
            server,
            started_unix_ns,
            stop: Arc::clone(&stop),
            done,
        };
        runtime.handle().spawn(task.run());
        Self { exchange, stop, done: ended }
    }

    /// The last export: `answer` answers those who ask. Takes no longer than `patience`.
    pub fn finish(self, patience: Duration, mut answer: impl FnMut()) {
        self.stop.notify_one();
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.exchange.tick(Instant::now()) {
                answer();
            }
            if self.done.recv_timeout(LOOK).is_ok() {
                return;
            }
        }
        log::warn!("the last export of metrics was not ready in time");
    }
}

impl Task {
    async fn run(mut self) {
        loop {
            let last = timeout(self.interval, self.stop.notified()).await.is_ok();
            if let Some(moment) = self.exchange.ask(Reader::Push).await {
                let outcomes = self.server.as_ref().map(|server| server.outcomes()).unwrap_or_default();
                let collection = Collection::new(&moment, self.started_unix_ns, &outcomes);
                drop(moment);
                for batch in self.encoder.encode(collection) {
                    // Without room it is counted there.
                    let _ = self.sender.send(batch);
                }
            }
            if last {
                // Nobody waits any more if that took too long.
                let _ = self.done.send(());
                return;
            }
        }
    }
}
