//! Seccomp filters (seccomp(2), kernel `Documentation/userspace-api/seccomp_filter.rst`).
//!
//! A [`Profile`] defines the action for each system call. It is either the default for a set of
//! capabilities ([`Profile::default_for`]) or read from a file in the format that docker, podman
//! and the OCI runtime specification share ([`Document`]). It is compiled once into a [`Filter`],
//! which each start loads.
//!
//! The compiler optimises the time to load a filter. When the kernel loads one, it runs it once for
//! each call number to find the calls that are allowed whatever their arguments; for these the
//! filter never runs again. Testing some 300 calls one after the other makes loading take longer
//! than the rest of a container's start; merging neighbouring calls into ranges and using a binary
//! search takes an eighth of that time.

mod compile;
mod default;
mod foreign;
mod json;
mod load;
pub mod names;
mod profile;

pub use compile::CompileError;
pub use json::{Document, Kernel, MAX_SIZE, ProfileError};
pub use load::Filter;
pub use profile::{Action, Compare, Condition, Profile, Rule};
