//! Control groups.

use crate::host::{Exit, Host};
use crate::tests;
use container::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::os::fd::AsFd;

tests![
    kill_ends_everything_and_the_group_can_be_removed,
    a_group_with_children_is_removed_with_them,
    a_limit_without_its_controller_says_so,
    names_that_lead_elsewhere_are_refused,
];

fn kill_ends_everything_and_the_group_can_be_removed(host: &mut Host) {
    let mut running = host.start(&["sh", "-c", "sleep 100 & sleep 100 & echo up; wait"], |_| {});
    assert_eq!(running.line(), "up");
    let events = running.cgroup.events_fd().unwrap();
    assert!(running.cgroup.populated().unwrap());
    assert_eq!(running.cgroup.remove().unwrap_err().errno, nix::errno::Errno::EBUSY);
    assert!(running.cgroup.stats().unwrap().cpu_usec.is_some());
    running.cgroup.kill().unwrap();
    assert_eq!(host.exit_of(running.spawned.pid), Exit::Signal(9));
    while running.cgroup.populated().unwrap() {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
        poll(&mut fds, PollTimeout::from(1000u16)).unwrap();
    }
    running.cgroup.remove().unwrap();
    assert!(!running.cgroup.path().exists());
    running.cgroup.remove().unwrap();
}

fn a_group_with_children_is_removed_with_them(host: &mut Host) {
    let group = Cgroup::create(&host.cgroups, "parent", &Limits::default()).unwrap();
    fs::create_dir_all(group.path().join("a/b/c")).unwrap();
    fs::create_dir_all(group.path().join("d")).unwrap();
    group.remove().unwrap();
    assert!(!group.path().exists());
}

fn a_limit_without_its_controller_says_so(host: &mut Host) {
    let limits = Limits { memory: Some(1 << 20), ..Limits::default() };
    if host.cgroups.join("../cgroup.subtree_control").exists()
        && fs::read_to_string(host.cgroups.join("cgroup.subtree_control"))
            .unwrap()
            .contains("memory")
    {
        return;
    }
    let error = Cgroup::create(&host.cgroups, "limited", &limits).unwrap_err();
    assert!(error.path.ends_with("limited/memory.max"), "{error}");
}

fn names_that_lead_elsewhere_are_refused(host: &mut Host) {
    for name in ["", ".", "..", "a/b", "/"] {
        assert!(Cgroup::create(&host.cgroups, name, &Limits::default()).is_err(), "{name}");
    }
}
