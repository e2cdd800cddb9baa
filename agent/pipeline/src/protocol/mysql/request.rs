//! The direction that carries commands.
//!
//! In: its chunks. Out: what waits for an answer, in order, with a request for each operation.

use std::sync::Arc;

use crate::Sink;
use crate::connection::Link;
use crate::db_request::DbRequest;
use crate::event::Call;
use crate::open::{NONE, Slot};
use crate::protocol::Next;
use crate::protocol::calls::Begun;
use crate::protocol::frames::{Frame, Step};
use crate::protocol::mysql::wire::{self, FULL, Packets, TEXT_MAX};
use crate::protocol::mysql::{Asked, MySql, Phase, WAITING_MAX, Wait};
use crate::sql::cache::Sql;
use crate::state::State;
use crate::stats::{Drop, Kind};
use crate::stream::Chunk;

const REQUESTS: Packets = Packets { keep: TEXT_MAX + 1, requests: true };

impl MySql {
    #[inline]
    pub(super) fn on_request_bytes(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let mut chunk = *chunk;
        loop {
            match self.requests.next(&mut chunk, &REQUESTS, state) {
                Step::Frame(frame) => match self.on_packet(&frame, link, state, sink) {
                    Next::Stay if !self.requests.is_lost() => {}
                    next => return next,
                },
                Step::Found => {}
                Step::More => return Next::Stay,
                Step::Lost(_) => {
                    self.request_goes_on = false;
                    self.lose_answers(link, chunk.call.turn, state);
                    return Next::Stay;
                }
            }
        }
    }

    fn on_packet(
        &mut self,
        frame: &Frame<'_>,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let goes_on = std::mem::replace(&mut self.request_goes_on, frame.len == FULL);
        match self.phase {
            Phase::Greeting | Phase::Login => return self.on_login(frame, link, state),
            Phase::Auth => return Next::Stay,
            Phase::Commands => {}
        }
        // Values of LOCAL INFILE, and the rest of a long command, go on counting.
        if goes_on || frame.header[3] != 0 {
            return Next::Stay;
        }
        let Some((&command, payload)) = frame.payload.split_first() else { return Next::Stay };
        if self.blind && frame.last.turn > self.answer_turn {
            self.end_answer(self.answer_ktime_ns, state, sink);
        }
        let begun = Begun { call: frame.begun, offset: frame.offset };
        let cut = frame.cut || frame.payload.len() as u64 != frame.len;
        match command {
            COM_QUERY => {
                let slot = self.on_query(payload, cut, &begun, &frame.last, link, state, sink);
                self.push(slot, Asked::Results);
            }
            COM_STMT_PREPARE => {
                let statement = state.sql.prepare(payload, cut, self.dialect);
                self.push(NONE, Asked::Prepare(Box::new((begun, statement))));
            }
            COM_STMT_EXECUTE | COM_STMT_BULK_EXECUTE => {
                let slot = self.on_execute(payload, &begun, &frame.last, link, state, sink);
                self.push(slot, Asked::Results);
            }
            COM_STMT_FETCH => {
                let slot = self.on_execute(payload, &begun, &frame.last, link, state, sink);
                self.push(slot, Asked::Rows);
            }
            COM_STMT_CLOSE => {
                if let Some(&id) = payload.first_chunk() {
                    self.statements.remove(&u32::from_le_bytes(id), state);
                }
            }
            COM_QUIT | COM_STMT_SEND_LONG_DATA => {}
            COM_INIT_DB => self.push(NONE, Asked::Database(payload.into())),
            COM_FIELD_LIST => self.push(NONE, Asked::Rows),
            COM_STATISTICS => self.push(NONE, Asked::Word),
            // Another user, or the same: what was prepared is forgotten, and it begins with authentication.
            COM_CHANGE_USER => {
                self.statements.clear(state);
                self.namespace.clear();
                self.phase = Phase::Auth;
            }
            COM_RESET_CONNECTION => {
                self.statements.clear(state);
                self.push(NONE, Asked::Results);
            }
            COM_BINLOG_DUMP | COM_BINLOG_DUMP_GTID | COM_REGISTER_REPLICA => return Next::Leave,
            _ => self.push(NONE, Asked::Results),
        }
        if self.waits.len() > WAITING_MAX {
            state.stats.drop(Drop::DbTooManyOutstanding);
            self.requests.lose(frame.last.turn, state);
            self.lose_answers(link, frame.last.turn, state);
        }
        Next::Stay
    }

    fn on_login(&mut self, frame: &Frame<'_>, link: &mut Link, state: &mut State) -> Next {
        let Some(login) = wire::login(&frame.payload, frame.len) else {
            link.set_kind(Kind::Other, &mut state.stats);
            return Next::Leave;
        };
        if login.encrypts {
            link.set_kind(Kind::Tls, &mut state.stats);
            return Next::Leave;
        }
        self.compresses = login.compresses;
        self.attributes = login.attributes;
        self.namespace.set(login.database);
        self.phase = Phase::Auth;
        Next::Stay
    }

    fn push(&mut self, slot: Slot, kind: Asked) {
        self.waits.push_back(Wait { slot, kind });
        if self.waits.len() == 1 {
            self.begin_answer();
        }
        self.progress = true;
    }

    #[expect(clippy::too_many_arguments, reason = "what every step of a parser is handed, and the text")]
    fn on_query(
        &mut self,
        payload: &[u8],
        cut: bool,
        begun: &Begun,
        last: &Call,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Slot {
        let dialect = self.dialect;
        let text = wire::text(payload, self.attributes);
        let fill = |db: &mut DbRequest, sql: &mut Sql| {
            if let Some(text) = text {
                sql.fill(text, cut, dialect, db);
            }
        };
        let slot = self.begin_operation(begun, last, fill, link, state, sink);
        if let Some(database) = text.and_then(used_database) {
            // It may be refused; then the name is wrong until the next choice: it is left out instead.
            self.namespace.clear();
            self.namespace.push(database);
        }
        slot
    }

    fn on_execute(
        &mut self,
        payload: &[u8],
        begun: &Begun,
        last: &Call,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Slot {
        let id = payload.first_chunk().map_or(0, |&id| u32::from_le_bytes(id));
        // MariaDB: the one that was prepared last.
        let id = if id == u32::MAX { self.last_prepared } else { id };
        let statement = self.statements.get(&id).map(Arc::clone);
        let fill = |db: &mut DbRequest, _: &mut Sql| {
            if let Some(statement) = statement {
                statement.fill(db);
            }
        };
        self.begin_operation(begun, last, fill, link, state, sink)
    }
}

/// The database that a text chooses for what follows.
fn used_database(text: &[u8]) -> Option<&[u8]> {
    let name = text.get(..4).filter(|word| word.eq_ignore_ascii_case(b"USE ")).map(|_| &text[4..])?;
    let name = name.trim_ascii();
    let name = name.strip_suffix(b";").unwrap_or(name);
    let name = name.strip_prefix(b"`").and_then(|name| name.strip_suffix(b"`")).unwrap_or(name);
    let plain =
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_$-".contains(byte));
    plain.then_some(name)
}

const COM_QUIT: u8 = 0x01;
const COM_INIT_DB: u8 = 0x02;
const COM_QUERY: u8 = 0x03;
const COM_FIELD_LIST: u8 = 0x04;
const COM_STATISTICS: u8 = 0x09;
const COM_CHANGE_USER: u8 = 0x11;
const COM_BINLOG_DUMP: u8 = 0x12;
const COM_REGISTER_REPLICA: u8 = 0x15;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
const COM_STMT_CLOSE: u8 = 0x19;
const COM_STMT_FETCH: u8 = 0x1c;
const COM_BINLOG_DUMP_GTID: u8 = 0x1e;
const COM_RESET_CONNECTION: u8 = 0x1f;
/// MariaDB's own.
const COM_STMT_BULK_EXECUTE: u8 = 0xfa;
