//! Datagram sockets: no protocol of theirs is parsed yet.

use agent_common::capture::MODE_NONE;
use agent_common::event::{ConnOpened, DatagramRecord, EventHeader, EventKind, FLAG_DATAGRAM};
use agent_pipeline::stats::Drop;
use agent_pipeline::{Config, Pipeline};
use zerocopy::IntoBytes as _;

use crate::support::Kept;

#[test]
fn a_datagram_socket_is_not_copied_and_what_came_before_is_counted() {
    let mut pipeline = Pipeline::new(Config::default());
    let mut kept = Kept::default();
    let header = EventHeader {
        kind: EventKind::CONN_OPENED,
        flags: FLAG_DATAGRAM,
        conn_id: 7,
        ..EventHeader::default()
    };
    pipeline.on_record(ConnOpened { header, sock: 1, ..ConnOpened::default() }.as_bytes(), &mut kept);
    assert_eq!(kept.captures.len(), 1);
    assert_eq!((kept.captures[0].0, kept.captures[0].1.mode), (7, MODE_NONE));

    let header = EventHeader { kind: EventKind::DATAGRAM, conn_id: 7, ..EventHeader::default() };
    pipeline.on_record(DatagramRecord { header, ..DatagramRecord::default() }.as_bytes(), &mut kept);
    assert!(kept.spans.is_empty());
    assert_eq!(pipeline.stats().dropped(Drop::Datagram), 1);
}
