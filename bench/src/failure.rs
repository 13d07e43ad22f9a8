//! One error type: a sentence that names what failed.

use std::fmt::Display;

/// Why the measurement could not be made.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

/// Names what an error was about.
pub trait Naming<T> {
    /// `what: error`
    ///
    /// # Errors
    /// The error as it was, with its name.
    fn naming(self, what: impl Display) -> Result<T, Failure>;
}

impl<T, E: Display> Naming<T> for Result<T, E> {
    fn naming(self, what: impl Display) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{what}: {error}")))
    }
}
