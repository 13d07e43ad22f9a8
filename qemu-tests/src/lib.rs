//! Boots hosts in QEMU with `keel run`, as a user does, and sends them requests.
//!
//! A guest that does not boot is a failure, and no test is skipped. Nothing depends on the speed of the
//! machine: timeouts are long, and waits end as soon as the condition holds.

pub mod disk;
pub mod folder;
pub mod guest;
pub mod questions;
pub mod remote;

pub use folder::Folder;
pub use guest::{Guest, Options};

use std::path::PathBuf;

/// The root of the workspace.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// The kit that hosts are built from: `$KEEL_KIT`, else the one next to `keel`.
pub fn kit() -> PathBuf {
    std::env::var_os("KEEL_KIT").map_or_else(|| keel().with_file_name("keel-kit"), PathBuf::from)
}

/// The `keel` program: `$KEEL`, else the one from `make build`.
pub fn keel() -> PathBuf {
    let keel =
        std::env::var_os("KEEL").map_or_else(|| root().join("target/release/keel"), PathBuf::from);
    assert!(keel.exists(), "{} is missing: run `make build`", keel.display());
    keel
}
