//! What is wrong with a layer; each error names the entry.

use std::io;

/// Why a layer's tar stream was refused. `entry` is the entry's name as written, cut and escaped
/// for the terminal.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The stream could not be read.
    #[error("cannot read it: {0}")]
    Io(#[from] io::Error),
    /// Not a tar stream from here on.
    #[error("at byte {offset}: {reason}")]
    Tar {
        /// Where the header lies in the uncompressed stream.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An entry that is refused.
    #[error("entry {entry}: {reason}")]
    Entry {
        /// Its name.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cap was reached.
    #[error("more than {limit} {what}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
}

impl LayerError {
    /// An [`LayerError::Entry`] for a name as it was written.
    pub(super) fn entry(name: &[u8], reason: impl Into<String>) -> LayerError {
        LayerError::Entry { entry: printable(name), reason: reason.into() }
    }
}

/// A name for a message: quoted, control characters and foreign bytes escaped, at most 200 bytes.
pub(super) fn printable(name: &[u8]) -> String {
    let cut = name.get(..200);
    format!("\"{}\"{}", cut.unwrap_or(name).escape_ascii(), if cut.is_some() { "…" } else { "" })
}
