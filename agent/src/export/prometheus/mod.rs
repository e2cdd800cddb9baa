//! The Prometheus endpoint: `/metrics`, `/healthz`, `/readyz`.
//!
//! In: requests of scrapers, who may be slow, many or broken. Out: text ([`text`]) in the format that they ask for
//! ([`negotiate`]). Everything runs on the thread `skep-io`; the drain thread only answers a flag. Connections, the
//! size and time of a request's head, and the time of a whole exchange are bounded; a response is made piece by piece.

mod body;
mod names;
mod negotiate;
pub mod server;
pub mod text;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context;

use self::server::Server;
use crate::metrics::exchange::Exchange;
use crate::runtime::Runtime;

/// The endpoint's part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrometheusConfig {
    /// Where it listens.
    pub listen: SocketAddr,
}

/// Binds the address, before anything else is started: a taken one is an error at once.
///
/// # Errors
/// Where the address cannot be had.
pub fn bind(config: PrometheusConfig) -> anyhow::Result<TcpListener> {
    let listen = config.listen;
    let listener = TcpListener::bind(listen).with_context(|| match listen.port() {
        0 => format!("--prometheus-listen: listen on {listen}"),
        port => format!(
            "--prometheus-listen: listen on {listen}: choose another port if {port} is taken (`ss -ltnp` tells by whom)"
        ),
    })?;
    listener.set_nonblocking(true).context("--prometheus-listen: set the socket up")?;
    Ok(listener)
}

/// Serves on the runtime until it ends. `started_unix_ns` is the start of the run.
///
/// # Errors
/// Where the socket cannot be watched.
pub fn start(
    listener: TcpListener,
    exchange: Arc<Exchange>,
    started_unix_ns: u64,
    runtime: &Runtime,
) -> io::Result<Arc<Server>> {
    let _inside = runtime.handle().enter();
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let server = Arc::new(Server::new(exchange, started_unix_ns));
    runtime.handle().spawn(Arc::clone(&server).accept(listener));
    Ok(server)
}
