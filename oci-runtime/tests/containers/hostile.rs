//! Invalid and malicious bundles: the error is clear, and nothing is left behind.

use crate::bundle::Bundle;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;

fn refused(edit: impl FnOnce(&mut Bundle), reason: &str) {
    let mut bundle = Bundle::new("echo began");
    edit(&mut bundle);
    let said = bundle.create();
    assert_eq!(said.code, Some(1), "{reason}: {said:?}");
    assert!(said.err.contains(reason), "{reason}: {said:?}");
    bundle.nothing_is_left();
}

#[test]
fn ids_that_are_paths_are_refused() {
    let bundle = Bundle::new("true");
    for id in ["..", "a/b", "../x", ".", "-x.", "a b", ""] {
        let mut command = bundle.command(&["create", "--bundle"]);
        let said = bundle.say({
            command.arg(&bundle.dir).args(["--", id]);
            command
        });
        assert!(matches!(said.code, Some(1 | 2)), "{id}: {said:?}");
        assert!(said.err.contains("invalid id"), "{id}: {said:?}");
    }
    bundle.nothing_is_left();
}

#[test]
fn a_failed_setup_leaves_nothing_behind() {
    refused(|b| b.set("/root/path", json!("no/such")), "mount the root directory");
    refused(|b| b.set("/process/cwd", json!("/proc/self/fd/5")), "working directory");
    refused(
        |b| {
            b.mount(json!({ "destination": "/v", "type": "bind", "source": "/no/such",
            "options": ["bind"] }))
        },
        "/no/such",
    );
    refused(
        |b| {
            b.set(
                "/linux/devices",
                json!([{ "path": "/dev/null", "type": "c", "major": 1, "minor": 5 }]),
            )
        },
        "a different number",
    );
    refused(
        |b| b.config["linux"]["namespaces"][1]["path"] = json!("/dev/null"),
        "network namespace",
    );
}

#[test]
fn a_symbolic_link_at_proc_is_refused() {
    refused(
        |b| {
            b.set("/root/readonly", json!(false));
            symlink("/etc", b.rootfs().join("proc")).unwrap();
        },
        "symbolic link",
    );
}

#[test]
fn a_symbolic_link_at_a_masked_path_is_refused() {
    refused(
        |b| {
            symlink("/proc/self", b.rootfs().join("etc/link")).unwrap();
            b.set("/linux/maskedPaths", json!(["/etc/link"]));
        },
        "contains a symbolic link",
    );
}

#[test]
fn a_missing_or_invalid_config_is_refused() {
    let bundle = Bundle::new("true");
    let mut command = bundle.command(&["create", "--bundle", "/no/such"]);
    let said = bundle.say({
        command.arg(&bundle.id);
        command
    });
    assert!(said.refused().contains("/no/such"));
    let mut command = bundle.command(&["create", "--bundle"]);
    fs::write(bundle.dir.join("config.json"), "{").unwrap();
    let said = bundle.say({
        command.arg(&bundle.dir).arg(&bundle.id);
        command
    });
    assert!(said.refused().contains("invalid JSON"));
    bundle.nothing_is_left();
}

#[test]
fn a_million_variables_are_refused() {
    let mut bundle = Bundle::new("echo began");
    let env: Vec<Value> = (0..600_000).map(|n| json!(format!("A{n}=1"))).collect();
    bundle.set("/process/env", json!(env));
    let said = bundle.run();
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("too long") || said.err.contains("larger than"), "{said:?}");
    bundle.nothing_is_left();
    let env: Vec<Value> = (0..1_000_000).map(|n| json!(format!("A{n}=1"))).collect();
    bundle.set("/process/env", json!(env));
    assert!(bundle.run().err.contains("larger than 8388608 bytes"));
}

#[test]
fn annotations_have_no_effect() {
    let mut bundle = Bundle::new("echo began");
    let evil = bundle.dir.join("evil");
    let command = format!("$(touch {0}); `touch {0}`", evil.display());
    bundle.set("/annotations", json!({ "run.oci.hooks": command, command.as_str(): "x" }));
    assert_eq!(bundle.run().ok(), "began\n");
    assert!(!evil.exists());
}

#[test]
fn unknown_keys_are_ignored() {
    let mut bundle = Bundle::new("echo began");
    bundle.set("/x-future", json!({ "a": [1] }));
    bundle.set("/process/x-future", json!(true));
    bundle.set("/linux/x-future", json!("x"));
    assert_eq!(bundle.run().ok(), "began\n");
}
