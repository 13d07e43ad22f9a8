//! Starts leave nothing behind.

use crate::host::{Exit, Host, bind};
use crate::tests;
use container::*;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

tests![a_thousand_starts_of_which_many_fail_leave_nothing_behind];

/// Counts of everything that a start could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: usize,
    descriptors: usize,
    links: usize,
    cgroups: usize,
    files: usize,
    children: usize,
}

fn entries(path: impl AsRef<Path>) -> usize {
    fs::read_dir(path).unwrap().count()
}

fn count(path: &Path) -> usize {
    fs::read_dir(path).unwrap().flatten().fold(0, |sum, entry| {
        let below = entry.file_type().is_ok_and(|kind| kind.is_dir());
        sum + 1 + if below { count(&entry.path()) } else { 0 }
    })
}

impl Traces {
    fn of(host: &Host) -> Traces {
        let me = std::process::id();
        Traces {
            mounts: fs::read_to_string("/proc/self/mountinfo").unwrap().lines().count(),
            descriptors: entries("/proc/self/fd"),
            links: entries("/sys/class/net"),
            cgroups: fs::read_dir(&host.cgroups)
                .unwrap()
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .count(),
            files: count(&host.dir),
            children: fs::read_to_string(format!("/proc/{me}/task/{me}/children"))
                .unwrap()
                .split_whitespace()
                .count(),
        }
    }
}

/// Number of ways to fail, each at a different step.
const WAYS: usize = 15;

fn layer(dir: &Path, name: &str) -> Root {
    Root::Layers { layers: vec![dir.join(name)], writable_size: None }
}

/// Makes the plan fail in one of the ways.
fn spoil(plan: &mut Plan<'_>, way: usize, dir: &Path) {
    let text = str::to_owned;
    match way {
        0 => plan.root = layer(dir, "no-such-layer"),
        1 => plan.root = layer(dir, "linked-proc"),
        2 => plan.root = layer(dir, "linked-dev"),
        3 => plan.mounts = vec![bind(&dir.join("no-such-volume"), "/v")],
        4 => plan.mounts = vec![bind(dir, "/etc/passwd/below-a-file")],
        5 => plan.mounts = vec![bind(dir, "/kernel")],
        6 => plan.process.user = text("nobody-such"),
        7 => plan.process.cwd = text("/etc/passwd"),
        8 => plan.process.argv = vec![text("no-such-program")],
        9 => plan.process.argv = vec![text("/etc")],
        10 => plan.sysctls = vec![(text("net.no.such"), text("1"))],
        11 => {
            let path = text("/etc/passwd/hosts");
            plan.files = vec![InlineFile { path, content: vec![b'x'; 10], mode: 0o644 }];
        }
        12 => {
            let (source, target) = (dir.join("layer/etc/passwd"), text("/dev/x"));
            plan.devices = vec![Device { source, target }];
        }
        13 => {
            let rlimit = Rlimit { resource: Resource::NoFile, soft: 20, hard: 10 };
            plan.process.rlimits = vec![rlimit];
        }
        _ => plan.wait_for_go = true,
    }
}

fn a_thousand_starts_of_which_many_fail_leave_nothing_behind(host: &mut Host) {
    for (layer, linked) in [("linked-proc", "proc"), ("linked-dev", "dev")] {
        fs::create_dir(host.dir.join(layer)).unwrap();
        symlink("/tmp", host.dir.join(layer).join(linked)).unwrap();
    }
    host.image_link("/kernel", "/proc/sys");
    let dir = host.dir.clone();
    // Begin with one of each: state that is created once on first use is not a leak.
    let mut steps = BTreeSet::new();
    let mut before = None;
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    for number in 0..1000 {
        if number == WAYS {
            before = Some(Traces::of(host));
        }
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let way = if number < WAYS { Some(number) } else { None };
        let way = way.or(seed.is_multiple_of(3).then_some((seed >> 32) as usize % WAYS));
        let net = match host.ids() {
            Some(range) => {
                let (userns, net) = create_userns_and_netns(range).unwrap();
                host.userns = Some(userns);
                net
            }
            None => create_netns(None).unwrap(),
        };
        host.netns = Some(net.ns);
        let mut running = host.start(&["true"], |plan| {
            if let Some(way) = way {
                spoil(plan, way, &dir);
            }
        });
        // The last way: the process that would continue the start is gone.
        drop(running.spawned.go.take());
        // Some are killed at an arbitrary step.
        let killed = seed >> 40 & 15 == 0;
        if killed {
            running.cgroup.kill().unwrap();
        }
        let path = running.cgroup.path().to_owned();
        let done = host.finish(running);
        match (&done.setup, way) {
            (Setup::Failed(error), Some(_)) => {
                steps.insert(error.step.name());
            }
            (Setup::Done, None) if !killed => assert_eq!(done.exit, Exit::Code(0), "{number}"),
            _ => assert!(killed, "{number}: {way:?}: {done:?}"),
        }
        let cgroup = Cgroup::open(&path).unwrap();
        while cgroup.populated().unwrap() {
            std::thread::yield_now();
        }
        cgroup.remove().unwrap();
        drop(cgroup);
        host.netns = None;
    }
    assert!(steps.len() >= 11, "they fail at different steps: {steps:?}");
    assert_eq!(Some(Traces::of(host)), before);
}
