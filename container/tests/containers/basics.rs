//! A container starts, is isolated, and ends.

use crate::host::{Exit, Host, field, layers};
use crate::tests;
use container::*;
use std::fs;

tests![
    it_runs_and_its_exit_code_is_reported,
    it_is_pid_1_of_its_own_namespaces,
    signals_limits_and_umask_have_their_defaults,
    it_waits_for_the_go,
    a_closed_go_pipe_cancels_the_setup,
    a_waiting_container_does_not_hold_the_go_pipe_of_another,
    a_network_namespace_outlives_two_runs,
    without_a_network_namespace_it_uses_the_hosts,
    the_hosts_mounts_do_not_change,
    outputs_can_be_swapped_or_the_same,
];

fn it_runs_and_its_exit_code_is_reported(host: &mut Host) {
    let done = host.sh("echo out; echo err >&2; exit 7", |_| {});
    assert_eq!((done.setup, done.exit), (Setup::Done, Exit::Code(7)));
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
    let done = host.sh("ulimit -c 0; kill -SEGV $$; sleep 9 & kill -9 $!; wait $!", |_| {});
    // PID 1 of a namespace ignores signals from inside; the shell reports the end of its child.
    assert_eq!(done.exit, Exit::Code(128 + 9));
}

fn it_is_pid_1_of_its_own_namespaces(host: &mut Host) {
    let script = "echo $$; hostname; tail -n1 /proc/self/cgroup; ls /proc | grep -c '^[0-9]'; \
                  for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done";
    host.netns = Some(create_netns(host.userns.as_ref()).unwrap().ns);
    let out = host.sh(script, |_| {}).ok();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(&lines[..3], ["1", "box", "0::/"]);
    for (name, inside) in ["cgroup", "ipc", "mnt", "net", "pid", "uts"].iter().zip(&lines[4..]) {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(own.to_str(), Some(*inside), "{name}");
    }
    let stat = host.run(&["cat", "/proc/self/stat"], |_| {}).ok();
    let fields: Vec<&str> = stat.split(' ').collect();
    // pid, parent, process group, session, no terminal.
    assert_eq!((fields[0], &fields[3..7]), ("1", &["0", "1", "1", "0"][..]));
}

fn signals_limits_and_umask_have_their_defaults(host: &mut Host) {
    // SAFETY: plain signal calls of a single-threaded process.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigdelset(&raw mut set, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
    let status = host.run(&["cat", "/proc/self/status"], |_| {}).ok();
    for set in ["SigBlk", "SigIgn", "SigCgt"] {
        assert_eq!(field(&status, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&status, "Umask"), "0022");

    let script = "cat /proc/self/oom_score_adj; ulimit -n; ulimit -Hn; ulimit -c";
    let out = host
        .sh(script, |plan| {
            plan.process.oom_score_adj = 321;
            plan.process.rlimits = vec![
                Rlimit { resource: Resource::NoFile, soft: 100, hard: 200 },
                Rlimit { resource: Resource::Core, soft: 0, hard: 0 },
            ];
        })
        .ok();
    assert_eq!(out, "321\n100\n200\n0\n");
    let own = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let limit: u64 = host.sh("ulimit -n", |_| {}).ok().trim().parse().unwrap();
    assert!(limit == Rlimit::NOFILE || limit == own.1, "{limit}");
}

fn it_waits_for_the_go(host: &mut Host) {
    let mut running = host.start(&["sh", "-c", "echo running"], |plan| plan.wait_for_go = true);
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(read_status(&running.spawned.status), Ok(Setup::Pending));
    let go = running.spawned.go.take().unwrap();
    nix::unistd::write(&go, b"!").unwrap();
    assert_eq!(host.finish(running).ok(), "running\n");
}

fn a_closed_go_pipe_cancels_the_setup(host: &mut Host) {
    let mut running = host.start(&["sh", "-c", "echo running"], |plan| plan.wait_for_go = true);
    drop(running.spawned.go.take());
    let done = host.finish(running);
    assert_eq!(done.out, "");
    let error = done.error();
    assert_eq!(error.step, Step::Go);
    assert_eq!(error.to_string(), "wait for the network: setup was cancelled");
}

fn a_waiting_container_does_not_hold_the_go_pipe_of_another(host: &mut Host) {
    let mut first = host.start(&["true"], |plan| plan.wait_for_go = true);
    let second = host.start(&["true"], |plan| plan.wait_for_go = true);
    drop(first.spawned.go.take());
    assert_eq!(host.finish(first).error().step, Step::Go);
    second.cgroup.kill().unwrap();
    assert_eq!(host.exit_of(second.spawned.pid), Exit::Signal(libc::SIGKILL));
}

fn a_network_namespace_outlives_two_runs(host: &mut Host) {
    let before = fs::read_link("/proc/self/ns/net").unwrap();
    let made = create_netns(host.userns.as_ref()).unwrap();
    assert_eq!(fs::read_link("/proc/self/ns/net").unwrap(), before);
    host.netns = Some(made.ns);
    let script = "readlink /proc/self/ns/net; ip -o addr; ls /sys/class/net; \
                  cat /proc/sys/net/ipv4/ip_unprivileged_port_start";
    let first = host.sh(script, |_| {}).ok();
    assert!(first.contains("127.0.0.1/8") && first.contains("\nlo\n"), "{first}");
    assert!(first.ends_with("\n0\n") && !first.contains("eth"), "{first}");
    assert_ne!(first.lines().next(), before.to_str());
    assert_eq!(host.sh(script, |_| {}).ok(), first);
}

fn without_a_network_namespace_it_uses_the_hosts(host: &mut Host) {
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    let inside = host.run(&["readlink", "/proc/self/ns/net"], |_| {}).ok();
    assert_eq!(Some(inside.trim()), own.to_str());
    assert!(host.sh("touch /sys/x", |_| {}).err.contains("Read-only"));
}

fn the_hosts_mounts_do_not_change(host: &mut Host) {
    let mounts = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = mounts();
    host.sh("true", |_| {}).ok();
    host.sh("true", |plan| layers(plan).insert(0, "/nonexistent".into())).error();
    let mut running = host.start(&["sh", "-c", "echo up; exec sleep 100"], |_| {});
    assert_eq!(running.line(), "up");
    assert_eq!(mounts(), before);
    assert_eq!(fs::read_dir(host.dir.join("staging")).unwrap().count(), 0);
    // The container does not see any of the host's mounts either.
    let inside = fs::read_to_string(format!("/proc/{}/mountinfo", running.spawned.pid)).unwrap();
    let paths: Vec<&str> = inside.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    let known = ["/", "/proc", "/sys", "/dev"];
    for path in paths {
        let top: String = path.split('/').take(2).collect::<Vec<_>>().join("/");
        assert!(known.contains(&top.as_str()) || top.is_empty(), "{path}");
    }
    running.cgroup.kill().unwrap();
    assert_eq!(host.exit_of(running.spawned.pid), Exit::Signal(9));
}

fn outputs_can_be_swapped_or_the_same(host: &mut Host) {
    use std::os::fd::BorrowedFd;
    // The caller's own 1 and 2, swapped, are the worst case for moving descriptors.
    let (out, stdout) = crate::host::pipe();
    let (err, stderr) = crate::host::pipe();
    // SAFETY: this process's own standard outputs, saved here and restored below.
    let saved = unsafe { (libc::dup(1), libc::dup(2)) };
    nix::unistd::dup2_stdout(&stdout).unwrap();
    nix::unistd::dup2_stderr(&stderr).unwrap();
    drop((stdout, stderr));
    let running = host.start(&["sh", "-c", "echo to-stdout; echo to-stderr >&2"], |plan| {
        // SAFETY: 1 and 2 are open.
        (plan.stdout, plan.stderr) =
            unsafe { (BorrowedFd::borrow_raw(2), BorrowedFd::borrow_raw(1)) };
    });
    // SAFETY: restores the saved descriptors.
    unsafe {
        libc::dup2(saved.0, 1);
        libc::dup2(saved.1, 2);
    }
    host.finish(running).ok();
    assert_eq!(crate::host::read(out), "to-stderr\n");
    assert_eq!(crate::host::read(err), "to-stdout\n");

    let running = host.start(&["sh", "-c", "echo one; echo two >&2"], |plan| {
        plan.stderr = plan.stdout;
    });
    assert_eq!(host.finish(running).ok(), "one\ntwo\n");
}
