//! /dev.

use crate::host::Host;
use crate::tests;
use container::*;

tests![
    the_usual_nodes_and_links,
    extra_devices,
    without_cap_mknod_the_hosts_nodes_are_mounted,
    terminals_are_the_containers_own,
];

const LIST: &str = "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty; \
    for l in fd stdin stdout stderr ptmx; do readlink $l; done; \
    stat -c '%n %a' shm pts mqueue; head -c 4 /dev/zero | wc -c; echo x > /dev/null";

fn expected() -> String {
    let nodes =
        [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9)];
    let mut text: String = nodes
        .iter()
        .map(|(name, major, minor)| format!("{name} character special file {major}:{minor} 666\n"))
        .collect();
    text.push_str("tty character special file 5:0 666\n");
    text.push_str("/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n");
    text.push_str("shm 1777\npts 755\nmqueue 1777\n4\n");
    text
}

fn the_usual_nodes_and_links(host: &mut Host) {
    assert_eq!(host.sh(LIST, |plan| plan.process.user = "web".into()).ok(), expected());
}

fn extra(source: &str, target: &str) -> Device {
    Device { source: source.into(), target: target.into() }
}

fn extra_devices(host: &mut Host) {
    let devices = vec![extra("/dev/zero", "/dev/a/b/nought"), extra("/dev/zero", "/dev/full")];
    let out = host
        .sh("cd /dev; stat -c '%n %t:%T' a/b/nought full; head -c 3 a/b/nought | wc -c", |plan| {
            plan.devices = devices;
        })
        .ok();
    assert_eq!(out, "a/b/nought 1:5\nfull 1:5\n3\n");
    let error = host.sh("true", |plan| plan.devices = vec![extra("/dev/nope", "/dev/x")]).error();
    assert_eq!(error.to_string(), "open a mount source: /dev/nope: No such file or directory");
    let file = host.layer.join("etc/passwd").to_str().unwrap().to_owned();
    let error = host.sh("true", |plan| plan.devices = vec![extra(&file, "/dev/x")]).error();
    assert_eq!(error.to_string(), format!("open a mount source: {file} is not a device node"));
}

fn without_cap_mknod_the_hosts_nodes_are_mounted(host: &mut Host) {
    // capset(2): this process loses CAP_MKNOD (27), as a supervisor without it would have.
    let header: [u32; 2] = [0x2008_0522, 0];
    let mut data = [[0u32; 3]; 2];
    // SAFETY: both arrays have the layout of version 3 of the interface.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()), 0);
        data[0][0] &= !(1 << 27);
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()), 0);
    }
    assert_eq!(host.sh(LIST, |_| {}).ok(), expected());
    let out = host
        .sh("head -c 3 /dev/a/nought | wc -c", |plan| {
            plan.devices = vec![extra("/dev/zero", "/dev/a/nought")];
        })
        .ok();
    assert_eq!(out, "3\n");
}

fn terminals_are_the_containers_own(host: &mut Host) {
    assert_eq!(host.sh("ls /dev/pts; cat < /dev/ptmx &", |_| {}).ok(), "ptmx\n");
}
