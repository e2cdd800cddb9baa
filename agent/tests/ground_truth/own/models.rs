//! Which process and which thread serves a connection.
//!
//! In: a listening socket. Out: never returns but on error; each model hands connections on in its own way.

use std::io::Result;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;
use std::str::FromStr;
use std::sync::mpsc;

use super::calls::{checked, checked_int, close};
use super::io::{Family, Wire};
use super::{http, io};

/// A process model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// Accepted by one thread, served by another.
    Threads,
    /// One connection after the other: each has the same descriptor number.
    Single,
    /// One child for each connection.
    Fork,
    /// The parent reads the request, a child answers it.
    ForkBetween,
    /// Children that accept from a socket they share.
    Prefork,
    /// One thread reads the request, another writes the answer.
    HandOver,
    /// Passed to a worker process by SCM_RIGHTS.
    Pass,
    /// Inherited by a program that was executed.
    Exec,
    /// Closed by exec, unanswered.
    CloseOnExec,
    /// Closed by close_range, in order.
    CloseRange,
    /// A worker thread that accepts on a socket made before.
    Shutdown,
}

/// Every model with the name that the table shows.
pub const MODELS: &[(&str, Model)] = &[
    ("threads", Model::Threads),
    ("single", Model::Single),
    ("fork", Model::Fork),
    ("fork-between", Model::ForkBetween),
    ("prefork", Model::Prefork),
    ("hand-over", Model::HandOver),
    ("scm-rights", Model::Pass),
    ("exec", Model::Exec),
    ("close-on-exec", Model::CloseOnExec),
    ("close-range", Model::CloseRange),
    ("shutdown", Model::Shutdown),
];

impl FromStr for Model {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let found = MODELS.iter().find(|(known, _)| *known == name);
        found.map(|(_, model)| *model).ok_or_else(|| anyhow::anyhow!("no model {name}"))
    }
}

/// Accepts and serves for ever.
pub fn serve(model: Model, family: Family, listener: RawFd) -> anyhow::Result<()> {
    if matches!(model, Model::Fork | Model::ForkBetween | Model::Exec | Model::CloseOnExec) {
        // SAFETY: children are not waited for.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    }
    let pass_to = if model == Model::Pass { Some(start_worker(family)?) } else { None };
    if model == Model::Prefork {
        for _ in 0..3 {
            if fork()? == 0 {
                // A worker ends with its master. SAFETY: the call takes no pointer.
                unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
                break;
            }
        }
    }
    loop {
        // Close-on-exec unless a program that is executed shall have it.
        let flags = if model == Model::Exec { 0 } else { libc::SOCK_CLOEXEC };
        // SAFETY: the peer's address is not asked for.
        let fd = unsafe { libc::accept4(listener, ptr::null_mut(), ptr::null_mut(), flags) };
        let Ok(fd) = checked_int(fd) else { continue };
        match model {
            Model::Threads => {
                std::thread::Builder::new().stack_size(256 << 10).spawn(move || {
                    let mut wire = Wire::new(fd, family);
                    http::serve(&mut wire);
                    finish(wire);
                })?;
            }
            Model::Single | Model::Prefork => {
                let mut wire = Wire::new(fd, family);
                http::serve(&mut wire);
                finish(wire);
            }
            Model::Fork => {
                if fork()? == 0 {
                    close(listener);
                    let mut wire = Wire::new(fd, family);
                    http::serve(&mut wire);
                    finish(wire);
                    std::process::exit(0);
                }
                close(fd);
            }
            Model::ForkBetween => {
                let mut parent = false;
                let mut wire = Wire::new(fd, family);
                http::serve_one(&mut wire, || parent = fork().is_ok_and(|pid| pid != 0) && leave(fd));
                if !parent {
                    finish(wire);
                    std::process::exit(0);
                }
            }
            Model::HandOver => {
                std::thread::spawn(move || hand_over(Wire::new(fd, family)));
            }
            Model::Pass => {
                if let Some(worker) = pass_to {
                    send_fd(worker, fd)?;
                }
                close(fd);
            }
            Model::Exec | Model::CloseOnExec => {
                if fork()? == 0 {
                    if model == Model::CloseOnExec {
                        let mut head = [0; 4096];
                        let _ = Wire::new(fd, family).recv(&mut head);
                    }
                    let name =
                        io::FAMILIES.iter().find(|(_, known)| *known == family).map_or("", |(name, _)| name);
                    let program = if model == Model::Exec { "/proc/self/exe" } else { "/bin/true" };
                    let error = Command::new(program).args(["serve-fd", &fd.to_string(), name]).exec();
                    eprintln!("exec {program}: {error}");
                    std::process::exit(1);
                }
                close(fd);
            }
            Model::CloseRange => {
                let mut wire = Wire::new(fd, family);
                http::serve(&mut wire);
                let fd = u32::try_from(fd)?;
                // SAFETY: no memory is passed.
                unsafe { libc::syscall(libc::SYS_close_range, fd, fd, 0) };
            }
            Model::Shutdown => {
                let mut wire = Wire::new(fd, family);
                http::serve(&mut wire);
                // SAFETY: no memory is passed.
                unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
                wire.close();
            }
        }
    }
}

/// The parent of a child that will answer: it lets its descriptor go and goes on accepting.
fn leave(fd: RawFd) -> bool {
    close(fd);
    // What follows in `serve_one` fails on the closed descriptor at once.
    true
}

fn finish(wire: Wire) {
    wire.close();
}

/// The thread that read a request never writes; the next request comes only after the answer.
fn hand_over(mut wire: Wire) {
    let (requests, to_answer) = mpsc::channel();
    let (answered, ready) = mpsc::channel::<()>();
    let output = wire.output;
    let writer = std::thread::spawn(move || {
        for name in to_answer {
            let body = format!("hello {name}\n");
            let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            // SAFETY: `whole` is as long as it says.
            let _ = checked(unsafe { libc::write(output, whole.as_ptr().cast(), whole.len()) });
            let _ = answered.send(());
        }
    });
    let mut pending = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = wire.recv(&mut buffer) {
        if n == 0 {
            break;
        }
        pending.extend_from_slice(&buffer[..n]);
        while let Some(at) = pending.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&pending[..at]).into_owned();
            pending.drain(..at + 4);
            let path = head.split(' ').nth(1).unwrap_or("");
            let _ = requests.send(path.rsplit('/').next().unwrap_or("").to_owned());
            let _ = ready.recv();
        }
    }
    drop(requests);
    let _ = writer.join();
    finish(wire);
}

fn fork() -> Result<i32> {
    // SAFETY: the models that fork have one thread.
    checked_int(unsafe { libc::fork() })
}

/// A child that serves the connections whose descriptors it is sent.
fn start_worker(family: Family) -> Result<RawFd> {
    let mut ends = [0; 2];
    // SAFETY: there is room for two descriptors.
    checked_int(unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET, 0, ends.as_mut_ptr()) })?;
    if fork()? != 0 {
        close(ends[1]);
        return Ok(ends[0]);
    }
    close(ends[0]);
    while let Ok(fd) = receive_fd(ends[1]) {
        let mut wire = Wire::new(fd, family);
        http::serve(&mut wire);
        finish(wire);
    }
    std::process::exit(0);
}

/// A control message with one descriptor.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fd: RawFd,
    padding: u32,
}

fn send_fd(to: RawFd, fd: RawFd) -> Result<usize> {
    let mut control = Control {
        header: libc::cmsghdr { cmsg_len: 20, cmsg_level: libc::SOL_SOCKET, cmsg_type: libc::SCM_RIGHTS },
        fd,
        padding: 0,
    };
    with_byte(&mut control, |message| {
        // SAFETY: the message points at live buffers.
        checked(unsafe { libc::sendmsg(to, message, 0) })
    })
}

fn receive_fd(from: RawFd) -> Result<RawFd> {
    let header = libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 };
    let mut control = Control { header, fd: -1, padding: 0 };
    let n = with_byte(&mut control, |message| {
        // SAFETY: the message points at live buffers.
        checked(unsafe { libc::recvmsg(from, message, libc::MSG_CMSG_CLOEXEC) })
    })?;
    if n == 0 { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(control.fd) }
}

/// A message of one byte with a descriptor beside it.
fn with_byte<T>(control: &mut Control, call: impl FnOnce(&mut libc::msghdr) -> T) -> T {
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    // SAFETY: all zero is a valid msghdr.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = ptr::from_mut(control).cast();
    message.msg_controllen = size_of::<Control>();
    call(&mut message)
}
