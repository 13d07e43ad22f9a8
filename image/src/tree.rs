//! A layer as a tree in memory: it contains names and attributes, and refers to file contents where they
//! are stored.
//!
//! A layer is never unpacked to a file system of the build host. Its tar stream is read once, every path
//! is resolved in this tree, and the result is written to a file system image ([`crate::erofs`]). So no
//! path, link or device in a layer can refer to anything outside its own tree.
//!
//! - [`Region`]: a range of a file with content.
//! - [`Tree`]: the tree, and the rules for adding to it.
//! - [`read_layer`]: reads a tar stream into a tree and converts whiteouts to those of overlayfs.

mod error;
mod layer;
pub(crate) mod member;
mod node;
mod pax;
mod region;

pub use error::LayerError;
pub use layer::{Limits, read_layer};
pub use node::{Content, Kind, Meta, Node, NodeId, Time, Tree};
pub use region::{Region, RegionReader};

/// The extended attribute that marks a directory as opaque for overlayfs: it hides the one below it
/// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
pub const OPAQUE: &[u8] = b"trusted.overlay.opaque";
