//! Our engine, driven as the supervisor drives it: one start for each order.
//!
//! What the supervisor does for a unit's first start is done here in the same order: network
//! namespace, cgroup with its limits, two pipes for what the program writes, [`container::spawn`],
//! the end by pidfd, the set-up's status, PID 1's word that it has reaped. Then all of it is taken
//! away again.

use crate::controllers::limits;
use container::{
    CapSet, Cgroup, InlineFile, Limits, NetNs, Plan, Process, Setup, create_netns, read_status, spawn,
};
use engine_bench::turn::{Ends, Reply};
use engine_bench::{Failure, Naming, places, turn};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Which start is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// The network namespace and the cgroup stay, as over a unit's restarts.
    pub restart: bool,
}

/// What stays between the starts of a unit.
struct Kept {
    net: NetNs,
    cgroup: Cgroup,
}

/// Serves orders until there are no more.
pub fn main(variant: Variant) -> Result<(), Failure> {
    let limits = limits();
    let kept = if variant.restart { Some(make("engine-restart", &limits)?) } else { None };
    let served = turn::serve(|ends| start(kept.as_ref(), &limits, ends));
    if let Some(Kept { cgroup, .. }) = kept {
        cgroup.remove().naming("control group")?;
    }
    served
}

fn make(name: &str, limits: &Limits) -> Result<Kept, Failure> {
    let net = create_netns().naming("network namespace")?;
    let cgroup =
        Cgroup::create(Path::new(places::CGROUP), name, limits).naming("control group")?;
    Ok(Kept { net, cgroup })
}

fn start(kept: Option<&Kept>, limits: &Limits, ends: &mut Ends) -> Result<Reply, Failure> {
    let began = Instant::now();
    let fresh;
    let Kept { net, cgroup } = match kept {
        Some(kept) => kept,
        None => {
            fresh = make("engine", limits)?;
            &fresh
        }
    };
    let (_out, out_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).naming("pipe2")?;
    let (_err, err_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).naming("pipe2")?;
    let spawned = spawn(&Plan {
        hostname: "bench".to_owned(),
        staging: PathBuf::from(places::STAGING),
        layers: vec![PathBuf::from(places::LAYER)],
        writable_size: None,
        read_only: false,
        mounts: Vec::new(),
        files: ["/etc/hosts", "/etc/hostname"]
            .map(|path| InlineFile { path: path.into(), content: b"bench\n".into(), mode: 0o644 })
            .into(),
        devices: Vec::new(),
        process: Process {
            argv: vec![places::PAYLOAD.to_owned()],
            env: Vec::new(),
            cwd: String::new(),
            user: String::new(),
            caps: CapSet::DEFAULT,
            rlimits: Vec::new(),
            oom_score_adj: 0,
        },
        netns: Some(net.ns.as_fd()),
        cgroup,
        stdout: out_write.as_fd(),
        stderr: err_write.as_fd(),
        wait_for_go: false,
    })
    .naming("spawn")?;
    drop((out_write, err_write));
    let mut watched = [PollFd::new(spawned.pidfd.as_fd(), PollFlags::POLLIN)];
    while let Err(errno) = poll(&mut watched, PollTimeout::NONE) {
        if errno != Errno::EINTR {
            return Err(errno).naming("poll");
        }
    }
    if let Setup::Failed(error) = read_status(&spawned.status).naming("the status pipe")? {
        return Err(Failure(error.to_string()));
    }
    let ended = ends.expect(spawned.pid)?;
    if kept.is_none() {
        cgroup.remove().naming("control group")?;
    }
    let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    Ok(Reply { ns, max_rss_kib: ended.max_rss_kib })
}
