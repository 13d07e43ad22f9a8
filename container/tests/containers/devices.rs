//! /dev.

use crate::host::{Host, not_run};
use crate::tests;
use container::*;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

tests![
    the_standard_nodes_and_links,
    extra_devices,
    without_cap_mknod_the_hosts_nodes_are_mounted,
    a_container_has_its_own_devpts,
    a_node_that_a_container_creates_cannot_be_opened,
    a_device_of_the_plan_can_be_opened_as_far_as_allowed,
    a_filter_replaces_the_previous_one,
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

fn the_standard_nodes_and_links(host: &mut Host) {
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

fn a_container_has_its_own_devpts(host: &mut Host) {
    assert_eq!(host.sh("ls /dev/pts; cat < /dev/ptmx &", |_| {}).ok(), "ptmx\n");
}

/// A device that is not among the standard ones and that anybody with a node can open for reading
/// and writing: fuse, tun, loop-control.
fn some_device(host: &Host) -> (u64, std::path::PathBuf) {
    let node = host.dir.join("device");
    for minor in [229, 200, 237] {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        mknod(&node, SFlag::S_IFCHR, mode, makedev(10, minor)).unwrap();
        if std::fs::File::options().read(true).write(true).open(&node).is_ok() {
            return (minor, node);
        }
        std::fs::remove_file(&node).unwrap();
    }
    not_run("this machine has neither fuse nor tun nor loop-control")
}

fn a_node_that_a_container_creates_cannot_be_opened(host: &mut Host) {
    let (minor, _) = some_device(host);
    let script = format!(
        "cd /dev; mknod misc c 10 {minor}; mknod kmsg c 1 11; mknod disk b 254 0; mknod nil c 1 3
        for n in misc kmsg disk nil; do (: < $n) && echo $n; (: >> $n) && echo $n; done; ls"
    );
    let edit = |plan: &mut Plan<'_>| {
        plan.process.caps = CapSet::from_names(&["MKNOD"], &[]).unwrap();
    };
    if host.userns.is_some() {
        // Without root on the host, mknod fails whatever the capabilities; so use the host's root.
        let outcome = host.sh("mknod /tmp/n c 1 3", edit);
        assert!(outcome.err.contains("Operation not permitted"), "{outcome:?}");
        host.userns = None;
    }
    let outcome = host.sh(&script, edit);
    assert!(outcome.out.starts_with("nil\nnil\n"), "{outcome:?}");
    assert!(outcome.out.contains("\ndisk\n"), "the node itself exists: {outcome:?}");
    assert_eq!(outcome.err.matches("Operation not permitted").count(), 6, "{outcome:?}");
    // The filter refuses the open: without it, the open succeeds.
    host.devices = None;
    let outcome = host.sh(&script, edit);
    assert!(outcome.out.starts_with("misc\nmisc\n"), "{outcome:?}");
}

fn a_device_of_the_plan_can_be_opened_as_far_as_allowed(host: &mut Host) {
    let (_, node) = some_device(host);
    let reading = DeviceAccess { read: true, write: false };
    let mut rules = DeviceRule::USUAL.to_vec();
    rules.push(DeviceRule::of_node(&node, reading).unwrap());
    host.devices = Some(DeviceFilter::load(&rules).unwrap());
    let devices = vec![extra(node.to_str().unwrap(), "/dev/own")];
    let outcome = host.sh("(: < /dev/own) && echo read; : >> /dev/own", |plan| {
        plan.devices = devices;
    });
    assert_eq!(outcome.out, "read\n", "{outcome:?}");
    assert!(outcome.err.contains("can't create /dev/own: Operation not permitted"), "{outcome:?}");
}

fn a_filter_replaces_the_previous_one(host: &mut Host) {
    let group = Cgroup::create(&host.cgroups, "again", &Limits::default()).unwrap();
    let usual = DeviceFilter::load(&DeviceRule::USUAL).unwrap();
    let none = DeviceFilter::load(&[]).unwrap();
    for filter in [&none, &usual, &usual, &none, &usual] {
        filter.attach(&group).unwrap();
    }
    // One program can be attached to many groups.
    let other = Cgroup::create(&host.cgroups, "other", &Limits::default()).unwrap();
    usual.attach(&other).unwrap();
}
