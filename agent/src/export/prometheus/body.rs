//! The body of a response: text made when the connection has room for it, compressed if the scraper takes that.

use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Bytes, HttpBody};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Frame;
use tokio::sync::OwnedSemaphorePermit;

use super::text::Writer;

/// Text that is made at a time.
const PIECE_BYTES: usize = 32 * 1024;

/// A response's body, and its place among those that are made at the same time.
pub(super) struct Body {
    writer: Writer,
    text: String,
    gzip: Option<GzEncoder<Vec<u8>>>,
    done: bool,
    _place: OwnedSemaphorePermit,
}

impl Body {
    pub(super) fn new(writer: Writer, gzip: bool, place: OwnedSemaphorePermit) -> Self {
        let gzip = gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast()));
        Self { writer, text: String::new(), gzip, done: false, _place: place }
    }

    /// The next piece; `None` at the end.
    fn next(&mut self) -> Option<Bytes> {
        while !self.done {
            self.text.clear();
            self.done = !self.writer.write(&mut self.text, PIECE_BYTES);
            let Some(gzip) = &mut self.gzip else {
                return Some(Bytes::copy_from_slice(self.text.as_bytes()));
            };
            // Memory takes everything.
            let _ = gzip.write_all(self.text.as_bytes());
            let piece = match self.done {
                true => {
                    std::mem::take(&mut self.gzip).and_then(|gzip| gzip.finish().ok()).unwrap_or_default()
                }
                false => std::mem::take(gzip.get_mut()),
            };
            if !piece.is_empty() {
                return Some(piece.into());
            }
        }
        None
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.get_mut().next().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.done
    }
}
