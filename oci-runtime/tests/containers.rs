//! The command line, with real containers.
//!
//! Requires root, cgroup v2 and a static busybox, and fails if one of them is missing instead of
//! skipping tests silently.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "containers/bundle.rs"]
mod bundle;
#[path = "containers/hostile.rs"]
mod hostile;
#[path = "containers/lifecycle.rs"]
mod lifecycle;
#[path = "containers/process.rs"]
mod process;
#[path = "containers/suites.rs"]
mod suites;
