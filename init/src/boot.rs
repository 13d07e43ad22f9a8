//! The boot: a list of phases.
//!
//! Each phase is one line of [`PHASES`], runs to its end within milliseconds, and waits for
//! nothing. What can take long (modules, disks, the network) is done by the processes that start
//! after the last phase, in parallel; they report their phases too.

use crate::clock::{self, Clock, monotonic_ns};
use crate::{cgroups, mounts, services};
use ipc::Phase;
use layout::{Cmdline, HostFolder, paths};
use nix::errno::Errno;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use units::model::Host;

/// One phase. The note that it returns is shown next to its name.
pub struct Step {
    /// Shown on the console, and the value that `keel.fault=` takes.
    pub name: &'static str,
    /// Runs it.
    pub run: fn(&mut Boot) -> Result<String, String>,
    /// The host cannot run without it.
    pub fatal: bool,
}

/// The phases, in order.
#[rustfmt::skip]
pub const PHASES: &[Step] = &[
    Step { name: "mounts",    run: early_mounts,   fatal: true  },
    Step { name: "log",       run: kernel_log,     fatal: false },
    Step { name: "clock",     run: clock_floor,    fatal: false },
    Step { name: "sysctl",    run: sysctls,        fatal: false },
    Step { name: "program",   run: seal_program,   fatal: true  },
    Step { name: "state",     run: state_folders,  fatal: true  },
    Step { name: "config",    run: config,         fatal: false },
    Step { name: "cgroups",   run: cgroup_tree,    fatal: true  },
    Step { name: "hostname",  run: hostname,       fatal: false },
    Step { name: "loopback",  run: loopback,       fatal: false },
];

/// The results of the phases.
#[derive(Debug, Default)]
pub struct Boot {
    /// The kernel command line.
    pub cmdline: Cmdline,
    /// From host.toml.
    pub hostname: String,
    /// Whether clients may control the host over the network.
    pub api: bool,
    /// The phases that have run.
    pub phases: Vec<Phase>,
    /// Errors that did not stop the boot.
    pub problems: Vec<String>,
}

/// Runs all phases.
///
/// # Errors
/// A fatal phase failed: its name and why.
pub fn run() -> Result<Boot, String> {
    let mut boot = Boot::default();
    for step in PHASES {
        let start_us = monotonic_ns() / 1000;
        let mut result = (step.run)(&mut boot);
        if boot.cmdline.fault.as_deref() == Some(step.name) {
            result = Err("failure requested by keel.fault".to_owned());
        }
        let note = match result {
            Ok(note) => note,
            Err(why) if step.fatal => return Err(format!("boot phase {}: {why}", step.name)),
            Err(why) => {
                boot.problems.push(format!("boot phase {}: {why}", step.name));
                format!("failed: {why}")
            }
        };
        let end_us = monotonic_ns() / 1000;
        boot.phases.push(Phase { name: step.name.to_owned(), note, start_us, end_us });
    }
    Ok(boot)
}

fn early_mounts(boot: &mut Boot) -> Result<String, String> {
    if let Err((call, errno)) = mounts::make_root_pivotable() {
        boot.problems.push(format!("root: {call}: {errno}"));
    }
    let tolerated = mounts::mount_all(mounts::TABLE).map_err(|error| error.to_string())?;
    boot.problems.extend(tolerated.iter().map(ToString::to_string));
    boot.cmdline = Cmdline::read();
    Ok(String::new())
}

fn kernel_log(boot: &mut Boot) -> Result<String, String> {
    // With the default, "ratelimit", writes of a busy boot succeed but are dropped. The kernel requires
    // the line end (devkmsg_sysctl_set_loglvl, kernel/printk/printk.c).
    let done = fs::write("/proc/sys/kernel/printk_devkmsg", "on\n");
    let level = if boot.cmdline.debug { log::LevelFilter::Debug } else { log::LevelFilter::Info };
    kmsg::install("keel-init", level);
    // Our processes without root log there too; containers have no such file.
    let open = fs::set_permissions("/dev/kmsg", fs::Permissions::from_mode(0o622));
    done.and(open).map(|()| String::new()).map_err(|error| format!("/dev/kmsg: {error}"))
}

fn clock_floor(_: &mut Boot) -> Result<String, String> {
    match clock::raise_to_floor()? {
        Clock::Plausible => Ok(String::new()),
        Clock::Raised { from } => Ok(format!("was at {from} s, set to the age of the image")),
    }
}

/// Kernel settings of a host that runs untrusted programs, each with its reason.
const SYSCTLS: &[(&str, &str)] = &[
    // A kernel panic ends in a reboot.
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    // A container needs the kernel's addresses and messages only to attack it.
    ("kernel/kptr_restrict", "2"),
    ("kernel/dmesg_restrict", "1"),
    ("kernel/unprivileged_bpf_disabled", "1"),
    ("kernel/yama/ptrace_scope", "1"),
    // Links and pipes planted in shared folders (proc_sys_fs(5)).
    ("fs/protected_hardlinks", "1"),
    ("fs/protected_symlinks", "1"),
    ("fs/protected_fifos", "1"),
    ("fs/protected_regular", "1"),
];

fn sysctls(_: &mut Boot) -> Result<String, String> {
    let mut failed = Vec::new();
    for (key, value) in SYSCTLS {
        if let Err(error) = fs::write(format!("/proc/sys/{key}"), value) {
            // Not every kernel has every key.
            if error.kind() != std::io::ErrorKind::NotFound {
                failed.push(format!("{key}: {error}"));
            }
        }
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is only read. No core dumps anywhere: nothing collects them.
    unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
    let many = libc::rlimit { rlim_cur: 65_536, rlim_max: 1_048_576 };
    // SAFETY: as above. The descriptor store holds two for each unit and stream.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const many) };
    if failed.is_empty() { Ok(String::new()) } else { Err(failed.join(", ")) }
}

fn seal_program(_: &mut Boot) -> Result<String, String> {
    mounts::seal_binary(paths::BINARY).map_err(|errno| format!("{}: {errno}", paths::BINARY))?;
    Ok(String::new())
}

/// Folders below /run/keel: path, owner. All are 0700 (CVE-2021-41103).
const FOLDERS: &[(&str, u32)] = &[
    (paths::RUN, 0),
    (paths::RUN_LAYERS, 0),
    (paths::RUN_STAGING, 0),
    (paths::RUN_UNITS, 0),
    (paths::RUN_VOLUMES, 0),
    (paths::RUN_LOG, services::LOGGER_UID),
    ("/run/keel/net", services::NETSETUP_UID),
    (paths::RUN_API, services::API_UID),
];

fn state_folders(_: &mut Boot) -> Result<String, String> {
    for (path, owner) in FOLDERS {
        // Processes that own a folder in the top folder must be able to traverse it.
        let mode = if *path == paths::RUN { 0o711 } else { 0o700 };
        fs::create_dir(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
            .and_then(|()| chown(path, Some(*owner), Some(*owner)))
            .map_err(|error| format!("{path}: {error}"))?;
    }
    // Volumes in memory have a separate file system: if it is full, /run, where all of Keelhost
    // keeps its state, still has space.
    mounts::volumes_in_memory().map_err(|errno| format!("{}: {errno}", paths::RUN_VOLUMES))?;
    // Containers mount this file at their start, so it must exist before the network is up.
    let resolv = paths::RUN_RESOLV;
    fs::write(resolv, "")
        .and_then(|()| fs::set_permissions(resolv, fs::Permissions::from_mode(0o644)))
        .and_then(|()| chown(resolv, Some(services::NETSETUP_UID), Some(services::NETSETUP_UID)))
        .map_err(|error| format!("{resolv}: {error}"))?;
    Ok(String::new())
}

fn config(boot: &mut Boot) -> Result<String, String> {
    let host = host_config();
    boot.hostname = host.hostname;
    let clients = !host.api.clients.is_empty() || !boot.cmdline.clients.is_empty();
    boot.api = host.api.enabled.unwrap_or(clients);
    Ok(String::new())
}

/// host.toml, with defaults in place of all invalid values: an error there must not brick the machine
/// (talos#4724). The supervisor reports the errors.
pub fn host_config() -> Host {
    HostFolder::read_host(Path::new(paths::CONFIG)).load().config.host
}

fn cgroup_tree(boot: &mut Boot) -> Result<String, String> {
    let missing = cgroups::set_up().map_err(|error| error.to_string())?;
    boot.problems.extend(missing.iter().map(|name| format!("cgroup controller {name}")));
    Ok(String::new())
}

fn hostname(boot: &mut Boot) -> Result<String, String> {
    nix::unistd::sethostname(&boot.hostname).map_err(|errno| format!("sethostname: {errno}"))?;
    Ok(boot.hostname.clone())
}

/// Brings `lo` up (netdevice(7)); the kernel gives it its addresses itself.
fn loopback(_: &mut Boot) -> Result<String, String> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|errno| format!("socket: {errno}"))?;
    // SAFETY: ifreq is plain data, for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a whole ifreq with a name that ends in zero, and lives through the call.
    let done =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    Errno::result(done).map(|_| String::new()).map_err(|errno| format!("SIOCSIFFLAGS lo: {errno}"))
}
