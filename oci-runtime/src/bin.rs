//! `keel-oci` as a program of its own, for tests; in a host it is an applet of the one binary.

fn main() -> std::process::ExitCode {
    oci_runtime::main()
}
