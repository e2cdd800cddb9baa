//! What a command and its answer say, as fields of the request.
//!
//! In: the words that name the operation, and how many follow. Out: `SET ? ?`: keys and values are not shown, because
//! they are never kept. A pipeline is shown as the conventions say: `PIPELINE`, `MULTI`, with the operation's name
//! where all are the same.

use crate::Sink;
use crate::address::decimal;
use crate::connection::Link;
use crate::db_request::DbSystem;
use crate::event::Call;
use crate::open::{NONE, Slot};
use crate::protocol::redis::Redis;
use crate::protocol::redis::command::Role;
use crate::protocol::redis::request::{Asked, Word};
use crate::request::{OperationKind, Request, SpanKind};
use crate::semconv;
use crate::state::State;
use crate::stats::Drop;

/// Words beyond the operation's name that are shown, one by one.
const SHOWN_MAX: u64 = 16;
/// Longest word of an error.
const ERROR_MAX: usize = 24;

/// A pipeline that makes one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub(super) turn: u32,
    /// Operations, without those that frame a transaction.
    count: u64,
    name: Word,
    second: Word,
    /// All have the same name.
    same: bool,
    transaction: bool,
}

impl Batch {
    pub(super) fn new(asked: &Asked, turn: u32) -> Self {
        let transaction = asked.command.known().role == Role::Multi;
        let (name, second) = (asked.name, asked.second);
        Self { turn, count: u64::from(!transaction), name, second, same: true, transaction }
    }

    /// Takes one more command in.
    pub(super) fn add(&mut self, asked: &Asked, request: &mut Request) {
        let db = request.db_mut();
        db.query_text.push_clean("; ");
        let frames = self.transaction && matches!(asked.command.known().role, Role::Exec | Role::Discard);
        if !frames {
            if self.count == 0 {
                (self.name, self.second) = (asked.name, asked.second);
            }
            let equal = |one: &Word, other: &Word| one.get().eq_ignore_ascii_case(other.get());
            self.same &= equal(&self.name, &asked.name) && equal(&self.second, &asked.second);
            self.count += 1;
        }
        db.operation_name.set(if self.transaction { b"MULTI" } else { b"PIPELINE" });
        if self.same && self.count > 0 {
            db.operation_name.push_clean(" ");
            operation_name(&self.name, &self.second, |text| db.operation_name.push(text));
        }
        db.batch_size = (self.count > 1).then_some(self.count);
        query_text(asked, request);
    }
}

impl Redis {
    /// The request of a command; `NONE` if there is no room.
    #[inline]
    pub(super) fn begin_request(
        &mut self,
        asked: &Asked,
        link: &Link,
        call: &Call,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> Slot {
        let Some(slot) = state.open.take(OperationKind::Db) else {
            state.stats.drop(Drop::RequestTableFull);
            return NONE;
        };
        let begun = &self.requests.begun;
        let open = state.open.get_mut(slot);
        open.offset = self.requests.offset;
        let request = &mut open.request;
        request.kind = self.kind;
        request.tgid = begun.tgid;
        request.tid = begun.tid;
        request.conn_id = link.id;
        request.tuple = link.tuple;
        request.start_ktime_ns = begun.ktime_ns;
        let db = request.db_mut();
        db.system = DbSystem::Redis;
        operation_name(&asked.name, &asked.second, |text| db.operation_name.push(text));
        query_text(asked, request);
        let call = if self.kind == SpanKind::Server { call } else { begun };
        state.context.begin(slot, call, link.peer, &mut state.open, &mut state.stats, sink);
        state.stats.requests += 1;
        slot
    }
}

#[inline]
fn operation_name(name: &Word, second: &Word, mut push: impl FnMut(&[u8])) {
    push(name.get());
    if !second.get().is_empty() {
        push(b" ");
        push(second.get());
    }
}

/// Appends the command with `?` for every word that is not part of the operation's name.
#[inline]
fn query_text(asked: &Asked, request: &mut Request) {
    let text = &mut request.db_mut().query_text;
    if asked.name.get().is_empty() {
        text.push_clean("?");
    }
    operation_name(&asked.name, &asked.second, |word| text.push(word));
    let named = 1 + u64::from(!asked.second.get().is_empty());
    let others = asked.words.saturating_sub(named);
    for _ in 0..others.min(SHOWN_MAX) {
        text.push_clean(" ?");
    }
    if others > SHOWN_MAX || (asked.cut && asked.inline) {
        text.push_clean(" ...");
    }
}

/// An error's first word is its code; of a batch, the first error counts.
pub(super) fn error(word: &[u8], request: &mut Request) {
    let code = &mut request.db_mut().response_status_code;
    if code.is_empty() {
        code.set(if is_error_word(word) { word } else { semconv::OTHER.as_bytes() });
    }
}

/// The database, if it is known.
pub(super) fn namespace(database: Option<u16>, request: &mut Request) {
    if let Some(database) = database {
        request.db_mut().namespace.set(decimal(database, &mut [0; 5]).as_bytes());
    }
}

/// Whether an error begins with a code, such as `ERR` or `WRONGTYPE`: scripts may answer with anything.
pub(super) fn is_error_word(word: &[u8]) -> bool {
    let code = |byte: &u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_';
    (2..=ERROR_MAX).contains(&word.len()) && word.iter().all(code)
}
