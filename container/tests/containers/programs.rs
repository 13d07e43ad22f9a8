//! Finding and executing the program, and explaining why an exec failed.

use crate::host::{Host, field, layers};
use crate::tests;
use container::*;

tests![
    the_environment_is_completed,
    the_program_is_found_in_the_containers_path,
    every_exec_failure_is_explained,
    ping_with_a_file_capability_is_executed,
    a_refused_file_capability_is_named_with_its_key,
    the_forms_of_a_user,
    a_user_can_reopen_its_output,
    a_missing_working_directory_is_created,
    invalid_plans_are_refused_before_the_start,
];

fn the_environment_is_completed(host: &mut Host) {
    let out = host.run(&["env"], |plan| plan.process.env = vec!["A=b c".into()]).ok();
    let path = format!("PATH={}", plan::DEFAULT_PATH);
    assert_eq!(out.lines().collect::<Vec<_>>(), ["A=b c", &path, "HOME=/root"]);
    let out = host
        .run(&["/bin/env"], |plan| {
            plan.process.env = vec!["HOME=/h".into(), "PATH=/x".into()];
            plan.process.user = "web".into();
        })
        .ok();
    assert_eq!(out, "HOME=/h\nPATH=/x\n");
}

fn the_program_is_found_in_the_containers_path(host: &mut Host) {
    host.image_file("/opt/first/tool", "not executable", 0o644);
    host.image_file("/opt/second/tool", "#!/bin/sh\necho second \"$@\"\n", 0o755);
    let path = |plan: &mut Plan<'_>| {
        plan.process.env = vec!["PATH=/none::/opt/first:/opt/second".into()];
    };
    assert_eq!(host.run(&["tool", "x", "y z"], path).ok(), "second x y z\n");
    let error = host.run(&["other"], path).error();
    assert_eq!(error.to_string(), "exec: other: not found in PATH (/none::/opt/first:/opt/second)");
}

fn every_exec_failure_is_explained(host: &mut Host) {
    host.image_file("/x/plain", "hello", 0o644);
    host.image_file("/x/text", "hello", 0o755);
    host.image_file("/x/empty", "", 0o755);
    host.image_file("/x/script", "#!/usr/bin/python3 -u\n", 0o755);
    host.image_file("/x/secret", "#!/bin/sh\n", 0o700);
    host.image_link("/x/dangling", "/nowhere");
    let mut elf = std::fs::read(host.layer.join("bin/busybox")).unwrap();
    elf[18] = 183;
    std::fs::write(host.layer.join("x/arm"), &elf).unwrap();
    // A dynamically linked program of this machine, in an image without its loader.
    std::fs::copy("/bin/ls", host.layer.join("x/dynamic")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(host.layer.join("x/arm"), mode).unwrap();
    for (program, reason) in [
        ("/bin/web", "no such file in the image"),
        ("/bin/busybox/x", "no such file in the image"),
        ("/bin", "is a directory"),
        ("/x/plain", "is not executable (mode 0644)"),
        ("/x/text", "is not an executable (neither ELF nor #!)"),
        ("/x/empty", "is empty"),
        ("/x/script", "its interpreter /usr/bin/python3 is not in the image"),
        ("/x/arm", "is built for another architecture (ELF machine 183)"),
        ("/x/dynamic", "its loader /lib64/ld-linux-x86-64.so.2 is not in the image"),
        ("/x/dangling", "is a symbolic link to a file that is not in the image"),
        ("/x/secret", "permission denied for user 1000 (mode 0700)"),
    ] {
        let error = host.run(&[program], |plan| plan.process.user = "1000".into()).error();
        assert_eq!(error.to_string(), format!("exec: {program}: {reason}"));
    }
}

/// `cap_net_raw+ep`, as setcap(8) writes it.
const NET_RAW: [u8; 20] = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Creates `/x/cat`, a program with a file capability that is not in the default set.
fn capable_cat(host: &mut Host) {
    host.image_file("/x/cat", "", 0o755);
    let path = host.layer.join("x/cat");
    std::fs::copy(host.layer.join("bin/busybox"), &path).unwrap();
    let path = std::ffi::CString::new(path.into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: the strings and the value outlive the call, and the value's length is passed.
    let done = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            NET_RAW.as_ptr().cast(),
            NET_RAW.len(),
            0,
        )
    };
    assert_eq!(nix::errno::Errno::result(done), Ok(0));
}

/// The kernel checks file capabilities against the bounding set even if they grant nothing.
fn ping_with_a_file_capability_is_executed(host: &mut Host) {
    capable_cat(host);
    for user in ["0", "1000"] {
        let status = host.run(&["/x/cat", "/proc/self/status"], |plan| {
            plan.process.user = user.into();
        });
        let said = "keel: /x/cat has the file capability NET_RAW, which has no effect";
        assert_eq!(status.err.contains(said), user != "0", "{status:?}");
        let caps = if user == "0" { CapSet::DEFAULT } else { CapSet::EMPTY };
        assert_eq!(field(&status.ok(), "CapEff"), format!("{:016x}", caps.bits()));
        // Also when a shell in the container executes it.
        let out = host.run(&["sh", "-c", "/x/cat /proc/self/status"], |plan| {
            plan.process.user = user.into();
        });
        assert_eq!(field(&out.ok(), "NoNewPrivs"), "1");
    }
}

fn a_refused_file_capability_is_named_with_its_key(host: &mut Host) {
    capable_cat(host);
    host.image_file("/x/script", "#!/x/cat -u\n", 0o755);
    let words = "has the file capability NET_RAW, which the container does not have; \
                 set cap_add = [\"NET_RAW\"]";
    for user in ["0", "1000"] {
        let mut run = |program: &str, caps: CapSet| {
            host.run(&[program, "/proc/self/status"], |plan| {
                plan.process.user = user.into();
                plan.process.no_new_privs = false;
                plan.process.caps = caps;
            })
        };
        let error = run("/x/cat", CapSet::DEFAULT).error();
        assert_eq!(error.to_string(), format!("exec: /x/cat: {words}"));
        let error = run("/x/script", CapSet::DEFAULT).error();
        assert_eq!(error.to_string(), format!("exec: /x/script: its interpreter /x/cat {words}"));
        let raw = CapSet::from_names(&["NET_RAW"], &["ALL"]).unwrap();
        let status = run("/x/cat", raw).ok();
        assert_eq!(field(&status, "CapEff"), "0000000000002000", "user {user}");
    }
}

fn the_forms_of_a_user(host: &mut Host) {
    for (user, uid, gid, groups) in [
        ("", "0", "0", "0"),
        ("web", "1000", "1001", "50 1001"),
        ("1000", "1000", "1001", "50 1001"),
        ("1000:1000", "1000", "1000", "1000"),
        ("web:logs", "1000", "50", "50"),
        ("7777", "7777", "0", "0"),
    ] {
        let edit = |plan: &mut Plan<'_>| plan.process.user = user.into();
        let status = host.run(&["cat", "/proc/self/status"], edit).ok();
        let all_four = |id: &str| [id; 4].join("\t");
        assert_eq!(field(&status, "Uid"), all_four(uid), "{user}");
        assert_eq!(field(&status, "Gid"), all_four(gid), "{user}");
        assert_eq!(field(&status, "Groups"), groups, "{user}");
    }
    let error = host.run(&["id"], |plan| plan.process.user = "ghost".into()).error();
    assert_eq!(error.step, Step::ResolveUser);
    assert!(error.detail.contains("\"ghost\" is not in the image's /etc/passwd"));
}

fn a_user_can_reopen_its_output(host: &mut Host) {
    let out = host
        .sh(
            "echo log > /dev/stdout; echo more >> /proc/self/fd/1; head -c1 /dev/stdin | wc -c",
            |p| {
                p.process.user = "web".into();
            },
        )
        .ok();
    assert_eq!(out, "log\nmore\n0\n");
}

fn a_missing_working_directory_is_created(host: &mut Host) {
    let out = host.run(&["pwd"], |plan| plan.process.cwd = "/srv/a/b".into()).ok();
    assert_eq!(out, "/srv/a/b\n");
    host.image_link("/var/work", "../data/work");
    let out = host.run(&["/bin/pwd"], |plan| plan.process.cwd = "/var/work/x".into()).ok();
    assert_eq!(out, "/data/work/x\n");
    let error = host.run(&["pwd"], |plan| plan.process.cwd = "/etc/passwd".into()).error();
    assert_eq!(error.to_string(), "enter the working directory: /etc/passwd: Not a directory");
}

fn invalid_plans_are_refused_before_the_start(host: &mut Host) {
    let mut refused = |edit: &dyn Fn(&mut Plan<'_>)| {
        let result = host.try_start(&["true"], |plan| edit(plan));
        assert!(matches!(result, Err(SpawnError::Plan(_))), "{:?}", result.err());
    };
    refused(&|plan| plan.hostname = "x".repeat(65));
    refused(&|plan| layers(plan).clear());
    refused(&|plan| plan.process.argv.clear());
    refused(&|plan| plan.process.argv.push("a\0b".into()));
    refused(&|plan| plan.process.env.push("NOVALUE".into()));
    refused(&|plan| plan.process.cwd = "srv".into());
    refused(&|plan| plan.process.cwd = "/a/../b".into());
    refused(&|plan| plan.process.user = "4294967296".into());
    refused(&|plan| plan.mounts.push(crate::host::bind("/tmp".as_ref(), "/proc")));
    refused(&|plan| {
        plan.devices.push(Device { source: "/dev/null".into(), target: "/etc/null".into() });
    });
}
