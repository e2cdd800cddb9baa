//! A load generator for HTTP/1.1 and Redis: keep-alive connections, one thread, closed loop or at a fixed rate.
//!
//! In: an address, a path, how many connections, for how long, at which rate. Out: requests answered and their latency.
//! At a fixed rate latency counts from the moment a request was due, so a server that falls behind cannot hide it.
//! Not a general client: HTTP answers must carry Content-Length, Redis' must be strings.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

const TIMER: u64 = u64::MAX;

/// How long answers may still come after the last request was sent.
const GRACE: Duration = Duration::from_secs(5);

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    /// HTTP/1.1, a Go and a Rust server
    Http,
    /// Redis, one command at a time on each connection
    Redis,
}

#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) protocol: Protocol,
    /// Path of an HTTP request, key of a GET.
    pub(crate) path: String,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
    /// Requests per second in all; none: as fast as they are answered.
    pub(crate) rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) requests: u64,
    pub(crate) per_second: f64,
    pub(crate) p50_ns: f64,
    pub(crate) p99_ns: f64,
}

/// Drives the load and waits for every answer: what was sent was answered, or it is an error.
pub(crate) fn drive(addr: SocketAddr, load: &Load) -> Result<Answered> {
    let mut generator = Generator::connect(addr, load)?;
    generator.run(load)?;
    let mut latencies = generator.latencies_ns;
    let requests = latencies.len() as u64;
    if requests == 0 {
        bail!("{addr} answered nothing");
    }
    let seconds = generator.last_answer.duration_since(generator.began).as_secs_f64();
    Ok(Answered {
        requests,
        per_second: requests as f64 / seconds,
        p50_ns: quantile(&mut latencies, 0.50),
        p99_ns: quantile(&mut latencies, 0.99),
    })
}

struct Connection {
    stream: TcpStream,
    answer: Vec<u8>,
    /// When the request in flight was due.
    due: Option<Instant>,
}

struct Generator {
    epoll: OwnedFd,
    timer: OwnedFd,
    connections: Vec<Connection>,
    idle: Vec<usize>,
    request: Vec<u8>,
    protocol: Protocol,
    latencies_ns: Vec<u32>,
    began: Instant,
    last_answer: Instant,
}

impl Generator {
    fn connect(addr: SocketAddr, load: &Load) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer =
            timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let stream = TcpStream::connect(addr).with_context(|| format!("connect to {addr}"))?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(&epoll, &stream, EventData::new_u64(index as u64), EventFlags::IN)?;
            connections.push(Connection { stream, answer: Vec::with_capacity(4096), due: None });
        }
        let request = match load.protocol {
            Protocol::Http => {
                format!("GET {} HTTP/1.1\r\nHost: {addr}\r\nUser-Agent: skep-bench\r\n\r\n", load.path)
            }
            Protocol::Redis => format!("*2\r\n$3\r\nGET\r\n${}\r\n{}\r\n", load.path.len(), load.path),
        };
        let now = Instant::now();
        Ok(Self {
            epoll,
            timer,
            idle: (0..load.connections).collect(),
            connections,
            request: request.into_bytes(),
            protocol: load.protocol,
            latencies_ns: Vec::with_capacity(1 << 20),
            began: now,
            last_answer: now,
        })
    }

    fn run(&mut self, load: &Load) -> Result<()> {
        self.began = Instant::now();
        let end = self.began + load.duration;
        let interval = load.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let mut next_due = self.began;
        let mut events = Vec::with_capacity(load.connections + 1);
        loop {
            let now = Instant::now();
            if now < end {
                next_due = self.send(now, next_due, interval)?;
            } else if self.idle.len() == self.connections.len() {
                return Ok(());
            } else if now > end + GRACE {
                bail!("{} requests were not answered", self.connections.len() - self.idle.len());
            }
            // With nothing idle the next answer wakes us, else the next request that is due, or the end.
            let wake = if now >= end {
                end + GRACE
            } else if interval.is_some() && !self.idle.is_empty() {
                next_due
            } else {
                end
            };
            self.set_timer(wake.saturating_duration_since(Instant::now()))?;
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("wait for answers"),
            }
            for event in &events {
                let data: Event = *event;
                let index = data.data.u64();
                if index != TIMER {
                    self.receive(usize::try_from(index)?)?;
                }
            }
        }
    }

    /// Sends what is due on idle connections; returns when the next one is due.
    fn send(&mut self, now: Instant, mut due: Instant, interval: Option<Duration>) -> Result<Instant> {
        while due <= now || interval.is_none() {
            let Some(index) = self.idle.pop() else {
                break;
            };
            let connection = &mut self.connections[index];
            connection.due = Some(if interval.is_some() { due } else { now });
            // A request is far smaller than a socket's buffer, and the buffer is empty: it goes out whole.
            connection.stream.write_all(&self.request).context("send a request")?;
            due += interval.unwrap_or_default();
        }
        Ok(due)
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let connection = &mut self.connections[index];
        let mut buffer = [0_u8; 16 * 1024];
        match connection.stream.read(&mut buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(count) => connection.answer.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(error).context("read an answer"),
        }
        let size = match self.protocol {
            Protocol::Http => answer_size(&connection.answer)?,
            Protocol::Redis => string_size(&connection.answer)?,
        };
        if size.is_some_and(|size| connection.answer.len() >= size) {
            connection.answer.clear();
            let now = Instant::now();
            let due = connection.due.take().context("an answer without a request")?;
            let latency = now.duration_since(due).as_nanos();
            self.latencies_ns.push(u32::try_from(latency).unwrap_or(u32::MAX));
            self.last_answer = now;
            self.idle.push(index);
        }
        Ok(())
    }

    fn set_timer(&self, after: Duration) -> Result<()> {
        // Zero would disarm it.
        let after = after.max(Duration::from_nanos(1));
        let value = Timespec::try_from(after)?;
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        timerfd_settime(
            &self.timer,
            TimerfdTimerFlags::empty(),
            &Itimerspec { it_interval: zero, it_value: value },
        )?;
        Ok(())
    }
}

/// The size of head and body together, once the head is there.
fn answer_size(answer: &[u8]) -> Result<Option<usize>> {
    const END: &[u8] = b"\r\n\r\n";
    let Some(head) = answer.windows(END.len()).position(|window| window == END) else {
        return Ok(None);
    };
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("the server answered {:?}", String::from_utf8_lossy(&answer[..answer.len().min(40)]));
    }
    for line in answer[..head].split(|&byte| byte == b'\n') {
        let name = b"content-length:";
        if line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) {
            let value = std::str::from_utf8(&line[name.len()..])?.trim();
            return Ok(Some(head + END.len() + value.parse::<usize>()?));
        }
    }
    bail!("the server's answer has no Content-Length")
}

/// The size of a string of Redis and of its length, once that is there.
fn string_size(answer: &[u8]) -> Result<Option<usize>> {
    let Some(end) = answer.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    match &answer[..end] {
        [b'$', len @ .., b'\r'] => Ok(Some(end + 1 + std::str::from_utf8(len)?.parse::<usize>()? + 2)),
        other => bail!("the server answered {:?}", String::from_utf8_lossy(other)),
    }
}

fn quantile(latencies_ns: &mut [u32], q: f64) -> f64 {
    let rank = ((latencies_ns.len() - 1) as f64 * q) as usize;
    f64::from(*latencies_ns.select_nth_unstable(rank).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        assert_eq!(answer_size(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        assert_eq!(answer_size(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhe").unwrap(), Some(44));
        assert!(answer_size(b"HTTP/1.1 500 No\r\ncontent-length: 6\r\n\r\nhe").is_err());
    }

    #[test]
    fn a_string_is_as_long_as_it_says() {
        assert_eq!(string_size(b"$1").unwrap(), None);
        assert_eq!(string_size(b"$12\r\nabc").unwrap(), Some(19));
        assert!(string_size(b"-ERR no\r\n").is_err() && string_size(b"$-1\r\n").is_err());
    }

    #[test]
    fn a_quantile_is_a_value_that_was_seen() {
        assert_eq!(quantile(&mut [5, 1, 3, 2, 4], 0.5), 3.0);
        assert_eq!(quantile(&mut [7], 0.99), 7.0);
    }
}
