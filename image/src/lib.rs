//! Builds bootable images from a host folder and container images. It needs no root, no loop device, no
//! container engine and no other program; the same input gives the same bytes.
//!
//! - [`oci`] reads images (OCI layouts and archives, docker archives), [`tree`] turns a layer into a
//!   tree, [`erofs`] writes the tree as a file system image;
//! - [`modules`] selects kernel modules, [`cpio`] writes archives, [`kit`] is the common part of all images;
//! - [`build`] builds the image of a host.

pub mod build;
pub mod cpio;
pub mod erofs;
pub mod kit;
pub mod modules;
pub mod oci;
pub mod tree;
