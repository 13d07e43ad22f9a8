//! Bugs that public test suites found (oci-runtime/suites), each with its own test.

use crate::bundle::Bundle;
use serde_json::json;

fn sets(text: &str) -> Vec<String> {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    };
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(line).into()
}

/// Seccomp profiles older than Linux 5.9 lack close_range. Without noNewPrivileges the filter is
/// installed before the last steps of the setup.
#[test]
fn a_seccomp_profile_without_close_range_prevented_every_start() {
    let mut bundle = Bundle::new("echo started");
    bundle.set("/process/noNewPrivileges", json!(false));
    bundle.set(
        "/linux/seccomp",
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["close_range"], "action": "SCMP_ACT_ERRNO" }] }),
    );
    assert_eq!(bundle.run().ok(), "started\n");
}

#[test]
fn inheritable_and_ambient_capabilities_were_dropped_with_a_warning() {
    let mut bundle = Bundle::new("cat /proc/self/status");
    let both = json!(["CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": both, "effective": both, "permitted": both, "inheritable": both,
            "ambient": ["CAP_KILL"] }),
    );
    let said = bundle.run();
    assert!(!said.err.contains("capabilities"), "{said:?}");
    let (both, kill) = ("0000000000000420", "0000000000000020");
    assert_eq!(sets(&said.ok()), [both, both, both, both, kill]);

    for no_new_privs in [true, false] {
        bundle.set("/process/noNewPrivileges", json!(no_new_privs));
        bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
        assert_eq!(sets(&bundle.run().ok()), [both, kill, kill, both, kill]);
    }
}

#[test]
fn ambient_capabilities_that_the_kernel_would_refuse_are_left_out_with_a_warning() {
    let mut bundle = Bundle::new("cat /proc/self/status");
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"], "ambient": ["CAP_KILL"] }),
    );
    let said = bundle.run();
    assert!(said.err.contains("process.capabilities.ambient"), "{said:?}");
    let (none, kill) = ("0000000000000000", "0000000000000020");
    assert_eq!(sets(&said.ok()), [none, kill, kill, kill, none]);

    bundle.set("/process/capabilities/inheritable", json!(["CAP_SYS_ADMIN"]));
    assert!(bundle.run().refused().contains("inheritable"), "beyond bounding");
}

#[test]
fn the_default_mounts_were_not_in_the_order_of_the_file() {
    let said = Bundle::new("cat /proc/self/mounts").run().ok();
    let mounts: Vec<Vec<&str>> =
        said.lines().map(|line| line.split(' ').take(3).collect()).collect();
    let mut rest = mounts.iter();
    for wanted in [
        ["proc", "/proc", "proc"],
        ["tmpfs", "/dev", "tmpfs"],
        ["devpts", "/dev/pts", "devpts"],
        ["shm", "/dev/shm", "tmpfs"],
        ["mqueue", "/dev/mqueue", "mqueue"],
        ["sysfs", "/sys", "sysfs"],
    ] {
        assert!(
            rest.any(|mount| mount == &wanted),
            "{wanted:?} is missing or out of order: {said}"
        );
    }
}

#[test]
fn a_failed_poststart_hook_prevented_the_others() {
    let mut bundle = Bundle::new("exec sleep 1000");
    let marks = ["one", "two"].map(|name| bundle.dir.join(name));
    let touch = |path| json!({ "path": "/bin/touch", "args": ["touch", path] });
    let fails = json!({ "path": "/bin/false", "args": ["false"] });
    bundle
        .set("/hooks", json!({ "poststart": [fails, touch(&marks[0]), fails, touch(&marks[1])] }));
    bundle.create().ok();
    let said = bundle.start();
    assert_eq!(said.err.matches("/bin/false").count(), 2, "{said:?}");
    said.ok();
    assert!(marks.iter().all(|mark| mark.exists()));
    assert_eq!(bundle.status(), "running");
}

#[test]
fn exec_did_not_replace_a_variable_of_the_container() {
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.set("/process/env", json!(["PATH=/bin", "WORD=old"]));
    bundle.create().ok();
    bundle.start().ok();
    let said =
        bundle.call(&["exec", "--env", "WORD=one", "--env", "WORD=two", &bundle.id, "env"]).ok();
    let words: Vec<&str> = said.lines().filter(|line| line.starts_with("WORD=")).collect();
    assert_eq!(words, ["WORD=two"]);
}
