//! Common parts of the fuzzers.

pub mod folder;
pub mod tar;

#[path = "../../image/tests/common/reader.rs"]
#[allow(missing_docs, clippy::unwrap_used)]
pub mod erofs;

use std::fs::File;
use std::os::unix::fs::FileExt;

use nix::sys::memfd::{MFdFlags, memfd_create};

/// A file in memory with this length and these bytes at these offsets.
pub fn file(len: u64, parts: &[(u64, &[u8])]) -> File {
    let file = memfd_create(c"fuzz", MFdFlags::MFD_CLOEXEC).expect("memfd_create");
    let file = File::from(file);
    file.set_len(len).expect("ftruncate");
    for (at, bytes) in parts {
        file.write_all_at(bytes, *at).expect("pwrite");
    }
    file
}

/// `data` in chunks whose lengths depend on `cut`: a stream can arrive in any chunks, and the result must
/// not depend on them.
pub fn pieces(data: &[u8], cut: u8) -> impl Iterator<Item = &[u8]> {
    let (mut rest, mut state) = (data, u32::from(cut));
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = if cut == 0 { rest.len() } else { 1 + (state >> 24) as usize % 19 };
        let (piece, after) = rest.split_at(length.min(rest.len()));
        rest = after;
        Some(piece)
    })
}

/// The first byte of the input, which selects a variant, and the rest.
pub fn steer(data: &[u8]) -> (u8, &[u8]) {
    data.split_first().map_or((0, data), |(first, rest)| (*first, rest))
}

/// Checks that a message that could be parsed round-trips.
pub fn reads_back<M>(bytes: &[u8]) -> Option<M>
where
    M: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let message: M = serde_json::from_slice(bytes).ok()?;
    let written = serde_json::to_vec(&message).expect("what was read can be written");
    let again: M = serde_json::from_slice(&written).expect("what is written can be read");
    assert_eq!(again, message);
    Some(message)
}
