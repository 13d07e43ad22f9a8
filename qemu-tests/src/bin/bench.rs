//! The measurements; see `make bench`.
fn main() {}
