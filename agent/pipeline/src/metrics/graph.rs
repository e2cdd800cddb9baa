//! Who calls whom: pairs the client's and the server's span of a request, as Tempo's service graphs do.
//!
//! In: finished spans. Out: edges. A span waits a bounded time in a bounded table for its other end; a client span
//! whose other end is not seen becomes an edge to a virtual node named after the server, a server span without a
//! parent one from the virtual node `user`.

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::metrics::family::{duration_s, server_name};
use crate::request::{OperationKind, SpanKind};
use crate::span::{Span, Status};

/// How long an end is waited for.
const WAIT_NS: u64 = 10_000_000_000;
/// Ends that wait at a time.
const MAX_WAITING: usize = 4096;

/// Trace and span id of the client's span.
type EdgeId = ([u8; 16], [u8; 8]);

/// A request between two services.
#[derive(Debug)]
pub(crate) struct Edge<'a, R> {
    pub(crate) client: Node<'a, R>,
    pub(crate) server: Node<'a, R>,
    /// `connection_type`; empty for two services that are both seen.
    pub(crate) connection_type: &'static str,
    pub(crate) failed: bool,
    /// Seen by the server, and by the client.
    pub(crate) durations_s: [f64; 2],
}

/// One end of an edge.
#[derive(Debug)]
pub(crate) enum Node<'a, R> {
    /// A watched process.
    Seen(&'a R),
    /// Somebody else.
    Named(&'a str),
}

/// Ends that wait for their other end.
#[derive(Debug)]
pub(crate) struct Graph<R> {
    waiting: FxHashMap<EdgeId, Half<R>>,
    order: VecDeque<(u64, EdgeId)>,
    name: String,
    /// Ends whose other end never came and that make no edge.
    pub(crate) unpaired: u64,
}

#[derive(Debug)]
struct Half<R> {
    resource: R,
    is_client: bool,
    /// The server as the client named it.
    server: Box<str>,
    duration_s: f64,
    failed: bool,
}

impl<R: Clone> Graph<R> {
    pub(crate) fn new() -> Self {
        Self { waiting: FxHashMap::default(), order: VecDeque::new(), name: String::new(), unpaired: 0 }
    }

    /// Takes a span of a watched process.
    pub(crate) fn observe(
        &mut self,
        span: &Span<'_>,
        resource: &R,
        now_ktime_ns: u64,
        mut edge: impl FnMut(Edge<'_, R>),
    ) {
        let duration_s = duration_s(span);
        let failed = span.status().0 == Status::Error;
        let id = match (span.kind(), span.request.operation.kind()) {
            (_, OperationKind::Dns) => return,
            (SpanKind::Client, OperationKind::Db) => {
                server_name(span, &mut self.name);
                return edge(Edge {
                    client: Node::Seen(resource),
                    server: Node::Named(&self.name),
                    connection_type: "database",
                    failed,
                    durations_s: [duration_s; 2],
                });
            }
            (SpanKind::Client, _) => (span.trace_id, span.span_id),
            (SpanKind::Server, _) => match span.parent_span_id {
                Some(parent) => (span.trace_id, parent),
                None => {
                    return edge(Edge {
                        client: Node::Named("user"),
                        server: Node::Seen(resource),
                        connection_type: "virtual_node",
                        failed,
                        durations_s: [duration_s; 2],
                    });
                }
            },
            _ => return,
        };
        let is_client = span.kind() == SpanKind::Client;
        if let Some(other) = self.waiting.get(&id).filter(|other| other.is_client != is_client) {
            let (client, server) =
                if is_client { (resource, &other.resource) } else { (&other.resource, resource) };
            let durations_s =
                if is_client { [other.duration_s, duration_s] } else { [duration_s, other.duration_s] };
            edge(Edge {
                client: Node::Seen(client),
                server: Node::Seen(server),
                connection_type: "",
                failed: failed || other.failed,
                durations_s,
            });
            self.waiting.remove(&id);
            return;
        }
        self.name.clear();
        if is_client {
            server_name(span, &mut self.name);
        }
        while self.order.len() >= MAX_WAITING {
            self.give_up_oldest(&mut edge);
        }
        let half = Half {
            resource: resource.clone(),
            is_client,
            server: self.name.as_str().into(),
            duration_s,
            failed,
        };
        if let Some(before) = self.waiting.insert(id, half) {
            // Two spans of the same end with one id, or one parent's second child.
            self.give_up(&before, &mut edge);
        }
        self.order.push_back((now_ktime_ns.saturating_add(WAIT_NS), id));
    }

    /// Ends the wait of those that waited long enough.
    pub(crate) fn expire(&mut self, now_ktime_ns: u64, mut edge: impl FnMut(Edge<'_, R>)) {
        while self.order.front().is_some_and(|&(due, _)| due <= now_ktime_ns) {
            self.give_up_oldest(&mut edge);
        }
    }

    fn give_up_oldest(&mut self, edge: &mut impl FnMut(Edge<'_, R>)) {
        let Some((_, id)) = self.order.pop_front() else { return };
        if let Some(half) = self.waiting.remove(&id) {
            self.give_up(&half, edge);
        }
    }

    fn give_up(&mut self, half: &Half<R>, edge: &mut impl FnMut(Edge<'_, R>)) {
        if !half.is_client || half.server.is_empty() {
            self.unpaired += 1;
            return;
        }
        edge(Edge {
            client: Node::Seen(&half.resource),
            server: Node::Named(&half.server),
            connection_type: "virtual_node",
            failed: half.failed,
            durations_s: [half.duration_s; 2],
        });
    }
}
