//! The configuration format of Keelhost: types, parsing, validation, diagnostics.
//!
//! The crate does no I/O. [`load`] takes the texts of a host folder and returns the valid part as the
//! types of [`model`], and all errors at once as [`Diagnostic`]s that point into the text.
//!
//! From a text to a unit:
//! - `syntax` parses it into a tree of keys and values with their spans,
//! - `reader` and `value` read the keys that [`schema`] lists, and continue after every error,
//! - [`scalar`], [`entry`], [`names`], [`paths`], [`process`] and [`address`] parse single values,
//! - `unit`, `container` and `host` build the types of [`model`],
//! - `graph` checks all units together.
//!
//! [`json`] reads the JSON documents of other tools with errors of the same quality.

pub mod address;
pub mod capability;
mod container;
mod diagnostic;
pub mod entry;
pub mod foreign;
mod graph;
pub mod hash;
mod host;
pub mod json;
pub mod kernel_files;
mod load;
pub mod model;
pub mod names;
pub mod paths;
pub mod process;
mod reader;
mod render;
pub mod scalar;
pub mod schema;
pub mod settings;
mod suggest;
mod syntax;
pub mod sysctl;
mod unit;
mod value;

pub use container::relaxed_settings;
pub use diagnostic::{Diagnostic, ParseError, Related, Severity};
pub use graph::StartOrder;
pub use load::{
    ImageReference, Loaded, ProfileReference, SourceFile, image_references, load, named_volumes,
};
