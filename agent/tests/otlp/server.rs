//! A server that answers as a script says, over plain HTTP/1.1, byte by byte: also what no HTTP library would send.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Instant;

use crate::support::DEADLINE;

/// A request as it came.
pub(crate) struct Got {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    pub(crate) at: Instant,
}

/// What is done with a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes; the connection stays.
    Bytes(Vec<u8>),
    /// These bytes, then the end of the connection.
    Last(Vec<u8>),
    /// This head, then zeros without end.
    Endless(&'static str),
    /// Nothing, for ever.
    Hang,
    /// A reset.
    Reset,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    requests: Receiver<Got>,
    /// Bytes of endless answers that were taken.
    pub(crate) taken: Receiver<usize>,
}

/// `HTTP/1.1 STATUS`, these headers, this body.
pub(crate) fn status(status: u16, headers: &str, body: &[u8]) -> Reply {
    let mut bytes =
        format!("HTTP/1.1 {status} x\r\n{headers}content-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Reply::Bytes(bytes)
}

pub(crate) fn ok() -> Reply {
    status(200, "content-type: application/x-protobuf\r\n", b"")
}

impl Server {
    /// Answers the first requests as told, all others with success.
    pub(crate) fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (sender, requests) = channel();
        let (tell, taken) = channel();
        let script = std::sync::Arc::new(std::sync::Mutex::new(script.into_iter()));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (script, sender, tell) = (std::sync::Arc::clone(&script), sender.clone(), tell.clone());
                thread::spawn(move || {
                    let next = || script.lock().unwrap().next().unwrap_or_else(ok);
                    serve(stream, &next, &sender, &tell);
                });
            }
        });
        Self { addr, requests, taken }
    }

    /// The next request.
    pub(crate) fn request(&self) -> Got {
        self.requests.recv_timeout(DEADLINE).expect("a request comes")
    }

    /// All requests that came so far.
    pub(crate) fn requests(&self) -> Vec<Got> {
        self.requests.try_iter().collect()
    }
}

fn serve(mut stream: TcpStream, next: &dyn Fn() -> Reply, sender: &Sender<Got>, tell: &Sender<usize>) {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        // One request: head, then as many bytes as it says.
        let (end, length) = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4) {
                let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
                let length: usize = length.unwrap_or(0);
                if bytes.len() >= end + length {
                    break (end, length);
                }
            }
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            }
        };
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let body = bytes[end..end + length].to_vec();
        bytes.drain(..end + length);
        let _ = sender.send(Got { head, body, at: Instant::now() });
        match next() {
            Reply::Bytes(answer) => {
                let _ = stream.write_all(&answer);
            }
            Reply::Last(answer) => {
                let _ = stream.write_all(&answer);
                return;
            }
            Reply::Endless(head) => {
                let _ = stream.write_all(head.as_bytes());
                let mut taken = 0;
                while let Ok(count) = stream.write(&[0; 4096]) {
                    taken += count;
                }
                let _ = tell.send(taken);
                return;
            }
            Reply::Hang => {
                // Until the other end gives up.
                while !matches!(stream.read(&mut buffer), Ok(0) | Err(_)) {}
                return;
            }
            Reply::Reset => {
                let linger = libc::linger { l_onoff: 1, l_linger: 0 };
                // SAFETY: the option's value lives through the call and has the size that is told.
                unsafe {
                    libc::setsockopt(
                        std::os::fd::AsRawFd::as_raw_fd(&stream),
                        libc::SOL_SOCKET,
                        libc::SO_LINGER,
                        (&raw const linger).cast(),
                        size_of::<libc::linger>() as u32,
                    )
                };
                return;
            }
        }
    }
}
