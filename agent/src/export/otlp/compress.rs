//! Compression of request bodies, and of the few answers that come compressed.

use std::io::{self, Read, Write};

use flate2::write::GzEncoder;

use super::settings::Compression;

/// Spans repeat themselves: a higher level costs more CPU than it saves bytes (docs/benchmarks.md).
const GZIP_LEVEL: u32 = 1;
const ZSTD_LEVEL: i32 = 1;

/// Compresses one body after the other; keeps its tables.
pub(super) enum Compressor {
    None,
    Gzip,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    pub(super) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::None => Self::None,
            Compression::Gzip => Self::Gzip,
            Compression::Zstd => Self::Zstd(zstd::bulk::Compressor::new(ZSTD_LEVEL)?),
        })
    }

    /// Appends the compressed body.
    pub(super) fn compress(&mut self, body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::None => out.extend_from_slice(body),
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, flate2::Compression::new(GZIP_LEVEL));
                encoder.write_all(body)?;
                encoder.finish()?;
            }
            Self::Zstd(compressor) => {
                let start = out.len();
                out.resize(start + zstd::zstd_safe::compress_bound(body.len()), 0);
                let written = compressor.compress_to_buffer(body, &mut out[start..])?;
                out.truncate(start + written);
            }
        }
        Ok(())
    }
}

/// An untrusted answer, if it is no longer than that.
pub(super) fn decompress(encoding: &[u8], packed: &[u8], max_bytes: usize) -> Option<Vec<u8>> {
    match encoding {
        b"gzip" => {
            let mut plain = Vec::new();
            let limit = max_bytes as u64 + 1;
            flate2::read::GzDecoder::new(packed).take(limit).read_to_end(&mut plain).ok()?;
            (plain.len() <= max_bytes).then_some(plain)
        }
        b"zstd" => zstd::bulk::decompress(packed, max_bytes).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_that_grow_without_end_are_refused() {
        let bomb = vec![0; 1 << 20];
        for (compression, name) in [(Compression::Gzip, b"gzip"), (Compression::Zstd, b"zstd")] {
            let mut packed = Vec::new();
            Compressor::new(compression).unwrap().compress(&bomb, &mut packed).unwrap();
            assert_eq!(decompress(name, &packed, 1000), None);
            assert_eq!(decompress(name, &packed, 1 << 20).as_ref(), Some(&bomb));
            assert_eq!(decompress(name, b"no such thing", 1000), None);
        }
        assert_eq!(decompress(b"br", b"", 1000), None);
    }

    #[test]
    fn bodies_round_trip_one_after_the_other() {
        let bodies = [b"".to_vec(), vec![b'x'; 100_000], (0..50_000_u32).map(|n| (n * n) as u8).collect()];
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let mut compressor = Compressor::new(compression).unwrap();
            for body in &bodies {
                let mut out = b"head".to_vec();
                compressor.compress(body, &mut out).unwrap();
                let packed = out.strip_prefix(b"head").unwrap();
                let mut unpacked = Vec::new();
                match compression {
                    Compression::None => unpacked.extend_from_slice(packed),
                    Compression::Gzip => {
                        flate2::read::GzDecoder::new(packed).read_to_end(&mut unpacked).map(drop).unwrap();
                    }
                    Compression::Zstd => {
                        unpacked = zstd::decode_all(packed).unwrap();
                    }
                }
                assert_eq!(&unpacked, body, "{compression:?}");
            }
        }
    }
}
