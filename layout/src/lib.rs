//! The layout of a host: what the image builder writes and the host reads.
//!
//! - [`paths`]: the paths that more than one process knows
//! - [`cmdline`]: the parameters of the kernel command line that Keelhost reads
//! - [`images`]: the index of the images, `images.json`
//! - [`folder`]: the host folder and its only reader

pub mod cmdline;
pub mod folder;
pub mod images;
pub mod paths;

pub use cmdline::Cmdline;
pub use folder::HostFolder;
