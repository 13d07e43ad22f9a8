//! Console lines and events.

pub mod console;
pub mod events;
