//! The TOML vocabulary of Keelhost: types, parsing, validation, diagnostics.
//!
//! Pure: no I/O beyond the text given. [`load`] takes the texts of a host folder and gives what is
//! good in them as the types of [`model`], and everything that is wrong, at once, as
//! [`Diagnostic`]s that point into the text.
//!
//! From a text to a unit:
//! - `syntax` makes a tree of keys and values with their places out of it,
//! - `reader` and `value` take it apart by the keys that [`schema`] lists, and read on past every
//!   mistake,
//! - [`scalar`], [`entry`], [`names`], [`paths`], [`process`], [`address`] know how single values
//!   are written,
//! - `unit`, `container` and `host` put them together,
//! - `graph` looks at all units together.

pub mod address;
pub mod capability;
mod container;
mod diagnostic;
pub mod entry;
pub mod foreign;
mod graph;
pub mod hash;
mod host;
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

pub use container::weakenings;
pub use diagnostic::{Diagnostic, Mistake, Related, Severity};
pub use graph::StartOrder;
pub use load::{
    ImageReference, Loaded, ProfileReference, SourceFile, image_references, load, named_volumes,
};
