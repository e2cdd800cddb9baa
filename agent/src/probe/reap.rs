//! Connections whose end no tracepoint tells (unix and datagram sockets): asked after one by one, a few at a time.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use agent_common::event::{ConnOpened, EventKind};
use zerocopy::FromBytes as _;

use super::control::Control;

const IPPROTO_TCP: u16 = 6;
/// Between two rounds of questions.
const INTERVAL: Duration = Duration::from_millis(250);
/// Questions of one round; each is one system call of about a microsecond.
const ROUND: usize = 256;

/// Connections to ask after, the longest waiting first. As many as the kernel side's table holds at most, because
/// an entry leaves as soon as the kernel side has forgotten its connection.
#[derive(Default)]
pub(super) struct Reaper {
    waiting: VecDeque<(u64, u64)>,
    next_round: Option<Instant>,
}

impl Reaper {
    /// Looks at a record on its way to the pipeline.
    pub(super) fn observe(&mut self, record: &[u8]) {
        if record.get(..2) != Some(&EventKind::CONN_OPENED.0.to_ne_bytes()[..]) {
            return;
        }
        let Ok((opened, _)) = ConnOpened::read_from_prefix(record) else { return };
        if opened.tuple.protocol != IPPROTO_TCP {
            self.waiting.push_back((opened.header.conn_id, opened.sock));
        }
    }

    /// Asks after a few connections, if it is time.
    pub(super) fn reap(&mut self, control: &Control) {
        if self.waiting.is_empty() {
            return;
        }
        let now = Instant::now();
        if self.next_round.is_some_and(|at| now < at) {
            return;
        }
        self.next_round = Some(now + INTERVAL);
        for _ in 0..self.waiting.len().min(ROUND) {
            let Some((conn_id, sock)) = self.waiting.pop_front() else { break };
            if !control.reap(conn_id, sock).unwrap_or(false) {
                self.waiting.push_back((conn_id, sock));
            }
        }
    }
}
