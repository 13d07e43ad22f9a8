//! The filter of system calls (seccomp(2), kernel `Documentation/userspace-api/seccomp_filter.rst`).
//!
//! A [`Profile`] says what happens with each call. It is either the one that this crate makes for a
//! set of capabilities ([`Profile::default_for`]) or read from a file of the form that docker,
//! podman and the OCI runtime specification share ([`Document`]). It is compiled once into a
//! [`Filter`], which each start loads.
//!
//! What is weighed when a filter is compiled: at loading the kernel walks it once for each call
//! number, to find those that are allowed whatever their arguments, for which it then never runs at
//! all. A list of some 300 calls tested one after the other takes longer to load than everything
//! else about a container takes together; neighbours merged to ranges and searched by halves take
//! an eighth of that.

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
