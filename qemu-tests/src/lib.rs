//! Boots hosts in QEMU by `keel run`, as a person does, and asks them questions.
//!
//! A guest that cannot be booted is a failure, never a skip. Nothing here depends on how fast the
//! machine is: waits are long and end as soon as the answer is there.

pub mod disk;
pub mod folder;
pub mod guest;
pub mod questions;
pub mod remote;

pub use folder::Folder;
pub use guest::{Guest, Options};

use std::path::PathBuf;

/// The workspace's root.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// The kit that hosts are built from: `$KEEL_KIT`, else the one beside `keel`.
pub fn kit() -> PathBuf {
    std::env::var_os("KEEL_KIT").map_or_else(|| keel().with_file_name("keel-kit"), PathBuf::from)
}

/// The `keel` program: `$KEEL`, else the one that `make build` leaves.
pub fn keel() -> PathBuf {
    let keel =
        std::env::var_os("KEEL").map_or_else(|| root().join("target/release/keel"), PathBuf::from);
    assert!(keel.exists(), "{} is missing: run `make build`", keel.display());
    keel
}
