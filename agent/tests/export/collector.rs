//! A real Collector that takes OTLP in every way and writes what it gets to a file.
//!
//! Nothing in it batches or queues: what it has answered with success is in the file a moment later.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::certificates::Certificates;
use crate::support::process::{terminate, wait_exit};

const PATIENCE: Duration = Duration::from_secs(20);

/// Where it listens. Ports stay when it is started again.
pub struct Collector {
    pub grpc: u16,
    pub http: u16,
    pub grpc_tls: u16,
    pub http_tls: u16,
    pub grpc_socket: PathBuf,
    pub http_socket: PathBuf,
    folder: PathBuf,
    child: Option<Child>,
}

pub fn binary() -> PathBuf {
    std::env::var_os("SKEP_COLLECTOR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools/bin/skep-collector"),
        PathBuf::from,
    )
}

impl Collector {
    pub fn new(folder: &Path, certificates: &Certificates) -> Result<Self> {
        if !binary().is_file() {
            bail!("there is no Collector at {}: `cargo xtask setup` builds it", binary().display());
        }
        let port = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let collector = Self {
            grpc: port()?,
            http: port()?,
            grpc_tls: port()?,
            http_tls: port()?,
            grpc_socket: folder.join("grpc.sock"),
            http_socket: folder.join("http.sock"),
            folder: folder.to_owned(),
            child: None,
        };
        let tls = format!(
            "tls: {{cert_file: {}, key_file: {}, client_ca_file: {}}}",
            certificates.server.display(),
            certificates.server_key.display(),
            certificates.authority.display()
        );
        let Self { grpc, http, grpc_tls, http_tls, grpc_socket, http_socket, .. } = &collector;
        let config = format!(
            "receivers:
  otlp: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc}'}}, http: {{endpoint: '127.0.0.1:{http}'}}}}}}
  otlp/tls: {{protocols: {{grpc: {{endpoint: '127.0.0.1:{grpc_tls}', {tls}}}, http: {{endpoint: '127.0.0.1:{http_tls}', {tls}}}}}}}
  otlp/unix: {{protocols: {{grpc: {{endpoint: '{}', transport: unix}}, http: {{endpoint: '{}', transport: unix}}}}}}
exporters:
  file/traces: {{path: '{}', append: true, flush_interval: 1ms}}
  file/metrics: {{path: '{}', append: true, flush_interval: 1ms}}
service:
  telemetry: {{metrics: {{level: none}}, logs: {{level: info}}}}
  pipelines:
    traces: {{receivers: [otlp, otlp/tls, otlp/unix], exporters: [file/traces]}}
    metrics: {{receivers: [otlp, otlp/tls, otlp/unix], exporters: [file/metrics]}}
",
            grpc_socket.display(),
            http_socket.display(),
            folder.join("traces.jsonl").display(),
            folder.join("metrics.jsonl").display(),
        );
        fs::write(folder.join("collector.yaml"), config)?;
        Ok(collector)
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts it and waits until it takes requests.
    pub fn start(&mut self) -> Result<()> {
        for socket in [&self.grpc_socket, &self.http_socket] {
            // What a killed one left.
            let _ = fs::remove_file(socket);
        }
        let config = self.folder.join("collector.yaml");
        let mut child = Command::new(binary())
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the Collector")?;
        let mut stderr = BufReader::new(child.stderr.take().context("no stderr")?);
        let mut said = String::new();
        loop {
            let from = said.len();
            if stderr.read_line(&mut said)? == 0 {
                let _ = child.wait();
                bail!("the Collector ended: {}", said.trim());
            }
            if said[from..].contains("Everything is ready") {
                break;
            }
        }
        // It must not block on a full pipe.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        self.child = Some(child);
        Ok(())
    }

    /// Ends it: in order, so that what it has taken is written.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            terminate(child.id());
            if wait_exit(&mut child, PATIENCE).is_none() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    /// SIGKILL. What it took less than a millisecond ago may be lost in it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// All requests in its file of that signal so far.
    pub fn written(&self, signal: &str) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.folder.join(signal).with_extension("jsonl")).unwrap_or_default();
        // The last line may be half.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole
            .lines()
            .map(|line| serde_json::from_str(line).context("a line of the Collector's file"))
            .collect()
    }

    /// Waits until its file is such.
    pub fn wait_for(&self, signal: &str, mut done: impl FnMut(&[Value]) -> bool) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if done(&self.written(signal)?) {
                return Ok(true);
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            std::thread::yield_now();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop();
    }
}
