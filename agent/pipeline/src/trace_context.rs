//! Trace context that a request carries: W3C `traceparent`/`tracestate` (level 2), B3 (single and multi),
//! Jaeger's `uber-trace-id`.
//!
//! In: header names and values as they were on the wire. Out: a [`TraceContext`] if they are valid, else nothing:
//! what is malformed in any way names no parent. Of several families the most precise wins, W3C first. Nothing is
//! written here: headers are not injected. Spec: w3.org/TR/trace-context-2, github.com/openzipkin/b3-propagation,
//! jaegertracing.io/docs (propagation format).

use crate::text::Text;

/// Longest `tracestate` that is kept; the specification asks for at least this.
pub const TRACE_STATE_MAX: usize = 512;
/// The caller, or this span's recorder, may have recorded it.
pub const SAMPLED: u8 = 1;
/// At least the last 7 bytes of the trace id are random.
pub const RANDOM: u8 = 2;

/// The span that sent a request, as its headers name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// Never all zero.
    pub trace_id: [u8; 16],
    /// Never all zero.
    pub span_id: [u8; 8],
    /// W3C trace flags: [`SAMPLED`], [`RANDOM`]; others are cleared.
    pub flags: u8,
    /// Which header said so.
    pub format: ContextFormat,
}

/// Header family that a [`TraceContext`] came from, the preferred one first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContextFormat {
    /// `traceparent`
    W3c,
    /// `b3`
    B3Single,
    /// `x-b3-traceid` and its fellows
    B3Multi,
    /// `uber-trace-id`
    Jaeger,
}

/// What the trace headers of one request say, gathered header by header.
#[derive(Clone, Debug, Default)]
pub struct TraceHeaders {
    traceparent: Once<TraceContext>,
    b3: Once<TraceContext>,
    b3_trace_id: Once<[u8; 16]>,
    b3_span_id: Once<[u8; 8]>,
    b3_sampled: Once<u8>,
    b3_debug: bool,
    uber_trace_id: Once<TraceContext>,
    trace_state: Text<TRACE_STATE_MAX>,
    trace_state_invalid: bool,
}

/// The value of a header that may come once: a second one makes it invalid, as a malformed one does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Once<T> {
    #[default]
    Absent,
    Valid(T),
    Invalid,
}

impl<T: Copy> Once<T> {
    fn see(&mut self, value: Option<T>) {
        *self = match (&self, value) {
            (Self::Absent, Some(value)) => Self::Valid(value),
            _ => Self::Invalid,
        };
    }

    fn get(&self) -> Option<T> {
        if let Self::Valid(value) = self { Some(*value) } else { None }
    }
}

impl TraceHeaders {
    /// Takes note of a request header; returns whether it was a trace header.
    #[inline]
    pub fn observe(&mut self, name: &[u8], value: &[u8]) -> bool {
        // First byte and length tell nearly all other headers apart without a comparison.
        match (name.first(), name.len()) {
            (Some(b't' | b'T'), 10 | 11) | (Some(b'b' | b'B'), 2) | (Some(b'x' | b'X'), 10..=14) => {}
            (Some(b'u' | b'U'), 13) => {}
            _ => return false,
        }
        self.observe_named(name, value.trim_ascii())
    }

    fn observe_named(&mut self, name: &[u8], value: &[u8]) -> bool {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        if is(b"traceparent") {
            self.traceparent.see(traceparent(value));
        } else if is(b"tracestate") {
            self.observe_trace_state(value);
        } else if is(b"b3") {
            self.b3.see(b3_single(value));
        } else if is(b"x-b3-traceid") {
            self.b3_trace_id.see(b3_trace_id(value));
        } else if is(b"x-b3-spanid") {
            self.b3_span_id.see(lower_hex(value).filter(is_nonzero));
        } else if is(b"x-b3-sampled") {
            self.b3_sampled.see(match value {
                b"1" | b"true" => Some(SAMPLED),
                b"0" | b"false" => Some(0),
                _ => None,
            });
        } else if is(b"x-b3-flags") {
            self.b3_debug |= value == b"1";
        } else if is(b"uber-trace-id") {
            self.uber_trace_id.see(uber_trace_id(value));
        } else {
            return false;
        }
        true
    }

    fn observe_trace_state(&mut self, value: &[u8]) {
        for member in value.split(|&byte| byte == b',') {
            let member = member.trim_ascii();
            if member.is_empty() {
                continue;
            }
            if !is_trace_state_member(member) {
                self.trace_state_invalid = true;
                return;
            }
            // Members that do not fit are left out whole.
            let separator = usize::from(!self.trace_state.is_empty());
            if self.trace_state.len() + separator + member.len() <= TRACE_STATE_MAX {
                self.trace_state.push(&b","[..separator]);
                self.trace_state.push(member);
            }
        }
    }

    /// The span that the headers name, if any.
    pub fn context(&self) -> Option<TraceContext> {
        self.traceparent
            .get()
            .or_else(|| self.b3.get())
            .or_else(|| self.b3_multi())
            .or_else(|| self.uber_trace_id.get())
    }

    /// `tracestate`, if it goes with a valid `traceparent` and is valid itself.
    pub fn trace_state(&self) -> Option<&str> {
        let valid = self.traceparent.get().is_some() && !self.trace_state_invalid;
        self.trace_state.get().filter(|_| valid)
    }

    /// Forgets everything.
    #[inline]
    pub fn clear(&mut self) {
        let mut trace_state = std::mem::take(&mut self.trace_state);
        trace_state.clear();
        *self = Self { trace_state, ..Self::default() };
    }

    fn b3_multi(&self) -> Option<TraceContext> {
        let (trace_id, span_id) = (self.b3_trace_id.get()?, self.b3_span_id.get()?);
        let flags = match self.b3_sampled {
            _ if self.b3_debug => SAMPLED,
            Once::Valid(flags) => flags,
            // Left to the receiver, and Skep records.
            Once::Absent => SAMPLED,
            Once::Invalid => return None,
        };
        Some(TraceContext { trace_id, span_id, flags, format: ContextFormat::B3Multi })
    }
}

/// Parses `version-traceid-parentid-flags`.
fn traceparent(value: &[u8]) -> Option<TraceContext> {
    let (known, rest) = value.split_at_checked(55)?;
    let [version] = lower_hex(&known[..2])?;
    let well_formed = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    let ends_well = match version {
        0 => rest.is_empty(),
        0xff => false,
        _ => rest.is_empty() || rest[0] == b'-',
    };
    if !well_formed || !ends_well {
        return None;
    }
    let [flags] = lower_hex(&known[53..])?;
    Some(TraceContext {
        trace_id: lower_hex(&known[3..35]).filter(is_nonzero)?,
        span_id: lower_hex(&known[36..52]).filter(is_nonzero)?,
        flags: flags & (SAMPLED | RANDOM),
        format: ContextFormat::W3c,
    })
}

/// Parses `traceid-spanid[-sampled[-parentspanid]]`. A bare `0` or `d` names no span.
fn b3_single(value: &[u8]) -> Option<TraceContext> {
    let mut parts = value.split(|&byte| byte == b'-');
    let trace_id = b3_trace_id(parts.next()?)?;
    let span_id = lower_hex(parts.next()?).filter(is_nonzero)?;
    let flags = match parts.next() {
        None | Some(b"1" | b"d") => SAMPLED,
        Some(b"0") => 0,
        Some(_) => return None,
    };
    if let Some(parent) = parts.next() {
        lower_hex::<8>(parent)?;
    }
    let whole = parts.next().is_none();
    whole.then_some(TraceContext { trace_id, span_id, flags, format: ContextFormat::B3Single })
}

/// 128-bit, or 64-bit and then padded on the left.
fn b3_trace_id(value: &[u8]) -> Option<[u8; 16]> {
    match lower_hex::<8>(value) {
        Some(low) => Some(u128::from(u64::from_be_bytes(low)).to_be_bytes()),
        None => lower_hex::<16>(value),
    }
    .filter(is_nonzero)
}

/// Parses `traceid:spanid:parentid:flags`, colons plain or percent-encoded, leading zeros left out or not.
fn uber_trace_id(value: &[u8]) -> Option<TraceContext> {
    let mut rest = value;
    let trace_id = until_colon(&mut rest).and_then(|id| short_hex(id, 32)).filter(|&id| id != 0)?;
    let span_id = until_colon(&mut rest).and_then(|id| short_hex(id, 16)).filter(|&id| id != 0)?;
    let parent_id = until_colon(&mut rest)?; // deprecated; may be empty
    if !parent_id.is_empty() {
        short_hex(parent_id, 16)?;
    }
    let flags = short_hex(rest, 2)?;
    Some(TraceContext {
        trace_id: trace_id.to_be_bytes(),
        span_id: u64::try_from(span_id).ok()?.to_be_bytes(),
        flags: u8::from(flags & 1 == 1),
        format: ContextFormat::Jaeger,
    })
}

/// Cuts what stands before the next colon off the front.
fn until_colon<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let all = *rest;
    let at = all.iter().position(|byte| matches!(byte, b':' | b'%'))?;
    let width = if all[at] == b':' { 1 } else { 3 };
    if width == 3 && !all.get(at..at + 3)?.eq_ignore_ascii_case(b"%3a") {
        return None;
    }
    *rest = &all[at + width..];
    Some(&all[..at])
}

/// One to `digits` hexadecimal digits of either case.
fn short_hex(text: &[u8], digits: usize) -> Option<u128> {
    if text.is_empty() || text.len() > digits {
        return None;
    }
    text.iter()
        .try_fold(0u128, |number, &byte| Some(number << 4 | u128::from(char::from(byte).to_digit(16)?)))
}

/// Exactly `2 * N` lower-case hexadecimal digits.
#[inline]
fn lower_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    let mut bad = 0;
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (NIBBLES[usize::from(pair[0])], NIBBLES[usize::from(pair[1])]);
        bad |= high | low;
        *byte = high << 4 | low & 0xf;
    }
    (bad & 0x80 == 0).then_some(bytes)
}

/// Value of each lower-case hexadecimal digit; 0x80 for every other byte.
const NIBBLES: [u8; 256] = {
    let mut table = [0x80; 256];
    let mut value = 0;
    while value < 16 {
        table[b"0123456789abcdef"[value] as usize] = value as u8;
        value += 1;
    }
    table
};

fn is_nonzero<const N: usize>(id: &[u8; N]) -> bool {
    id.iter().any(|&byte| byte != 0)
}

/// `key=value` by the grammar of level 2.
fn is_trace_state_member(member: &[u8]) -> bool {
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else {
        return false;
    };
    let (key, value) = (&member[..equals], &member[equals + 1..]);
    let key_ok = match key.iter().position(|&byte| byte == b'@') {
        None => is_key_part(key, 256),
        Some(at) => {
            is_key_part(&key[..at], 241) && is_key_part(&key[at + 1..], 14) && !key[at + 1].is_ascii_digit()
        }
    };
    key_ok
        && (1..=256).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, 0x20..=0x7e) && !matches!(byte, b',' | b'='))
}

fn is_key_part(part: &[u8], max: usize) -> bool {
    part.len() <= max
        && part.first().is_some_and(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'))
        && part.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    const T: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const S: &str = "00f067aa0ba902b7";

    /// Headers as `name: value` lines → `traceid spanid flags format`, or `none`.
    fn check(headers: &str, expected: &str) {
        let mut seen = TraceHeaders::default();
        let headers = headers.replace("$T", T).replace("$S", S);
        for line in headers.lines() {
            let (name, value) = line.split_once(':').unwrap();
            assert!(seen.observe(name.as_bytes(), value.as_bytes()), "{line}");
        }
        let actual = seen.context().map_or_else(
            || "none".to_owned(),
            |context| {
                let trace = u128::from_be_bytes(context.trace_id);
                let span = u64::from_be_bytes(context.span_id);
                format!("{trace:032x} {span:016x} {} {:?}", context.flags, context.format)
            },
        );
        assert_eq!(actual, expected.replace("$T", T).replace("$S", S), "{headers}");
    }

    #[test]
    fn a_traceparent_is_taken() {
        check("traceparent: 00-$T-$S-01", "$T $S 1 W3c");
        check("TraceParent:00-$T-$S-00", "$T $S 0 W3c");
        check("traceparent: \t00-$T-$S-03 \t", "$T $S 3 W3c");
        check("traceparent: 00-$T-$S-ff", "$T $S 3 W3c");
        check("traceparent: cc-$T-$S-01", "$T $S 1 W3c");
        check("traceparent: cc-$T-$S-01-what-comes", "$T $S 1 W3c");
        check("traceparent: 01-$T-$S-09-", "$T $S 1 W3c");
    }

    #[test]
    fn a_malformed_traceparent_names_no_parent() {
        for value in [
            "",
            "00",
            "00-$T-$S",
            "00-$T-$S-",
            "00-$T-$S-1",
            "00-$T-$S-01-",
            "00-$T-$S-01-x",
            "00-$T-$S-011",
            "cc-$T-$S-01.x",
            "ff-$T-$S-01",
            "0-$T-$S-01",
            "0G-$T-$S-01",
            "00_$T-$S-01",
            "00-$T_$S-01",
            "00-$T-$S_01",
            "00-00000000000000000000000000000000-$S-01",
            "00-$T-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-$S-01",
            "00-$T-00F067AA0BA902B7-01",
            "00-$T-$S-0A",
            "00-$T-$S-.1",
            "00-4bf92f3577b34da6a3ce929d0e0e473-$S-001",
        ] {
            check(&format!("traceparent: {value}"), "none");
        }
        check("traceparent: 00-$T-$S-01\ntraceparent: 00-$T-$S-01", "none");
        check("traceparent: x\ntraceparent: 00-$T-$S-01", "none");
    }

    #[test]
    fn b3_single_is_taken() {
        check("b3: $T-$S-1", "$T $S 1 B3Single");
        check("B3: $T-$S-0", "$T $S 0 B3Single");
        check("b3: $T-$S-d-05e3ac9a4f6e3b90", "$T $S 1 B3Single");
        check("b3: $T-$S", "$T $S 1 B3Single");
        check("b3: a3ce929d0e0e4736-$S-1", "0000000000000000a3ce929d0e0e4736 $S 1 B3Single");
        for value in ["0", "d", "", "$T", "$T-", "$T-$S-2", "$T-$S-1-", "$T-$S-1-$S-", "$S$S$S-$S", "$T-$T-1"]
        {
            check(&format!("b3: {value}"), "none");
        }
        check("b3: 0000000000000000-$S-1", "none");
        check("b3: $T-0000000000000000-1", "none");
    }

    #[test]
    fn b3_multi_is_taken() {
        let ids = "X-B3-TraceId: $T\nX-B3-SpanId: $S";
        check(ids, "$T $S 1 B3Multi");
        check(&format!("{ids}\nx-b3-sampled: 0"), "$T $S 0 B3Multi");
        check(&format!("{ids}\nx-b3-sampled: true"), "$T $S 1 B3Multi");
        check(&format!("{ids}\nx-b3-sampled: 0\nx-b3-flags: 1"), "$T $S 1 B3Multi");
        check(&format!("{ids}\nx-b3-sampled: maybe"), "none");
        check("x-b3-traceid: $T", "none");
        check("x-b3-spanid: $S", "none");
        check("x-b3-traceid: $T\nx-b3-spanid: 0000000000000000", "none");
        check("x-b3-traceid: $S\nx-b3-spanid: $S", "000000000000000000f067aa0ba902b7 $S 1 B3Multi");
    }

    #[test]
    fn uber_trace_id_is_taken() {
        check("uber-trace-id: $T:$S:0:1", "$T $S 1 Jaeger");
        check("Uber-Trace-Id: $T%3A$S%3a0%3A0", "$T $S 0 Jaeger");
        check("uber-trace-id: 3ABc:f:0:3", "00000000000000000000000000003abc 000000000000000f 1 Jaeger");
        check("uber-trace-id: a3ce929d0e0e4736:$S::01", "0000000000000000a3ce929d0e0e4736 $S 1 Jaeger");
        check("uber-trace-id: $T:$S:0:2", "$T $S 0 Jaeger");
        for value in [
            "",
            ":::",
            "$T:$S:0",
            "0:$S:0:1",
            "$T:0:0:1",
            "$T:$S:0:1:1",
            "1$T:$S:0:1",
            "$T:1$S:0:1",
            "$T:$S:x:1",
        ] {
            check(&format!("uber-trace-id: {value}"), "none");
        }
        check("uber-trace-id: $T%3B$S:0:1", "none");
        check("uber-trace-id: $T:$S:0:", "none");
        check("uber-trace-id: $T:$S:0:100", "none");
    }

    #[test]
    fn w3c_wins_over_b3_over_jaeger() {
        let jaeger = "uber-trace-id: 1:2:0:1";
        check(&format!("{jaeger}\nb3: $T-$S-1\ntraceparent: 00-$T-$S-00"), "$T $S 0 W3c");
        check(&format!("{jaeger}\nb3: $T-$S-1\ntraceparent: bad"), "$T $S 1 B3Single");
        check(&format!("{jaeger}\nb3: 0"), "00000000000000000000000000000001 0000000000000002 1 Jaeger");
    }

    #[test]
    fn other_headers_are_left_alone() {
        let mut seen = TraceHeaders::default();
        for name in [
            "",
            "te",
            "host",
            "trailers-x",
            "x-b3-parent",
            "user-agent",
            "x-b3-parentspanid",
            "uber-trace-xx",
        ] {
            assert!(!seen.observe(name.as_bytes(), b"1"), "{name}");
        }
    }

    fn check_state(values: &[&str], expected: Option<&str>) {
        let mut seen = TraceHeaders::default();
        seen.observe(b"traceparent", format!("00-{T}-{S}-01").as_bytes());
        for value in values {
            seen.observe(b"tracestate", value.as_bytes());
        }
        assert_eq!(seen.trace_state(), expected, "{values:?}");
    }

    #[test]
    fn a_trace_state_goes_with_its_parent() {
        check_state(&["foo=1"], Some("foo=1"));
        check_state(&["foo=1 , bar=2", "baz=3"], Some("foo=1,bar=2,baz=3"));
        check_state(&["t1@sys=00f0:a b", ", ,"], Some("t1@sys=00f0:a b"));
        check_state(&[""], None);
        for bad in [
            "foo",
            "=1",
            "foo=",
            "Foo=1",
            "foo@=1",
            "foo@bar@baz=1",
            "foo@1b=1",
            "foo =1",
            "foo=1=2",
            "f=\u{e9}",
        ] {
            check_state(&[bad], None);
            check_state(&["ok=1", bad], None);
        }
        let mut alone = TraceHeaders::default();
        alone.observe(b"tracestate", b"foo=1");
        assert_eq!(alone.trace_state(), None);
    }

    #[test]
    fn a_long_trace_state_is_cut_between_members() {
        let long = format!("a={},b={},c=1", "x".repeat(255), "y".repeat(256));
        check_state(&[&long], Some(&format!("a={},c=1", "x".repeat(255)) as &str));
    }

    #[test]
    fn clearing_forgets() {
        let mut seen = TraceHeaders::default();
        seen.observe(b"traceparent", format!("00-{T}-{S}-01").as_bytes());
        seen.observe(b"tracestate", b"bad");
        seen.clear();
        assert_eq!(seen.context(), None);
        seen.observe(b"traceparent", format!("00-{T}-{S}-01").as_bytes());
        seen.observe(b"tracestate", b"a=1");
        assert_eq!(seen.trace_state(), Some("a=1"));
    }

    proptest! {
        #[test]
        fn ids_round_trip(trace in 1u128.., span in 1u64.., flags in 0u8..4) {
            let hex = [
                ("traceparent", format!("00-{trace:032x}-{span:016x}-{flags:02x}")),
                ("b3", format!("{trace:032x}-{span:016x}-{}", flags & 1)),
                ("uber-trace-id", format!("{trace:x}:{span:x}:0:{}", flags & 1)),
            ];
            for (name, value) in hex {
                let mut seen = TraceHeaders::default();
                seen.observe(name.as_bytes(), value.as_bytes());
                let context = seen.context().unwrap();
                prop_assert_eq!(u128::from_be_bytes(context.trace_id), trace);
                prop_assert_eq!(u64::from_be_bytes(context.span_id), span);
                prop_assert_eq!(context.flags & 1, flags & 1);
            }
        }

        #[test]
        fn any_bytes_are_safe(index in 0usize..8, value: Vec<u8>, twice in any::<bool>()) {
            let names = ["traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled",
                "x-b3-flags", "uber-trace-id"];
            let mut seen = TraceHeaders::default();
            seen.observe(names[index].as_bytes(), &value);
            if twice {
                seen.observe(names[index].as_bytes(), &value);
            }
            if let Some(context) = seen.context() {
                prop_assert!(context.trace_id != [0; 16] && context.span_id != [0; 8]);
            }
        }
    }
}
