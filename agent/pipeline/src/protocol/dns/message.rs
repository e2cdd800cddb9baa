//! DNS messages: RFC 1035 section 4, EDNS (RFC 6891), 16-bit response codes.
//!
//! In: the bytes of one message, perhaps cut off. Out: its header, its only question, and the names and addresses that
//! it answers with. Compression pointers are followed backwards only, so that none can lead around in a circle.

use std::hash::Hasher;
use std::net::{Ipv4Addr, Ipv6Addr};

use rustc_hash::FxHasher;

use crate::address::IpText;
use crate::dns_request::{ANSWERS_MAX, DnsRequest};
use crate::text::Text;

/// Header of a message.
const HEADER_LEN: usize = 12;
/// Labels of a name: more do not fit its 255 bytes.
const LABELS_MAX: usize = 128;
const NAME_MAX: usize = 255;

const TYPE_A: u16 = 1;
const TYPE_NS: u16 = 2;
const TYPE_CNAME: u16 = 5;
const TYPE_PTR: u16 = 12;
const TYPE_MX: u16 = 15;
const TYPE_AAAA: u16 = 28;
const TYPE_SRV: u16 = 33;
const TYPE_DNAME: u16 = 39;
const TYPE_OPT: u16 = 41;
/// IXFR and AXFR: their answers are many messages.
const TYPES_TRANSFER: std::ops::RangeInclusive<u16> = 251..=252;

/// Header and question of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    bytes: &'a [u8],
    pub(super) id: u16,
    pub(super) is_response: bool,
    /// The answer did not fit: it is to be asked for over TCP.
    pub(super) is_truncated: bool,
    rcode: u16,
    answers: u16,
    authorities: u16,
    additional: u16,
    question_type: u16,
    question_class: u16,
    /// Where the question's name begins is known; here ends the question.
    question_end: usize,
}

impl<'a> Message<'a> {
    /// Reads a message that asks one question, or answers it. Strict: what follows from these checks is that chance
    /// does not make such bytes.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| bytes.get(at..at + 2).map(|two| u16::from_be_bytes([two[0], two[1]]));
        let flags = word(2)?;
        let [questions, answers, authorities, additional] = [word(4)?, word(6)?, word(8)?, word(10)?];
        let is_response = flags & 0x8000 != 0;
        let opcode = flags >> 11 & 15;
        let reserved = flags & 0x0040;
        if questions != 1 || opcode != 0 || reserved != 0 {
            return None;
        }
        // A query holds a question, perhaps options and a signature, and for IXFR what the client has.
        if !is_response && (answers > 0 || authorities > 1 || additional > 2 || flags & 0x020f != 0) {
            return None;
        }
        let name_end = skip_name(bytes, HEADER_LEN)?;
        let (question_type, question_class) = (word(name_end)?, word(name_end + 2)?);
        // IN, CH, HS, ANY: multicast DNS uses the high bit.
        if question_type == 0 || !matches!(question_class, 1 | 3 | 4 | 255) {
            return None;
        }
        Some(Self {
            bytes,
            id: word(0)?,
            is_response,
            is_truncated: flags & 0x0200 != 0,
            rcode: flags & 15,
            answers,
            authorities,
            additional,
            question_type,
            question_class,
            question_end: name_end + 4,
        })
    }

    /// Whether the message has the length that its counts say.
    pub(super) fn is_whole(&self, len: u64) -> bool {
        if self.bytes.len() as u64 != len {
            // A long answer was cut off.
            return self.is_response && self.bytes.len() >= 512;
        }
        let mut at = self.question_end;
        let records = [self.answers, self.authorities, self.additional].map(usize::from).iter().sum();
        for _ in 0..records {
            match record(self.bytes, at) {
                Some(record) => at = record.end,
                None => return self.is_truncated,
            }
        }
        at == self.bytes.len()
    }

    /// What tells the question from others, in any spelling of its letters.
    pub(super) fn question_hash(&self) -> u64 {
        let mut hasher = FxHasher::default();
        each_label(self.bytes, HEADER_LEN, |label| {
            hasher.write_usize(label.len());
            label.iter().for_each(|byte| hasher.write_u8(byte.to_ascii_lowercase()));
        });
        hasher.write_u16(self.question_type);
        hasher.write_u16(self.question_class);
        hasher.finish()
    }

    /// Whether the answer is a zone.
    pub(super) fn is_transfer(&self) -> bool {
        TYPES_TRANSFER.contains(&self.question_type)
    }

    pub(super) fn fill_question(&self, dns: &mut DnsRequest) {
        push_name(self.bytes, HEADER_LEN, &mut dns.question_name);
    }

    /// Response code and answers, in place of those of an earlier answer.
    pub(super) fn fill_answers(&self, dns: &mut DnsRequest) {
        dns.clear_answers();
        let mut rcode = self.rcode;
        let mut at = self.question_end;
        let before = usize::from(self.answers) + usize::from(self.authorities);
        for index in 0..before + usize::from(self.additional) {
            let Some(record) = record(self.bytes, at) else { break };
            at = record.end;
            if index < usize::from(self.answers) {
                if dns.answers.len() < ANSWERS_MAX {
                    self.fill_answer(&record, dns);
                }
            } else if index >= before && record.kind == TYPE_OPT {
                rcode |= u16::from(record.ttl[0]) << 4;
            }
        }
        dns.response_code = Some(rcode);
    }

    fn fill_answer(&self, record: &Record<'_>, dns: &mut DnsRequest) {
        let mut answer = dns.spare.pop().unwrap_or_default();
        match (record.kind, record.data) {
            (TYPE_A, &[a, b, c, d]) => {
                answer.push(IpText::default().set(Ipv4Addr::new(a, b, c, d).into()).as_bytes());
            }
            (TYPE_AAAA, data) => {
                if let Ok(octets) = <[u8; 16]>::try_from(data) {
                    answer.push(IpText::default().set(Ipv6Addr::from(octets).into()).as_bytes());
                }
            }
            (TYPE_CNAME | TYPE_PTR | TYPE_NS | TYPE_DNAME, _) => {
                push_name(self.bytes, record.data_at, &mut answer);
            }
            (TYPE_MX, _) => push_name(self.bytes, record.data_at + 2, &mut answer),
            (TYPE_SRV, _) => push_name(self.bytes, record.data_at + 6, &mut answer),
            _ => {}
        }
        let list = if answer.is_empty() { &mut dns.spare } else { &mut dns.answers };
        list.push(answer);
    }
}

/// A resource record.
#[derive(Clone, Copy, Debug)]
struct Record<'a> {
    kind: u16,
    ttl: [u8; 4],
    data: &'a [u8],
    data_at: usize,
    end: usize,
}

fn record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let at = skip_name(bytes, at)?;
    let fixed: &[u8; 10] = bytes.get(at..)?.first_chunk()?;
    let len = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
    let data_at = at + fixed.len();
    Some(Record {
        kind: u16::from_be_bytes([fixed[0], fixed[1]]),
        ttl: [fixed[4], fixed[5], fixed[6], fixed[7]],
        data: bytes.get(data_at..data_at + len)?,
        data_at,
        end: data_at + len,
    })
}

/// Where a name that begins at `at` ends, without following it; `None` if it is none.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len {
            0 => return Some(at + 1),
            1..=63 => at += 1 + len,
            192.. => return bytes.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at - start > NAME_MAX {
            return None;
        }
    }
}

/// Shows the labels of a name, following its pointers; false if it is none.
fn each_label<'a>(bytes: &'a [u8], mut at: usize, mut visit: impl FnMut(&'a [u8])) -> bool {
    let mut lowest = at;
    for _ in 0..LABELS_MAX {
        let Some(&len) = bytes.get(at) else { return false };
        match usize::from(len) {
            0 => return true,
            len @ 1..=63 => {
                let Some(label) = bytes.get(at + 1..at + 1 + len) else { return false };
                visit(label);
                at += 1 + len;
            }
            high @ 192.. => {
                let Some(&low) = bytes.get(at + 1) else { return false };
                let target = (high & 63) << 8 | usize::from(low);
                // Names are written before those that point to them.
                if target >= lowest || target < HEADER_LEN {
                    return false;
                }
                (at, lowest) = (target, target);
            }
            _ => return false,
        }
    }
    false
}

/// Appends a name without its last dot; the root is `.`. Of a name that is none, nothing.
fn push_name(bytes: &[u8], at: usize, text: &mut Text<NAME_MAX>) {
    let mut first = true;
    let valid = each_label(bytes, at, |label| {
        if !first {
            text.push_clean(".");
        }
        first = false;
        // A dot within a label would look like one between two.
        for (index, part) in label.split(|&byte| byte == b'.').enumerate() {
            if index > 0 {
                text.push_clean("\\.");
            }
            text.push(part);
        }
    });
    match valid {
        true if first => text.push_clean("."),
        true => {}
        false => text.clear(),
    }
}

/// Types of records that are asked for in ordinary life: what else is asked for is no evidence of DNS.
pub(super) fn is_common_type(message: &Message<'_>) -> bool {
    // 32 and 34 are NetBIOS' and ATM's.
    matches!(message.question_type, 1..=31 | 33 | 35..=109 | 249..=262)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Header with these flags and counts, then the rest.
    fn message(flags: u16, counts: [u16; 4], rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34];
        bytes.extend(flags.to_be_bytes());
        counts.iter().for_each(|count| bytes.extend(count.to_be_bytes()));
        bytes.extend(rest);
        bytes
    }

    fn check(bytes: &[u8], name: &str, code: u16, answers: &[&str]) {
        let read = Message::read(bytes).unwrap();
        assert!(read.is_whole(bytes.len() as u64));
        let mut dns = DnsRequest::default();
        read.fill_question(&mut dns);
        read.fill_answers(&mut dns);
        let seen: Vec<&str> = dns.answers.iter().map(|answer| answer.as_str()).collect();
        assert_eq!((dns.question_name.as_str(), dns.response_code, &seen[..]), (name, Some(code), answers));
    }

    const QUESTION: &[u8] = b"\x01a\x07example\x00\x00\x01\x00\x01";

    #[test]
    fn answers_are_read_with_their_pointers() {
        let answers = [
            QUESTION,
            b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x04\x01b\xc0\x0e",
            b"\xc0\x27\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x7f\x00\x00\x02",
            b"\xc0\x27\x00\x1c\x00\x01\x00\x00\x00\x05\x00\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01",
            b"\x00\x00\x29\x02\x00\x00\x00\x00\x00\x00\x00",
        ]
        .concat();
        check(&message(0x8180, [1, 3, 0, 1], &answers), "a.example", 0, &["b.example", "127.0.0.2", "::1"]);
    }

    #[test]
    fn a_code_of_sixteen_bits_is_put_together() {
        let rest = [QUESTION, b"\x00\x00\x29\x02\x00\x01\x00\x00\x00\x00\x00"].concat();
        check(&message(0x8180, [1, 0, 0, 1], &rest), "a.example", 16, &[]);
        check(&message(0x8183, [1, 0, 0, 0], QUESTION), "a.example", 3, &[]);
    }

    #[test]
    fn names_are_shown_as_they_are() {
        check(&message(0x8180, [1, 0, 0, 0], b"\x00\x00\x02\x00\x01"), ".", 0, &[]);
        check(
            &message(0x8180, [1, 0, 0, 0], b"\x03a.b\x01\xff\x00\x00\x02\x00\x01"),
            "a\\.b.\u{fffd}",
            0,
            &[],
        );
    }

    #[test]
    fn pointers_that_lead_nowhere_give_no_name() {
        for target in [b"\xc0\x1d", b"\xc0\x1f", b"\xc0\x00", b"\xff\xff"] {
            // The answer's name is at 27; its data, a pointer, at 39.
            let mut answer = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02".to_vec();
            answer.extend(target);
            answer[0..2].copy_from_slice(b"\xc0\x0c");
            let bytes = message(0x8180, [1, 1, 0, 0], &[QUESTION, &answer].concat());
            let mut dns = DnsRequest::default();
            Message::read(&bytes).unwrap().fill_answers(&mut dns);
            assert!(
                dns.answers.len() <= 1 && dns.answers.iter().all(|answer| answer.as_str() != "a.example")
            );
        }
    }

    #[test]
    fn other_bytes_are_not_read() {
        let whole = |bytes: &[u8]| Message::read(bytes).is_some_and(|read| read.is_whole(bytes.len() as u64));
        assert!(whole(&message(0x0100, [1, 0, 0, 0], QUESTION)));
        assert!(!whole(&message(0x0100, [1, 0, 0, 0], &[QUESTION, b"x"].concat())));
        assert!(!whole(&message(0x0100, [2, 0, 0, 0], QUESTION)));
        assert!(!whole(&message(0x0140, [1, 0, 0, 0], QUESTION)));
        assert!(!whole(&message(0x0100, [1, 1, 0, 0], QUESTION)));
        assert!(!whole(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert!(!whole(b"metric.name:1|c|#tag:value,other"));
    }

    #[test]
    fn letters_of_any_case_ask_the_same() {
        let lower = message(0x0100, [1, 0, 0, 0], QUESTION);
        let upper = message(0x0100, [1, 0, 0, 0], b"\x01A\x07eXampLe\x00\x00\x01\x00\x01");
        let other = message(0x0100, [1, 0, 0, 0], b"\x01a\x07example\x00\x00\x1c\x00\x01");
        let hash = |bytes: &[u8]| Message::read(bytes).unwrap().question_hash();
        assert_eq!(hash(&lower), hash(&upper));
        assert_ne!(hash(&lower), hash(&other));
    }
}
