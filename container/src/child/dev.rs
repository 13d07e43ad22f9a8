//! `/dev`: a tmpfs per container with the standard device nodes.

use super::beneath::Root;
use super::kernelfs::mount_kernel;
use super::{Context, Ids, Problem, StepResult, host_id};
use crate::caps::{self, Capability};
use crate::plan::{Plan, parts};
use crate::sys::{self, ResolveFlags};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, makedev, mkdirat, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use std::os::fd::{AsFd, OwnedFd};

/// Name, major, minor (`Documentation/admin-guide/devices.txt`).
const NODES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Group 5 is "tty" in every distribution; grantpt(3) expects terminals to belong to it.
const TTY_GROUP: u32 = 5;

/// A device node to be created in the container.
struct Node {
    /// Path below `/dev`.
    target: String,
    stat: FileStat,
    /// The host's node as a detached mount, if nodes cannot be created.
    bind: Option<OwnedFd>,
}

/// The host's device nodes, opened.
pub(super) struct Devices {
    /// The standard nodes as mounts; empty if they can be created.
    standard: Vec<Node>,
    extra: Vec<Node>,
}

/// Opens the host's nodes that are needed. `mknod(2)` needs CAP_MKNOD in the initial user
/// namespace; without it the host's nodes are bind-mounted.
pub(super) fn open_sources(plan: &Plan<'_>) -> StepResult<Devices> {
    let mknod = Capability::from_name("MKNOD").ok_or(Errno::EINVAL)?;
    let bind = !caps::effective()?.contains(mknod);
    let mut devices = Devices { standard: Vec::new(), extra: Vec::new() };
    if bind {
        for (name, ..) in NODES {
            devices.standard.push(open_node(&format!("/dev/{name}"), name.to_owned(), true)?);
        }
    }
    for device in &plan.devices {
        let target: Vec<&str> = parts(&device.target).skip(1).collect();
        let source = device.source.to_string_lossy();
        devices.extra.push(open_node(&source, target.join("/"), bind)?);
    }
    Ok(devices)
}

fn open_node(source: &str, target: String, bind: bool) -> StepResult<Node> {
    let fd = open(source, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).context(source)?;
    let stat = fstat(&fd).context(source)?;
    if !matches!(kind(&stat), SFlag::S_IFCHR | SFlag::S_IFBLK) {
        return Err(Problem::new(Errno::ENOTBLK, format!("{source} is not a device node")));
    }
    let bind = match bind {
        true => Some(sys::open_tree(&fd, false).context(source)?),
        false => None,
    };
    Ok(Node { target, stat, bind })
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// Mounts and fills `/dev`.
pub(super) fn set_up(root: &Root, devices: &Devices, ids: Ids) -> StepResult {
    let tty = host_id(ids, TTY_GROUP)?;
    let terminals = format!("newinstance,ptmxmode=0666,mode=0620,gid={tty}");
    mount_kernel(root, "dev", "tmpfs", MsFlags::MS_NOSUID, Some("mode=0755,size=65536k"))?;
    let dev = root.kernel_dir("dev")?;
    if devices.standard.is_empty() {
        for (name, major, minor) in NODES {
            let mode = Mode::from_bits_truncate(0o666);
            mknodat(&dev, name, SFlag::S_IFCHR, mode, makedev(major, minor)).context(name)?;
        }
    }
    for node in devices.standard.iter().chain(&devices.extra) {
        make_node(&dev, node, ids)?;
    }
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).context(name)?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_bits_truncate(0o755)).context(name)?;
    }
    // Only this process can reach the tmpfs just mounted: these paths contain no links.
    let nosuid_noexec = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let all = nosuid_noexec | MsFlags::MS_NODEV;
    for (path, name, kind, flags, options) in [
        ("/dev/pts", "devpts", "devpts", nosuid_noexec, Some(terminals.as_str())),
        ("/dev/shm", "shm", "tmpfs", all, Some("mode=1777,size=65536k")),
        ("/dev/mqueue", "mqueue", "mqueue", all, None),
    ] {
        match mount(Some(name), path, Some(kind), flags, options) {
            // A kernel without POSIX message queues: the directory stays empty.
            Err(Errno::ENODEV) if kind == "mqueue" => {}
            done => done.context(path)?,
        }
    }
    if let Some((range, _)) = ids {
        // devpts gives these to the host's root, whichever user mounts it.
        let (uid, gid) = (Uid::from_raw(range.first), Gid::from_raw(range.first));
        for path in ["pts", "pts/ptmx"] {
            fchownat(&dev, path, Some(uid), Some(gid), AtFlags::empty()).context(path)?;
        }
    }
    Ok(())
}

/// Creates a node with the owner and mode of the host's, replacing a standard node of that name.
fn make_node(dev: &OwnedFd, node: &Node, ids: Ids) -> StepResult {
    let path = node.target.as_str();
    let mut dir = openat(dev, ".", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let (parents, name) = path.rsplit_once('/').unwrap_or(("", path));
    for part in parts(parents) {
        match mkdirat(&dir, part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(Problem::new(errno, path)),
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        dir = openat(&dir, part, flags, Mode::empty()).context(path)?;
    }
    match unlinkat(&dir, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(errno) => return Err(Problem::new(errno, path)),
    }
    let mode = Mode::from_bits_truncate(node.stat.st_mode);
    match &node.bind {
        None => {
            mknodat(&dir, name, kind(&node.stat), mode, node.stat.st_rdev).context(path)?;
            if (node.stat.st_uid, node.stat.st_gid) != (0, 0) {
                let uid = Uid::from_raw(host_id(ids, node.stat.st_uid)?);
                let gid = Gid::from_raw(host_id(ids, node.stat.st_gid)?);
                let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
                fchownat(&dir, name, Some(uid), Some(gid), flags).context(path)?;
            }
        }
        Some(mount) => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY;
            let target =
                sys::openat2(&dir, name, flags, 0o600, ResolveFlags::BENEATH).context(path)?;
            sys::move_mount(mount, &target).context(path)?;
        }
    }
    Ok(())
}

/// Opens the container's null device for reading and writing, and verifies it: an image, a volume
/// or a mount may have put something else in its place (CVE-2025-31133).
pub(super) fn open_null(root: &Root) -> StepResult<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let null = sys::openat2(root, "dev/null", flags, 0, resolve).context("/dev/null")?;
    let stat = fstat(&null)?;
    if kind(&stat) != SFlag::S_IFCHR || stat.st_rdev != makedev(1, 3) {
        return Err(Problem::new(Errno::ENODEV, "/dev/null is not the null device"));
    }
    Ok(null)
}

/// Masks a file by binding the null device over it.
pub(super) fn bind_null(null: &impl AsFd, path: &str) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let source = format!("/proc/self/fd/{}", null.as_fd().as_raw_fd());
    mount(Some(source.as_str()), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
}
