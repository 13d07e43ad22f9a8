//! Errors of layers; each names the entry.

use std::io;

/// Why a layer's tar stream was rejected. `entry` is the name of the entry as written, truncated and
/// escaped for the terminal.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream could not be read.
    #[error("cannot read the tar stream: {0}")]
    Io(#[from] io::Error),
    /// The stream is not a valid tar stream from here on.
    #[error("at byte {offset}: {reason}")]
    Tar {
        /// Offset of the header in the uncompressed stream.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// An entry was rejected.
    #[error("entry {entry}: {reason}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong.
        reason: String,
    },
    /// A limit was exceeded.
    #[error("more than {limit} {what}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

impl LayerError {
    /// A [`LayerError::Entry`] for a name as written.
    pub(super) fn entry(name: &[u8], reason: impl Into<String>) -> LayerError {
        LayerError::Entry { entry: printable(name), reason: reason.into() }
    }
}

/// A name for a message: quoted, with control characters and non-ASCII bytes escaped, at most 200 bytes.
pub(super) fn printable(name: &[u8]) -> String {
    let cut = name.get(..200);
    format!("\"{}\"{}", cut.unwrap_or(name).escape_ascii(), if cut.is_some() { "…" } else { "" })
}
