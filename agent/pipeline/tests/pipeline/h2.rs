//! HTTP/2 frames from words, for transcripts: what stands in brackets on a line of bytes.
//!
//!   `[preface]` `[settings ID=VALUE …]` `[ping]` `[window STREAM N]` `[priority STREAM]`
//!   `[headers STREAM FLAG … | FIELD | FIELD …]`, as well `continuation`, and `push STREAM PROMISED …`
//!   `[data STREAM FLAG … | PAYLOAD]` with the escapes of a transcript
//!   `[rst STREAM CODE]` `[goaway LAST CODE]` `[frame KIND STREAM FLAGS | PAYLOAD]`
//! Flags: `end` (of the stream), `more` (header blocks: not the last frame), `pad=N`, `prio`, `len=N` (the frame claims so
//! many bytes; those that are missing follow as they like).
//! Fields: `NAME VALUE` by the static table or as a literal that is not indexed; `+NAME VALUE` as one that is; `#N` by
//! index; `+#N VALUE` with the name of index N; `^N` resizes the table.

/// The static table's fields that transcripts use.
const STATIC: [(&str, u8); 12] = [
    (":method GET", 2),
    (":method POST", 3),
    (":path /", 4),
    (":scheme http", 6),
    (":scheme https", 7),
    (":status 200", 8),
    (":status 204", 9),
    (":status 206", 10),
    (":status 304", 11),
    (":status 400", 12),
    (":status 404", 13),
    (":status 500", 14),
];

/// One frame, or the preface.
pub(crate) fn frame(words: &str, unescape: &dyn Fn(&str) -> Vec<u8>) -> Vec<u8> {
    let (head, rest) = words.split_once('|').unwrap_or((words, ""));
    let mut head = head.split_whitespace();
    let kind = head.next().unwrap();
    let arguments: Vec<&str> = head.collect();
    let number = |index: usize| arguments[index].parse::<u32>().unwrap();
    let flag = |name: &str| arguments.contains(&name);
    let value = |name: &str| {
        arguments
            .iter()
            .find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))
            .map(|value| value.parse::<usize>().unwrap())
    };
    let block = || fields(rest);
    let mut flags = u8::from(flag("end")) | u8::from(value("pad").is_some()) << 3;
    let (kind, stream, payload) = match kind {
        "preface" => return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        "settings" => (4, 0, arguments.iter().flat_map(|setting| setting_bytes(setting)).collect()),
        "ping" => (6, 0, vec![0; 8]),
        "window" => (8, number(0), number(1).to_be_bytes().to_vec()),
        "priority" => (2, number(0), vec![0; 5]),
        "rst" => (3, number(0), number(1).to_be_bytes().to_vec()),
        "goaway" => (7, 0, [number(0).to_be_bytes(), number(1).to_be_bytes()].concat()),
        "data" => (0, number(0), unescape(rest.strip_prefix(' ').unwrap_or(rest))),
        "headers" => {
            flags |= u8::from(!flag("more")) << 2 | u8::from(flag("prio")) << 5;
            let priority: &[u8] = if flag("prio") { &[0, 0, 0, 0, 16] } else { &[] };
            (1, number(0), [priority, &block()].concat())
        }
        "continuation" => {
            flags |= u8::from(!flag("more")) << 2;
            (9, number(0), block())
        }
        "push" => {
            flags |= u8::from(!flag("more")) << 2;
            (5, number(0), [&number(1).to_be_bytes()[..], &block()].concat())
        }
        "frame" => (number(0) as u8, number(1), unescape(rest.strip_prefix(' ').unwrap_or(rest))),
        other => panic!("no frame is called {other}"),
    };
    let padded = match value("pad") {
        None => payload,
        Some(pad) => [&[pad as u8][..], &payload, &vec![0; pad]].concat(),
    };
    let len = value("len").unwrap_or(padded.len());
    let mut frame = (len as u32).to_be_bytes()[1..].to_vec();
    frame.extend_from_slice(&[kind, flags]);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&padded);
    frame
}

fn setting_bytes(setting: &str) -> Vec<u8> {
    let (id, value) = setting.split_once('=').unwrap();
    [&id.parse::<u16>().unwrap().to_be_bytes()[..], &value.parse::<u32>().unwrap().to_be_bytes()].concat()
}

/// A header block.
pub(crate) fn fields(text: &str) -> Vec<u8> {
    text.split('|').map(str::trim).filter(|field| !field.is_empty()).flat_map(field).collect()
}

fn field(text: &str) -> Vec<u8> {
    if let Some(size) = text.strip_prefix('^') {
        return integer(0x20, 5, size.parse().unwrap());
    }
    if let Some(index) = text.strip_prefix('#') {
        return integer(0x80, 7, index.parse().unwrap());
    }
    if let Some(&(_, index)) = STATIC.iter().find(|(field, _)| *field == text) {
        return vec![0x80 | index];
    }
    let (indexed, text) = text.strip_prefix('+').map_or((false, text), |text| (true, text));
    let (name, value) = text.split_once(' ').unwrap_or((text, ""));
    let (pattern, bits) = if indexed { (0x40, 6) } else { (0, 4) };
    let mut bytes = match name.strip_prefix('#') {
        Some(index) => integer(pattern, bits, index.parse().unwrap()),
        None => [&[pattern][..], &string(name)].concat(),
    };
    bytes.extend(string(value));
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&integer(0, 7, text.len()), text.as_bytes()].concat()
}

fn integer(pattern: u8, bits: u32, value: usize) -> Vec<u8> {
    let mask = (1usize << bits) - 1;
    if value < mask {
        return vec![pattern | value as u8];
    }
    let mut bytes = vec![pattern | mask as u8];
    let mut rest = value - mask;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes
}
