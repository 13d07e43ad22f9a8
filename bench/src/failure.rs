//! The error type: a message that names what failed.

use std::fmt::Display;

/// Why the measurement failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Adds the name of what failed to an error.
pub trait Naming<T> {
    /// `what: error`
    ///
    /// # Errors
    /// The original error, prefixed with the name.
    fn naming(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> Naming<T> for Result<T, E> {
    fn naming(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}
