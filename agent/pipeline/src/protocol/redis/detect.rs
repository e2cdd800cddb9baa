//! Part one: is it Redis? And whether a turn begins with a whole command, where reading goes on.
//!
//! In: the first bytes of a direction. Out: yes, no or perhaps. Clients speak first, so what the first turn holds must
//! be commands; an answer is believed only behind what may be one.

use crate::protocol::redis::command::{self, Command, Role};
use crate::protocol::redis::fill;
use crate::protocol::redis::resp::number;
use crate::protocol::{Sample, Verdict};

/// Bias: an array of strings whose first is a command's name. Commands on a line are believed
/// when the answer is Redis' too. In the middle, only whole commands from the table count.
pub(in crate::protocol) fn detect(sample: &Sample<'_>) -> Verdict {
    let bytes = sample.bytes;
    match bytes.first() {
        Some(b'*') => array(sample),
        _ if sample.mid_stream => Verdict::No,
        Some(
            b'+' | b'-' | b':' | b'$' | b'%' | b'~' | b'_' | b',' | b'#' | b'(' | b'=' | b'!' | b'|' | b'>',
        ) => answer(sample),
        Some(_) => inline(bytes),
        None => Verdict::Maybe,
    }
}

/// First byte of any value.
pub(super) fn is_type(byte: u8) -> bool {
    b"+-:$*%~_,#(=!|>".contains(&byte)
}

/// What an array of strings begins with, as far as there is something.
enum Begun<'a> {
    /// So many words, the first one, and whether all of them are there and nothing behind.
    Named(u64, &'a [u8], bool),
    Partial,
    No,
}

fn begun(bytes: &[u8]) -> Begun<'_> {
    let (Some(count), rest) = header(bytes, b'*') else { return partial(bytes, b'*') };
    let (Some(len), rest) = header(rest, b'$') else { return partial(rest, b'$') };
    let name_fits = (1..=command::NAME_MAX as i64).contains(&len);
    if count < 1 || !name_fits {
        return Begun::No;
    }
    let len = len as usize;
    match rest.get(..len) {
        Some(name) if command::is_name(name) => match &rest[len..] {
            [b'\r', b'\n', rest @ ..] => Begun::Named(count as u64, name, ends_after(rest, count as u64 - 1)),
            [] | [b'\r'] => Begun::Partial,
            _ => Begun::No,
        },
        None if rest.is_empty() || command::is_name(&rest[..rest.len().min(len)]) => Begun::Partial,
        None if rest.len() > len => Begun::No,
        _ => Begun::No,
    }
}

/// A number with its first byte and line end, and what follows.
fn header(bytes: &[u8], kind: u8) -> (Option<i64>, &[u8]) {
    let Some(end) = bytes.iter().take(16).position(|&byte| byte == b'\n') else { return (None, bytes) };
    match &bytes[..end] {
        [first, digits @ .., b'\r'] if *first == kind && digits.first().is_some_and(u8::is_ascii_digit) => {
            (number(digits), &bytes[end + 1..])
        }
        _ => (None, bytes),
    }
}

/// Whether a header that is not whole may become one.
fn partial(bytes: &[u8], kind: u8) -> Begun<'static> {
    let fits = match bytes {
        [] => true,
        [first, rest @ ..] if *first == kind && rest.len() < 14 => {
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest[digits..] == b"\r"[..] && digits > 0 || rest.len() == digits
        }
        _ => false,
    };
    if fits { Begun::Partial } else { Begun::No }
}

/// Whether exactly so many strings are left, or only part of the last one is missing.
fn ends_after(mut bytes: &[u8], count: u64) -> bool {
    for index in 0..count {
        let (Some(len), rest) = header(bytes, b'$') else { return false };
        let Ok(len) = usize::try_from(len) else { return false };
        match rest.get(len..len.saturating_add(2)) {
            Some(b"\r\n") => bytes = &rest[len + 2..],
            // A long value may go on in the next record.
            None => return index + 1 == count,
            Some(_) => return false,
        }
    }
    bytes.is_empty() || bytes[0] == b'*'
}

fn array(sample: &Sample<'_>) -> Verdict {
    match begun(sample.bytes) {
        Begun::Named(words, name, whole) => {
            let command = Command::find(name);
            let fits = command.is_known() && command.fits(words);
            // Confirmations of subscriptions look like commands, and answers may hold names of commands.
            let plain = fits && command.known().role != Role::Subscribe;
            match sample.mid_stream {
                true if plain && whole => Verdict::Yes(sample.direction),
                true => Verdict::No,
                // Clients speak first. (Records may swap places: then a name from the table decides.)
                false if sample.turn <= 1 || plain => Verdict::Yes(sample.direction),
                false => Verdict::Maybe,
            }
        }
        _ if sample.mid_stream => Verdict::No,
        Begun::Partial => Verdict::Maybe,
        // It may be an answer whose command has not been seen yet.
        Begun::No => answer(sample),
    }
}

/// Whether a run of bytes begins with a whole command's name: where reading goes on.
pub(super) fn begins_command(bytes: &[u8]) -> bool {
    matches!(begun(bytes), Begun::Named(words, name, _) if !Command::find(name).is_known() || Command::find(name).fits(words))
}

/// A value that a server may send: believed only behind what may be commands.
fn answer(sample: &Sample<'_>) -> Verdict {
    let bytes = sample.bytes;
    let Some(end) = memchr::memchr(b'\n', bytes) else {
        return if bytes.len() < 512 { Verdict::Maybe } else { Verdict::No };
    };
    let [kind, text @ .., b'\r'] = &bytes[..end] else { return Verdict::No };
    let fits = match kind {
        b'+' => text == b"OK" || text == b"PONG" || text == b"QUEUED",
        b'-' => text.split(|&byte| byte == b' ').next().is_some_and(fill::is_error_word),
        b'(' | b',' | b'#' | b'_' => true,
        _ => number(text).is_some_and(|number| number >= -1),
    };
    match fits {
        true if sample.turn == 2 && matches!(kind, b'+' | b'-' | b'$' | b':' | b'*') => {
            Verdict::Yes(sample.direction.reverse())
        }
        true => Verdict::Maybe,
        false => Verdict::No,
    }
}

/// A line of words, the first of which is a command: the answer will tell.
fn inline(bytes: &[u8]) -> Verdict {
    let line = memchr::memchr(b'\n', bytes).map_or(bytes, |end| &bytes[..end]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let whole = line.len() < bytes.len();
    let word = line.split(|&byte| byte == b' ').next().unwrap_or_default();
    let ended = whole || word.len() < line.len();
    let printable = line.iter().all(|byte| (0x20..0x7f).contains(byte));
    let fits = printable
        && (Command::find(word).is_known() || (!ended && word.len() < 20 && command::is_name(word)));
    if fits { Verdict::Maybe } else { Verdict::No }
}
