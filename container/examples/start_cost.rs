//! Measures what a start costs: from `spawn` to the end of a program that does nothing.
//!
//! `start_cost LAYER PROGRAM [COUNT [GAP_MS]]`, as root: LAYER is a directory with PROGRAM in it.
//! Prints the fastest, the median and the slowest run in microseconds; with a gap between the runs
//! the caches are colder, as they are on an idle host.

use container::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::error::Error;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(layer), Some(program)) = (args.next(), args.next()) else {
        return Err("usage: start_cost LAYER PROGRAM [COUNT [GAP_MS]]".into());
    };
    let count: usize = args.next().map_or(Ok(100), |text| text.parse())?;
    let gap: u64 = args.next().map_or(Ok(0), |text| text.parse())?;
    // This process plays PID 1: containers become its children, and it reaps them.
    // SAFETY: prctl with integers only; the program has one thread when it forks.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    // SAFETY: as above.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let done = measure(layer.into(), program, count, Duration::from_millis(gap));
        if let Err(error) = &done {
            eprintln!("{error}");
        }
        std::process::exit(i32::from(done.is_err()));
    }
    let mut status = 0;
    // SAFETY: the status lives over the call.
    while unsafe { libc::wait(&raw mut status) } > 0 {}
    Ok(())
}

fn measure(
    layer: PathBuf,
    program: String,
    count: usize,
    gap: Duration,
) -> Result<(), Box<dyn Error>> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let root = line.and_then(|line| line.split(' ').nth(1)).ok_or("cgroup v2 is not mounted")?;
    let cgroup = Cgroup::create(Path::new(root), "start-cost", &Limits::default())?;
    let staging = std::env::temp_dir().join("start-cost");
    std::fs::create_dir_all(&staging)?;
    let filter = seccomp::Filter::default_for(CapSet::DEFAULT)?;
    let net = create_netns(None)?;
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        std::thread::sleep(gap);
        let start = Instant::now();
        let spawned = spawn(&Plan {
            hostname: "cost".into(),
            staging: staging.clone(),
            root: Root::Layers { layers: vec![layer.clone()], writable_size: None },
            read_only: false,
            mounts: vec![],
            masked: vec![],
            read_only_paths: vec![],
            sysctls: vec![],
            files: ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]
                .map(|path| InlineFile { path: path.into(), content: b"x\n".into(), mode: 0o644 })
                .into(),
            devices: vec![],
            process: Process {
                argv: vec![program.clone()],
                env: vec![],
                cwd: String::new(),
                user: "1000:1000".into(),
                groups: None,
                umask: Process::UMASK,
                caps: CapSet::DEFAULT,
                no_new_privs: true,
                rlimits: vec![],
                oom_score_adj: 0,
            },
            userns: None,
            seccomp: Some(&filter),
            netns: Some(net.ns.as_fd()),
            cgroup: &cgroup,
            stdin: None,
            stdout: null.as_fd(),
            stderr: null.as_fd(),
            terminal: None,
            wait_for_go: false,
            handover: None,
        })?;
        let mut fds = [PollFd::new(spawned.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::NONE)?;
        times.push(start.elapsed().as_micros());
        if let Setup::Failed(error) = read_status(&spawned.status)? {
            return Err(error.into());
        }
    }
    while cgroup.populated()? {
        std::thread::yield_now();
    }
    cgroup.remove()?;
    std::fs::remove_dir(&staging)?;
    times.sort_unstable();
    let at = |share: usize| times.get((times.len().saturating_sub(1)) * share / 100);
    println!(
        "{count} starts in µs: {:?} fastest, {:?} median, {:?} slowest",
        at(0),
        at(50),
        at(100)
    );
    Ok(())
}
