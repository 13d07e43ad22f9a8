//! One layer's blob: verified, unpacked, verified again.

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

/// How much larger than its blob a layer may be, once it is larger than [`FREE`]: what gzip can do
/// at its best, so this stops bombs in formats without such a bound.
const MAX_RATIO: u64 = 1100;
const FREE: u64 = 256 << 20;
/// Memory for the history of a zstd stream: what `zstd --long` (27 bits) asks for.
const MAX_WINDOW: u64 = 128 << 20;

/// A blob of an image.
#[derive(Debug, Clone)]
pub(super) struct Blob {
    /// Its name in the image.
    pub name: String,
    /// What it must have, if anybody said.
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
    /// Bytes of the layer as it lies in the image, compressed or not.
    pub fn size(&self) -> u64 {
        self.blob.content.len()
    }

    /// The layer's tar stream, uncompressed and verified. If it has to be uncompressed, that is
    /// done into a file without a name in `scratch`, which is gone when the region is.
    ///
    /// # Errors
    /// A digest is wrong, the compressed stream is damaged, the stream would be longer than
    /// `limit` bytes or more than a thousandfold, or reading or writing failed.
    pub fn unpack(&self, scratch: &Path, limit: u64) -> Result<Region, Problem> {
        let blob = &self.blob;
        let mut magic = [0; 4];
        // Anything shorter is neither; the tar reader will say what is wrong with it.
        let known = blob.content.read_exact_at(&mut magic, 0).is_ok();
        let packed = match magic {
            [0x1f, 0x8b, _, _] if known => Packed::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] if known => Packed::Zstd,
            // A skippable frame may come first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] if known => Packed::Zstd,
            _ => Packed::No,
        };
        // Before anything looks inside: a blob that is not what it should be is not worth the
        // risk of a decoder's bug.
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

    /// Writes the uncompressed stream to `file`; its digest.
    fn decompress(&self, packed: Packed, limit: u64, file: &File) -> Result<Digest, Problem> {
        let mut out = Spool {
            out: BufWriter::with_capacity(1 << 20, file),
            hasher: Hasher::new(),
            written: 0,
            limit: limit.min(self.size().saturating_mul(MAX_RATIO).max(FREE)),
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
                what: format!("layer {} (unpacked bytes)", self.blob.name),
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

/// Whether a layer's media type is a tar stream. How it is compressed is found out from its bytes,
/// as containerd and podman do: tools exist that say it wrong.
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
        false => Err(format!("a layer of the unknown type {media_type:?}")),
    }
}

/// Writes, counts, computes the digest, and stops at a limit.
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

/// All frames of a zstd stream, those skipped that hold no data (zstd:chunked puts its table of
/// contents there).
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

/// A new file for reading and writing that has no name.
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

/// A name that nobody else uses: builds may run side by side, and threads in one.
pub(super) fn temporary_name(stem: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!(".{stem}.{}.{number}.tmp", std::process::id())
}
