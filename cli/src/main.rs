//! (see docs/DESIGN.md)
fn main() {}
