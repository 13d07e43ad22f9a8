//! (see docs/DESIGN.md)
pub mod core;
