//! Delivers the batches of one signal, on the thread `skep-io`: a loop over events, so that nothing here needs a lock.
//!
//! In: batches, the ends of attempts, pauses that are over. Out: requests, at most [`MAX_IN_FLIGHT`] at a time. After a
//! failure that may pass, everything pauses (back-off with jitter, or as long as the other end asks for), then one
//! request tries alone; its success opens the way again. A batch is tried until it is too old.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use hyper::body::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::answer::Outcome;
use super::batch::SpanBatch;
use super::compress::Compressor;
use super::queue::{Claim, Content, Event, Signal};
use super::settings::{Compression, Protocol};
use super::stats::{ExportDrop, add};
use super::transport::{Connection, GRPC_PREFIX, Transport, fill_grpc_prefix};

/// Requests under way at a time: enough for a collector far away.
const MAX_IN_FLIGHT: usize = 4;
/// The first pause; each further failure in a row doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Pauses while the run ends.
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// Between two warnings about the same thing.
const QUIET: Duration = Duration::from_secs(60);

/// A request that waits.
struct Message {
    body: Bytes,
    claim: Claim,
    born: Instant,
}

/// The end of an attempt.
pub(super) struct Attempted {
    message: Message,
    outcome: Outcome,
    connection: Option<Connection>,
}

/// What a sender is made of.
pub(super) struct Parts {
    pub(super) signal: Signal,
    /// For messages.
    pub(super) url: String,
    pub(super) protocol: Protocol,
    pub(super) compression: Compression,
    pub(super) timeout: Duration,
    pub(super) retry_for: Duration,
    pub(super) transport: Transport,
    pub(super) compressor: Compressor,
    pub(super) events: UnboundedSender<Event>,
    pub(super) receiver: UnboundedReceiver<Event>,
    /// Where emptied batches go, to be filled again.
    pub(super) spares: SyncSender<SpanBatch>,
    pub(super) seed: u64,
}

pub(super) struct Sender {
    signal: Signal,
    url: String,
    protocol: Protocol,
    compression: Compression,
    timeout: Duration,
    retry_for: Duration,
    transport: Arc<Transport>,
    compressor: Compressor,
    events: UnboundedSender<Event>,
    receiver: UnboundedReceiver<Event>,
    spares: SyncSender<SpanBatch>,
    scratch: Vec<u8>,
    ready: VecDeque<Message>,
    idle: Vec<Connection>,
    attempts: JoinSet<()>,
    in_flight: usize,
    pause: Pause,
    /// Nothing is sent before.
    not_before: Option<Instant>,
    failing_since: Option<Instant>,
    warned: Warned,
    finishing: Option<SyncSender<()>>,
    queue_full_seen: u64,
}

/// When each kind of warning was last given.
#[derive(Default)]
struct Warned {
    failing: Option<Instant>,
    refused: Option<Instant>,
    partial: Option<Instant>,
    full: Option<Instant>,
}

impl Sender {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            signal,
            url,
            protocol,
            compression,
            timeout,
            retry_for,
            transport,
            compressor,
            events,
            receiver,
            spares,
            seed,
        } = parts;
        Self {
            signal,
            url,
            protocol,
            compression,
            timeout,
            retry_for,
            transport: Arc::new(transport),
            compressor,
            events,
            receiver,
            spares,
            scratch: Vec::new(),
            ready: VecDeque::new(),
            idle: Vec::new(),
            attempts: JoinSet::new(),
            in_flight: 0,
            pause: Pause { failures: 0, random: seed | 1 },
            not_before: None,
            failing_since: None,
            warned: Warned::default(),
            finishing: None,
            queue_full_seen: 0,
        }
    }

    /// Until the run ends.
    pub(super) async fn run(mut self) {
        while let Some(event) = self.receiver.recv().await {
            match event {
                Event::Batch { content, claim } => self.take(content, claim),
                Event::Sent(attempted) => self.settle(*attempted),
                Event::Wake => {}
                Event::Finish { patience, done } => {
                    self.finishing = Some(done);
                    self.not_before = None;
                    self.wake_after(patience, Event::Deadline);
                }
                Event::Deadline => break,
            }
            self.send_ready();
            self.warn_full();
            let idle = self.in_flight == 0 && self.ready.is_empty() && self.receiver.is_empty();
            if self.finishing.is_some() && idle {
                break;
            }
        }
        // What is under way or waits is counted as it is dropped.
        self.attempts.shutdown().await;
        let done = self.finishing.take();
        drop(self);
        if let Some(done) = done {
            let _ = done.send(());
        }
    }

    /// Makes a request of a batch.
    fn take(&mut self, content: Content, mut claim: Claim) {
        let grpc = self.protocol == Protocol::Grpc;
        let mut body = Vec::new();
        if grpc {
            body.extend_from_slice(&[0; GRPC_PREFIX]);
        }
        let compressed = self.compression != Compression::None;
        self.scratch.clear();
        let plain = if compressed { &mut self.scratch } else { &mut body };
        match content {
            Content::Spans(mut batch) => {
                batch.assemble(plain);
                batch.clear();
                // With enough spares around it is not needed.
                let _ = self.spares.try_send(batch);
            }
            Content::Encoded(message) => plain.extend_from_slice(&message),
        }
        if compressed && let Err(error) = self.compressor.compress(&self.scratch, &mut body) {
            // Only a lack of memory does that.
            log::warn!("compress {}: {error}", self.signal.as_str());
            claim.drop_items(ExportDrop::TooLarge);
            return;
        }
        if grpc {
            fill_grpc_prefix(&mut body, compressed);
        }
        body.shrink_to_fit();
        claim.resize(body.len());
        self.ready.push_back(Message { body: body.into(), claim, born: Instant::now() });
    }

    /// Starts as many attempts as are allowed.
    fn send_ready(&mut self) {
        if self.not_before.is_some_and(|time| Instant::now() < time) {
            return;
        }
        self.not_before = None;
        let allowed = if self.failing_since.is_some() { 1 } else { MAX_IN_FLIGHT };
        while self.in_flight < allowed
            && let Some(message) = self.ready.pop_front()
        {
            self.in_flight += 1;
            let stats = message.claim.stats();
            add(&stats.requests, 1);
            add(&stats.sent_bytes, message.body.len() as u64);
            let (transport, events) = (Arc::clone(&self.transport), self.events.clone());
            let (connection, timeout) = (self.idle.pop(), self.timeout);
            self.attempts.spawn(async move {
                let attempt = transport.send(connection, message.body.clone());
                let (outcome, connection) = match tokio::time::timeout(timeout, attempt).await {
                    Ok(result) => result,
                    Err(_) => {
                        let reason = format!("no answer within {} ms", timeout.as_millis());
                        (Outcome::unanswered(reason, true), None)
                    }
                };
                // Without a receiver the message is dropped and counted here.
                let _ = events.send(Event::Sent(Box::new(Attempted { message, outcome, connection })));
            });
        }
        while self.attempts.try_join_next().is_some() {}
    }

    /// An attempt has ended.
    fn settle(&mut self, Attempted { message, outcome, connection }: Attempted) {
        self.in_flight -= 1;
        self.idle.extend(connection);
        let claim = message.claim;
        if !matches!(outcome, Outcome::Taken { .. }) {
            add(&claim.stats().failures, 1);
        }
        match outcome {
            Outcome::Taken { rejected, message } => {
                self.works_again();
                if rejected > 0 && due(&mut self.warned.partial) {
                    log::warn!(
                        "{} took a batch of {} {} but {rejected}: {}",
                        self.url,
                        claim.items(),
                        self.signal.items(),
                        if message.is_empty() { "it does not say why" } else { &message }
                    );
                }
                claim.delivered(rejected);
            }
            Outcome::Refused { reason } => {
                // It answers, so the next request may go at once.
                self.works_again();
                self.warn_lost(&reason, "refuses");
                claim.drop_items(ExportDrop::Rejected);
            }
            Outcome::NotOtlp { reason } => {
                self.works_again();
                self.warn_lost(&reason, "does not answer as OTLP does to");
                claim.drop_items(ExportDrop::InvalidAnswer);
            }
            Outcome::Retry { reason, after, timed_out } => {
                self.fail(Message { claim, ..message }, &reason, after, timed_out);
            }
        }
    }

    fn fail(&mut self, message: Message, reason: &str, after: Option<Duration>, timed_out: bool) {
        let now = Instant::now();
        let finishing = self.finishing.is_some();
        // Attempts that were under way when the first one failed belong to the same failure.
        let pause = match self.not_before {
            _ if finishing => LAST_PAUSE,
            None => self.pause.next().max(after.unwrap_or_default()),
            Some(_) => after.unwrap_or_default(),
        };
        let not_before = now + pause.min(self.retry_for);
        if self.not_before.is_none_or(|time| time < not_before) {
            self.not_before = Some(not_before);
            self.wake_after(not_before - now, Event::Wake);
        }
        self.failing_since.get_or_insert(now);
        if due(&mut self.warned.failing) {
            log::warn!(
                "export of {} to {}: {reason}; it is tried again for {} s",
                self.signal.as_str(),
                self.url,
                self.retry_for.as_secs()
            );
        }
        if !finishing && message.born + self.retry_for <= not_before {
            let drop = if timed_out { ExportDrop::Timeout } else { ExportDrop::RetryExhausted };
            message.claim.drop_items(drop);
        } else {
            self.ready.push_front(message);
        }
    }

    fn works_again(&mut self) {
        self.pause.failures = 0;
        self.not_before = None;
        if let Some(since) = self.failing_since.take() {
            self.warned.failing = None;
            log::info!(
                "export of {} to {} works again after {} s",
                self.signal.as_str(),
                self.url,
                since.elapsed().as_secs()
            );
        }
    }

    fn warn_lost(&mut self, reason: &str, what: &str) {
        if due(&mut self.warned.refused) {
            log::warn!("{} {what} {}: {reason}; they are lost and counted", self.url, self.signal.as_str());
        }
    }

    fn warn_full(&mut self) {
        let Some(message) = self.ready.front() else { return };
        let full = message.claim.stats().dropped(ExportDrop::QueueFull);
        if full > self.queue_full_seen && due(&mut self.warned.full) {
            log::warn!(
                "{} takes {} slower than they come: the queue is full, and what finds no room is counted",
                self.url,
                self.signal.as_str()
            );
        }
        self.queue_full_seen = full;
    }

    fn wake_after(&self, pause: Duration, event: Event) {
        let events = self.events.clone();
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            // Nobody is there to be woken after the end.
            let _ = events.send(event);
        });
    }
}

/// Whether it is time to say it again.
fn due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|last| now.duration_since(last) >= QUIET);
    if due {
        *last = Some(now);
    }
    due
}

/// Exponential back-off: twice as long each time, less up to half of it at random.
struct Pause {
    failures: u32,
    random: u64,
}

impl Pause {
    fn next(&mut self) -> Duration {
        let whole = LONGEST_PAUSE.min(FIRST_PAUSE * (1 << self.failures.min(16)));
        self.failures += 1;
        // xorshift64: agents that failed together must not come back together.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        whole.mul_f64(0.5 + (self.random >> 12) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_differ() {
        let mut pause = Pause { failures: 0, random: 7 };
        let mut whole = FIRST_PAUSE;
        let mut shares = Vec::new();
        for _ in 0..100 {
            let next = pause.next();
            assert!(next >= whole / 2 && next <= whole, "{next:?} of {whole:?}");
            shares.push(next.as_secs_f64() / whole.as_secs_f64());
            whole = LONGEST_PAUSE.min(whole * 2);
        }
        let mean = shares.iter().sum::<f64>() / 100.0;
        assert!((0.7..0.8).contains(&mean), "{mean}");
    }
}
