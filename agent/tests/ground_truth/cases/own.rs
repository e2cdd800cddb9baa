//! Cases for the test's own servers: system calls, process models, and answers that no well-behaved server gives.

use std::net::SocketAddr;

use anyhow::{Result, ensure};

use crate::client::{Conn, Request};
use crate::harness::{Case, Ctx, Notes, concurrently};
use crate::own::io::FAMILIES;
use crate::servers::Server;
use crate::truth::{Answer, Size, unix_ns};

const ALWAYS: fn(&str) -> Option<&'static str> = |_| None;

/// What only an own server does.
pub const ODD_SERVER: &[&Case] = &[
    &Case { name: "103 early hints", run: hints, not_on: ALWAYS },
    &Case { name: "trailers and extensions", run: trailers, not_on: ALWAYS },
    &Case { name: "body ends with the connection", run: until_close, not_on: ALWAYS },
    &Case { name: "answer before the body was read", run: early, not_on: ALWAYS },
    &Case { name: "answers that look like answers", run: lookalike, not_on: ALWAYS },
    &Case { name: "upgrade", run: upgrade, not_on: ALWAYS },
    &Case { name: "connect", run: connect, not_on: ALWAYS },
    &Case { name: "server leaves within the answer", run: cut, not_on: ALWAYS },
    &Case { name: "server leaves without an answer", run: dropped, not_on: ALWAYS },
    &Case { name: "not HTTP", run: not_http, not_on: ALWAYS },
    &Case { name: "150 MiB upload", run: upload, not_on: ALWAYS },
    &Case { name: "300 pipelined", run: many_pipelined, not_on: ALWAYS },
];

/// Requests that show how a family of calls moves bytes.
pub fn family(ctx: &Ctx) -> Result<()> {
    concurrently(2, |thread| {
        let mut rng = ctx.rng(&thread.to_string());
        for _ in 0..3 {
            let mut conn = Conn::open(ctx.addr())?;
            for n in 0..6 {
                let token = ctx.token();
                let size = 1 + rng.below(3000);
                let request = match n {
                    0 => Request::get(format!("/hello/{token}")).header("User-Agent", rng.hex(300)),
                    1 => Request::post(format!("/echo/{token}"), vec![b'e'; size]),
                    2 => Request::post(format!("/swallow/{token}"), vec![b's'; size * 10]),
                    3 => Request::post(format!("/pour/{token}"), vec![b'p'; size * 3]),
                    4 => Request::get(format!("/chunked/{token}?n=3&size=50")),
                    _ => Request::get(format!("/users/{token}")),
                };
                let mut exchange = conn.exchange(&request)?;
                if n == 4 && (ctx.case.ends_with("sendfile") || ctx.case.ends_with("splice")) {
                    // The chunks' sizes went by without being seen.
                    exchange.response_body = Size::ExactOrAbsent(150);
                }
                ctx.served(&exchange);
            }
        }
        if FAMILIES.iter().any(|(name, _)| ctx.case.ends_with(name)) && !ctx.case.ends_with("one-byte") {
            let mut conn = Conn::open(ctx.addr())?;
            ctx.served(&conn.exchange(&Request::get(format!("/big/{}?mb=2", ctx.token())))?);
            ctx.served(&conn.exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
        }
        Ok(())
    })
}

/// Short requests on many connections: which process serves which is the model's affair.
pub fn model(ctx: &Ctx) -> Result<()> {
    let answered = !ctx.case.ends_with("close-on-exec");
    // A server of one connection at a time would make a second client wait for the first.
    let per_conn = if ctx.case.ends_with("fork-between") { 1 } else { 3 };
    concurrently(3, |thread| {
        let mut rng = ctx.rng(&thread.to_string());
        for _ in 0..6 {
            let mut conn = Conn::open(ctx.addr())?;
            for _ in 0..per_conn {
                let request = Request::get(format!("/hello/{}", ctx.token()));
                let mut exchange = conn.begin(&request)?;
                conn.write(&request.bytes(conn.peer))?;
                if answered {
                    conn.finish(&mut exchange)?;
                } else {
                    ensure!(conn.until_end().unwrap_or_default().is_empty(), "an answer from nobody");
                    exchange.end_ns = unix_ns();
                }
                ctx.notes.add(exchange.server(ctx.case, &ctx.notes.column, &[]));
                if !answered {
                    break;
                }
                rng.pace(500);
            }
        }
        Ok(())
    })
}

fn hints(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for _ in 0..3 {
        ctx.served(&conn.exchange(&Request::get(format!("/hints/{}", ctx.token())))?);
    }
    Ok(())
}

fn trailers(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for n in [1, 3, 10] {
        ctx.served(&conn.exchange(&Request::get(format!("/trailers/{}?n={n}", ctx.token())))?);
    }
    Ok(())
}

fn until_close(ctx: &Ctx) -> Result<()> {
    for n in [0, 10, 5000, 3_000_000] {
        let mut conn = Conn::open(ctx.addr())?;
        ctx.served(&conn.exchange(&Request::get(format!("/until-close/{}?n={n}", ctx.token())))?);
    }
    Ok(())
}

fn early(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for size in [100, 50_000, 7] {
        let request = Request::post(format!("/early/{}", ctx.token()), vec![b'b'; size]);
        let mut exchange = conn.begin(&request)?;
        let bytes = request.bytes(conn.peer);
        let (head, body) = bytes.split_at(bytes.len() - size);
        conn.write(head)?;
        conn.finish(&mut exchange)?;
        conn.write(body)?;
        exchange.end_ns = unix_ns();
        ctx.served(&exchange);
        ctx.served(&conn.exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
    }
    Ok(())
}

fn lookalike(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for _ in 0..3 {
        ctx.served(&conn.exchange(&Request::get(format!("/lookalike/{}", ctx.token())))?);
    }
    Ok(())
}

fn upgrade(ctx: &Ctx) -> Result<()> {
    for _ in 0..2 {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::get(format!("/switch/{}", ctx.token()));
        let request = request.header("Connection", "Upgrade").header("Upgrade", "websocket");
        let exchange = conn.exchange(&request)?;
        ctx.served(&exchange);
        // From here on nothing is HTTP, whatever it looks like.
        for bytes in ["\u{1}frame", "GET /evil HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
            conn.write(bytes.as_bytes())?;
            ensure!(conn.take(bytes.len())? == bytes.as_bytes(), "the tunnel changes bytes");
        }
    }
    Ok(())
}

fn connect(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    let mut request = Request::new("CONNECT", "example.test:443");
    request.host = false;
    let exchange = conn.exchange(&request.header("Host", "example.test:443"))?;
    ctx.served(&exchange);
    let bytes = b"GET /evil HTTP/1.1\r\nHost: x\r\n\r\n";
    conn.write(bytes)?;
    ensure!(conn.take(bytes.len())? == bytes, "the tunnel changes bytes");
    Ok(())
}

fn cut(ctx: &Ctx) -> Result<()> {
    for after in [0, 1, 999] {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::get(format!("/cut/{}?after={after}", ctx.token()));
        let mut exchange = conn.begin(&request)?;
        conn.write(&request.bytes(conn.peer))?;
        ensure!(conn.finish(&mut exchange).is_err(), "a whole answer");
        exchange.end_ns = unix_ns();
        exchange.answer = Answer::Cut(200);
        exchange.response_body = Size::Any;
        ctx.served(&exchange);
    }
    Ok(())
}

fn dropped(ctx: &Ctx) -> Result<()> {
    for _ in 0..3 {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::get(format!("/drop/{}", ctx.token()));
        let mut exchange = conn.begin(&request)?;
        conn.write(&request.bytes(conn.peer))?;
        ensure!(conn.until_end().unwrap_or_default().is_empty(), "an answer");
        exchange.end_ns = unix_ns();
        ctx.served(&exchange);
    }
    Ok(())
}

/// Each request ends the child that serves it.
pub fn death(ctx: &Ctx) -> Result<()> {
    for between in [false, true, false] {
        let mut conn = Conn::open(ctx.addr())?;
        let path = if between { "die-between" } else { "die" };
        let request = Request::get(format!("/{path}/{}", ctx.token()));
        let mut exchange = conn.begin(&request)?;
        conn.write(&request.bytes(conn.peer))?;
        let _ = conn.until_end();
        exchange.end_ns = unix_ns();
        exchange.answer = if between { Answer::Cut(200) } else { Answer::None };
        exchange.response_body = Size::Any;
        ctx.notes.add(exchange.server(ctx.case, &ctx.notes.column, &[]));
    }
    Ok(())
}

fn not_http(ctx: &Ctx) -> Result<()> {
    for bytes in
        ["SSH-2.0-test\r\n\r\n\r\n", "*1\r\n$4\r\nPING\r\n\r\n\r\n", "\u{0}\u{0}\u{0}\u{8}abc\r\n\r\n"]
    {
        let mut conn = Conn::open(ctx.addr())?;
        conn.write(bytes.as_bytes())?;
        conn.half_close()?;
        let _ = conn.until_end();
    }
    Ok(())
}

fn upload(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    let size = 150 << 20;
    let mut request = Request::new("POST", format!("/swallow/{}", ctx.token()));
    request = request.header("Content-Length", size.to_string());
    request.host = true;
    let mut exchange = conn.begin(&request)?;
    let head = String::from_utf8(request.bytes(conn.peer))?.replace("Content-Length: 0\r\n", "");
    conn.write(head.as_bytes())?;
    let block = vec![b'u'; 1 << 20];
    for _ in 0..150 {
        conn.write(&block)?;
    }
    conn.finish(&mut exchange)?;
    exchange.request_body = Size::Exact(size);
    ctx.served(&exchange);
    ctx.served(&conn.exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
    Ok(())
}

fn many_pipelined(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    let requests: Vec<Request> = (0..300).map(|_| Request::get(format!("/hello/{}", ctx.token()))).collect();
    let mut exchanges: Vec<_> =
        requests.iter().map(|request| request.exchange(conn.local, conn.peer)).collect();
    let bytes: Vec<u8> = requests.iter().flat_map(|request| request.bytes(conn.peer)).collect();
    conn.write(&bytes)?;
    for exchange in &mut exchanges {
        conn.finish(exchange)?;
        ctx.served(exchange);
    }
    Ok(())
}

/// Runs `work` as a case of its own against one of the own servers.
pub fn run_one(
    notes: &Notes,
    name: &'static str,
    server: &Server,
    helper: SocketAddr,
    work: fn(&Ctx) -> Result<()>,
) {
    let ctx = Ctx { notes, case: name, server, helper };
    notes.run.with(name, &notes.column, |_| {});
    if let Err(error) = work(&ctx) {
        notes.run.wrong(name, &notes.column, format!("the case itself: {error:#}"));
    }
}
