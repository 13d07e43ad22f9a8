//! What is wrong with an image; each error names the image, and the part of it.

use super::Digest;
use crate::erofs::ErofsError;
use crate::tree::LayerError;
use std::io;
use std::path::{Path, PathBuf};

/// An image that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ImageError {
    /// Where the image is (or should be).
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Box<Problem>,
}

/// What can be wrong with an image.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is nothing at the path.
    #[error("there is no image here{}", beside(.0))]
    NotFound(
        /// What the directory holds instead; empty if there is none.
        Vec<String>,
    ),
    /// There is something else at the path.
    #[error("not an image: {0}")]
    NotAnImage(String),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// The file, or what was done.
        what: String,
        /// The error.
        source: io::Error,
    },
    /// A document is not JSON of the right shape.
    #[error("{document}: {source}")]
    Json {
        /// Which one.
        document: String,
        /// Where and what.
        source: serde_json::Error,
    },
    /// A document says something that cannot be.
    #[error("{document}: {reason}")]
    Document {
        /// Which one.
        document: String,
        /// What it says.
        reason: String,
    },
    /// A value of the image's config is out of bounds.
    #[error("config key {key}: {reason}")]
    Config {
        /// Its name, as in the config.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A part is not there.
    #[error("{0} is missing from the image")]
    Missing(String),
    /// A part is larger than it may be.
    #[error("{what} is {size} (at most {limit})")]
    TooLarge {
        /// Which part.
        what: String,
        /// Its size, in bytes or as a count.
        size: u64,
        /// The cap.
        limit: u64,
    },
    /// A part is not what its name promises.
    #[error("{what} has the digest {found}, not {expected}: the image is damaged or forged")]
    Digest {
        /// Which part.
        what: String,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A part does not have the size that it should have.
    #[error("{what} has {found} bytes, not {expected}: the image is damaged or forged")]
    Size {
        /// Which part.
        what: String,
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// No image for the platform.
    #[error("no image for linux/amd64; it has {}", list(.0))]
    Platform(
        /// What there is.
        Vec<String>,
    ),
    /// Several images.
    #[error("more than one image: {}; save one of them alone", list(.0))]
    Ambiguous(
        /// Their names.
        Vec<String>,
    ),
    /// A layer could not be unpacked.
    #[error("layer {layer}: {reason}")]
    Unpack {
        /// Which one.
        layer: String,
        /// What went wrong.
        reason: String,
    },
    /// A layer's content is refused.
    #[error("layer {layer}: {source}")]
    Layer {
        /// Which one.
        layer: String,
        /// What is wrong with it.
        source: LayerError,
    },
    /// A layer's file system image could not be written.
    #[error("layer {layer}: {source}")]
    Erofs {
        /// Which one.
        layer: String,
        /// What went wrong.
        source: ErofsError,
    },
}

impl Problem {
    /// For `map_err`: an I/O error with what it was about.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Problem {
        let what = what.into();
        move |source| Problem::Io { what, source }
    }
}

/// Adds the image's path to its problem.
pub(super) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T, ImageError>;
}

impl<T> AtPath<T> for Result<T, Problem> {
    fn at(self, path: &Path) -> Result<T, ImageError> {
        self.map_err(|problem| ImageError { path: path.to_path_buf(), problem: Box::new(problem) })
    }
}

fn beside(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; beside it are {}", list(names)),
    }
}

/// At most ten, so that a message stays one.
fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    match (shown.is_empty(), more) {
        (true, _) => "none".to_string(),
        (_, 0) => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}
