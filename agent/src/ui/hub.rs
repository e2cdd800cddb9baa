//! What the views share: the store, the hand-over into it, and how the agent itself is doing.
//!
//! In: spans from the drain thread ([`Tap`]) and its counters once a second. Out: answers. The drain thread holds no
//! lock of a reader: it gives chunks to the feed and a finished [`Health`] to a cell.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_pipeline::span::Span;
use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::Notify;

use super::health::{Health, Usage};
use crate::clock::Clock;
use crate::discovery::resource::Resource;
use crate::store::feed::{CHUNK_BYTES, Feed};
use crate::store::record::{Chunk, Encoder};
use crate::store::{Counts, Source, Store};

/// How often the drain thread hands over what it has.
const GIVE_EVERY: Duration = Duration::from_millis(50);
/// How often the store takes what has come.
const TAKE_EVERY: Duration = Duration::from_millis(100);
/// How long an answer serves further readers.
const FRESH: Duration = Duration::from_millis(500);
const MAX_CACHED: usize = 8;

/// Shared by the drain thread and the readers.
#[derive(Debug)]
pub struct Hub {
    /// The way into the store.
    pub feed: Feed,
    store: Mutex<Store>,
    pressing: Notify,
    health: Mutex<Health>,
    usage: Mutex<Usage>,
    cache: Mutex<VecDeque<(String, Instant, Bytes)>>,
    started: Instant,
}

/// The state of the agent: `/api/v1/status`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Version of this interface.
    pub api: u32,
    /// Version of Skep.
    pub version: &'static str,
    /// Process.
    pub pid: u32,
    /// Seconds since the start of the run.
    pub uptime_s: f64,
    /// Since when the store keeps what it sees.
    pub store_since_unix_us: u64,
    /// The drain thread's counters, at most a second old.
    #[serde(flatten)]
    pub health: Health,
    /// CPU and memory.
    pub usage: Usage,
    /// The store's own counters.
    pub store: Counts,
}

impl Hub {
    /// Around an empty store.
    pub fn new(store_bytes: usize) -> Self {
        Self {
            feed: Feed::default(),
            store: Mutex::new(Store::new(store_bytes, unix_ns())),
            pressing: Notify::new(),
            health: Mutex::new(Health::default()),
            usage: Mutex::new(Usage::default()),
            cache: Mutex::new(VecDeque::new()),
            started: Instant::now(),
        }
    }

    /// Somebody wants to look: from now on spans are kept.
    pub fn want(&self) {
        if !self.feed.is_wanted() {
            self.store().begin(unix_ns());
            self.feed.want();
        }
    }

    /// The store, up to date.
    pub fn read<T>(&self, read: impl FnOnce(&Store) -> T) -> T {
        self.take_in();
        read(&self.store())
    }

    /// How the agent is doing.
    pub fn status(&self) -> Status {
        let (store_since_unix_us, store) = self.read(|store| (store.since_unix_us(), store.counts()));
        Status {
            api: 1,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_s: self.started.elapsed().as_secs_f64(),
            store_since_unix_us,
            health: lock(&self.health).clone(),
            usage: lock(&self.usage).clone(),
            store,
        }
    }

    /// The drain thread's counters.
    pub fn publish(&self, health: Health) {
        *lock(&self.health) = health;
    }

    /// An answer that several readers may share for a moment.
    pub fn shared(&self, key: &str, make: impl FnOnce() -> Bytes) -> Bytes {
        let now = Instant::now();
        {
            let mut cache = lock(&self.cache);
            cache.retain(|(_, made, _)| now.duration_since(*made) < FRESH);
            if let Some((_, _, bytes)) = cache.iter().find(|(known, _, _)| known == key) {
                return bytes.clone();
            }
        }
        let bytes = make();
        let mut cache = lock(&self.cache);
        if cache.len() >= MAX_CACHED {
            cache.pop_front();
        }
        cache.push_back((key.to_owned(), now, bytes.clone()));
        bytes
    }

    /// Moves what has come into the store, for ever.
    pub async fn keep_taking(&self) {
        let mut last_second = Instant::now();
        loop {
            // Woken earlier when much has come.
            let _ = tokio::time::timeout(TAKE_EVERY, self.pressing.notified()).await;
            self.take_in();
            if last_second.elapsed() >= Duration::from_secs(1) {
                last_second = Instant::now();
                self.store().every_second();
                lock(&self.usage).measure();
            }
        }
    }

    /// A chunk from another source than the drain thread.
    pub fn give(&self, source: Source, chunk: &mut Chunk) {
        if self.feed.give(source, chunk) {
            self.pressing.notify_one();
        }
    }

    fn take_in(&self) {
        let mut store = self.store();
        store.tick(unix_ns());
        while let Some((source, chunk)) = self.feed.take() {
            store.ingest(source, &chunk);
            self.feed.put_back(chunk);
        }
        store.missed(self.feed.take_missed());
        if store.take_untold() {
            self.feed.ask_again();
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }
}

/// The drain thread's end.
#[derive(Debug)]
pub struct Tap {
    hub: Arc<Hub>,
    encoder: Encoder,
    chunk: Chunk,
    given: Instant,
    retellings: u64,
}

impl Tap {
    /// Into this hub.
    pub fn new(hub: Arc<Hub>) -> Self {
        Self {
            hub,
            encoder: Encoder::default(),
            chunk: Chunk::default(),
            given: Instant::now(),
            retellings: 0,
        }
    }

    /// Takes a finished span.
    #[inline]
    pub fn span(&mut self, span: &Span<'_>, resource: &Resource, clock: &Clock) {
        if !self.hub.feed.is_wanted() {
            return;
        }
        self.encoder.span(&mut self.chunk, span, resource, |ktime_ns| clock.unix_ns(ktime_ns));
        if self.chunk.bytes.len() >= CHUNK_BYTES {
            self.hub.give(Source::Capture, &mut self.chunk);
        }
    }

    /// Hands over what is there, if it is time.
    pub fn tick(&mut self, now: Instant) {
        if now.duration_since(self.given) >= GIVE_EVERY {
            self.given = now;
            let retellings = self.hub.feed.retellings();
            if retellings != self.retellings {
                self.retellings = retellings;
                self.encoder.forget_resources();
            }
            self.hub.give(Source::Capture, &mut self.chunk);
        }
    }

    /// Where the counters go.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }
}

/// Wall clock.
pub fn unix_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
