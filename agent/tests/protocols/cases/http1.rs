//! HTTP/1 has a test program of its own (ground_truth); here it shows that this harness sees both ends.

use std::process::Command;

use anyhow::Result;

use crate::expect::{Expect, Parent};
use crate::harness::Run;
use crate::programs::{Client, Server, free_addr, program};
use crate::support::tools::targets;

pub fn both_ends(run: &Run) -> Result<()> {
    let python = program("python3", &[])?;
    let addr = free_addr()?;
    let server = targets().join("python-http/server.py");
    let server =
        Server::start("python", Command::new(&python).arg(server).arg(addr.port().to_string()), addr)?;
    let fetch = "import sys, urllib.request as r; [r.urlopen(sys.argv[1]).read() for _ in range(3)]";
    let client =
        Client::wait("urllib", Command::new(&python).args(["-c", fetch, &format!("http://{addr}/hello/x")]))?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let pid = client.pid();
        client.finish()?;
        for _ in 0..3 {
            let common = |expect: Expect| {
                expect
                    .with("http.request.method", "GET")
                    .with("http.response.status_code", 200)
                    .with("http.request.body.size", 0)
                    .with_any("http.response.body.size")
                    .with("url.scheme", "http")
                    .with_any("user_agent.original")
            };
            let asked = common(Expect::client("GET"));
            notes.expect(
                asked.with("url.full", format!("http://{addr}/hello/x")).pid(pid).parent(Parent::None),
            );
            let served = common(Expect::server("GET /hello/x"));
            notes
                .expect(served.with("http.route", "/hello/x").with("url.path", "/hello/x").pid(server.pid()));
        }
        Ok(())
    })
}
