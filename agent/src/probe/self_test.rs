//! Does a back end really see anything? Skep talks to itself over loopback, selected for that moment only, and looks at the
//! records. Nothing of it reaches the pipeline.

use std::{
    collections::HashSet,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    time::Duration,
};

use agent_common::event::{
    ConnOpened, DataRecord, DatagramRecord, EventHeader, EventKind, FLAG_ACCEPTED, FLAG_CONNECTED,
    FLAG_EGRESS,
};
use zerocopy::FromBytes as _;

use super::hooks::Shown;

const AF_UNIX: u16 = 1;
const AF_INET6: u16 = 10;
/// Loopback answers at once; a stuck machine must not keep Skep from starting.
const PATIENCE: Duration = Duration::from_secs(2);
const WORDS: &[u8] = b"skep self-test";

/// What the records of the test have shown.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) shown: HashSet<Shown>,
    /// Connections that no tracepoint will tell the end of.
    pub(super) to_reap: Vec<(u64, u64)>,
    unix: HashSet<u64>,
    inet6: HashSet<u64>,
}

/// What the exchange tried: what this host cannot do (IPv6 switched off) is not asked for.
pub(super) fn exchange() -> io::Result<HashSet<Shown>> {
    let mut tried = HashSet::from([
        Shown::Accepted,
        Shown::Connected,
        Shown::TcpSent,
        Shown::TcpReceived,
        Shown::UnixSent,
        Shown::UnixReceived,
    ]);
    tcp()?;
    unix()?;
    if udp((Ipv4Addr::LOCALHOST, 0).into()).is_ok() {
        tried.extend([Shown::UdpSent, Shown::UdpReceived]);
    }
    if udp((Ipv6Addr::LOCALHOST, 0).into()).is_ok() {
        tried.extend([Shown::Udp6Sent, Shown::Udp6Received]);
    }
    Ok(tried)
}

fn tcp() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut client = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
    let (mut server, _) = listener.accept()?;
    server.set_read_timeout(Some(PATIENCE))?;
    client.write_all(WORDS)?;
    let mut buffer = [0; WORDS.len()];
    server.read_exact(&mut buffer)
}

fn unix() -> io::Result<()> {
    let (mut one, mut other) = UnixStream::pair()?;
    other.set_read_timeout(Some(PATIENCE))?;
    one.write_all(WORDS)?;
    let mut buffer = [0; WORDS.len()];
    other.read_exact(&mut buffer)
}

fn udp(address: SocketAddr) -> io::Result<()> {
    let (one, other) = (UdpSocket::bind(address)?, UdpSocket::bind(address)?);
    other.set_read_timeout(Some(PATIENCE))?;
    one.send_to(WORDS, other.local_addr()?)?;
    let mut buffer = [0; WORDS.len()];
    other.recv_from(&mut buffer)?;
    Ok(())
}

impl Seen {
    /// Looks at a record; whether it is one of the test's own.
    pub(super) fn observe(&mut self, record: &[u8]) -> bool {
        let Ok((header, _)) = EventHeader::read_from_prefix(record) else { return false };
        if header.tgid != std::process::id() {
            return false;
        }
        let egress = header.flags & FLAG_EGRESS != 0;
        match header.kind {
            EventKind::CONN_OPENED => self.opened(record),
            EventKind::DATA
                if DataRecord::read_from_prefix(record).is_ok_and(|(data, _)| data.head_len > 0) =>
            {
                let unix = self.unix.contains(&header.conn_id);
                self.shown.insert(match (unix, egress) {
                    (true, true) => Shown::UnixSent,
                    (true, false) => Shown::UnixReceived,
                    (false, true) => Shown::TcpSent,
                    (false, false) => Shown::TcpReceived,
                });
            }
            EventKind::DATAGRAM
                if DatagramRecord::read_from_prefix(record).is_ok_and(|(data, _)| data.head_len > 0) =>
            {
                let inet6 = self.inet6.contains(&header.conn_id);
                self.shown.insert(match (inet6, egress) {
                    (true, true) => Shown::Udp6Sent,
                    (true, false) => Shown::Udp6Received,
                    (false, true) => Shown::UdpSent,
                    (false, false) => Shown::UdpReceived,
                });
            }
            _ => {}
        }
        true
    }

    fn opened(&mut self, record: &[u8]) {
        const IPPROTO_TCP: u16 = 6;
        let Ok((opened, _)) = ConnOpened::read_from_prefix(record) else { return };
        let EventHeader { conn_id, flags, .. } = opened.header;
        match opened.tuple.local.family {
            AF_UNIX => {
                self.unix.insert(conn_id);
            }
            AF_INET6 => {
                self.inet6.insert(conn_id);
            }
            _ => {}
        }
        if opened.tuple.protocol == IPPROTO_TCP {
            if flags & FLAG_ACCEPTED != 0 {
                self.shown.insert(Shown::Accepted);
            }
            if flags & FLAG_CONNECTED != 0 {
                self.shown.insert(Shown::Connected);
            }
        } else {
            self.to_reap.push((conn_id, opened.sock));
        }
    }
}
