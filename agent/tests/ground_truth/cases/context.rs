//! Who caused what: trace headers of four kinds, calls that a server makes, headers that it passes on.

use anyhow::Result;

use crate::client::{Conn, Request};
use crate::harness::{Case, Ctx, concurrently};
use crate::truth::{Answer, Exchange, Kind, Parent, Size};

pub const HEADERS: Case = Case { name: "trace headers", run: headers, not_on: |_| None };
pub const JOIN: Case = Case { name: "outbound calls", run: join, not_on: |_| None };
pub const PASS_THROUGH: Case = Case {
    name: "trace header passed through",
    run: pass_through,
    not_on: |server| (server != "nginx").then_some("passes no headers on"),
};

/// Servers whose threads serve one request at a time.
pub fn joins_by_thread(server: &str) -> bool {
    matches!(server, "python-http" | "python-wsgi" | "java")
}

fn headers(ctx: &Ctx) -> Result<()> {
    let mut rng = ctx.rng("");
    let mut conn = Conn::open(ctx.addr())?;
    for n in 0..12 {
        let (trace, span) = (rng.hex(32), rng.hex(16));
        let sampled = n % 2;
        let request = Request::get(format!("/hello/{}", ctx.token()));
        let (request, trace_state) = match n % 4 {
            0 => {
                let request = request.header("traceparent", format!("00-{trace}-{span}-0{sampled}"));
                (request.header("tracestate", "vendor=abc,other=1"), Some("vendor=abc,other=1".to_owned()))
            }
            1 => (request.header("b3", format!("{trace}-{span}-{sampled}")), None),
            2 => {
                let request =
                    request.header("X-B3-TraceId", trace.clone()).header("X-B3-SpanId", span.clone());
                (request.header("X-B3-Sampled", sampled.to_string()), None)
            }
            _ => (request.header("uber-trace-id", format!("{trace}:{span}:0:{sampled}")), None),
        };
        let mut exchange = conn.exchange(&request)?;
        exchange.parent = Parent::Remote { trace_id: trace, span_id: span, trace_state, flags: sampled };
        ctx.served(&exchange);
    }
    // What is no trace header starts a trace of its own.
    for bad in ["00-00000000000000000000000000000000-0123456789abcdef-01", "ff-x", "00-zz-yy-01"] {
        let request = Request::get(format!("/hello/{}", ctx.token())).header("traceparent", bad);
        ctx.served(&conn.exchange(&request)?);
    }
    Ok(())
}

fn join(ctx: &Ctx) -> Result<()> {
    concurrently(4, |_| {
        let mut conn = Conn::open(ctx.addr())?;
        for n in 0..6 {
            let (outer, inner) = (ctx.token(), ctx.token());
            let nginx = ctx.server.name == "nginx";
            let target = if nginx {
                format!("/call/hello/{inner}")
            } else {
                format!("/call/{outer}?url=http://{}/slow/{inner}?ms={}", ctx.helper, n % 3)
            };
            let exchange = conn.exchange(&Request::get(target))?;
            ctx.served(&exchange);
            if nginx {
                let mut truth = ctx.passed_on(&exchange);
                truth.parent = Parent::SpanOrNone(Kind::Server, inner);
                ctx.notes.add(truth);
                continue;
            }
            let mut call = Exchange::new("GET", &format!("/slow/{inner}?ms={}", n % 3), ctx.helper);
            (call.start_ns, call.end_ns) = (exchange.start_ns, exchange.end_ns);
            call.answer = Answer::Whole(200);
            call.response_body = Size::Exact(6);
            call.parent = if joins_by_thread(&ctx.server.name) {
                Parent::Span(Kind::Server, outer)
            } else {
                Parent::SpanOrNone(Kind::Server, outer)
            };
            ctx.notes.add(call.client(ctx.case, &ctx.notes.column, &ctx.server.pids));
        }
        Ok(())
    })
}

fn pass_through(ctx: &Ctx) -> Result<()> {
    let mut rng = ctx.rng("");
    for _ in 0..4 {
        let token = ctx.token();
        let (trace_id, span_id) = (rng.hex(32), rng.hex(16));
        let request = Request::get(format!("/call/hello/{token}"));
        let request = request.header("traceparent", format!("00-{trace_id}-{span_id}-01"));
        let mut exchange = Conn::open(ctx.addr())?.exchange(&request)?;
        exchange.parent = Parent::Remote { trace_id, span_id, trace_state: None, flags: 1 };
        ctx.served(&exchange);
        let mut truth = ctx.passed_on(&exchange);
        truth.parent = Parent::Span(Kind::Server, token);
        ctx.notes.add(truth);
    }
    Ok(())
}
