//! The TOML vocabulary of Keelhost: types, parsing, validation, diagnostics.
//!
//! Pure: no I/O beyond the text given.

pub mod model;
