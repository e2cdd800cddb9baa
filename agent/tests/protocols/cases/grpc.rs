//! gRPC: every kind of call, and every way in which one ends, at both ends.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::expect::{Expect, Parent};
use crate::harness::{Notes, Run};
use crate::programs::{Client, Server, clients, free_addr, python};

/// grpcio's client and server.
pub fn python_both_ends(run: &Run) -> Result<()> {
    let python = python("grpc-python")?;
    let script = clients().join("grpc-python/main.py");
    let addr = free_addr()?;
    let command = |mode: &str| {
        let mut command = Command::new(&python);
        command.arg(&script).args([mode, &addr.to_string()]);
        command
    };
    let server = Server::start("grpcio", &mut command("server"), addr)?;
    let client = Client::wait("grpcio", &command("client"))?;
    run.session(&[server.pid(), client.pid()], |notes| {
        let report = client.finish()?;
        ensure!(report.contains("DEADLINE_EXCEEDED"), "{report}");
        call(notes, "Unary", "OK", (1, 3), Some((1, 4)), false, None);
        call(notes, "Sum", "OK", (3, 3), Some((1, 3)), false, None);
        call(notes, "Split", "OK", (1, 3), Some((3, 3)), false, None);
        call(notes, "Chat", "OK", (2, 2), Some((2, 4)), false, None);
        call(notes, "Refuse", "NOT_FOUND", (1, 0), Some((0, 0)), false, None);
        call(notes, "Crash", "INTERNAL", (1, 1), Some((0, 0)), true, None);
        call(notes, "Nothing", "UNIMPLEMENTED", (1, 1), Some((0, 0)), true, None);
        call(notes, "Slow", "DEADLINE_EXCEEDED", (1, 1), Some((0, 0)), true, None);
        call(notes, "Unary", "OK", (1, 0), Some((1, 10_001)), false, Some("gzip"));
        Ok(())
    })
}

/// One call at both ends; messages and their bytes. `fails`: for the server, too.
fn call(
    notes: &Notes,
    method: &str,
    status: &str,
    asked: (u64, u64),
    answered: Option<(u64, u64)>,
    fails: bool,
    compression: Option<&str>,
) {
    let full = format!("test.Service/{method}");
    let common = |expect: Expect, failed: bool| {
        let mut expect = expect
            .with("rpc.system.name", "grpc")
            .with("rpc.response.status_code", status)
            .with("skep.rpc.request.messages", asked.0);
        expect = match compression {
            None => expect.with("skep.rpc.request.size", asked.1),
            Some(compression) => {
                expect.with_any("skep.rpc.request.size").with("skep.rpc.request.compression", compression)
            }
        };
        // A call that was given up may not have been answered at all: then there is nothing to count.
        let given_up = status == "DEADLINE_EXCEEDED";
        if let Some((count, size)) = answered.filter(|_| given_up) {
            expect =
                expect.may_have("skep.rpc.response.messages", count).may_have("skep.rpc.response.size", size);
        } else if let Some((count, size)) = answered {
            expect = expect.with("skep.rpc.response.messages", count).with("skep.rpc.response.size", size);
        }
        if failed { expect.failed(status) } else { expect }
    };
    notes.expect(common(Expect::client(&full), status != "OK").with("rpc.method", full.clone()));
    let server = if status == "UNIMPLEMENTED" {
        common(Expect::server("grpc"), fails).with("rpc.method", "_OTHER").with("rpc.method_original", full)
    } else {
        common(Expect::server(&full), fails).with("rpc.method", full.clone())
    };
    notes.expect(server.parent(Parent::Any));
}
