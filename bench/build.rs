//! Links the payload, which has its own `_start`, without the C start-up files.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bin=bench_payload=-nostartfiles");
}
