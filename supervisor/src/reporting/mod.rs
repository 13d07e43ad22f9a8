//! What the supervisor reports by itself: lines on the console and events.

pub mod console;
pub mod events;
