//! The embedded views' server: the page (`--ui`), the JSON API, and the socket that `skep top` attaches to.
//!
//! In: spans and counters from the drain thread ([`hub::Tap`]). Out: HTTP, on one background thread that nothing waits
//! for ([`crate::runtime`]). Nothing is kept until somebody may look: with `--ui` from the start, else from the first `skep top` on.

mod api;
pub mod connection;
pub mod guard;
pub mod health;
pub mod hub;
mod page;
pub mod socket;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;

use self::connection::{Places, serve};
use self::guard::{Guard, guard};
use self::hub::Hub;
use self::socket::Socket;

/// Where the page listens unless something else is asked for; another port if it is taken.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:7171";

/// What the views need to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UiConfig {
    /// Where the page listens, if it is wanted.
    pub page: Option<PageAddress>,
    /// Memory of the store.
    pub store_bytes: usize,
    /// Whether spans are kept before anybody has asked.
    pub keep_from_start: bool,
}

/// Where the page listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageAddress {
    /// The default, or any port if it is taken.
    Default,
    /// There or nowhere.
    Exactly(SocketAddr),
}

/// The running server; it ends with its runtime.
pub struct Ui {
    /// What the drain thread feeds.
    pub hub: Arc<Hub>,
    /// The link that opens the page, if there is one.
    pub link: Option<String>,
    /// Removed from the file system with it.
    _socket: Option<Socket>,
}

/// Starts the server.
///
/// # Errors
/// Where the page cannot listen where it should.
pub fn start(config: UiConfig, runtime: &tokio::runtime::Handle) -> anyhow::Result<Ui> {
    let hub = Arc::new(Hub::new(config.store_bytes));
    if config.page.is_some() || config.keep_from_start {
        hub.want();
    }
    let page = config.page.map(listen).transpose()?;
    let places = Places::default();
    let _inside = runtime.enter();
    runtime.spawn({
        let hub = Arc::clone(&hub);
        async move { hub.keep_taking().await }
    });
    let link = match page {
        None => None,
        Some((listener, address)) => {
            let guard_of_page = Arc::new(Guard::new(token()?, address));
            let link = guard_of_page.link();
            let router = api::routes(Arc::clone(&hub))
                .merge(page::routes())
                .layer(axum::middleware::from_fn_with_state(guard_of_page, guard));
            let listener = tokio::net::TcpListener::from_std(listener).context("watch the page's socket")?;
            runtime.spawn(accept(listener, router, places.clone()));
            Some(link)
        }
    };
    let socket = match socket::bind() {
        Ok((socket, listener)) => {
            let listener = tokio::net::UnixListener::from_std(listener).context("watch skep top's socket")?;
            let router = api::routes(Arc::clone(&hub))
                .layer(axum::middleware::from_fn_with_state(Arc::clone(&hub), begin_to_keep));
            runtime.spawn(socket::accept(listener, router, Places::default()));
            Some(socket)
        }
        Err(error) => {
            log::info!("`skep top` cannot attach to this run: no socket: {error}");
            None
        }
    };
    Ok(Ui { hub, link, _socket: socket })
}

/// Whoever attaches wants to see something.
async fn begin_to_keep(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Response {
    hub.want();
    next.run(request).await
}

fn listen(address: PageAddress) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = match address {
        PageAddress::Exactly(address) => {
            TcpListener::bind(address).with_context(|| format!("--ui: listen on {address}"))?
        }
        PageAddress::Default => TcpListener::bind(DEFAULT_ADDRESS)
            .or_else(|_| TcpListener::bind("127.0.0.1:0"))
            .context("--ui: listen on 127.0.0.1")?,
    };
    listener.set_nonblocking(true).context("--ui: set the socket up")?;
    let address = listener.local_addr().context("--ui: ask for the address")?;
    if !address.ip().is_loopback() {
        log::warn!(
            "the page listens on {address}, beyond this machine, without encryption: who can read the network can \
             read the token"
        );
    }
    Ok((listener, address))
}

async fn accept(listener: tokio::net::TcpListener, router: Router, places: Places) {
    loop {
        match listener.accept().await {
            // Without a place the connection is closed at once.
            Ok((stream, _)) => {
                if let Some(place) = places.take() {
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(serve(stream, router.clone(), place));
                }
            }
            // Out of descriptors, for instance: others may end soon.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

fn token() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut file| io::Read::read_exact(&mut file, &mut bytes))
        .context("read /dev/urandom")?;
    Ok(crate::store::query::hex(&bytes))
}
