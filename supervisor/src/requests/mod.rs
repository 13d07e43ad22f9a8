//! Answering requests: from the API process, from the control socket, and programs run in containers.

pub mod api;
pub(crate) mod context;
pub mod control;
pub mod execs;
pub(crate) mod metrics;
pub mod queries;
