//! CPU profiles for Pyroscope. Samples of a thread that burns for a request carry that request's span id.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use pyroscope::PyroscopeAgent;
use pyroscope::backend::{BackendConfig, PprofConfig, pprof_backend};
use pyroscope::pyroscope::{PyroscopeAgentBuilder, PyroscopeAgentRunning};

use crate::variable;

/// Attribute of a span whose profile can be asked for.
pub(crate) const SPAN_ATTRIBUTE: &str = "pyroscope.profile.id";
/// Label of its samples.
const SAMPLE_LABEL: &str = "span_id";
const SAMPLES_PER_SECOND: u32 = 100;
/// What the last upload may take.
const LAST_UPLOAD: Duration = Duration::from_secs(3);

type Tag = dyn Fn(String, String) -> pyroscope::Result<()> + Send + Sync;

/// The profiler, if there is a server to send to.
pub(crate) struct Profiler {
    agent: Mutex<Option<PyroscopeAgent<PyroscopeAgentRunning>>>,
    /// Add a label to the calling thread's samples, and take it away.
    tags: Option<(Arc<Tag>, Arc<Tag>)>,
}

/// Burns for a request, on a thread that may block.
#[derive(Clone)]
pub(crate) struct Burner(Option<(Arc<Tag>, Arc<Tag>)>);

impl Profiler {
    /// Samples from now on, unless `PYROSCOPE_URL` is empty. A server that is not there is no error.
    pub(crate) fn start(name: &str) -> Result<Self> {
        let url = variable("PYROSCOPE_URL", "");
        if url.is_empty() {
            return Ok(Self { agent: Mutex::default(), tags: None });
        }
        let config = PprofConfig { sample_rate: SAMPLES_PER_SECOND };
        let backend = pprof_backend(config, BackendConfig::default());
        let version = env!("CARGO_PKG_VERSION");
        let agent =
            PyroscopeAgentBuilder::new(&url, name, SAMPLES_PER_SECOND, "pyroscope-rs", version, backend)
                .tags(vec![("service_namespace", "demo")])
                .build()
                .and_then(PyroscopeAgent::start)
                .with_context(|| format!("profile for PYROSCOPE_URL={url}"))?;
        let (add, remove) = agent.tag_wrapper();
        Ok(Self { tags: Some((Arc::new(add), Arc::new(remove))), agent: Mutex::new(Some(agent)) })
    }

    /// For a request that burns.
    pub(crate) fn burner(&self) -> Burner {
        Burner(self.tags.clone())
    }

    /// Sends the last samples. Blocks, but not for long: a server that is gone does not hold up the end.
    pub(crate) fn stop(&self) {
        let Some(agent) = self.agent.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let (done, is_done) = mpsc::channel();
        thread::spawn(move || {
            match agent.stop() {
                Ok(agent) => agent.shutdown(),
                Err(error) => tracing::warn!("send the last profile: {error}"),
            }
            // Nobody waits any more if it took too long.
            let _ = done.send(());
        });
        let _ = is_done.recv_timeout(LAST_UPLOAD);
    }
}

impl Burner {
    /// Keeps one CPU busy. Blocks.
    pub(crate) fn burn(&self, span_id: &str, duration: Duration) {
        let label = || (SAMPLE_LABEL.to_owned(), span_id.to_owned());
        if let Some((add, _)) = &self.0 {
            let (name, value) = label();
            if let Err(error) = add(name, value) {
                tracing::warn!("label the profile: {error}");
            }
        }
        do_long_work(duration);
        if let Some((_, remove)) = &self.0 {
            let (name, value) = label();
            if let Err(error) = remove(name, value) {
                tracing::warn!("take the label off the profile: {error}");
            }
        }
    }
}

/// Named, so that a flame graph shows who burns.
#[inline(never)]
fn do_long_work(duration: Duration) {
    let end = Instant::now() + duration;
    let mut number = 1_u64;
    while Instant::now() < end {
        for _ in 0..10_000 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
}
