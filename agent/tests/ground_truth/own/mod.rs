//! The test's own server and client programs: HTTP over a chosen family of system calls and a chosen process model.
//!
//! Started by running this test binary again: `serve MODEL FAMILY [fd]`, `fetch FAMILY`. What a runtime would hide
//! (which call moves which byte, which process holds which descriptor) is said explicitly here.

mod calls;
mod fetch;
mod http;
pub mod io;
mod models;

use std::io::Write as _;
use std::net::TcpListener;
use std::os::fd::IntoRawFd as _;

use anyhow::{Context, Result, bail};

pub use models::{MODELS, Model};

/// Runs the program that the arguments name.
pub fn main(arguments: &[String]) -> Result<()> {
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match texts.as_slice() {
        ["serve", model, family] => {
            let listener = TcpListener::bind("127.0.0.1:0").context("bind 127.0.0.1")?;
            println!("listening on {}", listener.local_addr()?);
            std::io::stdout().flush()?;
            models::serve(model.parse()?, family.parse()?, listener.into_raw_fd())
        }
        ["serve-fd", fd, family] => {
            let mut wire = io::Wire::new(fd.parse().context("descriptor")?, family.parse()?);
            http::serve(&mut wire);
            Ok(())
        }
        ["fetch", family] => fetch::main(family.parse()?),
        other => bail!("no such program: {other:?}"),
    }
}
