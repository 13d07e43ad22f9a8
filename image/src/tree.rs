//! One layer as a tree in memory: names and attributes here, file contents where they already lie.
//!
//! A layer is never unpacked onto a file system of the build host. Its tar stream is walked once,
//! every path is resolved against this tree alone, and what comes out goes straight into a file
//! system image ([`crate::erofs`]). So no path, link or device in a layer can reach anything
//! outside its own tree, whatever it is called: there is no outside.
//!
//! - [`Region`]: a range of a file, where contents lie.
//! - [`Tree`]: the tree and the rules of adding to it.
//! - [`read_layer`]: a tar stream to a tree, whiteouts turned into overlayfs's form.

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

/// The extended attribute by which overlayfs knows a directory that hides the one below it
/// (Documentation/filesystems/overlayfs.rst, "whiteouts and opaque directories").
pub const OPAQUE: &[u8] = b"trusted.overlay.opaque";
