//! The DNS part of a request: one question and its answer.
//!
//! In: fields from the parser of DNS messages. Out: fields that are clean and bounded.

use crate::text::Text;

/// Answers that are kept.
pub(crate) const ANSWERS_MAX: usize = 16;

/// A DNS question and its answer.
#[derive(Clone, Debug, Default)]
pub struct DnsRequest {
    /// Name that is asked for (`dns.question.name`), without the last dot.
    pub question_name: Text<255>,
    /// Addresses and names in the answer (`dns.answers`), the first few.
    pub answers: Vec<Text<255>>,
    /// Room for more of them.
    pub spare: Vec<Text<255>>,
    /// RCODE of the answer (RFC 1035 section 4.1.1, RFC 6895 section 2.3), if there was one.
    pub response_code: Option<u16>,
}

impl DnsRequest {
    /// Forgets everything but the allocations.
    pub fn clear(&mut self) {
        // Destructured, so that a new field cannot be forgotten here.
        let Self { question_name, answers: _, spare: _, response_code } = self;
        question_name.clear();
        *response_code = None;
        self.clear_answers();
    }

    /// Forgets the answers but for their allocations.
    pub(crate) fn clear_answers(&mut self) {
        while let Some(mut answer) = self.answers.pop() {
            answer.clear();
            self.spare.push(answer);
        }
    }

    /// The value of `error.type` that the answer stands for; `None` if it is no error.
    pub fn error_type(&self) -> Option<&'static str> {
        match self.response_code? {
            0 => None,
            1 => Some("FORMERR"),
            2 => Some("SERVFAIL"),
            3 => Some("NXDOMAIN"),
            4 => Some("NOTIMP"),
            5 => Some("REFUSED"),
            _ => Some(crate::semconv::OTHER),
        }
    }
}
