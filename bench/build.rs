//! Links `bench_payload` without the C start-up files, because it brings its own `_start`.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-link-arg-bin=bench_payload=-nostartfiles");
}
