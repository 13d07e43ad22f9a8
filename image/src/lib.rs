//! Host side: container images and a host folder in, bootable artefacts out. No root, no loop
//! device, no container engine, no other program; the same bytes for the same inputs.
//!
//! - [`oci`] reads images (OCI layouts and archives, docker archives), [`tree`] turns a layer into a
//!   tree, [`erofs`] writes the tree as a file system image;
//! - [`modules`] picks kernel modules, [`cpio`] writes archives, [`kit`] is what all images share;
//! - [`build`] puts a host together.

pub mod build;
pub mod cpio;
pub mod erofs;
pub mod kit;
pub mod modules;
pub mod oci;
pub mod tree;
