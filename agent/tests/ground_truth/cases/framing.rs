//! Where a message ends: lengths, chunks, informational answers, long and oddly written heads.

use anyhow::Result;

use crate::client::{Conn, Request};
use crate::harness::{Case, Ctx};
use crate::truth::Size;

const ANYWHERE: fn(&str) -> Option<&'static str> = |_| None;

pub const SIZES: Case = Case { name: "body sizes", run: sizes, not_on: ANYWHERE };
pub const CHUNKED_REQUESTS: Case = Case { name: "chunked requests", run: chunked_requests, not_on: ANYWHERE };
pub const CHUNKED_ANSWERS: Case = Case { name: "chunked answers", run: chunked_answers, not_on: ANYWHERE };
pub const EVENTS: Case = Case {
    name: "server-sent events",
    run: events,
    not_on: |server| (server == "nginx").then_some("nginx serves none"),
};
pub const BIG: Case = Case { name: "3 MiB answers", run: big, not_on: ANYWHERE };
pub const HUGE: Case = Case { name: "100 MiB answer", run: huge, not_on: ANYWHERE };
pub const CONTINUE: Case = Case { name: "100-continue", run: expect_continue, not_on: ANYWHERE };
pub const LOOKALIKE: Case = Case { name: "bodies that look like requests", run: lookalike, not_on: ANYWHERE };
pub const ONE_BYTE: Case = Case { name: "one byte per write", run: one_byte, not_on: ANYWHERE };
pub const LONG_HEADERS: Case = Case { name: "60 KiB of headers", run: long_headers, not_on: ANYWHERE };
pub const FOLDED: Case = Case { name: "folded headers", run: folded, not_on: ANYWHERE };

fn sizes(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for size in [0, 1, 2047, 2048, 2049, 16_384, 65_535, 65_536, 65_537, 300_000, 5, 900_000, 1] {
        ctx.served(&conn.exchange(&Request::post(format!("/echo/{}", ctx.token()), vec![b's'; size]))?);
    }
    Ok(())
}

fn chunked_requests(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for (size, chunk) in
        [(1, 1), (10, 3), (500, 100), (5000, 1000), (20_000, 7000), (200_000, 50_000), (3, 5)]
    {
        let mut request = Request::post(format!("/echo/{}", ctx.token()), vec![b'c'; size]);
        request.chunk = Some(chunk);
        // The JDK's server cannot read trailers.
        request.trailer = ctx.server.name != "java";
        ctx.served(&conn.exchange(&request)?);
    }
    Ok(())
}

fn chunked_answers(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for n in [1, 2, 5, 40, 200, 1, 3] {
        ctx.served(&conn.exchange(&Request::get(format!("/chunked/{}?n={n}", ctx.token())))?);
    }
    Ok(())
}

fn events(ctx: &Ctx) -> Result<()> {
    for n in [3, 10] {
        let mut conn = Conn::open(ctx.addr())?;
        let mut exchange = conn.exchange(&Request::get(format!("/sse/{}?n={n}", ctx.token())))?;
        exchange.min_ns = (n - 1) * 2_000_000;
        ctx.served(&exchange);
    }
    Ok(())
}

fn big(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for _ in 0..3 {
        ctx.served(&conn.exchange(&Request::get(format!("/big/{}?mb=3", ctx.token())))?);
        ctx.served(&conn.exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
    }
    Ok(())
}

fn huge(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    ctx.served(&conn.exchange(&Request::get(format!("/big/{}?mb=100", ctx.token())))?);
    ctx.served(&conn.exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
    Ok(())
}

fn expect_continue(ctx: &Ctx) -> Result<()> {
    for size in [10, 5000] {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::post(format!("/echo/{}", ctx.token()), vec![b'x'; size]);
        let request = request.header("Expect", "100-continue");
        let mut exchange = conn.begin(&request)?;
        let bytes = request.bytes(conn.peer);
        let (head, body) = bytes.split_at(bytes.len() - size);
        conn.write(head)?;
        conn.informational()?;
        conn.write(body)?;
        conn.finish(&mut exchange)?;
        ctx.served(&exchange);
    }
    Ok(())
}

fn lookalike(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for _ in 0..4 {
        let evil = "GET /evil HTTP/1.1\r\nHost: evil\r\n\r\nHTTP/1.1 500 Evil\r\nContent-Length: 0\r\n\r\n";
        let request = Request::post(format!("/echo/{}", ctx.token()), evil.into());
        let mut exchange = conn.begin(&request)?;
        let bytes = request.bytes(conn.peer);
        let (head, body) = bytes.split_at(bytes.len() - evil.len());
        conn.write(head)?;
        ctx.rng("").pace(3000);
        conn.write(body)?;
        conn.finish(&mut exchange)?;
        ctx.served(&exchange);
    }
    Ok(())
}

fn one_byte(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for _ in 0..3 {
        let request = Request::post(format!("/echo/{}", ctx.token()), b"abc".to_vec());
        let mut exchange = conn.begin(&request)?;
        for byte in request.bytes(conn.peer) {
            conn.write(&[byte])?;
        }
        conn.finish(&mut exchange)?;
        ctx.served(&exchange);
    }
    Ok(())
}

fn long_headers(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    // Twice on one connection: the second time it is an old one.
    for _ in 0..2 {
        let mut request = Request::get(format!("/hello/{}", ctx.token()));
        for n in 0..8 {
            request = request.header(&format!("X-Long-{n}"), ctx.rng("long").hex(7600));
        }
        let request = request.header("User-Agent", "behind 60 KiB");
        let mut exchange = conn.begin(&request)?;
        for piece in request.bytes(conn.peer).chunks(5000) {
            conn.write(piece)?;
        }
        let response = conn.finish(&mut exchange)?;
        exchange.response_body = if response.status == 200 { exchange.response_body } else { Size::Any };
        ctx.served(&exchange);
    }
    Ok(())
}

fn folded(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    let request = Request::get(format!("/hello/{}", ctx.token()))
        .header("X-Folded", "one\r\n two\r\n\tthree: four")
        .header("User-Agent", "behind a fold");
    let mut exchange = conn.exchange(&request)?;
    exchange.response_body = Size::Any;
    ctx.served(&exchange);
    Ok(())
}
