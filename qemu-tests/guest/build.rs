//! Links programs that bring their own `_start` without the C start-up files.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    for program in ["first", "bench_payload"] {
        println!("cargo:rustc-link-arg-bin={program}=-nostartfiles");
    }
}
