//! The fuzz targets as a test that ends: inputs are made from a dictionary, then mutated, from a fixed seed.
//! `SKEP_FUZZ_ITERATIONS` makes it run longer, `SKEP_FUZZ_SEED` elsewhere. With a nightly compiler, cargo-fuzz
//! does the same guided by coverage.

#[path = "../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a crate of its own for cargo-fuzz, a module here")]
mod targets;

/// Pieces from which inputs are made: they lead far into the parser more often than random bytes do.
const WORDS: &[&[u8]] = &[
    b"GET /a HTTP/1.1\r\n",
    b"POST /b?c=d HTTP/1.0\r\n",
    b"HEAD http://h/ HTTP/1.1\r\n",
    b"CONNECT h:1 HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 204 \r\n",
    b"HTTP/1.1 101 S\r\n",
    b"HTTP/1.1 100 C\r\n\r\n",
    b"HTTP/1.0 500\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Host: a\r\n fold\r\n",
    b"Upgrade: x\r\n",
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"hello",
    b"\x16\x03\x01\x00\x05",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    b"\0\0\x06\x04\0\0\0\0\0\0\x01\0\0\x10\0",
    b"\0\0\x03\x01\x05\0\0\0\x01\x82\x86\x84",
    b"\0\0\x06\x01\x04\0\0\0\x03\x83\x44\x02/a\xbe",
    b"\0\0\x02\x01\0\0\0\0\x05\x83\x84",
    b"\0\0\x01\x09\x04\0\0\0\x05\x86",
    b"\0\0\x15\x01\x04\0\0\0\x07\x83\x84\x5f\x10application/grpc",
    b"\0\0\x07\0\x01\0\0\0\x07\0\0\0\0\x02ab",
    b"\0\0\x01\x01\x04\0\0\0\x01\x88",
    b"\0\0\x01\x01\x05\0\0\0\x03\x8d",
    b"\0\0\x03\0\x01\0\0\0\x01abc",
    b"\0\0\x04\0\x08\0\0\0\x01\x02a\0\0",
    b"\0\0\x04\x03\0\0\0\0\x03\0\0\0\x08",
    b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0",
    b"\0\0\x06\x05\x04\0\0\0\x01\0\0\0\x02\x82\x84",
    b"HTTP/1.1 101 S\r\nUpgrade: h2c\r\n\r\n",
    b"Upgrade: h2c\r\n",
    b"Q\0\0\0\x0dSELECT 1\0",
    b"P\0\0\0\x12s\0SELECT a\0\0\0",
    b"B\0\0\0\x0d\0s\0\0\0\0\0\0\0",
    b"E\0\0\0\x09\0\0\0\0\0",
    b"D\0\0\0\x06P\0",
    b"S\0\0\0\x04",
    b"H\0\0\0\x04",
    b"c\0\0\0\x04",
    b"1\0\0\0\x042\0\0\0\x04",
    b"n\0\0\0\x04",
    b"T\0\0\0\x06\0\0",
    b"D\0\0\0\x06\0\0",
    b"C\0\0\0\x0dSELECT 1\0",
    b"E\0\0\0\x0cC42601\0\0",
    b"Z\0\0\0\x05I",
    b"G\0\0\0\x07\0\0\0",
    b"\x09\0\0\0\x03SELECT 1",
    b"\x09\0\0\0\x16SELECT a",
    b"\x0a\0\0\0\x17\x07\0\0\0\0\x01\0\0\0",
    b"\x07\0\0\x01\0\0\0\x02\0\0\0",
    b"\x0c\0\0\x01\0\x07\0\0\0\x01\0\x01\0\0\0\0",
    b"\x01\0\0\x01\x01",
    b"\x05\0\0\x03\xfe\0\0\x0a\0",
    b"\x03\0\0\x04\xff\x28\x04",
    b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
    b"*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n*1\r\n$4\r\nEXEC\r\n",
    b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n",
    b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1000\r\n",
    b"PING\r\n",
    b"+OK\r\n",
    b":1\r\n",
    b"$5\r\nhello\r\n",
    b"-ERR a\r\n",
    b"|1\r\n+a\r\n:1\r\n",
    b">2\r\n$1\r\na\r\n_\r\n",
    b"*?\r\n",
    b"$?\r\n;1\r\na\r\n;0\r\n",
    b"%1\r\n",
    b".\r\n",
    b"\x00\x1b\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
    b"\x12\x34\x83\x80\x00\x01\x00\x01\x00\x00\x00\x00",
    b"\x01a\x07example\x00\x00\x01\x00\x01",
    b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x7f\x00\x00\x02",
    b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x02\xc0\x27",
];

/// Whole exchanges, for inputs that are understood without a drop.
const MESSAGES: &[(u8, &[u8])] = &[
    (1, b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"),
    (0, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"),
    (1, b"POST /b?c=d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\nT: u\r\n\r\n"),
    (0, b"HTTP/1.1 103 E\r\n\r\nHTTP/1.1 404 N\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    (1, b"HEAD /c HTTP/1.0\r\nContent-Length: 3\r\nUpgrade: h2c\r\n\r\nabc"),
    (0, b"HTTP/1.0 204 N\r\nContent-Length: 7\r\n\r\n"),
];

/// The same of Redis.
const REDIS: &[(u8, &[u8])] = &[
    (1, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
    (0, b"$5\r\nhello\r\n"),
    (1, b"*1\r\n$5\r\nMULTI\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n*1\r\n$4\r\nEXEC\r\n"),
    (0, b"+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"),
    (1, b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n"),
    (0, b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n"),
    (1, b"*1\r\n$4\r\nPING\r\n"),
    (0, b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"),
    (1, b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n"),
    (0, b"|1\r\n+a\r\n:1\r\n-WRONGTYPE a\r\n"),
];

struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// Operations with their lengths and bytes, as the targets read them.
    fn input(&mut self, orderly: bool) -> Vec<u8> {
        let messages = if self.below(2) == 0 { MESSAGES } else { REDIS };
        let mut input = vec![self.byte()];
        for step in 0..1 + self.below(12) {
            let (operation, bytes) = if orderly {
                let (request, message) = messages[step % messages.len()];
                (request | 0xfe, message.to_vec())
            } else {
                let count = 1 + self.below(5);
                let words = (0..count).flat_map(|_| WORDS[self.below(WORDS.len())].to_vec()).collect();
                (self.byte(), words)
            };
            input.extend_from_slice(&[operation, bytes.len().min(255) as u8]);
            input.extend_from_slice(&bytes[..bytes.len().min(255)]);
        }
        for _ in 0..self.below(if orderly { 2 } else { 4 }) {
            let at = self.below(input.len());
            match self.below(3) {
                0 => input[at] = self.byte(),
                1 => input.insert(at, WORDS[self.below(WORDS.len())][0]),
                _ => drop(input.remove(at)),
            }
        }
        input
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn fuzz_targets_hold_for_a_while() {
    let mut random = Random(number("SKEP_FUZZ_SEED", 0x5eed).max(1));
    for _ in 0..number("SKEP_FUZZ_ITERATIONS", 3000) {
        let input = random.input(false);
        let result = std::panic::catch_unwind(|| {
            targets::record(&input);
            targets::http1(&input);
            targets::sql(&input);
            targets::split(&input);
            targets::datagrams(&input);
        });
        assert!(result.is_ok(), "input: {:?}", input.escape_ascii().to_string());
        let input = random.input(true);
        let result = std::panic::catch_unwind(|| targets::split(&input));
        assert!(result.is_ok(), "input: {:?}", input.escape_ascii().to_string());
    }
}
