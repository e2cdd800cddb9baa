//! How connections end, and how many there are: half close, aborts, short lives, thousands of idle ones.

use anyhow::Result;

use crate::client::{Conn, Request};
use crate::harness::{Case, Ctx, concurrently};
use crate::truth::{Answer, Size, unix_ns};

const ANYWHERE: fn(&str) -> Option<&'static str> = |_| None;
const NOT_A_PROXY: fn(&str) -> Option<&'static str> =
    |server| (server == "nginx").then_some("nginx passes it on and cancels both");

/// How long a server may take to notice that its client has left: it may be busy, or look only when it answers.
const SERVER_NOTICES_NS: u64 = 500_000_000;

pub const HALF_CLOSE: Case = Case { name: "half close", run: half_close, not_on: ANYWHERE };
pub const ABORT_WAITING: Case =
    Case { name: "client leaves while it waits", run: abort_waiting, not_on: NOT_A_PROXY };
pub const ABORT_READING: Case =
    Case { name: "client leaves within the answer", run: abort_reading, not_on: ANYWHERE };
pub const ABORT_SENDING: Case =
    Case { name: "client leaves within its request", run: abort_sending, not_on: NOT_A_PROXY };
pub const SHORT_LIVED: Case = Case { name: "short-lived connections", run: short_lived, not_on: ANYWHERE };
pub const IDLE: Case = Case {
    name: "5,000 idle connections",
    run: idle,
    not_on: |server| match server {
        "go" | "node" | "rust" | "nginx" => None,
        _ => Some("a thread each, or too slow"),
    },
};

fn half_close(ctx: &Ctx) -> Result<()> {
    for _ in 0..4 {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::get(format!("/hello/{}", ctx.token()));
        let mut exchange = conn.begin(&request)?;
        conn.write(&request.bytes(conn.peer))?;
        conn.half_close()?;
        if conn.finish(&mut exchange).is_err() {
            // Some servers take it for the client's end.
            exchange.end_ns = unix_ns();
            exchange.answer = Answer::Unread(200);
            exchange.response_body = Size::Any;
        }
        ctx.served(&exchange);
    }
    Ok(())
}

fn abort_waiting(ctx: &Ctx) -> Result<()> {
    concurrently(4, |n| {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::get(format!("/slow/{}?ms=60", ctx.token()));
        let mut exchange = conn.begin(&request)?;
        conn.write(&request.bytes(conn.peer))?;
        // Long enough for the server to have read it, not long enough for an answer.
        std::thread::sleep(std::time::Duration::from_millis(25));
        if n % 2 == 0 {
            conn.reset();
        } else {
            drop(conn);
        }
        exchange.answer = Answer::Unread(200);
        exchange.response_body = Size::Any;
        exchange.end_ns = unix_ns() + SERVER_NOTICES_NS;
        ctx.served(&exchange);
        Ok(())
    })
}

fn abort_reading(ctx: &Ctx) -> Result<()> {
    for _ in 0..2 {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::get(format!("/big/{}?mb=100", ctx.token()));
        let mut exchange = conn.begin(&request)?;
        conn.write(&request.bytes(conn.peer))?;
        conn.take(1000)?;
        conn.reset();
        exchange.answer = Answer::Cut(200);
        exchange.response_body = Size::Any;
        exchange.end_ns = unix_ns() + SERVER_NOTICES_NS;
        ctx.served(&exchange);
    }
    Ok(())
}

fn abort_sending(ctx: &Ctx) -> Result<()> {
    for n in 0..3 {
        let mut conn = Conn::open(ctx.addr())?;
        let request = Request::post(format!("/echo/{}", ctx.token()), vec![b'a'; 5000]);
        let mut exchange = conn.begin(&request)?;
        let bytes = request.bytes(conn.peer);
        conn.write(&bytes[..bytes.len() - 1000])?;
        std::thread::sleep(std::time::Duration::from_millis(25));
        if n == 0 {
            conn.reset();
        } else {
            // Whatever the server still says is said to nobody.
            conn.half_close()?;
            let answer = conn.response("POST");
            exchange.response_body = Size::Any;
            if let Ok(response) = answer {
                exchange.answer = Answer::Hasty(response.status);
            }
        }
        exchange.request_body = Size::Any;
        exchange.end_ns = unix_ns() + SERVER_NOTICES_NS;
        ctx.served(&exchange);
    }
    Ok(())
}

fn short_lived(ctx: &Ctx) -> Result<()> {
    concurrently(2, |_| {
        for _ in 0..60 {
            let mut conn = Conn::open(ctx.addr())?;
            ctx.served(&conn.exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
        }
        Ok(())
    })
}

fn idle(ctx: &Ctx) -> Result<()> {
    let mut all = Vec::new();
    for n in 0..5000 {
        let mut conn = Conn::open(ctx.addr())?;
        if n % 5 == 0 {
            ctx.served(&conn.exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
        }
        all.push(conn);
    }
    let mut rng = ctx.rng("");
    for _ in 0..200 {
        let chosen = rng.below(all.len());
        ctx.served(&all[chosen].exchange(&Request::get(format!("/hello/{}", ctx.token())))?);
    }
    Ok(())
}
