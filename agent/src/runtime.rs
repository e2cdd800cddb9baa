//! The one thread of Skep's that talks to networks, `skep-io`: exporters, the metrics endpoint and the web page.
//!
//! In: futures, through [`Runtime::handle`]. It is a tokio runtime on a single thread, apart from the thread that
//! drains the ring buffer: nothing that runs here can hold capture up, and what runs here must not block for more
//! than a few milliseconds, because the others wait for it.

use std::io;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::rights;

/// TLS handshakes go deep in debug builds; what is not touched is never resident.
const STACK_BYTES: usize = 2 << 20;
/// Threads for what can only block, name look-ups for instance.
const BLOCKING_THREADS: usize = 2;

/// The runtime and its thread. Dropping it ends both without waiting.
pub struct Runtime {
    handle: Handle,
    /// Dropped to end the thread.
    stop: oneshot::Sender<()>,
    ended: mpsc::Receiver<()>,
}

impl Runtime {
    /// Starts the thread. Signals must be blocked before, so that it inherits the mask.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(BLOCKING_THREADS)
            .thread_name("skep-block")
            .build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let (end, ended) = mpsc::sync_channel(1);
        thread::Builder::new().name("skep-io".into()).stack_size(STACK_BYTES).spawn(move || {
            // What talks to others holds no rights; where that is refused, it holds its maker's few.
            if let Err(error) = rights::give_up_all() {
                log::warn!("give up the rights of the network thread: {error}");
            }
            // An error means that the sender was dropped: the end as well.
            let _ = runtime.block_on(stopped);
            // A name look-up that hangs is not waited for.
            runtime.shutdown_background();
            let _ = end.send(());
        })?;
        Ok(Self { handle, stop, ended })
    }

    /// Where futures are spawned.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Drops everything that still runs, and waits at most this long until it is gone; says whether it is.
    pub fn finish(self, patience: Duration) -> bool {
        drop(self.stop);
        self.ended.recv_timeout(patience).is_ok()
    }

    /// Runs a future on the thread and waits for its result, at most this long. Not to be called on the thread.
    pub fn wait_for<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
        patience: Duration,
    ) -> Option<T> {
        let (done, result) = mpsc::sync_channel(1);
        self.handle.spawn(async move {
            // An error means that nobody waits any more.
            let _ = done.send(future.await);
        });
        result.recv_timeout(patience).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[test]
    fn futures_run_on_a_thread_of_their_own_and_end_with_it() {
        let runtime = Runtime::start().unwrap();
        let name = runtime.wait_for(async { thread::current().name().map(str::to_owned) }, PATIENCE);
        assert_eq!(name.flatten().as_deref(), Some("skep-io"));
        let (sender, receiver) = mpsc::channel::<()>();
        runtime.handle().spawn(async move {
            let _held = sender;
            pending::<()>().await;
        });
        assert!(runtime.finish(PATIENCE));
        assert!(receiver.recv_timeout(PATIENCE).is_err(), "dropped, so the sender is gone");
    }

    #[test]
    fn a_future_that_takes_too_long_is_not_waited_for() {
        let runtime = Runtime::start().unwrap();
        assert_eq!(runtime.wait_for(pending::<()>(), Duration::from_millis(10)), None);
        assert!(runtime.finish(PATIENCE));
    }
}
