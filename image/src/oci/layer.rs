//! Verifies and unpacks the blob of a layer.

use super::digest::{Hasher, of_reader};
use super::{Digest, Problem};
use crate::tree::Region;
use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum compression ratio of layers larger than [`RATIO_FROM`]: the best that gzip can reach. It stops
/// decompression bombs in formats without such a bound.
const MAX_RATIO: u64 = 1100;
/// Uncompressed size in bytes up to which the ratio is not limited.
const RATIO_FROM: u64 = 256 << 20;
/// Window size limit of a zstd stream: that of `zstd --long` (27 bits).
const MAX_WINDOW: u64 = 128 << 20;

/// A blob of an image.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    /// Its name in the image.
    pub name: String,
    /// Its expected digest, if it is known.
    pub digest: Option<Digest>,
    pub content: Region,
}

/// A layer of an opened image.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Digest of the uncompressed layer.
    pub diff_id: Digest,
    pub(super) blob: Blob,
}

impl Layer {
    /// Size of the layer in the image in bytes, compressed or not.
    pub fn size(&self) -> u64 {
        self.blob.content.len()
    }

    /// The layer's tar stream, uncompressed and verified. A compressed layer is decompressed into an unnamed
    /// file in `scratch`, which is removed with the region.
    ///
    /// # Errors
    /// A digest does not match, the compressed stream is damaged, the stream is longer than `limit` bytes
    /// or exceeds the maximum compression ratio, or reading or writing failed.
    pub fn unpack(&self, scratch: &Path, limit: u64) -> Result<Region, Problem> {
        let blob = &self.blob;
        let mut magic = [0; 4];
        // A shorter blob is not compressed; the tar reader reports what is wrong with it.
        let known = blob.content.read_exact_at(&mut magic, 0).is_ok();
        let packed = match magic {
            [0x1f, 0x8b, _, _] if known => Packed::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] if known => Packed::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] if known => Packed::Zstd,
            _ => Packed::No,
        };
        // The digest is verified before decompression, so that a forged blob never reaches a decoder.
        let expected = match (&blob.digest, packed) {
            (Some(digest), _) => Some(digest),
            (None, Packed::No) => Some(&self.diff_id),
            (None, _) => None,
        };
        if let Some(expected) = expected {
            let found = of_reader(blob.content.reader()).map_err(Problem::io(&blob.name))?;
            self.verify(expected, found)?;
        }
        if packed == Packed::No {
            if expected != Some(&self.diff_id) {
                let found = blob.digest.clone().unwrap_or_else(|| self.diff_id.clone());
                self.verify(&self.diff_id, found)?;
            }
            return self.limited(blob.content.len(), limit).map(|()| blob.content.clone());
        }
        let file = scratch_file(scratch)?;
        let found = self.decompress(packed, limit, &file)?;
        self.verify(&self.diff_id, found)?;
        Region::whole(file).map_err(Problem::io("the unpacked layer"))
    }

    /// Writes the uncompressed stream to `file` and returns its digest.
    fn decompress(&self, packed: Packed, limit: u64, file: &File) -> Result<Digest, Problem> {
        let mut out = Spool {
            out: BufWriter::with_capacity(1 << 20, file),
            hasher: Hasher::new(),
            written: 0,
            limit: limit.min(self.size().saturating_mul(MAX_RATIO).max(RATIO_FROM)),
        };
        let input = BufReader::with_capacity(256 << 10, self.blob.content.reader());
        let done = match packed {
            Packed::Zstd => unzstd(input, &mut out),
            _ => io::copy(&mut MultiGzDecoder::new(input), &mut out).map(|_| ()),
        };
        self.limited(out.written, out.limit)?;
        done.and_then(|()| out.flush()).map_err(|error| Problem::Unpack {
            layer: self.blob.name.clone(),
            reason: error.to_string(),
        })?;
        Ok(out.hasher.finish())
    }

    fn verify(&self, expected: &Digest, found: Digest) -> Result<(), Problem> {
        match *expected == found {
            true => Ok(()),
            false => Err(Problem::Digest {
                what: format!("layer {}", self.blob.name),
                expected: expected.clone(),
                found,
            }),
        }
    }

    fn limited(&self, size: u64, limit: u64) -> Result<(), Problem> {
        match size <= limit {
            true => Ok(()),
            false => Err(Problem::TooLarge {
                what: format!("unpacked size of layer {}", self.blob.name),
                size,
                limit,
            }),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Packed {
    No,
    Gzip,
    Zstd,
}

/// Checks that a layer's media type is a tar stream. The compression is detected from the content, as in
/// containerd and podman: some tools declare it incorrectly.
pub(super) fn check_layer_type(media_type: &str) -> Result<(), String> {
    let known = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let base = media_type.rsplit_once(['+', '.']);
    let packed = match base {
        Some((base, "gzip" | "zstd")) => known.contains(&base),
        _ => false,
    };
    match packed || known.contains(&media_type) {
        true => Ok(()),
        false => Err(format!("unknown layer media type {media_type:?}")),
    }
}

/// Writes a stream, computes its digest and enforces a size limit.
struct Spool<'a> {
    out: BufWriter<&'a File>,
    hasher: Hasher,
    written: u64,
    limit: u64,
}

impl Write for Spool<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written = self.written.saturating_add(bytes.len() as u64);
        if self.written > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hasher.update(bytes);
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Decompresses all frames of a zstd stream. Skippable frames contain no data (zstd:chunked stores its
/// table of contents there).
fn unzstd(mut input: impl BufRead, out: &mut impl Write) -> io::Result<()> {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(MAX_WINDOW);
    while !input.fill_buf()?.is_empty() {
        match StreamingDecoder::new_with_decoder(&mut input, &mut decoder) {
            Ok(mut frame) => {
                io::copy(&mut frame, out)?;
            }
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let skipped =
                    io::copy(&mut input.by_ref().take(u64::from(length)), &mut io::sink())?;
                if skipped < u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            Err(error) => return Err(io::Error::other(error.to_string())),
        }
    }
    Ok(())
}

/// Creates an unnamed temporary file for reading and writing.
fn scratch_file(dir: &Path) -> Result<File, Problem> {
    let path = dir.join(temporary_name("layer"));
    let what = || format!("a temporary file in {}", dir.display());
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(Problem::io(what()))?;
    std::fs::remove_file(&path).map_err(Problem::io(what()))?;
    Ok(file)
}

/// A unique file name, across concurrent builds and the threads of one build.
pub(super) fn temporary_name(stem: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".{stem}.{}.{number}.tmp", std::process::id())
}
