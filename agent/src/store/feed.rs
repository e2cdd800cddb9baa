//! The hand-over from whoever sees spans to the thread that owns the store.
//!
//! The giver never waits for the taker: a lock is held for the time that it takes to move a few pointers, chunks are
//! used again, and what finds no room is dropped and counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Source;
use super::record::Chunk;

/// Chunks that may wait.
const MAX_WAITING: usize = 24;
/// From here on a chunk is handed over even if its time has not come.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// So many waiting chunks are worth waking the taker before its time.
const PRESSING: usize = 4;

/// Chunks on their way.
#[derive(Debug, Default)]
pub struct Feed {
    wanted: AtomicBool,
    missed: AtomicU64,
    /// How often resources had to be told anew.
    retellings: AtomicU64,
    queues: Mutex<Queues>,
}

#[derive(Debug, Default)]
struct Queues {
    full: VecDeque<(Source, Chunk)>,
    empty: Vec<Chunk>,
}

impl Feed {
    /// Whether anybody takes what is given: nothing is kept until somebody wants to look.
    #[inline]
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }

    /// From now on everything is kept.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Gives a chunk and leaves an empty one. Where there is no room its spans are dropped, but what it tells of
    /// resources stays in it for the next time. Says whether the taker had better be woken.
    pub fn give(&self, source: Source, chunk: &mut Chunk) -> bool {
        if chunk.spans == 0 {
            return false;
        }
        let mut queues = self.lock();
        if queues.full.len() >= MAX_WAITING {
            drop(queues);
            self.missed.fetch_add(chunk.spans.into(), Ordering::Relaxed);
            (chunk.spans, chunk.cut) = (0, 0);
            chunk.bytes.clear();
            return true;
        }
        let empty = queues.empty.pop().unwrap_or_default();
        queues.full.push_back((source, std::mem::replace(chunk, empty)));
        queues.full.len() == PRESSING
    }

    /// Whether what is given now would be dropped.
    pub fn is_full(&self) -> bool {
        self.lock().full.len() >= MAX_WAITING
    }

    /// Takes what has been given.
    pub fn take(&self) -> Option<(Source, Chunk)> {
        self.lock().full.pop_front()
    }

    /// Gives a chunk back to be filled again.
    pub fn put_back(&self, mut chunk: Chunk) {
        chunk.bytes.clear();
        chunk.resources.clear();
        (chunk.spans, chunk.cut) = (0, 0);
        let mut queues = self.lock();
        if queues.empty.len() < 4 {
            queues.empty.push(chunk);
        }
    }

    /// Spans dropped here since the last time that was asked.
    pub fn take_missed(&self) -> u64 {
        self.missed.swap(0, Ordering::Relaxed)
    }

    /// Asks the givers to tell all resources anew.
    pub fn ask_again(&self) {
        self.retellings.fetch_add(1, Ordering::Relaxed);
    }

    /// Grows whenever resources have to be told anew.
    pub fn retellings(&self) -> u64 {
        self.retellings.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
