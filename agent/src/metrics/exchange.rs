//! The hand-over of metrics from the thread that drains the ring buffer to those who read them.
//!
//! In: readers ask. Out: the drain thread looks at a flag each tick, and answers everybody who asked with one shared
//! [`Moment`]. It never waits: if the list of readers is being written, it answers at the next tick.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use agent_pipeline::metrics::{Reader, Snapshot};
use tokio::sync::oneshot;

use super::own::Own;
use crate::discovery::resource::Resource;

/// Readers that may wait at a time.
const MAX_WAITING: usize = 64;
/// A drain thread that has not been seen for this long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// Everything that metrics are made of, at one moment.
#[derive(Debug)]
pub struct Moment {
    /// Of requests.
    pub snapshot: Snapshot<Arc<Resource>>,
    /// Of Skep itself.
    pub own: Own,
    /// Watched processes whose use of resources is asked for.
    pub processes: Vec<(u32, Arc<Resource>)>,
}

/// Readers on one side, the drain thread on the other.
#[derive(Debug)]
pub struct Exchange {
    wanted: AtomicBool,
    waiting: Mutex<Vec<(Reader, oneshot::Sender<Arc<Moment>>)>>,
    started: Instant,
    /// Milliseconds since `started` at the last tick of the drain thread, 0 before the first.
    ticked_ms: AtomicU64,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            wanted: AtomicBool::new(false),
            waiting: Mutex::new(Vec::new()),
            started: Instant::now(),
            ticked_ms: AtomicU64::new(0),
        }
    }
}

impl Exchange {
    /// Asks for the next moment. `None`: too many ask already, or the run is over.
    pub async fn ask(&self, reader: Reader) -> Option<Arc<Moment>> {
        let receiver = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|(_, sender)| !sender.is_closed());
            if waiting.len() >= MAX_WAITING {
                return None;
            }
            let (sender, receiver) = oneshot::channel();
            waiting.push((reader, sender));
            receiver
        };
        self.wanted.store(true, Ordering::Release);
        receiver.await.ok()
    }

    /// The drain thread was here; says whether somebody asks.
    #[inline]
    pub fn tick(&self, now: Instant) -> bool {
        let since_start = now.saturating_duration_since(self.started).as_millis() as u64;
        self.ticked_ms.store(since_start.max(1), Ordering::Relaxed);
        self.wanted.load(Ordering::Acquire)
    }

    /// Answers everybody who asks.
    pub fn answer(&self, moment: impl FnOnce(Reader) -> Moment) {
        self.wanted.store(false, Ordering::Relaxed);
        let waiting = match self.waiting.try_lock() {
            Ok(mut waiting) => std::mem::take(&mut *waiting),
            Err(TryLockError::Poisoned(waiting)) => std::mem::take(&mut *waiting.into_inner()),
            // Somebody asks right now: the next tick answers.
            Err(TryLockError::WouldBlock) => {
                self.wanted.store(true, Ordering::Release);
                return;
            }
        };
        if waiting.is_empty() {
            return;
        }
        let push = waiting.iter().any(|&(reader, _)| reader == Reader::Push);
        let moment = Arc::new(moment(if push { Reader::Push } else { Reader::Pull }));
        for (_, sender) in waiting {
            // Who gave up waiting needs no answer.
            let _ = sender.send(Arc::clone(&moment));
        }
    }

    /// Whether capture is live: the drain thread has begun.
    pub fn is_ready(&self) -> bool {
        self.ticked_ms.load(Ordering::Relaxed) != 0
    }

    /// Whether the drain thread is at work.
    pub fn is_alive(&self) -> bool {
        let ticked = Duration::from_millis(self.ticked_ms.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(ticked) < STUCK
    }
}

#[cfg(test)]
mod tests {
    use agent_pipeline::metrics::{Metrics, MetricsConfig, Now};

    use super::*;
    use crate::discovery::resource::Host;

    fn moment(reader: Reader) -> Moment {
        let own = Arc::new(Resource::own(&Host::read()));
        let mut metrics = Metrics::new(MetricsConfig::default(), Arc::clone(&own), Now::default());
        let snapshot = metrics.snapshot(Now::default(), reader, |_| {}, |_| Arc::clone(&own));
        Moment { snapshot, own: Own::default(), processes: Vec::new() }
    }

    /// Lets all other tasks have their turn: the scheduler runs only some between two turns of this one.
    async fn yield_to_all() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn all_who_ask_get_the_same_moment() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let exchange = Arc::new(Exchange::default());
        assert!(!exchange.tick(Instant::now()));
        let ask = |reader| {
            let exchange = Arc::clone(&exchange);
            runtime.spawn(async move { exchange.ask(reader).await })
        };
        let (pull, push) = (ask(Reader::Pull), ask(Reader::Push));
        let (one, other) = runtime.block_on(async {
            while !exchange.tick(Instant::now()) {
                tokio::task::yield_now().await;
            }
            yield_to_all().await;
            exchange.answer(|reader| {
                assert_eq!(reader, Reader::Push, "the one that must see all was among them");
                moment(reader)
            });
            (pull.await.unwrap().unwrap(), push.await.unwrap().unwrap())
        });
        assert!(Arc::ptr_eq(&one, &other));
        assert!(!exchange.tick(Instant::now()) && exchange.is_ready() && exchange.is_alive());
    }

    #[test]
    fn only_so_many_may_wait() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let exchange = Arc::new(Exchange::default());
        runtime.block_on(async {
            let mut tasks = Vec::new();
            for _ in 0..MAX_WAITING {
                let exchange = Arc::clone(&exchange);
                tasks.push(tokio::spawn(async move { exchange.ask(Reader::Pull).await }));
            }
            yield_to_all().await;
            assert!(exchange.ask(Reader::Pull).await.is_none());
            tasks.into_iter().for_each(|task| task.abort());
            yield_to_all().await;
            let exchange = Arc::clone(&exchange);
            let patient = tokio::spawn({
                let exchange = Arc::clone(&exchange);
                async move { exchange.ask(Reader::Pull).await }
            });
            yield_to_all().await;
            exchange.answer(moment);
            assert!(patient.await.unwrap().is_some(), "those who left made room");
        });
    }
}
