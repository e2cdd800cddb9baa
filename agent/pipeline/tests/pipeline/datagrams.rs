//! Datagram sockets and DNS: which sockets are copied, and what queries and answers become.

use agent_common::capture::MODE_NONE;
use agent_common::conn::{ConnTuple, SockAddr};
use agent_common::event::{
    ConnClosed, ConnError, ConnOpened, DatagramRecord, EventHeader, EventKind, FLAG_DATAGRAM, FLAG_EGRESS,
};
use agent_pipeline::stats::Drop;
use agent_pipeline::{Config, Pipeline, Usage};
use zerocopy::IntoBytes as _;

use crate::support::{Kept, Role, Wire, address};

const MS: u64 = 1_000_000;

/// A pipeline and the sockets of one process; each step takes a millisecond.
struct Host {
    pipeline: Pipeline,
    kept: Kept,
    now: u64,
}

impl Host {
    fn new() -> Self {
        Self { pipeline: Pipeline::new(Config::default()), kept: Kept::default(), now: 0 }
    }

    fn header(&mut self, kind: EventKind, conn_id: u64, flags: u16) -> EventHeader {
        self.now += MS;
        EventHeader { kind, flags, tgid: 9, ktime_ns: self.now, conn_id }
    }

    /// A socket that is connected to a port, or to none.
    fn open(&mut self, conn_id: u64, sock: u64, peer: Option<u16>) {
        let header = self.header(EventKind::CONN_OPENED, conn_id, FLAG_DATAGRAM);
        let peer = peer.map_or(SockAddr::default(), address);
        let tuple =
            ConnTuple { local: address(40_000), peer, sock_type: 2, protocol: 17, ..ConnTuple::default() };
        let opened = ConnOpened { header, tuple, sock, ..ConnOpened::default() };
        self.pipeline.on_record(opened.as_bytes(), &mut self.kept);
    }

    fn pass(&mut self, conn_id: u64, flags: u16, peer: SockAddr, bytes: &[u8]) {
        let header = self.header(EventKind::DATAGRAM, conn_id, flags);
        let len = bytes.len() as u32;
        let record = DatagramRecord { header, peer, len, head_len: len, tid: 9, waits: 0 };
        self.pipeline.on_record(&[record.as_bytes(), bytes].concat(), &mut self.kept);
    }

    fn send(&mut self, conn_id: u64, bytes: &[u8]) {
        self.pass(conn_id, FLAG_EGRESS, SockAddr::default(), bytes);
    }

    fn receive(&mut self, conn_id: u64, bytes: &[u8]) {
        self.pass(conn_id, 0, SockAddr::default(), bytes);
    }

    fn close(&mut self, conn_id: u64) {
        let header = self.header(EventKind::CONN_CLOSED, conn_id, 0);
        self.pipeline.on_record(ConnClosed { header, ..ConnClosed::default() }.as_bytes(), &mut self.kept);
    }

    fn tick(&mut self, ms: u64) {
        self.now += ms * MS;
        self.pipeline.on_tick(self.now, &mut self.kept);
    }

    /// The spans so far; nothing may be left.
    fn check(mut self, expected: &[&str]) -> Kept {
        let facts: Vec<String> = self.kept.spans.iter().map(|span| span.facts(MS)).collect();
        assert_eq!(facts, expected);
        self.pipeline.finish(self.now, &mut self.kept);
        assert_eq!(self.kept.spans.len(), expected.len());
        assert_eq!(self.pipeline.usage(), Usage::default());
        self.kept
    }
}

/// A message: id, flags, name, type, then answers with their count.
fn message(id: u16, flags: u16, name: &str, kind: u16, answers: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [id, flags, 1, answers.len() as u16, 0, 0] {
        bytes.extend(word.to_be_bytes());
    }
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(1u16.to_be_bytes());
    for (kind, data) in answers {
        bytes.extend(b"\xc0\x0c");
        bytes.extend(kind.to_be_bytes());
        bytes.extend(b"\x00\x01\x00\x00\x00\x05");
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(*data);
    }
    bytes
}

fn query(id: u16, name: &str, kind: u16) -> Vec<u8> {
    message(id, 0x0100, name, kind, &[])
}

fn answer(id: u16, name: &str, address: [u8; 4]) -> Vec<u8> {
    message(id, 0x8180, name, 1, &[(1, &address)])
}

#[test]
fn a_query_and_its_answer() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.receive(7, &answer(5, "a.example", [127, 0, 0, 2]));
    let kept = host.check(&["dns a.example 0 [127.0.0.2] 2..3"]);
    assert!(kept.captures.is_empty());
}

#[test]
fn both_families_at_once_and_answers_in_any_order() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.send(7, &query(6, "a.example", 28));
    host.receive(7, &message(6, 0x8183, "a.example", 28, &[]));
    host.receive(7, &answer(5, "A.Example", [127, 0, 0, 2]));
    host.check(&["dns a.example 3 3..4", "dns a.example 0 [127.0.0.2] 2..5"]);
}

#[test]
fn an_answer_to_another_question_or_id_is_none() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.receive(7, &answer(6, "a.example", [127, 0, 0, 2]));
    host.receive(7, &answer(5, "b.example", [127, 0, 0, 2]));
    host.receive(7, &message(5, 0x8180, "a.example", 28, &[]));
    assert_eq!(host.pipeline.stats().dropped(Drop::DnsAnswerWithoutQuery), 3);
    host.receive(7, &answer(5, "a.example", [127, 0, 0, 2]));
    host.check(&["dns a.example 0 [127.0.0.2] 2..6"]);
}

#[test]
fn asking_again_elsewhere_is_the_same_query() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.tick(5000);
    host.open(8, 2, Some(54));
    host.send(8, &query(5, "a.example", 1));
    host.close(7);
    host.receive(8, &answer(5, "a.example", [127, 0, 0, 2]));
    host.check(&["dns a.example 0 [127.0.0.2] 2..5006"]);
}

#[test]
fn no_answer_in_time_or_before_the_socket_is_closed_is_a_time_out() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.send(7, &query(6, "b.example", 1));
    host.receive(7, &answer(6, "b.example", [127, 0, 0, 2]));
    host.tick(9_000);
    host.tick(2_000);
    host.send(7, &query(7, "c.example", 1));
    host.close(7);
    host.check(&[
        "dns b.example 0 [127.0.0.2] 3..4",
        "dns a.example 2..10002 timeout",
        "dns c.example 11005..11006 timeout",
    ]);
}

#[test]
fn a_sock_that_is_used_again_closes_the_socket_before() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.open(8, 1, Some(53));
    host.check(&["dns a.example 2..3 timeout"]);
}

#[test]
fn a_failed_call_says_why_there_is_no_answer() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    let header = host.header(EventKind::CONN_ERROR, 7, 0);
    let error = ConnError { header, errno: 111, tid: 9 };
    host.pipeline.on_record(error.as_bytes(), &mut host.kept);
    host.close(7);
    host.check(&["dns a.example 2..4 connection_refused"]);
}

#[test]
fn a_truncated_answer_and_the_query_over_tcp_are_one() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.receive(7, &message(5, 0x8380, "a.example", 1, &[]));
    host.close(7);
    let mut wire = Wire::new(8, Role::Client);
    wire.tgid = 9;
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    host.pipeline.on_record(&wire.opened(5 * MS, true), &mut host.kept);
    let record = wire.data(true, 5 * MS, &framed(query(5, "a.example", 1)), 0, b"");
    host.pipeline.on_record(&record, &mut host.kept);
    let record = wire.data(false, 6 * MS, &framed(answer(5, "a.example", [127, 0, 0, 2])), 0, b"");
    host.pipeline.on_record(&record, &mut host.kept);
    host.check(&["dns a.example 0 [127.0.0.2] 2..6"]);
}

#[test]
fn a_truncated_answer_has_to_do_if_nothing_follows() {
    let mut host = Host::new();
    host.open(7, 1, Some(53));
    host.send(7, &query(5, "a.example", 1));
    host.receive(7, &message(5, 0x8380, "a.example", 1, &[(1, &[127, 0, 0, 3])]));
    host.tick(1500);
    host.check(&["dns a.example 0 [127.0.0.3] 2..3"]);
}

#[test]
fn a_server_tells_its_clients_apart() {
    let mut host = Host::new();
    host.open(7, 1, None);
    for port in [1001, 1002] {
        host.pass(7, 0, address(port), &query(5, "a.example", 1));
    }
    for port in [1002, 1001] {
        host.pass(7, FLAG_EGRESS, address(port), &answer(5, "a.example", [127, 0, 0, 2]));
    }
    let kept = host.check(&["dns a.example 0 [127.0.0.2] 3..4", "dns a.example 0 [127.0.0.2] 2..5"]);
    assert!(kept.spans.iter().all(|span| span.kind == agent_pipeline::request::SpanKind::Server));
}

#[test]
fn what_is_not_dns_is_soon_not_copied_and_what_came_before_is_counted() {
    let mut host = Host::new();
    host.open(7, 1, Some(8125));
    for _ in 0..20 {
        host.send(7, b"metric.name:1|c");
    }
    assert_eq!(host.pipeline.stats().dropped(Drop::Datagram), 20);
    let kept = host.check(&[]);
    let modes: Vec<_> = kept.captures.iter().map(|(conn_id, mode)| (*conn_id, mode.mode)).collect();
    assert_eq!(modes, [(7, MODE_NONE)]);
}

#[test]
fn names_of_the_local_network_are_left_alone() {
    let mut host = Host::new();
    host.open(7, 1, None);
    let mut group = address(5353);
    group.addr[..4].copy_from_slice(&[224, 0, 0, 251]);
    host.pass(7, FLAG_EGRESS, group, &query(0, "printer.local", 1));
    host.open(8, 2, Some(5355));
    host.send(8, &query(5, "printer", 1));
    let kept = host.check(&[]);
    assert_eq!(kept.captures.iter().map(|(conn_id, _)| *conn_id).collect::<Vec<_>>(), [7, 8]);
}
