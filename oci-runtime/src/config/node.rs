//! Values of `config.json`; errors name their key.

pub use units::json::JsonError as ConfigError;
pub(crate) use units::json::{Node, parse, quote};

/// Maximum size of a `config.json` in bytes. Those that orchestrators write have about 100 KiB.
pub const MAX_SIZE: usize = 8 << 20;

/// The name of the document itself in messages.
pub(crate) const DOCUMENT: &str = "the document";
