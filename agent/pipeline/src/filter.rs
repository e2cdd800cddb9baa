//! Which spans count, by their attributes: a list of rules of the user, the first that fits decides.
//!
//! In: finished spans and the attributes of their resource. Out: keep or drop. A condition is a text, a shell pattern, a
//! comparison with a number, or the opposite of one of them. Nothing is allocated for a span, and each of its
//! attributes is looked at once.

use std::io::Write as _;

use crate::glob::Glob;
use crate::request::SpanKind;
use crate::semconv;
use crate::span::{Span, Value};

/// Conditions of all rules of a filter together.
const MAX_CONDITIONS: usize = 128;
/// The kind of a span, which is no attribute of it.
pub const SPAN_KIND: &str = "span.kind";
/// In front of an attribute of the resource.
pub const RESOURCE_PREFIX: &str = "resource.";

/// Rules, in order. What no rule fits is kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Each rule's conditions as bits, and whether it keeps.
    rules: Vec<(u128, bool)>,
    conditions: Vec<Condition>,
    /// The bits of conditions that say not, which hold where there is no such attribute.
    negated: u128,
}

#[derive(Clone, Debug, PartialEq)]
struct Condition {
    subject: Subject,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Subject {
    Kind,
    Attribute(&'static str),
    Resource(String),
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    Text(String),
    Glob(Glob),
    Compare(Order, f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a condition cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No span has it.
    #[error("no span has such an attribute; those of the resource are written {RESOURCE_PREFIX}NAME")]
    UnknownAttribute,
    /// Behind `<` or `>` is no number.
    #[error("give a number behind the comparison, such as >=500")]
    NoNumber,
    /// The shell pattern is broken.
    #[error("{0}")]
    Glob(&'static str),
    /// More than there may be.
    #[error("more than {MAX_CONDITIONS} conditions in all rules together")]
    TooMany,
}

impl Filter {
    /// Adds a rule: a span fits if all conditions hold. A rule without conditions fits every span.
    pub fn add<'a>(
        &mut self,
        keep: bool,
        conditions: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), FilterError> {
        let mut bits = 0;
        for (name, text) in conditions {
            if self.conditions.len() >= MAX_CONDITIONS {
                return Err(FilterError::TooMany);
            }
            let bit = 1 << self.conditions.len();
            let (condition, negated) = Condition::parse(name, text)?;
            self.conditions.push(condition);
            self.negated |= if negated { bit } else { 0 };
            bits |= bit;
        }
        self.rules.push((bits, keep));
        Ok(())
    }

    /// Checks one condition.
    pub fn check(name: &str, text: &str) -> Result<(), FilterError> {
        Condition::parse(name, text).map(drop)
    }

    /// Whether there is any rule.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the span is kept. `resource` shows the attributes of its resource, if it is asked.
    #[inline]
    pub fn keeps(&self, span: &Span<'_>, resource: impl FnOnce(&mut dyn FnMut(&str, Value<'_>))) -> bool {
        self.rules.is_empty() || self.decides(span, resource)
    }

    fn decides(&self, span: &Span<'_>, resource: impl FnOnce(&mut dyn FnMut(&str, Value<'_>))) -> bool {
        let mut held = self.negated;
        let mut asks_resource = false;
        for (index, condition) in self.conditions.iter().enumerate() {
            match condition.subject {
                Subject::Kind if condition.test.holds(&Value::Str(kind(span.kind()))) => held ^= 1 << index,
                Subject::Resource(_) => asks_resource = true,
                _ => {}
            }
        }
        span.attributes(&mut |name, value| {
            for (index, condition) in self.conditions.iter().enumerate() {
                if matches!(condition.subject, Subject::Attribute(wanted) if wanted == name)
                    && condition.test.holds(&value)
                {
                    held ^= 1 << index;
                }
            }
        });
        if asks_resource {
            resource(&mut |name, value| {
                for (index, condition) in self.conditions.iter().enumerate() {
                    if matches!(&condition.subject, Subject::Resource(wanted) if wanted == name)
                        && condition.test.holds(&value)
                    {
                        held ^= 1 << index;
                    }
                }
            });
        }
        self.rules.iter().find(|(bits, _)| held & bits == *bits).is_none_or(|&(_, keep)| keep)
    }
}

impl Condition {
    /// The condition, and whether it says not.
    fn parse(name: &str, text: &str) -> Result<(Self, bool), FilterError> {
        let subject = if name == SPAN_KIND {
            Subject::Kind
        } else if let Some(name) = name.strip_prefix(RESOURCE_PREFIX) {
            Subject::Resource(name.to_owned())
        } else {
            let known = semconv::NAMES.iter().find(|(known, _)| *known == name);
            Subject::Attribute(known.ok_or(FilterError::UnknownAttribute)?.0)
        };
        let (text, negated) = text.strip_prefix('!').map_or((text, false), |text| (text, true));
        Ok((Self { subject, test: Test::parse(text)? }, negated))
    }
}

impl Test {
    fn parse(text: &str) -> Result<Self, FilterError> {
        const ORDERS: &[(&str, Order)] = &[
            ("<=", Order::LessOrEqual),
            (">=", Order::GreaterOrEqual),
            ("<", Order::Less),
            (">", Order::Greater),
        ];
        for (sign, order) in ORDERS {
            if let Some(number) = text.strip_prefix(sign) {
                let number = number.trim().parse().map_err(|_| FilterError::NoNumber)?;
                return Ok(Self::Compare(*order, number));
            }
        }
        if text.contains(['*', '?', '[', '\\']) {
            return Glob::new(text).map(Self::Glob).map_err(FilterError::Glob);
        }
        Ok(Self::Text(text.to_owned()))
    }

    fn holds(&self, value: &Value<'_>) -> bool {
        match *value {
            Value::Str(text) => self.holds_text(text, || text.parse().ok()),
            Value::StrArray(texts) => texts.iter().any(|text| self.holds_text(text, || text.parse().ok())),
            Value::Bool(truth) => self.holds_text(if truth { "true" } else { "false" }, || None),
            Value::Int(number) => {
                let mut digits = [0; 20];
                let mut rest = digits.as_mut_slice();
                // The longest number has as many digits.
                let _ = write!(rest, "{number}");
                let left = rest.len();
                let text = std::str::from_utf8(&digits[..20 - left]).unwrap_or_default();
                self.holds_text(text, || Some(number as f64))
            }
            // Which digits a fraction has is nothing to compare texts with.
            Value::Double(number) => self.holds_text("", || Some(number)),
        }
    }

    fn holds_text(&self, text: &str, number: impl FnOnce() -> Option<f64>) -> bool {
        match self {
            Self::Text(wanted) => wanted == text,
            Self::Glob(glob) => glob.matches(text.as_bytes()),
            Self::Compare(order, limit) => number().is_some_and(|number| match order {
                Order::Less => number < *limit,
                Order::LessOrEqual => number <= *limit,
                Order::Greater => number > *limit,
                Order::GreaterOrEqual => number >= *limit,
            }),
        }
    }
}

fn kind(kind: SpanKind) -> &'static str {
    match kind {
        SpanKind::Internal => "internal",
        SpanKind::Server => "server",
        SpanKind::Client => "client",
        SpanKind::Producer => "producer",
        SpanKind::Consumer => "consumer",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert_eq, proptest};

    use super::*;
    use crate::request::Request;
    use crate::span::ParentRule;

    fn keeps(filter: &Filter, request: &Request) -> bool {
        let span = Span {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_span_id: None,
            flags: 1,
            remote_trace: false,
            trace_state: None,
            start_ktime_ns: 0,
            end_ktime_ns: 0,
            tgid: 1,
            request,
            parent_rule: ParentRule::None,
            links: &[],
        };
        filter.keeps(&span, |visit| {
            visit("service.name", Value::Str("shop"));
            visit("process.pid", Value::Int(42));
        })
    }

    /// `GET /healthz` answered with 204, seen by the server.
    fn request() -> Request {
        let mut request = Request::default();
        request.http_mut().set_method(b"GET");
        request.http_mut().set_target(b"/healthz", Default::default());
        request.http_mut().status_code = Some(204);
        request
    }

    /// Rules as `keep|drop name=text …`, one a line.
    fn filter(rules: &str) -> Result<Filter, FilterError> {
        let mut filter = Filter::default();
        for rule in rules.lines() {
            let (action, conditions) = rule.trim().split_once(' ').unwrap_or((rule.trim(), ""));
            filter.add(
                action == "keep",
                conditions.split_whitespace().map(|pair| pair.split_once('=').unwrap()),
            )?;
        }
        Ok(filter)
    }

    fn check(rules: &str, expected: bool) {
        assert_eq!(keeps(&filter(rules).unwrap(), &request()), expected, "{rules}");
    }

    #[test]
    fn conditions_are_texts_patterns_and_comparisons() {
        check("drop url.path=/healthz", false);
        check("drop url.path=/health", true);
        check("drop url.path=/health*", false);
        check("drop url.path=!/health*", true);
        check("drop url.path=!/api/*", false);
        check("drop http.response.status_code=204", false);
        check("drop http.response.status_code=20?", false);
        check("drop http.response.status_code=2[1-9]?", true);
        check("drop http.response.status_code=<204", true);
        check("drop http.response.status_code=<=204", false);
        check("drop http.response.status_code=>=204", false);
        check("drop http.response.status_code=>204.5", true);
        check("drop http.response.status_code=!>204.5", false);
        check("drop span.kind=server", false);
        check("drop span.kind=!server", true);
        check("drop resource.service.name=sh*", false);
        check("drop resource.process.pid=42", false);
        check("drop resource.service.version=1", true);
    }

    #[test]
    fn a_missing_attribute_fits_only_what_says_not() {
        check("drop error.type=*", true);
        check("drop error.type=!timeout", false);
        check("drop error.type=<500", true);
    }

    #[test]
    fn all_conditions_of_a_rule_hold_and_the_first_rule_decides() {
        check("", true);
        check("drop", false);
        check("drop url.path=/healthz http.request.method=POST", true);
        check("drop url.path=/healthz http.request.method=GET", false);
        check("keep http.request.method=GET\ndrop url.path=/healthz", true);
        check("drop url.path=/healthz\nkeep http.request.method=GET", false);
        check("keep url.path=/api/*\ndrop", false);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert_eq!(filter("drop url.pth=/a"), Err(FilterError::UnknownAttribute));
        assert_eq!(filter("drop url.path=<a"), Err(FilterError::NoNumber));
        assert!(matches!(filter("drop url.path=[a"), Err(FilterError::Glob(_))));
        assert_eq!(filter(&"drop url.path=a\n".repeat(129)), Err(FilterError::TooMany));
        assert!(filter(&"drop url.path=a\n".repeat(128)).is_ok());
    }

    proptest! {
        #[test]
        fn not_is_the_opposite(text in "[a-z/*?<>0-9.]{1,8}", path in "/[a-z0-9]{0,6}") {
            let mut request = request();
            request.http_mut().set_target(path.as_bytes(), Default::default());
            if let (Ok(one), Ok(other)) = (filter(&format!("drop url.path={text}")), filter(&format!("drop url.path=!{text}"))) {
                prop_assert_eq!(keeps(&one, &request), !keeps(&other, &request));
            }
        }
    }
}
