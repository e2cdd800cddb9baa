//! What the test programs that run the real agent share: the agent itself, its books, and the tools around them.

pub mod books;
pub mod process;
pub mod skep;
pub mod tools;
