//! Tests of the whole pipeline: records in, spans out. One binary, so that it is linked once.

mod parents;
mod properties;
mod support;
mod transcripts;
