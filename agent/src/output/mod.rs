//! Spans leave here: formatted by the drain thread, written by a thread of its own behind a bounded queue.
//!
//! Capture never waits for standard output: when its reader is slow and the queue is full, spans are dropped and
//! counted. When its reader is gone, the run ends with an error.

pub mod json;
pub mod summary;
pub mod text;

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use agent_pipeline::span::{Span, Status};

use self::json::Line;
use self::summary::Summary;
use self::text::{Columns, Style};
use crate::clock::Clock;
use crate::config::{OutputConfig, Print};
use crate::discovery::resource::Resource;
use crate::rights;

/// Bytes that are handed to the writer at a time.
const CHUNK_BYTES: usize = 64 * 1024;
/// Chunks that may wait: 2 MiB.
const QUEUE_CHUNKS: usize = 32;

/// What went out and what did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputStats {
    /// Spans written.
    pub written: u64,
    /// Spans dropped because the reader of standard output was too slow.
    pub queue_full: u64,
}

/// Where finished spans go.
pub struct Output {
    print: Print,
    style: Style,
    columns: Columns,
    name: String,
    chunk: Chunk,
    queue: Option<SyncSender<Chunk>>,
    /// Chunks to fill again.
    empty: Receiver<Chunk>,
    writer: Arc<Writer>,
    handed_over: u64,
    queue_full: u64,
    summary: Option<Summary>,
    started: Instant,
}

#[derive(Default)]
struct Chunk {
    bytes: Vec<u8>,
    spans: u64,
}

#[derive(Default)]
struct Writer {
    written: AtomicU64,
    failure: OnceLock<io::Error>,
}

impl Output {
    /// Starts the writer.
    pub fn start(config: OutputConfig) -> io::Result<Self> {
        let stdout = io::stdout();
        let color = stdout.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let file = File::from(stdout.as_fd().try_clone_to_owned()?);
        let (queue, full) = sync_channel::<Chunk>(QUEUE_CHUNKS);
        let (give_back, empty) = sync_channel(QUEUE_CHUNKS);
        let writer = Arc::new(Writer::default());
        let thread = Arc::clone(&writer);
        std::thread::Builder::new().name("skep-writer".into()).stack_size(128 * 1024).spawn(move || {
            if let Err(error) = rights::give_up_all() {
                log::warn!("give up the rights of the writer: {error}");
            }
            for mut chunk in full {
                if let Err(error) = write_all(&file, &chunk.bytes) {
                    let _ = thread.failure.set(error);
                    return;
                }
                thread.written.fetch_add(chunk.spans, Ordering::Relaxed);
                chunk.bytes.clear();
                chunk.spans = 0;
                // Nobody needs it when the run is over.
                let _ = give_back.try_send(chunk);
            }
        })?;
        Ok(Self {
            print: config.print,
            style: Style { color, utc_offset_s: text::utc_offset_s() },
            columns: Columns::default(),
            name: String::new(),
            chunk: Chunk::default(),
            queue: Some(queue),
            empty,
            writer,
            handed_over: 0,
            queue_full: 0,
            summary: config.summary.then(Summary::default),
            started: Instant::now(),
        })
    }

    /// Whether [`Output::count`] does anything.
    pub fn has_summary(&self) -> bool {
        self.summary.is_some()
    }

    /// Counts a finished request for the summary.
    pub fn count(&mut self, span: &Span<'_>, resource: &Resource) {
        let Some(summary) = &mut self.summary else { return };
        self.name.clear();
        span.write_name(&mut self.name);
        let failed = span.status().0 == Status::Error;
        let duration_ns = span.end_ktime_ns.saturating_sub(span.start_ktime_ns);
        summary.add(&resource.service_name, span.kind(), &self.name, failed, duration_ns);
    }

    /// Prints a span that leaves.
    pub fn span(&mut self, span: &Span<'_>, resource: &Resource, clock: &Clock) {
        if self.print == Print::None {
            return;
        }
        self.name.clear();
        span.write_name(&mut self.name);
        if self.chunk.bytes.len() >= CHUNK_BYTES {
            self.flush();
            if self.chunk.bytes.len() >= CHUNK_BYTES {
                self.queue_full += 1;
                return;
            }
        }
        let line = Line {
            span,
            resource,
            start_unix_ns: clock.unix_ns(span.start_ktime_ns),
            end_unix_ns: clock.unix_ns(span.end_ktime_ns),
            name: &self.name,
        };
        match self.print {
            Print::Json => json::write_span(&mut self.chunk.bytes, &line),
            _ => text::write_span(&mut self.chunk.bytes, &mut self.columns, self.style, &line),
        }
        self.chunk.spans += 1;
    }

    /// Hands what is there to the writer, if it has room.
    pub fn flush(&mut self) {
        if self.chunk.bytes.is_empty() {
            return;
        }
        let Some(queue) = &self.queue else { return };
        let spans = self.chunk.spans;
        match queue.try_send(std::mem::take(&mut self.chunk)) {
            Ok(()) => {
                self.handed_over += spans;
                self.chunk = self.empty.try_recv().unwrap_or_default();
            }
            Err(TrySendError::Full(chunk) | TrySendError::Disconnected(chunk)) => self.chunk = chunk,
        }
    }

    /// Why nothing can be written any more.
    pub fn failure(&self) -> Option<&io::Error> {
        self.writer.failure.get()
    }

    /// What went out so far.
    pub fn stats(&self) -> OutputStats {
        OutputStats { written: self.writer.written.load(Ordering::Relaxed), queue_full: self.queue_full }
    }

    /// Writes what is left, the summary last, but takes no longer than `patience`; what could not be written by
    /// then is counted.
    pub fn finish(&mut self, patience: Duration) -> OutputStats {
        let deadline = Instant::now() + patience;
        if let Some(summary) = self.summary.take() {
            let table = summary.render(self.started.elapsed());
            if self.print == Print::Json {
                // Standard output is for machines then.
                let _ = io::stderr().lock().write_all(&table);
            } else {
                self.chunk.bytes.extend_from_slice(&table);
            }
        }
        loop {
            self.flush();
            let left = deadline.saturating_duration_since(Instant::now());
            if self.chunk.bytes.is_empty() || left.is_zero() || self.failure().is_some() {
                break;
            }
            // A chunk comes back as soon as the writer has written one.
            let _ = self.empty.recv_timeout(left);
        }
        self.queue_full += self.chunk.spans;
        self.queue = None;
        // The writer ends when the queue is empty, and its end of this channel closes with it.
        while let Err(RecvTimeoutError::Timeout) | Ok(_) =
            self.empty.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if Instant::now() >= deadline {
                break;
            }
        }
        let written = self.writer.written.load(Ordering::Relaxed);
        self.queue_full += self.handed_over - written;
        OutputStats { written, queue_full: self.queue_full }
    }
}

/// Standard output may be non-blocking: whoever shares it decides that.
fn write_all(mut file: &File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut writable = [rustix::event::PollFd::new(file, rustix::event::PollFlags::OUT)];
                match rustix::event::poll(&mut writable, None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
