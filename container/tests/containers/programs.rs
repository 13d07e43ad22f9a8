//! Finding and executing the program, and saying why it cannot be.

use crate::host::{Host, field, layers};
use crate::tests;
use container::*;

tests![
    the_environment_is_completed,
    path_is_the_containers,
    every_reason_has_its_words,
    the_users_forms,
    a_user_may_open_its_output_again,
    the_working_directory_is_made_when_missing,
    plans_that_cannot_work_are_refused_at_once,
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

fn path_is_the_containers(host: &mut Host) {
    host.image_file("/opt/first/tool", "not executable", 0o644);
    host.image_file("/opt/second/tool", "#!/bin/sh\necho second \"$@\"\n", 0o755);
    let path = |plan: &mut Plan<'_>| {
        plan.process.env = vec!["PATH=/none::/opt/first:/opt/second".into()];
    };
    assert_eq!(host.run(&["tool", "x", "y z"], path).ok(), "second x y z\n");
    let error = host.run(&["other"], path).error();
    assert_eq!(error.to_string(), "exec: other: not found in PATH (/none::/opt/first:/opt/second)");
}

fn every_reason_has_its_words(host: &mut Host) {
    host.image_file("/x/plain", "hello", 0o644);
    host.image_file("/x/text", "hello", 0o755);
    host.image_file("/x/empty", "", 0o755);
    host.image_file("/x/script", "#!/usr/bin/python3 -u\n", 0o755);
    host.image_file("/x/secret", "#!/bin/sh\n", 0o700);
    host.image_link("/x/dangling", "/nowhere");
    let mut elf = std::fs::read(host.layer.join("bin/busybox")).unwrap();
    elf[18] = 183;
    std::fs::write(host.layer.join("x/arm"), &elf).unwrap();
    // A dynamic program of this machine, in an image without its loader.
    std::fs::copy("/bin/ls", host.layer.join("x/dynamic")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(host.layer.join("x/arm"), mode).unwrap();
    for (program, reason) in [
        ("/bin/web", "no such file in the image"),
        ("/bin/busybox/x", "no such file in the image"),
        ("/bin", "is a directory"),
        ("/x/plain", "is not executable (mode 0644)"),
        ("/x/text", "is not a program (neither ELF nor #!)"),
        ("/x/empty", "is empty"),
        ("/x/script", "its interpreter /usr/bin/python3 is not in the image"),
        ("/x/arm", "is a program for another processor (ELF machine 183)"),
        ("/x/dynamic", "its loader /lib64/ld-linux-x86-64.so.2 is not in the image"),
        ("/x/dangling", "is a symbolic link to a file that is not in the image"),
        ("/x/secret", "permission denied for user 1000 (mode 0700)"),
    ] {
        let error = host.run(&[program], |plan| plan.process.user = "1000".into()).error();
        assert_eq!(error.to_string(), format!("exec: {program}: {reason}"));
    }
}

fn the_users_forms(host: &mut Host) {
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

fn a_user_may_open_its_output_again(host: &mut Host) {
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

fn the_working_directory_is_made_when_missing(host: &mut Host) {
    let out = host.run(&["pwd"], |plan| plan.process.cwd = "/srv/a/b".into()).ok();
    assert_eq!(out, "/srv/a/b\n");
    host.image_link("/var/work", "../data/work");
    let out = host.run(&["/bin/pwd"], |plan| plan.process.cwd = "/var/work/x".into()).ok();
    assert_eq!(out, "/data/work/x\n");
    let error = host.run(&["pwd"], |plan| plan.process.cwd = "/etc/passwd".into()).error();
    assert_eq!(error.to_string(), "enter the working directory: /etc/passwd: Not a directory");
}

fn plans_that_cannot_work_are_refused_at_once(host: &mut Host) {
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
