//! Who talks to whom: addresses and the pair of ends of a connection.

/// A socket address. `family` is the kernel's `AF_INET` (2), `AF_INET6` (10), `AF_UNIX` (1), or 0 for none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct SockAddr {
    /// Network byte order; IPv4 in the first four bytes, the rest 0; IPv6 as it is (mapped addresses stay mapped).
    pub addr: [u8; 16],
    /// Host byte order.
    pub port: u16,
    /// Address family of this end.
    pub family: u16,
    /// Always 0.
    pub reserved: u32,
}

/// Both ends of a connection, seen from the process.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(
    feature = "user",
    derive(zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout)
)]
pub struct ConnTuple {
    /// The end that the process holds.
    pub local: SockAddr,
    /// The other end.
    pub peer: SockAddr,
    /// Inode number of the network namespace: 127.0.0.1 means something else in each.
    pub netns: u32,
    /// The kernel's `SOCK_STREAM` (1) or `SOCK_DGRAM` (2).
    pub sock_type: u16,
    /// `IPPROTO_TCP` (6), `IPPROTO_UDP` (17), or 0 for unix sockets.
    pub protocol: u16,
}

/// The process is handed bytes.
pub const INGRESS: usize = 0;
/// The process hands bytes to the kernel.
pub const EGRESS: usize = 1;

const _: () = assert!(size_of::<SockAddr>() == 24);
const _: () = assert!(size_of::<ConnTuple>() == 56);
