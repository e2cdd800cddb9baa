//! Name and attributes of DNS spans. Name: `DNS {question}`; the conventions name no span, so this one is ours.

use super::{Span, SpanName, Value, visit_text};
use crate::dns_request::{ANSWERS_MAX, DnsRequest};
use crate::semconv;

pub(super) fn name(dns: &DnsRequest) -> SpanName<'_> {
    SpanName { verb: semconv::DNS, object: dns.question_name.get() }
}

pub(super) fn attributes(span: &Span<'_>, dns: &DnsRequest, visit: &mut impl FnMut(&'static str, Value<'_>)) {
    visit_text(semconv::DNS_QUESTION_NAME, dns.question_name.get(), visit);
    let mut answers = [""; ANSWERS_MAX];
    for (shown, answer) in answers.iter_mut().zip(&dns.answers) {
        *shown = answer.as_str();
    }
    let count = dns.answers.len().min(ANSWERS_MAX);
    if count > 0 {
        visit(semconv::DNS_ANSWERS, Value::StrArray(&answers[..count]));
    }
    span.error_attribute(visit);
    span.server_socket_attributes(visit);
}
