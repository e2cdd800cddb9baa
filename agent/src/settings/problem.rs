//! What is wrong with the settings, and where: one line each, several at once.

use std::fmt;

/// One thing that must be mended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub String);

/// All things that must be mended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

/// More than these are not told at once.
const MAX_TOLD: usize = 20;

impl Problems {
    /// One more.
    pub fn add(&mut self, message: impl Into<String>) {
        self.0.push(Problem(message.into()));
    }

    /// Fails if there is any.
    pub fn check(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// The lines to print.
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<_> = self.0.iter().take(MAX_TOLD).map(|problem| problem.0.clone()).collect();
        if self.0.len() > MAX_TOLD {
            lines.push(format!("and {} more like these", self.0.len() - MAX_TOLD));
        }
        lines
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines().join("; "))
    }
}

impl std::error::Error for Problems {}
