//! One connection and the system calls that move its bytes.
//!
//! In: a connected socket and a [`Family`]. Out: `recv`, `send` and friends that use just that family's calls.

use std::io::{ErrorKind, Result};
use std::os::fd::RawFd;
use std::ptr;
use std::str::FromStr;

use super::calls::{
    checked, checked_int, close, duplicates, interrupt_often, memory_file, pipe, sendfile, set_option,
    splice, splice_out, wait,
};

/// A family of system calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// read, write
    ReadWrite,
    /// readv, writev over up to 16 segments
    Vectored,
    /// readv, writev over up to 1,024 segments
    ManySegments,
    /// preadv2, pwritev2 at the current position
    Preadv2,
    /// recvfrom, sendto
    SendRecv,
    /// recvmsg, sendmsg
    Msg,
    /// recvmmsg, sendmmsg
    Mmsg,
    /// Answers by sendfile
    Sendfile,
    /// Both ways through a pipe by splice
    Splice,
    /// Reads one duplicate of the descriptor, writes another
    Dup,
    /// Looks at everything with MSG_PEEK first
    Peek,
    /// Throws bodies away with MSG_TRUNC
    Trunc,
    /// O_NONBLOCK and poll, small buffers: EAGAIN, short reads, short writes
    NonBlocking,
    /// Interrupted all the time
    Interrupted,
    /// One byte per call
    OneByte,
}

/// Every family with the name that the table shows.
pub const FAMILIES: &[(&str, Family)] = &[
    ("read-write", Family::ReadWrite),
    ("readv-writev", Family::Vectored),
    ("many-segments", Family::ManySegments),
    ("preadv2-pwritev2", Family::Preadv2),
    ("recvfrom-sendto", Family::SendRecv),
    ("recvmsg-sendmsg", Family::Msg),
    ("recvmmsg-sendmmsg", Family::Mmsg),
    ("sendfile", Family::Sendfile),
    ("splice", Family::Splice),
    ("dup", Family::Dup),
    ("msg-peek", Family::Peek),
    ("msg-trunc", Family::Trunc),
    ("non-blocking", Family::NonBlocking),
    ("interrupted", Family::Interrupted),
    ("one-byte", Family::OneByte),
];

impl FromStr for Family {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> anyhow::Result<Self> {
        let found = FAMILIES.iter().find(|(known, _)| *known == name);
        found.map(|(_, family)| *family).ok_or_else(|| anyhow::anyhow!("no family {name}"))
    }
}

/// A connected socket.
pub struct Wire {
    /// Descriptor that is read.
    pub input: RawFd,
    /// Descriptor that is written.
    pub output: RawFd,
    pub family: Family,
}

impl Wire {
    /// Takes the descriptor over.
    pub fn new(fd: RawFd, family: Family) -> Self {
        let (mut input, mut output) = (fd, fd);
        match family {
            Family::Dup => (input, output) = duplicates(fd),
            Family::NonBlocking => {
                set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, 4608);
                // SAFETY: no memory is passed.
                unsafe { libc::fcntl(fd, libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK) };
            }
            Family::Interrupted => interrupt_often(),
            _ => {}
        }
        set_option(fd, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1);
        Self { input, output, family }
    }

    /// Reads what is there; 0 at the end.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<usize> {
        loop {
            match self.recv_once(buffer) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(self.input, libc::POLLIN),
                other => return other,
            }
        }
    }

    fn recv_once(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let fd = self.input;
        let (at, len) = (buffer.as_mut_ptr().cast::<libc::c_void>(), buffer.len());
        match self.family {
            Family::Vectored | Family::ManySegments | Family::Preadv2 => {
                let segments = self.segments(buffer);
                let count = i32::try_from(segments.len()).unwrap_or(i32::MAX);
                if self.family == Family::Preadv2 {
                    // SAFETY: the segments lie in `buffer`.
                    return checked(unsafe { libc::preadv2(fd, segments.as_ptr(), count, -1, 0) });
                }
                // SAFETY: the segments lie in `buffer`.
                checked(unsafe { libc::readv(fd, segments.as_ptr(), count) })
            }
            Family::Msg => {
                let mut segments = self.segments(buffer);
                let mut message = message(&mut segments);
                // SAFETY: the message points at `segments`, which lie in `buffer`.
                checked(unsafe { libc::recvmsg(fd, &raw mut message, 0) })
            }
            Family::Mmsg => {
                let half = len.div_ceil(2);
                let (a, b) = buffer.split_at_mut(half);
                let (mut a, mut b) = (self.segments(a), self.segments(b));
                let mut messages = [header(&mut a), header(&mut b)];
                // A stream: the second message would leave a hole behind a short first one, so take one at a time
                // unless the first is full.
                // SAFETY: two headers whose segments lie in `buffer`.
                let count = unsafe {
                    libc::recvmmsg(fd, messages.as_mut_ptr(), 1, libc::MSG_WAITFORONE, ptr::null_mut())
                };
                checked_int(count)?;
                Ok(messages[0].msg_len as usize)
            }
            Family::Peek => {
                // SAFETY: `buffer` is `len` bytes long.
                checked(unsafe { libc::recv(fd, at, len, libc::MSG_PEEK) })?;
                // SAFETY: `buffer` is `len` bytes long.
                checked(unsafe { libc::recv(fd, at, len, 0) })
            }
            // SAFETY: `buffer` is `len` bytes long.
            Family::SendRecv | Family::Trunc => checked(unsafe { libc::recv(fd, at, len, 0) }),
            // SAFETY: `buffer` is `len` bytes long.
            Family::OneByte => checked(unsafe { libc::read(fd, at, len.min(1)) }),
            // SAFETY: `buffer` is `len` bytes long.
            Family::NonBlocking => checked(unsafe { libc::read(fd, at, len.min(700)) }),
            // SAFETY: `buffer` is `len` bytes long.
            _ => checked(unsafe { libc::read(fd, at, len) }),
        }
    }

    /// Reads and forgets up to `len` bytes of a body.
    pub fn discard(&mut self, len: usize) -> Result<usize> {
        if self.family == Family::Trunc {
            // SAFETY: with MSG_TRUNC the kernel drops a TCP socket's bytes and writes nothing.
            return checked(unsafe { libc::recv(self.input, ptr::null_mut(), len, libc::MSG_TRUNC) });
        }
        let mut scratch = vec![0; len.min(65536)];
        self.recv(&mut scratch)
    }

    /// Writes all of it.
    pub fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.send_once(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => wait(self.output, libc::POLLOUT),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_once(&mut self, bytes: &[u8]) -> Result<usize> {
        let fd = self.output;
        let (at, len) = (bytes.as_ptr().cast::<libc::c_void>(), bytes.len());
        match self.family {
            Family::Vectored | Family::ManySegments | Family::Preadv2 => {
                let segments = self.segments(bytes);
                let count = i32::try_from(segments.len()).unwrap_or(i32::MAX);
                if self.family == Family::Preadv2 {
                    // SAFETY: the segments lie in `bytes`.
                    return checked(unsafe { libc::pwritev2(fd, segments.as_ptr(), count, -1, 0) });
                }
                // SAFETY: the segments lie in `bytes`.
                checked(unsafe { libc::writev(fd, segments.as_ptr(), count) })
            }
            Family::Msg => {
                let mut segments = self.segments(bytes);
                let message = message(&mut segments);
                // SAFETY: the message points at `segments`, which lie in `bytes`.
                checked(unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) })
            }
            Family::Mmsg => {
                let (a, b) = bytes.split_at(len.min(10));
                let (mut a, mut b) = (self.segments(a), self.segments(b));
                let mut messages = [header(&mut a), header(&mut b)];
                let count = if b.is_empty() { 1 } else { 2 };
                // SAFETY: two headers whose segments lie in `bytes`.
                let sent = unsafe { libc::sendmmsg(fd, messages.as_mut_ptr(), count, libc::MSG_NOSIGNAL) };
                let sent = usize::try_from(checked_int(sent)?).unwrap_or(0);
                Ok(messages[..sent].iter().map(|message| message.msg_len as usize).sum())
            }
            Family::SendRecv | Family::Peek => {
                // SAFETY: `bytes` is `len` bytes long.
                checked(unsafe { libc::send(fd, at, len, libc::MSG_NOSIGNAL) })
            }
            Family::Sendfile => sendfile(fd, bytes),
            Family::Splice => splice_out(fd, bytes),
            // SAFETY: `bytes` is `len` bytes long.
            Family::OneByte => checked(unsafe { libc::write(fd, at, 1) }),
            // SAFETY: `bytes` is `len` bytes long.
            _ => checked(unsafe { libc::write(fd, at, len) }),
        }
    }

    /// Moves `len` bytes from the socket back into it, without touching them where the family can.
    pub fn echo(&mut self, mut len: usize) -> Result<()> {
        if self.family != Family::Splice {
            let mut buffer = vec![0; 65536];
            while len > 0 {
                let want = len.min(buffer.len());
                let n = self.recv(&mut buffer[..want])?;
                if n == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                self.send(&buffer[..n])?;
                len -= n;
            }
            return Ok(());
        }
        let (read_end, write_end) = pipe()?;
        while len > 0 {
            let n = splice(self.input, write_end, len.min(65536))?;
            if n == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let mut left = n;
            while left > 0 {
                left -= splice(read_end, self.output, left)?;
            }
            len -= n;
        }
        close(read_end);
        close(write_end);
        Ok(())
    }

    /// Sends `len` zero bytes, by sendfile or splice where the family can.
    pub fn zeros(&mut self, mut len: usize) -> Result<()> {
        if self.family != Family::Sendfile {
            let block = [0; 65536];
            while len > 0 {
                let n = len.min(block.len());
                self.send(&block[..n])?;
                len -= n;
            }
            return Ok(());
        }
        let file = memory_file(&[])?;
        // SAFETY: no memory is passed.
        checked_int(unsafe { libc::ftruncate(file, i64::try_from(len).unwrap_or(i64::MAX)) })?;
        while len > 0 {
            // SAFETY: no memory is passed; the file's own position is used.
            len -= checked(unsafe { libc::sendfile(self.output, file, ptr::null_mut(), len) })?;
        }
        close(file);
        Ok(())
    }

    /// Ends the connection in order.
    pub fn close(self) {
        close(self.input);
        if self.output != self.input {
            close(self.output);
        }
    }

    /// Uneven pieces of a buffer: 1, 2, 3 … bytes, then the rest in the last.
    fn segments(&self, buffer: &[u8]) -> Vec<libc::iovec> {
        let most = if self.family == Family::ManySegments { 1024 } else { 16 };
        let mut segments = Vec::new();
        let mut rest = buffer;
        while !rest.is_empty() {
            let n =
                if segments.len() + 1 == most { rest.len() } else { rest.len().min(segments.len() % 61 + 1) };
            let (piece, behind) = rest.split_at(n);
            segments.push(libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: n });
            rest = behind;
        }
        segments
    }
}

fn message(segments: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zero is a valid msghdr: no name, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = segments.as_mut_ptr();
    message.msg_iovlen = segments.len() as _;
    message
}

fn header(segments: &mut [libc::iovec]) -> libc::mmsghdr {
    libc::mmsghdr { msg_hdr: message(segments), msg_len: 0 }
}
