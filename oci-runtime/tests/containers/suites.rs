//! What public suites have found (oci-runtime/suites), each with a container of its own here.

use crate::bundle::Bundle;
use serde_json::json;

fn sets(text: &str) -> Vec<String> {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().to_owned()
    };
    ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"].map(line).into()
}

/// Lists of calls older than Linux 5.9 have no close_range. Without noNewPrivileges the filter is in
/// force before the last steps.
#[test]
fn a_filter_without_close_range_let_nothing_start() {
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
fn the_usual_mounts_were_in_another_order_than_the_file_has_them() {
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
        assert!(rest.any(|mount| mount == &wanted), "{wanted:?} is not where it should be: {said}");
    }
}

#[test]
fn a_poststart_hook_that_failed_kept_the_others_from_running() {
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
fn a_variable_of_exec_was_set_beside_the_one_that_the_container_has() {
    let mut bundle = Bundle::new("exec sleep 1000");
    bundle.set("/process/env", json!(["PATH=/bin", "WORD=old"]));
    bundle.create().ok();
    bundle.start().ok();
    let said =
        bundle.call(&["exec", "--env", "WORD=one", "--env", "WORD=two", &bundle.id, "env"]).ok();
    let words: Vec<&str> = said.lines().filter(|line| line.starts_with("WORD=")).collect();
    assert_eq!(words, ["WORD=two"]);
}
