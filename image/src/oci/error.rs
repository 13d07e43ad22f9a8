//! Errors of images; each names the image and the part that is invalid.

use super::Digest;
use crate::erofs::ErofsError;
use crate::tree::LayerError;
use std::io;
use std::path::{Path, PathBuf};

/// An image that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct ImageError {
    /// Path of the image.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Box<Problem>,
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The path does not exist.
    #[error("not found{}", siblings(.0))]
    NotFound(
        /// The other files in the directory; empty if there are none.
        Vec<String>,
    ),
    /// The path is not an image.
    #[error("not an image: {0}")]
    NotAnImage(String),
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    Io {
        /// The file, or the operation.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A document is not JSON of the expected form.
    #[error("{document}: {source}")]
    Json {
        /// The document.
        document: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// A document has an invalid value.
    #[error("{document}: {reason}")]
    Document {
        /// The document.
        document: String,
        /// What is wrong.
        reason: String,
    },
    /// A value of the image's config is invalid or too large.
    #[error("config key {key}: {reason}")]
    Config {
        /// The key in the config.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// A part is missing.
    #[error("{0} is missing from the image")]
    Missing(String),
    /// A part is too large.
    #[error("{what} is {size} (at most {limit})")]
    TooLarge {
        /// The part.
        what: String,
        /// Its size, in bytes or as a count.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A part does not match its digest.
    #[error("{what} has digest {found}, expected {expected}: the image is damaged or forged")]
    Digest {
        /// The part.
        what: String,
        /// The expected value.
        expected: Digest,
        /// The actual value.
        found: Digest,
    },
    /// A part does not have the expected size.
    #[error("{what} has {found} bytes, expected {expected}: the image is damaged or forged")]
    Size {
        /// The part.
        what: String,
        /// The expected value.
        expected: u64,
        /// The actual value.
        found: u64,
    },
    /// There is no image for the platform.
    #[error("no image for linux/amd64; available: {}", list(.0))]
    Platform(
        /// The available platforms or media types.
        Vec<String>,
    ),
    /// There are several images.
    #[error("more than one image: {}; export only one of them", list(.0))]
    Ambiguous(
        /// Their names.
        Vec<String>,
    ),
    /// A layer could not be unpacked.
    #[error("layer {layer}: {reason}")]
    Unpack {
        /// The layer.
        layer: String,
        /// The cause.
        reason: String,
    },
    /// A layer's content is invalid.
    #[error("layer {layer}: {source}")]
    Layer {
        /// The layer.
        layer: String,
        /// The cause.
        source: LayerError,
    },
    /// A layer's file system image could not be written.
    #[error("layer {layer}: {source}")]
    Erofs {
        /// The layer.
        layer: String,
        /// The cause.
        source: ErofsError,
    },
}

impl Problem {
    /// For `map_err`: an I/O error with its file or operation.
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

fn siblings(names: &[String]) -> String {
    match names {
        [] => String::new(),
        names => format!("; the directory contains {}", list(names)),
    }
}

/// At most ten names, to keep the message short.
fn list(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(10).map(String::as_str).collect();
    let more = names.len().saturating_sub(shown.len());
    match (shown.is_empty(), more) {
        (true, _) => "none".to_string(),
        (_, 0) => shown.join(", "),
        _ => format!("{} and {more} more", shown.join(", ")),
    }
}
