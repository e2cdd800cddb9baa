//! Settings as a user meets them: the file, its errors, what is printed; rules, filters and samplers with real servers;
//! SIGHUP.

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{ChildStdout, Stdio};

use serde_json::Value;

use crate::harness::{DEADLINE, Run, Target, alone, may_load, output, skep, stderr};
use crate::selection::{Server, python};

/// A file that is gone when the test is over.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("skep-config-{}-{name}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn all_problems_of_a_file_are_told_and_exit_with_2() {
    let file = File::new("bad", "limits:\n  ring_size: 3M\n  max_conections: 1\n");
    for command in [&["config", "check", file.path()][..], &["run", "--config", file.path()]] {
        let checked = output(command);
        let text = stderr(&checked);
        assert_eq!(checked.status.code(), Some(2), "{text}");
        assert!(
            text.contains(&format!("{}:2: limits.ring_size: 3M: give a power of two", file.path())),
            "{text}"
        );
        assert!(
            text.contains(&format!("{}:3: ", file.path())) && text.contains("mean max_connections?"),
            "{text}"
        );
    }
    let good = File::new("good", "selection: {ports: 80}\n");
    let checked = output(&["config", "check", good.path()]);
    assert!(checked.status.success(), "{}", stderr(&checked));
    let missing = output(&["config", "check", "/nowhere/skep.yaml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/nowhere/skep.yaml"));
}

#[test]
fn settings_are_printed_with_their_sources() {
    let file = File::new("sources", "limits:\n  ring_size: 1M\n  max_processes: 7\nrun:\n  duration: 90\n");
    let mut print = skep(&["config", "print", "--config", file.path(), "--duration", "5"]);
    print.env("SKEP_RING_SIZE", "2M").env("OTEL_TRACES_SAMPLER", "always_off");
    let printed = print.output().unwrap();
    let text = String::from_utf8(printed.stdout).unwrap();
    for line in [
        "duration: 5s  # --duration",
        "ring_size: 2M  # SKEP_RING_SIZE",
        "max_processes: 7  # file, line 3",
        "max_connections: 16384  # default",
        "sampler: always_off  # OTEL_TRACES_SAMPLER",
    ] {
        assert!(text.lines().any(|printed| printed.trim() == line), "{line} in {text}");
    }
    // What was printed says the same when it is read.
    let again = File::new("again", &text);
    let text_again =
        String::from_utf8(output(&["config", "print", "--config", again.path()]).stdout).unwrap();
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  #").next().unwrap_or_default().to_owned()).skip(1).collect()
    };
    assert_eq!(values(&text), values(&text_again));
}

#[test]
fn schema_and_page_come_from_the_binary() {
    let schema: Value = serde_json::from_slice(&output(&["config", "schema"]).stdout).unwrap();
    assert_eq!(schema["properties"]["limits"]["properties"]["ring_size"]["default"], "4M");
    let page = String::from_utf8(output(&["config", "docs"]).stdout).unwrap();
    assert!(page.contains("`limits.ring_size`") && page.contains("`SKEP_RING_SIZE`"));
}

/// Reads spans until that of this path.
fn spans_until(out: &mut BufReader<ChildStdout>, path: &str) -> Vec<Value> {
    let mut spans = Vec::new();
    loop {
        let mut line = String::new();
        assert_ne!(out.read_line(&mut line).unwrap(), 0, "skep ended: {spans:?}");
        let span: Value = serde_json::from_str(&line).expect(&line);
        let last = span["attributes"]["url.path"] == path;
        spans.push(span);
        if last {
            return spans;
        }
    }
}

fn paths(spans: &[Value]) -> Vec<&str> {
    spans.iter().map(|span| span["attributes"]["url.path"].as_str().unwrap()).collect()
}

#[test]
fn rules_name_services_and_choose_what_leaves() {
    if !may_load("rules_name_services_and_choose_what_leaves") {
        return;
    }
    let _alone = alone();
    let Some(shop) = Server::start(python(), 0) else { return };
    let Some(quiet) = Server::start(python(), 0) else { return };
    let Some(other) = Server::start(python(), 0) else { return };
    let file = File::new(
        "rules",
        &format!(
            "selection:
  rules:
    - {{ports: {}, exes: 'python*', service_name: shop, service_namespace: prod, routes: '/items/{{id}}',
       resource_attributes: {{team: checkout}}}}
    - {{ports: {}, sampler: always_off}}
    - {{ports: {}, exes: no-such-program}}
filters:
  traces:
    - drop: {{url.path: /healthz}}
",
            shop.port(),
            quiet.port(),
            other.port(),
        ),
    );
    let mut command = skep(&["run", "--print", "json", "--config", file.path()]);
    command.stdout(Stdio::piped());
    let mut run = Run::start(command);
    let ready = run.wait_for("ready");
    assert!(ready.contains("2 processes selected"), "{ready}");
    let mut out = BufReader::new(run.child.stdout.take().unwrap());
    shop.ask("/healthz");
    quiet.ask("/quiet");
    other.ask("/unseen");
    shop.ask("/items/first");
    shop.ask("/end");
    let spans = spans_until(&mut out, "/end");
    assert_eq!(paths(&spans), ["/items/first", "/end"]);
    for span in &spans {
        // The server says of itself that it is another one.
        assert_eq!(span["resource"]["service.name"], "shop", "{span}");
        assert_eq!(span["resource"]["service.namespace"], "prod", "{span}");
        assert_eq!(span["resource"]["team"], "checkout", "{span}");
        assert_eq!(span["flags"].as_u64().map(|flags| flags & 1), Some(1), "{span}");
    }
    assert_eq!(spans[0]["attributes"]["http.route"], "/items/{id}");
    run.signal(libc::SIGTERM);
    let (code, _, log) = run.end();
    assert_eq!(code, Some(0), "{log}");
    let left_out = log.lines().find(|line| line.contains("left out on purpose")).unwrap_or_default();
    assert!(left_out.contains("filter/traces 1") && left_out.contains("sampling/sampled_out 1"), "{log}");
}

#[test]
fn an_unsampled_caller_is_followed_and_failures_are_kept() {
    if !may_load("an_unsampled_caller_is_followed_and_failures_are_kept") {
        return;
    }
    let _alone = alone();
    let Some(server) = Server::start(python(), 0) else { return };
    let port = server.port().to_string();
    let mut command = skep(&["run", "--print", "json", "--summary", "--port", &port, "--keep-errors"]);
    command.stdout(Stdio::piped());
    let mut run = Run::start(command);
    run.wait_for("ready");
    let mut out = BufReader::new(run.child.stdout.take().unwrap());
    let trace = |n: u8, flags: u8| format!("traceparent: 00-{n:032x}-{n:016x}-{flags:02x}\r\n");
    server.ask_with("/unsampled", &trace(1, 0));
    server.ask_with("/sampled", &trace(2, 1));
    // The server does not know the method and answers 501.
    server.fail_with("/failed", &trace(3, 0));
    server.ask("/end");
    let spans = spans_until(&mut out, "/end");
    assert_eq!(paths(&spans), ["/sampled", "/failed", "/end"]);
    for span in &spans {
        assert_eq!(span["flags"].as_u64().map(|flags| flags & 1), Some(1), "{span}");
    }
    // The summary counts what was sampled out too.
    run.signal(libc::SIGTERM);
    let (_, _, log) = run.end();
    assert!(log.lines().any(|line| line.contains("GET /unsampled")), "{log}");
}

#[test]
fn a_hangup_applies_what_can_be_applied_and_keeps_the_rest() {
    if !may_load("a_hangup_applies_what_can_be_applied_and_keeps_the_rest") {
        return;
    }
    let _alone = alone();
    let Some(server) = Server::start(python(), 0) else { return };
    let port = server.port();
    let text = |service: &str, more: &str| {
        format!("selection: {{rules: [{{ports: {port}, service_name: {service}}}]}}\n{more}")
    };
    let file = File::new("hangup", &text("one", ""));
    let notified = std::env::temp_dir().join(format!("skep-reload-{}", std::process::id()));
    let socket = UnixDatagram::bind(&notified).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let wait_for_notice = |expected: &str| {
        let mut message = [0; 128];
        let length = socket.recv(&mut message).unwrap();
        let message = std::str::from_utf8(&message[..length]).unwrap();
        assert!(message.starts_with(expected), "{message}");
    };
    let mut command = skep(&["run", "--print", "json", "--config", file.path()]);
    command.stdout(Stdio::piped()).env("NOTIFY_SOCKET", &notified);
    let mut run = Run::start(command);
    run.wait_for("ready");
    wait_for_notice("READY=1");
    let mut out = BufReader::new(run.child.stdout.take().unwrap());
    server.ask("/before");
    assert_eq!(spans_until(&mut out, "/before")[0]["resource"]["service.name"], "one");

    let filter = "filters: {traces: [{drop: {url.path: /healthz}}]}\nlimits: {ring_size: 8M}\n";
    std::fs::write(file.path(), text("two", filter)).unwrap();
    run.signal(libc::SIGHUP);
    run.wait_for("limits.ring_size: 8M instead of 4M takes effect after a restart");
    run.wait_for("reloaded: filters.traces");
    wait_for_notice("RELOADING=1\nMONOTONIC_USEC=");
    wait_for_notice("READY=1");
    server.ask("/healthz");
    server.ask("/after");
    let spans = spans_until(&mut out, "/after");
    assert_eq!(paths(&spans), ["/after"]);
    assert_eq!(spans[0]["resource"]["service.name"], "two");

    std::fs::write(file.path(), "selection: {rules: []}\nlimts: 1\n").unwrap();
    run.signal(libc::SIGHUP);
    run.wait_for("did you mean limits?");
    run.wait_for("the one before stays in force");
    server.ask("/healthz");
    server.ask("/still");
    assert_eq!(paths(&spans_until(&mut out, "/still")), ["/still"]);

    // A process that no rule wants any more is let go, and one that a rule wants now is taken.
    let target = Target::start();
    let port_only =
        format!("selection: {{rules: [{{ports: {port}, exes: nothing}}, {{pids: {}}}]}}\n", target.pid());
    std::fs::write(file.path(), port_only).unwrap();
    run.signal(libc::SIGHUP);
    run.wait_for("reloaded: selection.rules");
    server.ask("/let-go");
    // A port that the kernel side was not told of needs a restart.
    std::fs::write(file.path(), "selection: {ports: 1}\n").unwrap();
    run.signal(libc::SIGHUP);
    let refused = run.wait_for("takes effect after a restart");
    assert!(refused.contains("port 1 is new"), "{refused}");
    drop(target);
    run.signal(libc::SIGTERM);
    let (code, _, log) = run.end();
    assert_eq!(code, Some(0), "{log}");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    assert_eq!(rest, "", "a process that was let go is not shown");
    std::fs::remove_file(&notified).unwrap();
}
