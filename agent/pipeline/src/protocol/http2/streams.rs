//! Part three: what frames do to the streams of a connection, and the requests that come of it.

use crate::Sink;
use crate::connection::Link;
use crate::event::Call;
use crate::http_request::{Scheme, Version};
use crate::open::NONE;
use crate::protocol::frames::Frame;
use crate::protocol::grpc::{self, Encoding, Flavour};
use crate::protocol::http2::exchange::{Exchange, Half};
use crate::protocol::http2::field::Field;
use crate::protocol::http2::frame::{self, Header};
use crate::protocol::http2::{Fields, Http2, STREAMS_MAX, Whole};
use crate::redact::QueryRedaction;
use crate::request::{ErrorType, Operation, OperationKind, Request, SpanKind, StreamError};
use crate::rpc_request::{self, Messages, RpcRequest};
use crate::state::State;
use crate::stats::Drop;
use agent_common::event::Waits;

/// HTTP/2 error codes.
const REFUSED_STREAM: u32 = 7;
const CANCEL: u8 = 8;

impl Http2 {
    /// A header block of the direction that carries requests: a new request, or trailers of one.
    pub(super) fn on_request_fields(
        &mut self,
        whole: &Whole<'_>,
        fields: &Fields,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let stream = whole.header.stream;
        let begun = self.exchanges.get(&stream).is_some_and(Exchange::is_begun);
        let asks = fields.iter().any(|(field, _)| {
            matches!(field, Field::Method | Field::Path | Field::Scheme | Field::Authority | Field::Protocol)
        });
        if !begun {
            if stream <= self.last_stream || stream.is_multiple_of(2) {
                return; // Trailers of a stream that is closed.
            }
            if !asks {
                state.stats.drop(Drop::Http2Unclear);
                return;
            }
            self.last_stream = stream;
            if !self.begin_request(whole, fields, link, state, sink) {
                self.exchanges.remove(&stream);
                return;
            }
        }
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        exchange.request.headed = true;
        exchange.request.doubtful = false;
        if begun && self.kind == SpanKind::Server {
            state.context.read_on(exchange.slot, whole.last, &mut state.open);
        }
        if whole.header.flags & frame::END_STREAM != 0 {
            exchange.request.ended = true;
            self.close_if_done(stream, state, sink);
        } else if exchange.answer.ended {
            self.waiting = true;
        }
    }

    /// Opens the request of a stream; false if there is no room.
    fn begin_request(
        &mut self,
        whole: &Whole<'_>,
        fields: &Fields,
        link: &mut Link,
        state: &mut State,
        sink: &mut impl Sink,
    ) -> bool {
        let stream = whole.header.stream;
        if self.exchanges.len() >= STREAMS_MAX && !self.exchanges.contains_key(&stream) {
            state.stats.drop(Drop::Http2TooManyStreams);
            return false;
        }
        let exchange = self.exchanges.entry(stream).or_insert_with(|| Exchange::new(NONE, whole.begun));
        let content_type = fields.get(Field::ContentType).and_then(Flavour::of);
        exchange.is_rpc |= content_type.is_some();
        let kind = if exchange.is_rpc { OperationKind::Rpc } else { OperationKind::Http };
        let Some(slot) = state.open.take(kind) else {
            state.stats.drop(Drop::RequestTableFull);
            return false;
        };
        exchange.slot = slot;
        exchange.timeout_ns = fields.get(Field::GrpcTimeout).and_then(grpc::timeout_ns);
        exchange.request.encoding = fields.get(Field::GrpcEncoding).map_or(Encoding::default(), Encoding::of);
        let open = state.open.get_mut(slot);
        let request = &mut open.request;
        request.kind = self.kind;
        request.tgid = whole.begun.tgid;
        request.tid = whole.begun.tid;
        request.conn_id = link.id;
        request.tuple = link.tuple;
        request.start_ktime_ns = whole.begun.ktime_ns;
        if exchange.is_rpc {
            fill_rpc(request, fields);
        } else {
            exchange.is_connect = fill_http(request, fields);
        }
        open.truncated = fields.is_incomplete();
        // Both ends number a connection's streams alike.
        open.offset = u64::from(stream);
        let answered = exchange.answer.ended;
        let call = self.cause(whole);
        state.context.begin(slot, &call, link.peer, &mut state.open, &mut state.stats, sink);
        if answered {
            state.context.answered(slot, &mut state.open);
        }
        state.stats.requests += 1;
        true
    }

    /// The call to which the context rules look. A connection on which several threads send may be written to by one of
    /// them in the name of another: no conclusion may be drawn from the thread then.
    fn cause(&mut self, whole: &Whole<'_>) -> Call {
        if self.kind == SpanKind::Server {
            return *whole.last;
        }
        let call = *whole.begun;
        self.shared |= self.caller.replace(call.tid).is_some_and(|tid| tid != call.tid);
        if self.shared { Call { waits: Waits::UNKNOWN, ..call } } else { call }
    }

    /// A header block of the direction that carries answers: an interim answer, the answer, or its trailers.
    pub(super) fn on_answer_fields(
        &mut self,
        whole: &Whole<'_>,
        fields: &Fields,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let stream = whole.header.stream;
        let ends = whole.header.flags & frame::END_STREAM != 0;
        let status_code = fields.get(Field::Status).and_then(status_code);
        if !self.exchanges.contains_key(&stream) && !self.expect_request(stream, whole.begun, state) {
            return;
        }
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        exchange.last_ktime_ns = whole.last.ktime_ns;
        let answer = &mut exchange.answer;
        if let Some(100..=199) = status_code
            && !ends
        {
            return;
        }
        if status_code.is_none() && answer.size.is_none() && !answer.headed {
            // The answer's head was lost, or this is it, or its trailers: what it says stays, sizes are not known.
            exchange.answer_incomplete = true;
        } else if !answer.headed || status_code.is_some() {
            // Nothing of the body comes before this, whatever was lost.
            let encoding = fields.get(Field::GrpcEncoding).map_or(Encoding::default(), Encoding::of);
            *answer = Half { headed: true, encoding, ..Half::default() };
            exchange.status_code = status_code;
            exchange.answer_incomplete = status_code.is_none();
            if fields.get(Field::ContentType).and_then(Flavour::of).is_some() {
                Self::make_rpc(exchange, state);
            }
        }
        exchange.answer.doubtful = false;
        if let Some(code) = fields.get(Field::GrpcStatus).and_then(grpc::status) {
            exchange.grpc_status = Some(code);
        }
        if ends && exchange.is_rpc && exchange.grpc_status.is_none() && fields.is_incomplete() {
            exchange.answer_incomplete = true;
        }
        let tunnels =
            exchange.is_connect && exchange.status_code.is_some_and(|code| (200..300).contains(&code));
        if tunnels {
            exchange.request.ended = true;
            (exchange.request.size, exchange.answer.size) = (Some(0), Some(0));
        }
        if ends || tunnels {
            self.end_answer(stream, whole.last, state, sink);
        }
    }

    /// An answer without a request: on clients the record of the request may still come. True if it is waited for.
    fn expect_request(&mut self, stream: u32, call: &Call, state: &mut State) -> bool {
        let may_come =
            self.kind == SpanKind::Client && !stream.is_multiple_of(2) && stream > self.last_stream;
        let known = self.whole || self.last_stream > 0 && stream.saturating_sub(self.last_stream) < 1024;
        if may_come && known && self.exchanges.len() < STREAMS_MAX {
            self.exchanges.insert(stream, Exchange::new(NONE, call));
            self.waiting = true;
            return true;
        }
        if !self.whole && !stream.is_multiple_of(2) {
            // A request that was sent before the connection was seen, or in a gap.
            state.stats.drop(Drop::Http2AnswerWithoutRequest);
        }
        false
    }

    /// Payload of one stream.
    pub(super) fn on_data(
        &mut self,
        requests: bool,
        header: &Header,
        frame: &Frame<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&header.stream) else { return };
        let counts = exchange.counts_messages();
        if !exchange.answer.ended {
            exchange.last_ktime_ns = frame.last.ktime_ns;
        }
        let half = exchange.half_mut(requests);
        half.doubtful = false;
        match frame::unpadded(header, &frame.payload) {
            Some((payload, len)) => {
                half.size = half.size.map(|size| size.saturating_add(len as u64));
                if counts {
                    half.messages.take(payload, len as u64, &mut |_| {});
                }
            }
            None => half.lose(),
        }
        if requests && self.kind == SpanKind::Server && exchange.is_begun() {
            state.context.read_on(exchange.slot, &frame.last, &mut state.open);
        }
        if header.flags & frame::END_STREAM == 0 {
            return;
        }
        if requests {
            exchange.request.ended = true;
            self.close_if_done(header.stream, state, sink);
        } else {
            self.end_answer(header.stream, &frame.last, state, sink);
        }
    }

    /// One end gives a stream up. Once the answer is complete, that only says that no more of the request is wanted.
    pub(super) fn on_reset(
        &mut self,
        header: &Header,
        frame: &Frame<'_>,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&header.stream) else { return };
        if !exchange.is_begun() {
            // A stream that the client gave up before its request was seen.
            if exchange.answer.ended {
                exchange.request.lose();
                exchange.request.ended = true;
            }
            return;
        }
        if exchange.answer.ended {
            return self.close(header.stream, None, state, sink);
        }
        exchange.last_ktime_ns = frame.last.ktime_ns;
        let code = frame.payload.first_chunk().map_or(u32::MAX, |code| u32::from_be_bytes(*code));
        self.close(header.stream, Some((reset(code), frame.last.ktime_ns)), state, sink);
    }

    /// The server will not answer streams beyond one.
    pub(super) fn on_go_away(&mut self, frame: &Frame<'_>, state: &mut State, sink: &mut impl Sink) {
        let Some(last) = frame.payload.first_chunk() else { return };
        let last = u32::from_be_bytes(*last) & 0x7fff_ffff;
        for stream in self.streams() {
            let refused = |exchange: &Exchange| exchange.is_begun() && !exchange.answer.headed;
            if stream > last && self.exchanges.get(&stream).is_some_and(refused) {
                self.close(stream, Some((reset(REFUSED_STREAM), frame.last.ktime_ns)), state, sink);
            }
        }
    }

    /// No more answers will come: those that are complete are certain, the others failed.
    pub(super) fn end_all(
        &mut self,
        (error, ktime_ns): (ErrorType, u64),
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        for stream in self.streams() {
            let Some(exchange) = self.exchanges.get(&stream) else { continue };
            if exchange.answer.doubtful && !exchange.answer.ended {
                // It may well have ended in order.
                if let Some(exchange) = self.exchanges.remove(&stream).filter(Exchange::is_begun) {
                    state.abandon(exchange.slot, Drop::Http2Gap);
                }
                continue;
            }
            let failure = (!exchange.answer.ended).then_some((error, ktime_ns));
            self.close(stream, failure, state, sink);
        }
    }

    /// Open streams, oldest first.
    pub(super) fn streams(&self) -> Vec<u32> {
        let mut streams: Vec<u32> = self.exchanges.keys().copied().collect();
        streams.sort_unstable();
        streams
    }

    fn end_answer(&mut self, stream: u32, last: &Call, state: &mut State, sink: &mut impl Sink) {
        let Some(exchange) = self.exchanges.get_mut(&stream) else { return };
        exchange.answer.ended = true;
        exchange.last_ktime_ns = last.ktime_ns;
        if exchange.is_begun() {
            state.context.answered(exchange.slot, &mut state.open);
        }
        self.close_if_done(stream, state, sink);
    }

    fn close_if_done(&mut self, stream: u32, state: &mut State, sink: &mut impl Sink) {
        let Some(exchange) = self.exchanges.get(&stream) else { return };
        if exchange.answer.ended && exchange.request.ended && exchange.is_begun() {
            self.close(stream, None, state, sink);
        } else if exchange.answer.ended {
            self.waiting = true;
        }
    }

    /// A stream is over; `failure` says why it did not end in order.
    pub(super) fn close(
        &mut self,
        stream: u32,
        failure: Option<(ErrorType, u64)>,
        state: &mut State,
        sink: &mut impl Sink,
    ) {
        let Some(exchange) = self.exchanges.remove(&stream) else { return };
        if !exchange.is_begun() {
            state.stats.drop(Drop::Http2AnswerWithoutRequest);
            return;
        }
        let request = &mut state.open.get_mut(exchange.slot).request;
        request.end_ktime_ns = failure.map_or(exchange.last_ktime_ns, |(_, ktime_ns)| ktime_ns);
        let sizes = match &mut request.operation {
            Operation::Rpc(rpc) => {
                request.error_type = end_rpc(rpc, request.kind, request.start_ktime_ns, &exchange, failure);
                None
            }
            _ => {
                request.error_type = failure.map(|(error, _)| error);
                let http = request.http_mut();
                http.status_code = exchange.status_code;
                http.headers_incomplete |= exchange.answer_incomplete;
                http.request_body_size = exchange.request.size.filter(|_| exchange.request.ended);
                http.response_body_size = exchange.answer.size.filter(|_| exchange.answer.ended);
                Some((http.request_body_size, http.response_body_size))
            }
        };
        if let (Some((asked, answered)), None) = (sizes, failure) {
            if asked.is_none() {
                state.stats.drop(Drop::UnknownRequestSize);
            }
            if answered.is_none() {
                state.stats.drop(Drop::UnknownResponseSize);
            }
        }
        state.finish(exchange.slot, sink);
    }

    /// The answer says that the request is a call; its own content type was not known.
    fn make_rpc(exchange: &mut Exchange, state: &mut State) {
        if exchange.is_rpc {
            return;
        }
        exchange.is_rpc = true;
        if !exchange.is_begun() {
            return;
        }
        exchange.request.messages.lose();
        let request = &mut state.open.get_mut(exchange.slot).request;
        let Operation::Http(http) = &mut request.operation else { return };
        let mut rpc = RpcRequest { headers_incomplete: http.headers_incomplete, ..RpcRequest::default() };
        rpc.set_path(http.path.as_str().as_bytes());
        rpc.authority = std::mem::take(&mut http.authority);
        request.operation = Operation::Rpc(rpc);
    }
}

/// Fills an HTTP request; true for CONNECT.
fn fill_http(request: &mut Request, fields: &Fields) -> bool {
    let method = fields.get(Field::Method).unwrap_or_default();
    let is_connect = method == b"CONNECT";
    let http = request.http_mut();
    http.version = Version::Http2;
    http.headers_incomplete = fields.is_incomplete();
    http.set_method(method);
    for (field, value) in fields.iter() {
        let http = request.http_mut();
        match field {
            Field::Path => http.set_target(value, QueryRedaction::default()),
            // The target of a plain CONNECT.
            Field::Authority if is_connect && fields.get(Field::Path).is_none() => {
                http.set_target(value, QueryRedaction::default());
            }
            Field::Authority => http.set_authority(value),
            Field::Scheme => http.scheme = Scheme::from_bytes(value).unwrap_or_default(),
            _ => {
                if let Some(name) = field.observed_name() {
                    request.observe_header(name, value);
                }
            }
        }
    }
    is_connect
}

fn fill_rpc(request: &mut Request, fields: &Fields) {
    let rpc = request.rpc_mut();
    rpc.headers_incomplete = fields.is_incomplete();
    for (field, value) in fields.iter() {
        match field {
            Field::Path => request.rpc_mut().set_path(value),
            Field::Authority => request.rpc_mut().authority.set(value),
            _ => {
                if let Some(name) = field.observed_name() {
                    request.trace_headers.observe(name, value);
                }
            }
        }
    }
}

/// How a call ended; returns why it failed, where no status says it.
fn end_rpc(
    rpc: &mut RpcRequest,
    kind: SpanKind,
    start_ktime_ns: u64,
    exchange: &Exchange,
    failure: Option<(ErrorType, u64)>,
) -> Option<ErrorType> {
    rpc.headers_incomplete |= exchange.answer_incomplete;
    take_messages(&mut rpc.request, &exchange.request, exchange.request.ended);
    take_messages(&mut rpc.response, &exchange.answer, exchange.answer.ended);
    rpc.status_code = exchange.grpc_status;
    if rpc.status_code.is_none() {
        let elapsed_ns = |ktime_ns: u64| ktime_ns.saturating_sub(start_ktime_ns);
        match failure {
            Some((ErrorType::StreamReset(StreamError(CANCEL)), ktime_ns)) => {
                // Callers round the time up that they send: by a hundredth at most.
                let late = exchange.timeout_ns.is_some_and(|timeout_ns| {
                    elapsed_ns(ktime_ns).saturating_add(elapsed_ns(ktime_ns) / 64 + 1_000_000) >= timeout_ns
                });
                let code = if late { rpc_request::DEADLINE_EXCEEDED } else { rpc_request::CANCELLED };
                rpc.status_code = Some(code);
            }
            Some((ErrorType::StreamReset(code), _)) => {
                rpc.status_code = Some(rpc_request::status_of_reset(u32::from(code.0)));
            }
            Some(_) => {}
            None => {
                rpc.http_status_code = exchange.status_code.filter(|&code| code != 200);
                if let (Some(code), SpanKind::Client) = (rpc.http_status_code, kind) {
                    rpc.status_code = Some(rpc_request::status_of_http(code));
                }
            }
        }
    }
    failure.map(|(error, _)| error).filter(|_| rpc.status_code.is_none())
}

fn take_messages(messages: &mut Messages, half: &Half, ended: bool) {
    if let Some((count, size)) = half.messages.counted().filter(|_| ended) {
        (messages.count, messages.size) = (Some(count), Some(size));
    }
    if half.messages.is_compressed() {
        messages.compression.set(half.encoding.as_str().as_bytes());
    }
}

/// Why a stream failed, by the code with which it was reset.
fn reset(code: u32) -> ErrorType {
    ErrorType::StreamReset(StreamError(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn status_code(value: &[u8]) -> Option<u16> {
    let &[a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'] = value else { return None };
    Some(u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0'))
}
