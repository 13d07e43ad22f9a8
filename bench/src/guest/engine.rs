//! Our engine, driven as the supervisor drives it: one start for each request.
//!
//! It performs the supervisor's steps for a unit's first start, in the same order: network namespace,
//! cgroup with its limits, two pipes for the program's output, [`container::spawn`], waiting on the
//! pidfd, the status of the set-up, PID 1's report that it has reaped the process. Then everything is
//! removed again.

use crate::controllers::limits;
use container::seccomp::Filter;
use container::{
    CapSet, Cgroup, DeviceFilter, DeviceRule, IdRange, InlineFile, Limits, NetNs, Plan, Process,
    Root, Setup, Spawned, UserNs, create_netns, create_userns_and_netns, read_status, spawn,
};
use engine_bench::marks::{CLONE, GROUP, Marks, NETNS, RAN, REAPED, REMOVED, mark};
use engine_bench::turn::{Ends, Reply};
use engine_bench::{Failure, Naming, places, turn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The variant of a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// The network namespace and the cgroup stay, as they do across a unit's restarts.
    pub restart: bool,
    /// Record when each step ends.
    pub steps: bool,
    /// The container has its own user namespace.
    pub own_ids: bool,
}

/// What is created once, when a host folder is read.
struct Filters {
    seccomp: Filter,
    devices: DeviceFilter,
}

impl Filters {
    fn make() -> Result<Filters, Failure> {
        Ok(Filters {
            seccomp: Filter::default_for(CapSet::DEFAULT).naming("the seccomp filter")?,
            devices: DeviceFilter::load(&DeviceRule::USUAL).naming("the device filter")?,
        })
    }
}

/// What stays between the starts of a unit.
struct Kept {
    userns: Option<UserNs>,
    net: NetNs,
    cgroup: Cgroup,
}

/// Serves requests until end of file.
pub fn main(variant: Variant) -> Result<(), Failure> {
    let limits = limits();
    let filters = Filters::make()?;
    let own_ids = variant.own_ids;
    let kept = match variant.restart {
        true => Some(make("engine-restart", &limits, &filters, own_ids)?),
        false => None,
    };
    let mut marks = variant.steps.then(Marks::share).transpose()?;
    if marks.is_some() {
        let _ = container::STEP_ENDED.set(|step| mark(step.name()));
    }
    let served = turn::serve(|ends| {
        marks.iter().for_each(Marks::begin);
        let reply = start(kept.as_ref(), &limits, &filters, own_ids, ends);
        marks.iter_mut().for_each(Marks::collect);
        reply
    });
    if let Some(marks) = marks {
        marks.write("engine")?;
    }
    if let Some(Kept { cgroup, .. }) = kept {
        cgroup.remove().naming("control group")?;
    }
    served
}

fn make(name: &str, limits: &Limits, filters: &Filters, own_ids: bool) -> Result<Kept, Failure> {
    let (userns, net) = match IdRange::nth(0).filter(|_| own_ids) {
        Some(range) => {
            let (userns, net) = create_userns_and_netns(range).naming("namespaces")?;
            (Some(userns), net)
        }
        None => (None, create_netns(None).naming("network namespace")?),
    };
    mark(NETNS);
    let cgroup = Cgroup::create(Path::new(places::CGROUP), name, limits).naming("control group")?;
    filters.devices.attach(&cgroup).naming("device filter")?;
    mark(GROUP);
    Ok(Kept { userns, net, cgroup })
}

fn start(
    kept: Option<&Kept>,
    limits: &Limits,
    filters: &Filters,
    own_ids: bool,
    ends: &mut Ends,
) -> Result<Reply, Failure> {
    let began = Instant::now();
    let fresh;
    let surroundings = match kept {
        Some(kept) => kept,
        None => {
            fresh = make("engine", limits, filters, own_ids)?;
            &fresh
        }
    };
    let container = Container::start(surroundings, filters, &[])?;
    mark(CLONE);
    container.wait()?;
    mark(RAN);
    let ended = ends.expect(container.spawned.pid)?;
    mark(REAPED);
    if kept.is_none() {
        surroundings.cgroup.remove().naming("control group")?;
    }
    drop(container);
    mark(REMOVED);
    let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Reply { ns, max_rss_kib: ended.max_rss_kib })
}

/// One run: the process and the pipes for its output.
struct Container {
    spawned: Spawned,
    out: OwnedFd,
    _err: OwnedFd,
}

impl Container {
    /// Creates two pipes and spawns the process.
    fn start(
        Kept { userns, net, cgroup }: &Kept,
        filters: &Filters,
        words: &[&str],
    ) -> Result<Container, Failure> {
        let (out, out_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).naming("pipe2")?;
        let (err, err_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).naming("pipe2")?;
        let argv = [places::PAYLOAD].iter().chain(words).map(|word| (*word).to_owned()).collect();
        let spawned = spawn(&Plan {
            hostname: "bench".to_owned(),
            staging: PathBuf::from(places::STAGING),
            root: Root::Layers { layers: vec![PathBuf::from(places::LAYER)], writable_size: None },
            read_only: false,
            mounts: Vec::new(),
            files: ["/etc/hosts", "/etc/hostname"]
                .map(|path| InlineFile {
                    path: path.into(),
                    content: b"bench\n".into(),
                    mode: 0o644,
                })
                .into(),
            masked: Vec::new(),
            read_only_paths: Vec::new(),
            sysctls: Vec::new(),
            unmasked: Vec::new(),
            devices: Vec::new(),
            process: Process {
                argv,
                env: Vec::new(),
                cwd: String::new(),
                user: String::new(),
                groups: None,
                umask: Process::UMASK,
                caps: CapSet::DEFAULT,
                inheritable: CapSet::EMPTY,
                ambient: CapSet::EMPTY,
                no_new_privs: true,
                rlimits: Vec::new(),
                oom_score_adj: 0,
            },
            userns: userns.as_ref(),
            seccomp: Some(&filters.seccomp),
            netns: Some(net.ns.as_fd()),
            cgroup,
            stdin: None,
            terminal: None,
            handover: None,
            stdout: out_write.as_fd(),
            stderr: err_write.as_fd(),
            wait_for_go: false,
        })
        .naming("spawn")?;
        Ok(Container { spawned, out, _err: err })
    }

    /// Waits until the process exits. Fails if its set-up failed.
    fn wait(&self) -> Result<(), Failure> {
        let mut watched = [PollFd::new(self.spawned.pidfd.as_fd(), PollFlags::POLLIN)];
        while let Err(errno) = poll(&mut watched, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                return Err(errno).naming("poll");
            }
        }
        self.check()
    }

    fn check(&self) -> Result<(), Failure> {
        match read_status(&self.spawned.status).naming("the status pipe")? {
            Setup::Failed(error) => Err(Failure(error.to_string())),
            _ => Ok(()),
        }
    }
}

/// Runs the payload with these arguments in a container that this process starts, and returns its
/// output. Its parent, PID 1, reaps it.
pub fn output(words: &[&str]) -> Result<String, Failure> {
    let filters = Filters::make()?;
    let kept = make("engine-output", &limits(), &filters, true)?;
    let container = Container::start(&kept, &filters, words)?;
    container.wait()?;
    let mut text = String::new();
    let Container { spawned, out, .. } = container;
    File::from(out).read_to_string(&mut text).naming("the payload's output")?;
    drop(spawned);
    remove(&kept.cgroup)?;
    Ok(text)
}

/// A container that waits forever.
pub struct Resting {
    kept: Kept,
    container: Container,
}

impl Resting {
    /// Starts it.
    pub fn start() -> Result<Resting, Failure> {
        let filters = Filters::make()?;
        let kept = make("engine-resting", &limits(), &filters, true)?;
        let container = Container::start(&kept, &filters, &["pause"])?;
        Ok(Resting { kept, container })
    }

    /// Kills it. Fails if it was not running.
    pub fn stop(self) -> Result<(), Failure> {
        self.container.check()?;
        self.kept.cgroup.kill().naming("control group")?;
        self.container.wait()?;
        remove(&self.kept.cgroup)
    }
}

/// Removes a group as soon as it is empty.
fn remove(group: &Cgroup) -> Result<(), Failure> {
    while group.populated().naming("control group")? {
        std::thread::yield_now();
    }
    group.remove().naming("control group")
}
