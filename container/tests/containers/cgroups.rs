//! Control groups.

use crate::host::{Exit, Host, not_run};
use crate::tests;
use container::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::os::fd::AsFd;

tests![
    kill_ends_all_processes_and_the_group_can_be_removed,
    a_group_with_children_is_removed_with_them,
    a_limit_without_its_controller_is_an_error_naming_the_file,
    names_of_other_directories_are_refused,
    limits_are_enforced_and_counted,
];

fn kill_ends_all_processes_and_the_group_can_be_removed(host: &mut Host) {
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

fn a_limit_without_its_controller_is_an_error_naming_the_file(host: &mut Host) {
    let limits = Limits { memory: Some(1 << 20), ..Limits::default() };
    let error = Cgroup::create(&host.cgroups, "limited", &limits).unwrap_err();
    assert!(error.path.ends_with("limited/memory.max"), "{error}");
}

fn names_of_other_directories_are_refused(host: &mut Host) {
    for name in ["", ".", "..", "a/b", "/"] {
        assert!(Cgroup::create(&host.cgroups, name, &Limits::default()).is_err(), "{name}");
    }
}

fn limits_are_enforced_and_counted(host: &mut Host) {
    let offered = fs::read_to_string(host.cgroups.join("cgroup.controllers")).unwrap();
    let wanted = ["cpu", "memory", "pids"];
    if !wanted.iter().all(|name| offered.split_whitespace().any(|word| word == *name)) {
        not_run("the cpu, memory and pids controllers are not available");
    }
    cgroup::enable_controllers(&host.cgroups, &wanted).unwrap();

    let hog = "echo up; x=x; while true; do x=$x$x; done";
    let limits = Limits {
        memory: Some(8 << 20),
        cpu_millis: Some(900),
        pids: Some(10),
        ..Limits::default()
    };
    let running = host.start_limited(&["sh", "-c", hog], &limits);
    assert_eq!(host.exit_of(running.spawned.pid), Exit::Signal(9));
    let stats = running.cgroup.stats().unwrap();
    assert!(stats.oom_kill.unwrap() >= 1, "{stats:?}");
    assert!(stats.memory_peak.unwrap() > 4 << 20, "{stats:?}");
    let read = |file: &str| fs::read_to_string(running.cgroup.path().join(file)).unwrap();
    assert_eq!(read("cpu.max"), "90000 100000\n");
    assert_eq!(read("memory.oom.group"), "1\n");

    let bomb = "f() { f & f & }; f; echo up; exec sleep 1000";
    let mut running = host.start_limited(&["sh", "-c", bomb], &limits);
    running.line();
    assert!(running.cgroup.stats().unwrap().pids_current.unwrap() <= 10);
    running.cgroup.kill().unwrap();
    host.exit_of(running.spawned.pid);

    // An existing group loses the limits that are not requested again.
    let path = running.cgroup.path().to_owned();
    let name = path.file_name().unwrap().to_str().unwrap();
    let again = Cgroup::create(&host.cgroups, name, &Limits::default()).unwrap();
    for file in ["memory.max", "pids.max", "memory.swap.max"] {
        let text = fs::read_to_string(again.path().join(file)).unwrap_or("max\n".into());
        assert_eq!(text, "max\n", "{file}");
    }
    assert_eq!(fs::read_to_string(again.path().join("cpu.max")).unwrap(), "max 100000\n");
}
