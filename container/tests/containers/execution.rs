//! Programs run inside a running container.

use crate::host::{Exit, Host, Running, default_filter, field, pipe, process, read};
use crate::tests;
use container::*;
use nix::errno::Errno;
use std::fs;
use std::os::fd::AsFd;

tests![
    a_program_runs_inside,
    it_has_the_plans_user_and_capabilities,
    a_missing_program_is_reported,
    the_helper_does_not_linger,
    a_container_that_has_ended_is_reported,
    no_descriptor_leaks_into_it,
    it_dies_with_the_container,
    it_has_the_limits_and_the_filter_of_its_plan,
    cve_2025_52881_a_container_that_mounts_cannot_redirect_the_runtimes_writes,
];

fn sleeper(host: &mut Host) -> Running {
    host.netns = Some(create_netns(host.userns.as_ref()).unwrap().ns);
    let mut running =
        host.start(&["sh", "-c", "echo hidden > /tmp/f; echo up; exec sleep 1000"], |_| {});
    assert_eq!(running.line(), "up");
    running
}

struct Finished {
    setup: Setup,
    exit: Exit,
    out: String,
}

fn inside(host: &mut Host, running: &Running, process: Process) -> Result<Finished, ExecError> {
    let (out, stdout) = pipe();
    let execution = Execution {
        pidfd: running.spawned.pidfd.as_fd(),
        cgroup: &running.cgroup,
        ids: host.ids(),
        process,
        seccomp: Some(default_filter()),
        stdin: None,
        stdout: stdout.as_fd(),
        stderr: stdout.as_fd(),
    };
    let executed = exec(&execution)?;
    drop(stdout);
    let out = read(out);
    let exit = host.exit_of(executed.pid);
    assert_eq!(host.exit_of(executed.helper), Exit::Code(0));
    Ok(Finished { setup: read_status(&executed.status).unwrap(), exit, out })
}

fn a_program_runs_inside(host: &mut Host) {
    let running = sleeper(host);
    let script = "cat /tmp/f; hostname; tail -n1 /proc/self/cgroup; \
        for n in cgroup ipc mnt net pid uts; do readlink /proc/self/ns/$n; done; exit 3";
    let done = inside(host, &running, process(&["sh", "-c", script])).unwrap();
    assert_eq!((done.setup, done.exit), (Setup::Done, Exit::Code(3)));
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(&lines[..3], ["hidden", "box", "0::/"]);
    let pid = running.spawned.pid;
    for (name, seen) in ["cgroup", "ipc", "mnt", "net", "pid", "uts"].iter().zip(&lines[3..]) {
        let of_main = fs::read_link(format!("/proc/{pid}/ns/{name}")).unwrap();
        assert_eq!(of_main.to_str(), Some(*seen), "{name}");
    }
}

fn it_has_the_plans_user_and_capabilities(host: &mut Host) {
    let running = sleeper(host);
    let mut asked = process(&["sh", "-c", "pwd; cat /proc/self/status"]);
    asked.user = "web".into();
    asked.cwd = "/etc".into();
    let done = inside(host, &running, asked).unwrap();
    assert!(done.out.starts_with("/etc\n"), "{}", done.out);
    assert_eq!(field(&done.out, "Uid"), "1000\t1000\t1000\t1000");
    assert_eq!(field(&done.out, "Groups"), "50 1001");
    assert_eq!(field(&done.out, "NoNewPrivs"), "1");
    assert_eq!(field(&done.out, "CapEff"), "0000000000000000");
    assert_eq!(field(&done.out, "CapBnd"), format!("{:016x}", CapSet::DEFAULT.bits()));
    let done = inside(host, &running, process(&["cat", "/proc/self/status"])).unwrap();
    assert_eq!(field(&done.out, "SigIgn"), "0000000000000000");
}

fn a_missing_program_is_reported(host: &mut Host) {
    let running = sleeper(host);
    let done = inside(host, &running, process(&["/bin/probe"])).unwrap();
    assert_eq!(done.exit, Exit::Code(125));
    let Setup::Failed(error) = done.setup else { panic!("{:?}", done.setup) };
    assert_eq!(error.to_string(), "exec: /bin/probe: no such file in the image");
    let refused = inside(host, &running, process(&[]));
    assert!(matches!(refused, Err(ExecError::Plan(_))));
}

fn the_helper_does_not_linger(host: &mut Host) {
    let running = sleeper(host);
    for _ in 0..50 {
        let done = inside(host, &running, process(&["true"])).unwrap();
        assert_eq!(done.exit, Exit::Code(0));
    }
    let procs = fs::read_to_string(running.cgroup.path().join("cgroup.procs")).unwrap();
    assert_eq!(procs.lines().count(), 1, "{procs}");
}

fn a_container_that_has_ended_is_reported(host: &mut Host) {
    let running = sleeper(host);
    running.cgroup.kill().unwrap();
    host.exit_of(running.spawned.pid);
    match inside(host, &running, process(&["true"])) {
        Err(ExecError::Helper(error)) => {
            assert_eq!((error.step, error.errno), (Step::Join, Errno::ESRCH));
        }
        other => panic!("{:?}", other.err()),
    }
}

fn no_descriptor_leaks_into_it(host: &mut Host) {
    let running = sleeper(host);
    let done = inside(host, &running, process(&["ls", "/proc/self/fd"])).unwrap();
    assert_eq!(done.out, "0\n1\n2\n3\n");
}

fn it_dies_with_the_container(host: &mut Host) {
    let running = sleeper(host);
    let (_out, stdout) = pipe();
    let execution = Execution {
        pidfd: running.spawned.pidfd.as_fd(),
        cgroup: &running.cgroup,
        ids: host.ids(),
        process: process(&["sleep", "1000"]),
        seccomp: None,
        stdin: None,
        stdout: stdout.as_fd(),
        stderr: stdout.as_fd(),
    };
    let executed = exec(&execution).unwrap();
    running.cgroup.kill().unwrap();
    assert_eq!(host.exit_of(executed.pid), Exit::Signal(9));
    assert_eq!(host.exit_of(running.spawned.pid), Exit::Signal(9));
}

fn it_has_the_limits_and_the_filter_of_its_plan(host: &mut Host) {
    let running = sleeper(host);
    let own = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let mut asked = process(&[
        "sh",
        "-c",
        "umask; ulimit -n; cat /proc/self/oom_score_adj; cat /proc/self/status",
    ]);
    asked.umask = 0o027;
    asked.oom_score_adj = 77;
    asked.rlimits = vec![Rlimit { resource: Resource::NoFile, soft: 100, hard: 100 }];
    let done = inside(host, &running, asked).unwrap();
    assert!(done.out.starts_with("0027\n100\n77\n"), "{}", done.out);
    for set in ["CapInh", "CapAmb"] {
        assert_eq!(field(&done.out, set), "0000000000000000", "{set}");
    }
    assert_eq!(field(&done.out, "Seccomp"), "2");
    // libcontainer writes the caller's own.
    assert_eq!(fs::read_to_string("/proc/self/oom_score_adj").unwrap(), own);
    // SAFETY: prctl without arguments.
    assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 1);
}

fn cve_2025_52881_a_container_that_mounts_cannot_redirect_the_runtimes_writes(host: &mut Host) {
    // Mount another procfs file over the one that is written.
    let script = "mkdir /p /p/self; touch /p/self/oom_score_adj; \
        mount -o bind /proc/1/comm /p/self/oom_score_adj && mount -o rbind /p /proc && \
        echo up; exec sleep 1000";
    let mut running = host.start(&["sh", "-c", script], |plan| {
        plan.process.caps = CapSet::from_names(&["SYS_ADMIN"], &[]).unwrap();
        plan.seccomp = None;
    });
    assert_eq!(running.line(), "up");
    let done = inside(host, &running, process(&["true"])).unwrap();
    let Setup::Failed(error) = done.setup else { panic!("{:?}", done.setup) };
    assert_eq!(error.step, Step::OomScore, "{error}");
    let comm = fs::read_to_string(format!("/proc/{}/comm", running.spawned.pid)).unwrap();
    assert_eq!(comm, "sleep\n");
    running.cgroup.kill().unwrap();
}
