//! Ordinary traffic: keep-alive, close, HTTP/1.0, pipelining, statuses, methods and targets.

use anyhow::{Result, ensure};

use crate::client::{Conn, Request};
use crate::harness::{Case, Ctx, Rng, concurrently};

const ANYWHERE: fn(&str) -> Option<&'static str> = |_| None;

pub const KEEP_ALIVE: Case = Case { name: "keep-alive", run: keep_alive, not_on: ANYWHERE };
pub const CLOSE: Case = Case { name: "close", run: close, not_on: ANYWHERE };
pub const OLD_VERSION: Case = Case { name: "http/1.0", run: old_version, not_on: ANYWHERE };
pub const PIPELINING: Case = Case {
    name: "pipelining",
    run: pipelining,
    not_on: |server| (server == "python-wsgi").then_some("closes after each answer"),
};
pub const STATUSES: Case = Case { name: "statuses", run: statuses, not_on: ANYWHERE };
pub const HEAD: Case = Case { name: "head", run: head, not_on: ANYWHERE };
pub const METHODS: Case = Case { name: "methods", run: methods, not_on: ANYWHERE };
pub const TARGETS: Case = Case { name: "targets", run: targets, not_on: ANYWHERE };

/// A random request that every target answers in its own way, and the time that it takes at least.
pub fn any_request(ctx: &Ctx, rng: &mut Rng) -> (Request, u64) {
    let token = ctx.token();
    let mut min_ns = 0;
    let mut request = match rng.below(7) {
        0 => Request::get(format!("/hello/{token}")),
        1 => Request::get(format!("/users/{token}?secret={}&flag", rng.hex(12))),
        2 => Request::get(format!("/status/{}/{token}", rng.pick(&[204, 304, 404, 500]))),
        3 => {
            let size = *rng.pick(&[1, 17, 300, 4000, 20_000]);
            Request::post(format!("/echo/{token}"), vec![b'e'; 1 + rng.below(size)])
        }
        4 => Request::get(format!("/chunked/{token}?n={}", 1 + rng.below(5))),
        5 => {
            let ms = 1 + rng.below(8);
            // Node counts from the beginning of the turn of its loop, in whole milliseconds.
            min_ns = (ms as u64).saturating_sub(1) * 1_000_000;
            Request::get(format!("/slow/{token}?ms={ms}"))
        }
        _ => Request::get(format!("/hello/{token}?q={}", rng.hex(40))),
    };
    if rng.below(4) > 0 {
        request = request.header("User-Agent", format!("ground-truth/{} ({})", rng.below(9), rng.hex(8)));
    }
    for n in 0..rng.below(6) {
        let digits = rng.below(400);
        request = request.header(&format!("X-Pad-{n}"), rng.hex(digits));
    }
    if rng.below(5) == 0 {
        request = request.header("Authorization", "Bearer secret").header("Cookie", "session=secret");
    }
    (request, min_ns)
}

fn keep_alive(ctx: &Ctx) -> Result<()> {
    concurrently(4, |thread| {
        let mut rng = ctx.rng(&thread.to_string());
        let mut conn = Conn::open(ctx.addr())?;
        for _ in 0..25 {
            let (request, min_ns) = any_request(ctx, &mut rng);
            let mut exchange = conn.exchange(&request)?;
            exchange.min_ns = min_ns;
            ctx.served(&exchange);
            rng.pace(2000);
        }
        Ok(())
    })
}

fn close(ctx: &Ctx) -> Result<()> {
    let mut rng = ctx.rng("");
    for _ in 0..20 {
        let (request, _) = any_request(ctx, &mut rng);
        let request = request.header("Connection", "close");
        let mut conn = Conn::open(ctx.addr())?;
        ctx.served(&conn.exchange(&request)?);
        ensure!(conn.until_end()?.is_empty(), "bytes behind the answer");
    }
    Ok(())
}

fn old_version(ctx: &Ctx) -> Result<()> {
    for n in 0..10 {
        let mut request = Request::get(format!("/hello/{}", ctx.token()));
        request.version = "1.0";
        request.host = n % 2 == 0;
        let mut conn = Conn::open(ctx.addr())?;
        let mut exchange = conn.exchange(&request)?;
        exchange.version = "1.0";
        ctx.served(&exchange);
    }
    Ok(())
}

fn pipelining(ctx: &Ctx) -> Result<()> {
    concurrently(3, |thread| {
        let mut rng = ctx.rng(&thread.to_string());
        let mut conn = Conn::open(ctx.addr())?;
        for _ in 0..3 {
            let requests: Vec<Request> = (0..8)
                .map(|n| match n % 3 {
                    0 => Request::post(format!("/echo/{}", ctx.token()), vec![b'p'; 1 + rng.below(500)]),
                    _ => Request::get(format!("/hello/{}", ctx.token())),
                })
                .collect();
            let mut exchanges: Vec<_> =
                requests.iter().map(|request| request.exchange(conn.local, conn.peer)).collect();
            let bytes: Vec<u8> = requests.iter().flat_map(|request| request.bytes(conn.peer)).collect();
            let cut = rng.below(bytes.len());
            conn.write(&bytes[..cut])?;
            conn.write(&bytes[cut..])?;
            for exchange in &mut exchanges {
                conn.finish(exchange)?;
                ctx.served(exchange);
            }
        }
        Ok(())
    })
}

fn statuses(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for code in [204, 304, 404, 500, 204, 204, 404] {
        let exchange = conn.exchange(&Request::get(format!("/status/{code}/{}", ctx.token())))?;
        ctx.served(&exchange);
    }
    Ok(())
}

fn head(ctx: &Ctx) -> Result<()> {
    let mut conn = Conn::open(ctx.addr())?;
    for n in 0..6 {
        let method = if n % 2 == 0 { "HEAD" } else { "GET" };
        ctx.served(&conn.exchange(&Request::new(method, format!("/hello/{}", ctx.token())))?);
    }
    Ok(())
}

fn methods(ctx: &Ctx) -> Result<()> {
    for method in ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY", "PROPFIND", "BREW", "get"] {
        let mut conn = Conn::open(ctx.addr())?;
        let mut exchange = conn.exchange(&Request::new(method, format!("/hello/{}", ctx.token())))?;
        // What a server says to a method that it does not know is its own affair.
        exchange.response_body = crate::truth::Size::Any;
        ctx.served(&exchange);
    }
    Ok(())
}

fn targets(ctx: &Ctx) -> Result<()> {
    let addr = ctx.addr();
    let paths = [
        format!("http://{addr}/hello/{}", ctx.token()),
        format!("/hello/{}?a=b%20c&d=&e", ctx.token()),
        format!("/hello/{}%2Fx/%C3%A4", ctx.token()),
        format!("//hello//{}", ctx.token()),
    ];
    for target in paths {
        let mut conn = Conn::open(addr)?;
        ctx.served(&conn.exchange(&Request::get(target))?);
    }
    let mut conn = Conn::open(addr)?;
    ctx.served(&conn.exchange(&Request::new("OPTIONS", "*"))?);
    Ok(())
}
