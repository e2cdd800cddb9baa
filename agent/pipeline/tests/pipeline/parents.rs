//! Which request caused which: the rules of `context.rs`, each with the cases in which it must not speak.

use agent_common::event::Waits;
use agent_pipeline::span::ParentRule;
use agent_pipeline::{Config, Pipeline, ThreadContext};

use crate::support::{Kept, Role, Seen, Wire};

const MS: u64 = 1_000_000;
const TRACEPARENT: &str = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// One host with a service (process 100) that is called on connection 1 and calls others.
struct Scene {
    pipeline: Pipeline,
    kept: Kept,
    now: u64,
}

impl Scene {
    fn new(policy: ThreadContext) -> Self {
        let mut pipeline = Pipeline::new(Config { seed: [3, 4], ..Config::default() });
        pipeline.set_thread_context(100, policy);
        Self { pipeline, kept: Kept::default(), now: 0 }
    }

    fn open(&mut self, conn_id: u64, role: Role) -> Wire {
        let wire = Wire::new(conn_id, role);
        self.announce(&wire);
        wire
    }

    fn announce(&mut self, wire: &Wire) {
        self.now += MS;
        self.pipeline.on_record(&wire.opened(self.now, true), &mut self.kept);
    }

    fn ask(&mut self, wire: &mut Wire, path: &str, headers: &str) {
        self.now += MS;
        let request = format!("GET {path} HTTP/1.1\r\n{headers}\r\n");
        let record = wire.data(true, self.now, request.as_bytes(), 0, b"");
        self.pipeline.on_record(&record, &mut self.kept);
    }

    fn answer(&mut self, wire: &mut Wire) {
        self.now += MS;
        let record = wire.data(false, self.now, ANSWER, 0, b"");
        self.pipeline.on_record(&record, &mut self.kept);
    }

    fn tick(&mut self, ms: u64) {
        self.now += ms * MS;
        self.pipeline.on_tick(self.now, &mut self.kept);
    }

    fn span(&self, conn_id: u64, path: &str) -> &Seen {
        let found = self.kept.spans.iter().find(|span| span.conn_id == conn_id && span.path == path);
        found.unwrap_or_else(|| panic!("no span {conn_id} {path} in {:?}", self.kept.spans))
    }

    /// Asserts that the span of `child` has the one of `parent` as its parent, by that rule.
    fn check_child(&self, child: (u64, &str), parent: (u64, &str), rule: ParentRule) {
        let (child, parent) = (self.span(child.0, child.1), self.span(parent.0, parent.1));
        assert_eq!((child.parent_span_id, child.rule), (Some(parent.span_id), rule), "{child:?}");
        assert_eq!(child.trace_id, parent.trace_id);
    }

    fn check_root(&self, conn_id: u64, path: &str) {
        let span = self.span(conn_id, path);
        assert_eq!((span.parent_span_id, span.rule), (None, ParentRule::None), "{span:?}");
    }
}

/// A service that is called and, before it answers, calls another on the same thread; `change` spoils it or not.
fn check_thread(policy: ThreadContext, change: impl FnOnce(&mut Scene, &mut Wire, &mut Wire), child: bool) {
    let mut scene = Scene::new(policy);
    let (mut server, mut client) = (scene.open(1, Role::Server), scene.open(2, Role::Client));
    scene.ask(&mut server, "/in", "");
    change(&mut scene, &mut server, &mut client);
    scene.ask(&mut client, "/out", "");
    scene.answer(&mut client);
    scene.answer(&mut server);
    scene.tick(100);
    if child {
        scene.check_child((2, "/out"), (1, "/in"), ParentRule::Thread);
    } else {
        scene.check_root(2, "/out");
    }
}

#[test]
fn a_thread_that_works_on_one_request_causes_its_calls() {
    check_thread(ThreadContext::Threads, |_, _, _| {}, true);
}

#[test]
fn other_threads_processes_and_runtimes_cause_nothing() {
    check_thread(ThreadContext::Never, |_, _, _| {}, false);
    check_thread(ThreadContext::Threads, |_, _, client| client.tid = 101, false);
    check_thread(ThreadContext::Threads, |_, _, client| client.tgid = 101, false);
    check_thread(ThreadContext::Threads, |scene, _, _| scene.kept.event_loops = true, false);
}

#[test]
fn a_thread_that_waited_since_causes_nothing() {
    check_thread(ThreadContext::Threads, |_, _, client| client.waits = 1, false);
    check_thread(ThreadContext::Threads, |_, _, client| client.waits = Waits::UNKNOWN, false);
    check_thread(ThreadContext::Threads, |_, _, client| client.waits = Waits::EVENT_LOOP, false);
}

#[test]
fn a_thread_with_two_open_requests_or_none_causes_nothing() {
    check_thread(
        ThreadContext::Threads,
        |scene, _, _| {
            let mut other = scene.open(3, Role::Server);
            scene.ask(&mut other, "/other", "");
        },
        false,
    );
    check_thread(ThreadContext::Threads, |scene, server, _| scene.answer(server), false);
}

#[test]
fn two_open_requests_of_which_one_is_answered_leave_one() {
    check_thread(
        ThreadContext::Threads,
        |scene, _, _| {
            let mut other = scene.open(3, Role::Server);
            scene.ask(&mut other, "/other", "");
            scene.answer(&mut other);
        },
        true,
    );
}

#[test]
fn a_request_whose_answer_ended_with_its_connection_is_no_candidate() {
    check_thread(
        ThreadContext::Threads,
        |scene, _, _| {
            let mut other = scene.open(3, Role::Server);
            scene.ask(&mut other, "/other", "");
            let record = other.data(false, scene.now, b"HTTP/1.0 200 OK\r\n\r\nbody", 0, b"");
            scene.pipeline.on_record(&record, &mut scene.kept);
            scene.pipeline.on_record(&other.closed(scene.now), &mut scene.kept);
        },
        true,
    );
}

#[test]
fn a_request_handed_to_another_thread_while_it_is_read_causes_nothing() {
    let mut scene = Scene::new(ThreadContext::Threads);
    let (mut server, mut client) = (scene.open(1, Role::Server), scene.open(2, Role::Client));
    scene.ask(&mut server, "/in", "Content-Length: 1\r\n");
    server.tid = 101;
    let record = server.data(true, scene.now, b"x", 0, b"");
    scene.pipeline.on_record(&record, &mut scene.kept);
    scene.ask(&mut client, "/out", "");
    scene.answer(&mut client);
    scene.check_root(2, "/out");
}

#[test]
fn the_header_of_a_server_request_names_its_parent() {
    let mut scene = Scene::new(ThreadContext::Never);
    let mut server = scene.open(1, Role::Server);
    scene.ask(&mut server, "/in", TRACEPARENT);
    scene.answer(&mut server);
    let span = scene.span(1, "/in");
    assert_eq!(span.parent_span_id, Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]));
    assert_eq!((span.trace_id[0], span.flags, span.rule), (0x0a, 0, ParentRule::Header));
}

#[test]
fn a_client_request_with_a_header_is_a_child_of_the_span_named_there() {
    let mut scene = Scene::new(ThreadContext::Threads);
    let (mut server, mut client) = (scene.open(1, Role::Server), scene.open(2, Role::Client));
    scene.ask(&mut server, "/in", "");
    scene.ask(&mut client, "/out", TRACEPARENT);
    scene.answer(&mut client);
    let span = scene.span(2, "/out");
    assert_eq!((span.trace_id[0], span.rule), (0x0a, ParentRule::Header));
    assert_eq!(span.parent_span_id, Some([0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31]));
}

#[test]
fn a_header_that_is_passed_through_leads_to_the_request_that_brought_it() {
    let mut scene = Scene::new(ThreadContext::Never);
    let (mut server, mut client) = (scene.open(1, Role::Server), scene.open(2, Role::Client));
    scene.ask(&mut server, "/in", TRACEPARENT);
    scene.ask(&mut client, "/out", TRACEPARENT);
    scene.answer(&mut client);
    scene.answer(&mut server);
    scene.check_child((2, "/out"), (1, "/in"), ParentRule::PassedThrough);
}

#[test]
fn a_header_that_came_with_two_requests_leads_to_neither() {
    let mut scene = Scene::new(ThreadContext::Never);
    let (mut server, mut client) = (scene.open(1, Role::Server), scene.open(2, Role::Client));
    let mut other = scene.open(3, Role::Server);
    scene.ask(&mut server, "/in", TRACEPARENT);
    scene.ask(&mut other, "/in", TRACEPARENT);
    scene.ask(&mut client, "/out", TRACEPARENT);
    scene.answer(&mut client);
    assert_eq!(scene.span(2, "/out").rule, ParentRule::Header);
}

/// The two ends of one connection: process 100 asks, process 200 answers.
fn ends(scene: &mut Scene) -> (Wire, Wire) {
    let client = scene.open(2, Role::Client);
    let server = other_end(&client);
    scene.announce(&server);
    (client, server)
}

fn other_end(client: &Wire) -> Wire {
    let mut server = Wire::new(5, Role::Server);
    server.tgid = 200;
    (server.tuple.local, server.tuple.peer) = (client.tuple.peer, client.tuple.local);
    server
}

#[test]
fn the_client_end_is_the_parent_though_it_asked_before_it_was_accepted() {
    let mut scene = Scene::new(ThreadContext::Never);
    let mut client = scene.open(2, Role::Client);
    scene.ask(&mut client, "/1", "");
    let mut server = other_end(&client);
    scene.announce(&server);
    scene.ask(&mut server, "/1", "");
    scene.answer(&mut server);
    scene.answer(&mut client);
    scene.check_child((5, "/1"), (2, "/1"), ParentRule::ClientEnd);
}

#[test]
fn the_client_end_is_the_parent_when_its_record_comes_first() {
    let mut scene = Scene::new(ThreadContext::Never);
    let (mut client, mut server) = ends(&mut scene);
    for path in ["/1", "/2"] {
        scene.ask(&mut client, path, "");
        scene.ask(&mut server, path, "");
        scene.answer(&mut server);
        scene.answer(&mut client);
        scene.check_child((5, path), (2, path), ParentRule::ClientEnd);
    }
    assert_ne!(scene.span(2, "/1").trace_id, scene.span(2, "/2").trace_id);
}

#[test]
fn the_client_end_is_the_parent_when_its_record_comes_last() {
    let mut scene = Scene::new(ThreadContext::Never);
    let (mut client, mut server) = ends(&mut scene);
    scene.ask(&mut server, "/1", "");
    scene.answer(&mut server);
    assert!(scene.kept.spans.is_empty());
    scene.answer(&mut client);
    scene.ask(&mut client, "/1", "");
    scene.tick(10);
    scene.check_child((5, "/1"), (2, "/1"), ParentRule::ClientEnd);
    assert_eq!(scene.pipeline.usage().requests, 0);
}

#[test]
fn a_server_span_does_not_wait_for_its_client_end_for_long() {
    let mut scene = Scene::new(ThreadContext::Never);
    let (_client, mut server) = ends(&mut scene);
    scene.ask(&mut server, "/1", "");
    scene.answer(&mut server);
    scene.tick(100);
    scene.check_root(5, "/1");
}

#[test]
fn a_trace_goes_through_two_services() {
    let mut scene = Scene::new(ThreadContext::Threads);
    scene.pipeline.set_thread_context(200, ThreadContext::Threads);
    let mut edge = scene.open(1, Role::Server);
    let (mut client, mut server) = ends(&mut scene);
    let mut database = Wire { tgid: 200, ..Wire::new(6, Role::Client) };
    scene.announce(&database);
    scene.ask(&mut edge, "/edge", "");
    // The record of the call comes after all that it caused.
    scene.ask(&mut server, "/inner", "");
    scene.ask(&mut database, "/db", "");
    scene.answer(&mut database);
    scene.ask(&mut client, "/inner", "");
    scene.tick(10);
    scene.answer(&mut server);
    scene.answer(&mut client);
    scene.answer(&mut edge);
    scene.tick(100);
    scene.check_child((6, "/db"), (5, "/inner"), ParentRule::Thread);
    scene.check_child((5, "/inner"), (2, "/inner"), ParentRule::ClientEnd);
    scene.check_child((2, "/inner"), (1, "/edge"), ParentRule::Thread);
}

#[test]
fn ends_in_different_network_namespaces_of_loopback_are_strangers() {
    let mut scene = Scene::new(ThreadContext::Never);
    let mut client = scene.open(2, Role::Client);
    let mut server = Wire::new(5, Role::Server);
    (server.tuple.local, server.tuple.peer) = (client.tuple.peer, client.tuple.local);
    server.tuple.netns = 2;
    scene.announce(&server);
    scene.ask(&mut client, "/1", "");
    scene.ask(&mut server, "/1", "");
    scene.answer(&mut server);
    scene.check_root(5, "/1");
}

#[test]
fn a_server_request_with_a_header_keeps_it_although_its_client_end_is_seen() {
    let mut scene = Scene::new(ThreadContext::Never);
    let (mut client, mut server) = ends(&mut scene);
    scene.ask(&mut client, "/1", TRACEPARENT);
    scene.ask(&mut server, "/1", TRACEPARENT);
    scene.answer(&mut server);
    scene.answer(&mut client);
    assert_eq!(scene.span(5, "/1").rule, ParentRule::Header);
    assert_eq!(scene.span(5, "/1").parent_span_id, scene.span(2, "/1").parent_span_id);
}
