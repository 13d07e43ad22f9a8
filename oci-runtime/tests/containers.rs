//! The command line, with real containers.
//!
//! Needs root, cgroup v2 and a static busybox, and fails when any of them is missing: a test that
//! quietly does nothing would be worse than none.

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
