//! `bench_engine`
fn main() {}
