//! The direction that carries what clients ask.
//!
//! In: its chunks. Out: what waits for an answer, in order, with a request for each operation.

use std::sync::Arc;

use crate::Sink;
use crate::connection::Link;
use crate::db_request::{DbRequest, DbSystem};
use crate::open::NONE;
use crate::protocol::Next;
use crate::protocol::calls::Begun;
use crate::protocol::frames::{Frame, Step, Why};
use crate::protocol::postgres::wire::{self, Client, Opening, Startup};
use crate::protocol::postgres::{Copying, Parsed, Phase, Postgres, WAITING_MAX, Wait};
use crate::sql::Statement;
use crate::sql::cache::Sql;
use crate::state::State;
use crate::stats::{Drop, Kind};
use crate::stream::Chunk;

impl Postgres {
    #[inline]
    pub(super) fn on_request_bytes(
        &mut self,
        link: &mut Link,
        chunk: &Chunk<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Next {
        let mut chunk = *chunk;
        if self.phase == Phase::Consent && chunk.bytes().first() == Some(&0x16) {
            // The client takes up the offer, the record of which has not come yet.
            return encrypted(link, state);
        }
        loop {
            let step = match self.phase {
                Phase::Session => self.requests.next(&mut chunk, &Client, state),
                Phase::Startup | Phase::Consent => self.requests.next(&mut chunk, &Startup, state),
            };
            match step {
                Step::Frame(frame) if self.phase == Phase::Session => {
                    self.on_request(&frame, link, state, sink);
                    if self.requests.is_lost() {
                        return Next::Stay;
                    }
                }
                Step::Frame(frame) => match self.on_opening(&frame, link, state) {
                    Next::Stay => {}
                    next => return next,
                },
                Step::Found => {}
                // Rows of COPY were passed over: its end may be seen in what was copied of the call's end.
                Step::More | Step::Lost(Why::Hole) if self.requests.is_lost() => {
                    let copies = self.copying == Copying::In;
                    if copies && chunk.len > 0 && self.requests.find_in_tail(&mut chunk, &Client) {
                        continue;
                    }
                    if !copies && matches!(step, Step::Lost(_)) {
                        self.lose_requests(link, chunk.call.turn, state, sink);
                    }
                    return Next::Stay;
                }
                Step::More => return Next::Stay,
                Step::Lost(Why::Invalid) if !self.confirmed => return Next::NotOurs,
                Step::Lost(_) => {
                    self.lose_requests(link, chunk.call.turn, state, sink);
                    return Next::Stay;
                }
            }
        }
    }

    /// What was asked is not known any more, nor what names stand for.
    fn lose_requests(&mut self, link: &mut Link, turn: u32, state: &mut State, sink: &mut impl Sink) {
        self.requests.lose(turn, state);
        self.forget_names(state);
        self.first = None;
        self.lose_answers(link, turn, state, sink);
    }

    fn on_opening(&mut self, frame: &Frame<'_>, link: &mut Link, state: &mut State) -> Next {
        match wire::opening(&frame.payload) {
            Opening::Encryption => self.phase = Phase::Consent,
            // Its connection ends with that.
            Opening::Cancel => return Next::Leave,
            Opening::Session { database, replicates } => {
                if replicates {
                    return Next::Leave;
                }
                self.namespace.set(database);
                self.phase = Phase::Session;
                self.push(Wait::Session, state);
            }
            Opening::Unknown => {
                link.set_kind(Kind::Other, &mut state.stats);
                return Next::Leave;
            }
        }
        self.progress = true;
        Next::Stay
    }

    #[inline]
    fn on_request(&mut self, frame: &Frame<'_>, link: &mut Link, state: &mut State, sink: &mut impl Sink) {
        let begun = Begun { call: frame.begun, offset: frame.offset };
        let kind = frame.header[0];
        if self.blind.is_some() && frame.last.turn > self.answer_turn {
            self.end_blind(link, state, sink);
        }
        if self.copying == Copying::In {
            match kind {
                b'c' | b'f' => self.copying = Copying::No,
                // In COPY, the server ignores them.
                b'd' | b'S' | b'H' => return,
                _ => {}
            }
        }
        if self.skipping && kind != b'S' && kind != b'X' {
            return;
        }
        match kind {
            b'Q' => self.on_query(frame, begun, link, state, sink),
            b'P' => self.on_parse(frame, begun, state),
            b'B' => {
                self.first.get_or_insert(begun);
                self.on_bind(&frame.payload, state);
                self.push(Wait::Bind, state);
            }
            b'D' => self.push(Wait::Describe, state),
            b'E' => self.on_execute(frame, begun, link, state, sink),
            b'C' => {
                self.on_close(&frame.payload, state);
                self.push(Wait::Close, state);
            }
            b'S' => {
                self.first = None;
                self.skipping = false;
                self.push(Wait::Sync, state);
            }
            b'F' => self.push(Wait::Function, state),
            _ => {}
        }
        if self.waits.len() > WAITING_MAX {
            state.stats.drop(Drop::DbTooManyOutstanding);
            self.lose_requests(link, frame.last.turn, state, sink);
        }
    }

    fn push(&mut self, wait: Wait, state: &mut State) {
        if matches!(wait, Wait::Session | Wait::Query(_) | Wait::Sync | Wait::Function) {
            if self.syncs > 0 {
                self.pipelined = self.pipelined.saturating_add(1);
            }
            self.syncs += 1;
        }
        if self.answers.is_lost() && self.blind.is_none() && self.syncs > 1 {
            // Until an exchange was seen whole, two at once may mean that an answer was missed.
            state.stats.drop(Drop::DbGap);
        }
        self.waits.push_back(wait);
        self.progress = true;
    }

    fn on_query(
        &mut self,
        frame: &Frame<'_>,
        begun: Begun,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let cut = frame.cut || frame.payload.len() as u64 != frame.len;
        let text = frame.payload.strip_suffix(b"\0").unwrap_or(&frame.payload);
        let (dialect, namespace) = (self.dialect, &self.namespace);
        let mut empty = false;
        // What a driver asks to see whether the server is there is not worth a request.
        if text.is_empty() || text == b";" || text.starts_with(b"--") {
            let mut statement = Statement::default();
            statement.read(text, cut, dialect);
            empty = statement.is_empty();
        }
        let slot = if empty {
            NONE
        } else {
            let fill = |db: &mut DbRequest, sql: &mut Sql| {
                db.system = DbSystem::PostgreSql;
                db.namespace.push_clean(namespace.as_str());
                sql.fill(text, cut, dialect, db);
            };
            self.calls.begin(&begun, &frame.last, fill, link, state, sink)
        };
        (self.unnamed, self.portal) = (None, None);
        self.push(Wait::Query(slot), state);
    }

    fn on_parse(&mut self, frame: &Frame<'_>, begun: Begun, state: &mut State) {
        let begun = *self.first.get_or_insert(begun);
        let (name, text) = wire::cstring(&frame.payload).unwrap_or_default();
        let (text, cut) = match wire::cstring(text) {
            Some((text, _)) => (text, false),
            None => (text, true),
        };
        let statement = state.sql.prepare(text, cut, self.dialect);
        if name.is_empty() {
            self.unnamed = Some(Arc::clone(&statement));
        } else {
            self.statements.insert(name.into(), name.len(), Arc::clone(&statement), state);
        }
        self.push(Wait::Parse(Box::new(Parsed { begun, statement, name: name.into() })), state);
    }

    fn on_bind(&mut self, payload: &[u8], state: &mut State) {
        let Some((portal, rest)) = wire::cstring(payload) else { return };
        let Some((name, _)) = wire::cstring(rest) else { return };
        let statement = if name.is_empty() { self.unnamed.as_ref() } else { self.statements.get(name) };
        let statement = statement.map(Arc::clone);
        if portal.is_empty() {
            self.portal = statement;
        } else if let Some(statement) = statement {
            self.portals.insert(portal.into(), portal.len(), statement, state);
        } else {
            self.portals.remove(portal, state);
        }
    }

    fn on_execute(
        &mut self,
        frame: &Frame<'_>,
        begun: Begun,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let begun = self.first.take().unwrap_or(begun);
        let portal = wire::cstring(&frame.payload).map_or(&b""[..], |(portal, _)| portal);
        let statement = if portal.is_empty() { self.portal.as_ref() } else { self.portals.get(portal) };
        let slot = if statement.is_some_and(|statement| statement.is_empty()) {
            NONE
        } else {
            let namespace = &self.namespace;
            let fill = |db: &mut DbRequest, _: &mut Sql| {
                db.system = DbSystem::PostgreSql;
                db.namespace.push_clean(namespace.as_str());
                if let Some(statement) = statement {
                    statement.fill(db);
                }
            };
            self.calls.begin(&begun, &frame.last, fill, link, state, sink)
        };
        self.push(Wait::Execute(slot), state);
    }

    fn on_close(&mut self, payload: &[u8], state: &mut State) {
        let Some((kind, name)) = payload.split_first() else { return };
        let Some((name, _)) = wire::cstring(name) else { return };
        match (kind, name.is_empty()) {
            (b'S', true) => self.unnamed = None,
            (b'S', false) => self.statements.remove(name, state),
            (_, true) => self.portal = None,
            (_, false) => self.portals.remove(name, state),
        }
    }
}

/// The session goes on encrypted.
pub(super) fn encrypted(link: &mut Link, state: &mut State) -> Next {
    link.set_kind(Kind::Tls, &mut state.stats);
    Next::Leave
}
