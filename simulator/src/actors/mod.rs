//! Whoever the real PID 1 and the real supervisor have to do with, as scripts.

pub mod container;
pub mod people;
mod services;

pub use services::Actor;
