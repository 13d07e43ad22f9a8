//! `examples/hello`, as `make run` boots it.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use qemu_tests::{Guest, Options, root};

#[test]
fn the_hello_example_runs() {
    let options = Options { publish: vec![8080], ..Options::default() };
    let mut guest = Guest::up(&root().join("examples/hello"), &options);
    guest.wait_state("web", "running");
    guest.wait_console("UNIT");
    assert!(guest.power_off().success());
}
