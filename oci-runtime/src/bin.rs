//! `keel-oci` as a separate program, for tests; on a host it is an applet of the boot program.

fn main() -> std::process::ExitCode {
    oci_runtime::main()
}
