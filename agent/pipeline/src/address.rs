//! Addresses and numbers as text, in buffers on the stack.
//!
//! In: socket addresses as the kernel side reports them. Out: text without allocation. IPv4-mapped IPv6 addresses
//! are IPv4 here: a dual-stack socket says nothing about the client.

use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use agent_common::conn::SockAddr;

const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// Address of a socket, unless it is a unix socket or not known.
pub fn socket_ip(addr: &SockAddr) -> Option<IpAddr> {
    match addr.family {
        AF_INET => Some(IpAddr::from([addr.addr[0], addr.addr[1], addr.addr[2], addr.addr[3]])),
        AF_INET6 => Some(IpAddr::V6(Ipv6Addr::from(addr.addr)).to_canonical()),
        _ => None,
    }
}

/// Room for the text of one IP address.
#[derive(Clone, Copy, Debug)]
pub struct IpText {
    bytes: [u8; 48],
    len: usize,
}

impl Default for IpText {
    fn default() -> Self {
        Self { bytes: [0; 48], len: 0 }
    }
}

impl IpText {
    /// Writes the address and lends its text.
    pub fn set(&mut self, ip: IpAddr) -> &str {
        self.len = 0;
        match ip {
            IpAddr::V4(ip) => {
                // Digit by digit: this is done for every span.
                let mut len = 0;
                let mut put = |byte| {
                    self.bytes[len] = byte;
                    len += 1;
                };
                for (index, octet) in ip.octets().into_iter().enumerate() {
                    if index > 0 {
                        put(b'.');
                    }
                    if octet >= 100 {
                        put(b'0' + octet / 100);
                    }
                    if octet >= 10 {
                        put(b'0' + octet / 10 % 10);
                    }
                    put(b'0' + octet % 10);
                }
                self.len = len;
            }
            // 45 bytes at most, so it fits.
            IpAddr::V6(ip) => drop(write!(self, "{ip}")),
        }
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }

    fn push(&mut self, text: &[u8]) {
        if let Some(room) = self.bytes.get_mut(self.len..self.len + text.len()) {
            room.copy_from_slice(text);
            self.len += text.len();
        }
    }
}

impl Write for IpText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

/// Writes a number into `room` and lends its text.
pub fn decimal(mut number: u16, room: &mut [u8; 5]) -> &str {
    let mut start = room.len();
    loop {
        start -= 1;
        // A digit: fits a byte.
        room[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    std::str::from_utf8(&room[start..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mut addr = [0; 16];
        (addr[10], addr[11], addr[12], addr[15]) = (0xff, 0xff, 10, 1);
        let ip = socket_ip(&SockAddr { addr, port: 1, family: AF_INET6, reserved: 0 }).unwrap();
        assert_eq!(IpText::default().set(ip), "10.0.0.1");
        assert_eq!(socket_ip(&SockAddr { family: 1, ..SockAddr::default() }), None);
    }

    proptest! {
        #[test]
        fn text_is_what_std_prints(v4: u32, v6: u128, number in any::<u16>()) {
            for ip in [IpAddr::V4(v4.into()), IpAddr::V6(v6.into()), IpAddr::V6((v6 & 0xffff).into())] {
                let mut text = IpText::default();
                prop_assert_eq!(text.set(ip), ip.to_string());
            }
            let mut room = [0; 5];
            prop_assert_eq!(decimal(number, &mut room), number.to_string());
        }
    }
}
