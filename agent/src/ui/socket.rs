//! The socket that `skep top` attaches to: in a folder that only its owner may enter, and whoever connects must be
//! that owner or root.
//!
//! `/run/skep/PID.sock` for root, else `$XDG_RUNTIME_DIR/skep/PID.sock`. HTTP, the same API as the page's, no token.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use axum::Router;
use tokio::net::UnixListener;

use super::connection::{Places, serve};

/// The bound socket; its file goes with it.
#[derive(Debug)]
pub struct Socket {
    /// Where it lies.
    pub path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The folder of this user's sockets, where there is one.
pub fn folder() -> Option<PathBuf> {
    // SAFETY: geteuid always succeeds.
    if unsafe { libc::geteuid() } == 0 {
        return Some(PathBuf::from("/run/skep"));
    }
    std::env::var_os("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .map(|path| path.join("skep"))
}

/// Sockets of runs that are alive, by process number; files of others are removed where that is allowed.
pub fn running() -> Vec<(u32, PathBuf)> {
    let Some(folder) = folder() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let pid = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".sock")?.parse::<u32>().ok());
        let Some(pid) = pid else { continue };
        if Path::new(&format!("/proc/{pid}")).exists() {
            found.push((pid, path));
        } else {
            let _ = fs::remove_file(path);
        }
    }
    found.sort();
    found
}

/// Makes the folder and the socket.
///
/// # Errors
/// Whatever forbids it; a folder that somebody else could enter is one of the reasons.
pub fn bind() -> io::Result<(Socket, std::os::unix::net::UnixListener)> {
    let folder = folder().ok_or_else(|| io::Error::other("XDG_RUNTIME_DIR is not set"))?;
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let about = fs::symlink_metadata(&folder)?;
    // SAFETY: geteuid always succeeds.
    if !about.is_dir() || about.uid() != unsafe { libc::geteuid() } || about.mode() & 0o077 != 0 {
        return Err(io::Error::other(format!("{} is not a folder of this user alone", folder.display())));
    }
    running();
    let path = folder.join(format!("{}.sock", std::process::id()));
    // A process of the same number has died without tidying up.
    let _ = fs::remove_file(&path);
    let listener = std::os::unix::net::UnixListener::bind(&path)?;
    let socket = Socket { path };
    fs::set_permissions(&socket.path, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok((socket, listener))
}

/// Answers those who may ask.
pub async fn accept(listener: UnixListener, router: Router, places: Places) {
    // SAFETY: geteuid always succeeds.
    let me = unsafe { libc::geteuid() };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == me || peer.uid() == 0);
        if allowed && let Some(place) = places.take() {
            tokio::spawn(serve(stream, router.clone(), place));
        }
    }
}
