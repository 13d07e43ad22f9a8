//! `create`: sets a container up, without executing its program.

use crate::arguments;
use crate::cgroups;
use crate::config::{Config, DeviceNode, Devices, MAX_SIZE, Network, Program, Users};
use crate::console;
use crate::delete;
use crate::error::{About, Error, sys};
use crate::hooks;
use crate::report::Report;
use crate::status::{Status, start_time};
use crate::store::{Entry, Identity, State, Store, replace};
use crate::wait;
use container::{
    Cgroup, Device, DeviceFilter, DeviceKind, DeviceRule, Handover, Plan, Process, Resource,
    Rlimit, Root, Setup, Terminal, UserNs, create_netns, create_userns, join_userns, spawn,
};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, major, minor, stat};
use nix::unistd::{gethostname, mkfifo};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// Reads at most one byte more than the maximum size of a `config.json`, so that the parser can
/// refuse a larger file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    let file = File::open(path).about("open", path)?;
    file.take(MAX_SIZE as u64 + 1).read_to_end(&mut text).about("read", path)?;
    Ok(text)
}

/// Creates a container. On failure everything that was created for it is removed.
pub(crate) fn create(
    store: &Store,
    wanted: &arguments::Create,
    report: &Report,
) -> Result<(), Error> {
    let bundle = fs::canonicalize(&wanted.bundle).about("find", &wanted.bundle)?;
    let text = read(&bundle.join("config.json"))?;
    let config = Config::parse(&text, &bundle)?;
    check(&config)?;
    let socket = match (&config.program.terminal, &wanted.console_socket) {
        (Some(_), Some(path)) => Some(console::connect(path)?),
        (None, None) => None,
        (Some(_), None) => {
            let text = "config.json: process.terminal: requires --console-socket";
            return Err(Error::Usage(text.to_owned()));
        }
        (None, Some(_)) => {
            let text = "--console-socket: requires process.terminal in config.json";
            return Err(Error::Usage(text.to_owned()));
        }
    };
    config.warnings.iter().for_each(|text| report.warn(text));
    let (entry, _lock) = store.make(&wanted.id)?;
    let mut state = State {
        id: wanted.id.clone(),
        version: config.version.clone(),
        bundle,
        annotations: config.annotations.clone(),
        process: None,
        created: false,
        cgroup: None,
        parents: Vec::new(),
        ids: None,
    };
    let console = socket.as_ref().map(AsFd::as_fd);
    let done = make(&entry, &mut state, &config, &text, console)
        .and_then(|()| match &wanted.pid_file {
            Some(path) => replace(path, &pid(&state).to_string()),
            None => Ok(()),
        })
        .and_then(|()| {
            state.created = true;
            entry.save(&state)
        });
    if done.is_err()
        && let Err(error) = delete::destroy(&entry, &state, &config.hooks.poststop, report)
    {
        report.warn(&error.to_string());
    }
    done
}

fn pid(state: &State) -> i32 {
    state.process.map_or(0, |process| process.pid)
}

/// Creates everything that `delete::destroy` removes.
fn make(
    entry: &Entry,
    state: &mut State,
    config: &Config,
    text: &[u8],
    console: Option<BorrowedFd<'_>>,
) -> Result<(), Error> {
    let copy = entry.path("config.json");
    fs::write(&copy, text).about("write", &copy)?;
    let staging = entry.path("staging");
    fs::DirBuilder::new().mode(0o700).create(&staging).about("create", &staging)?;
    for name in ["go", "status"] {
        let path = entry.path(name);
        mkfifo(&path, Mode::from_bits_truncate(0o600)).about("create", &path)?;
    }
    let cgroup = cgroups::path(config, &state.id)?;
    // Recorded before the cgroups are created, so that `delete` can always find them.
    state.parents = cgroups::missing_parents(&cgroup);
    state.cgroup = Some(cgroup.clone());
    if cgroup.exists() && Cgroup::open(&cgroup)?.populated()? {
        // It belongs to another program and must not be removed.
        state.cgroup = None;
    }
    entry.save(state)?;
    let group = cgroups::make(&cgroup, &config.settings)?;
    enforce(&config.device_access, &group)?;
    let userns = match &config.users {
        Users::Host => None,
        Users::New(range) => Some(create_userns(*range)?),
        Users::Path(path) => Some(join_userns(File::open(path).about("open", path)?.into())?),
    };
    state.ids = userns.as_ref().map(UserNs::range);
    let netns: Option<OwnedFd> = match &config.network {
        Network::Host => None,
        Network::New => Some(create_netns(userns.as_ref())?.ns),
        Network::Path(path) => Some(File::open(path).about("open", path)?.into()),
    };
    let status_path = entry.path("status");
    let fifo = |path: &Path, flags| {
        open(path, flags | OFlag::O_CLOEXEC, Mode::empty()).about("open", path)
    };
    let status_reader = fifo(&status_path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)?;
    let status = fifo(&status_path, OFlag::O_WRONLY | OFlag::O_NONBLOCK)?;
    // Opened for reading and writing, so that the container sees no end of file without a writer.
    let go = fifo(&entry.path("go"), OFlag::O_RDWR)?;
    let devices = config.devices.iter().map(device).collect::<Result<_, _>>()?;
    let hostname = match &config.hostname {
        Some(name) => name.clone(),
        None => gethostname().map_err(sys("gethostname"))?.to_string_lossy().into_owned(),
    };
    let stdio = Stdio::own()?;
    let plan = Plan {
        root: Root::Directory(config.root.clone()),
        staging,
        process: inherit(&config.program)?,
        devices,
        userns: userns.as_ref(),
        netns: netns.as_ref().map(AsFd::as_fd),
        terminal: console
            .map(|socket| Terminal { socket, size: config.program.terminal.flatten() }),
        handover: Some(Handover {
            go: go.as_fd(),
            status: status.as_fd(),
            status_reader: status_reader.as_fd(),
        }),
        ..plan(config, hostname, &group, &stdio)
    };
    let spawned = spawn(&plan)?;
    drop((status, go));
    let start_time = start_time(spawned.pid).ok_or(Error::Ended)?;
    state.process = Some(Identity { pid: spawned.pid, start_time });
    entry.save(state)?;
    match wait::set_up(&spawned.status, &spawned.pidfd)? {
        Setup::Prepared => {}
        Setup::Failed(error) => return Err(error.into()),
        Setup::Done | Setup::Pending => return Err(Error::Ended),
    }
    hooks::run(&config.hooks.create, state, Status::Creating)
}

/// The part of the plan that comes from `config.json` alone.
fn plan<'a>(
    config: &'a Config,
    hostname: String,
    cgroup: &'a Cgroup,
    stdio: &'a Stdio,
) -> Plan<'a> {
    Plan {
        hostname,
        staging: PathBuf::from("/"),
        root: Root::Directory(config.root.clone()),
        read_only: config.read_only,
        mounts: config.mounts.clone(),
        masked: config.masked.clone(),
        read_only_paths: config.read_only_paths.clone(),
        sysctls: config.sysctls.clone(),
        unmasked: Vec::new(),
        files: Vec::new(),
        devices: config.devices.iter().map(as_device).collect(),
        process: config.program.process.clone(),
        userns: None,
        seccomp: config.seccomp.as_ref(),
        netns: None,
        cgroup,
        stdin: Some(stdio.0.as_fd()),
        stdout: stdio.1.as_fd(),
        stderr: stdio.2.as_fd(),
        terminal: None,
        wait_for_go: true,
        handover: None,
    }
}

/// Whether the engine accepts the configuration. Changes nothing.
pub(crate) fn check(config: &Config) -> Result<(), Error> {
    let root = Cgroup::open(Path::new("/"))?;
    let hostname = config.hostname.clone().unwrap_or_else(|| "x".to_owned());
    let stdio = Stdio::own()?;
    let mut plan = plan(config, hostname, &root, &stdio);
    // Network settings require a network namespace of the container's own.
    plan.netns = (config.network != Network::Host).then(|| stdio.0.as_fd());
    Ok(plan.check()?)
}

/// Duplicates of this program's standard streams, which become the container's.
pub(crate) struct Stdio(pub(crate) OwnedFd, pub(crate) OwnedFd, pub(crate) OwnedFd);

impl Stdio {
    pub(crate) fn own() -> Result<Stdio, Error> {
        fn copy(fd: impl AsFd) -> Result<OwnedFd, Error> {
            fd.as_fd()
                .try_clone_to_owned()
                .about("duplicate", Path::new("standard input or output"))
        }
        Ok(Stdio(copy(std::io::stdin())?, copy(std::io::stdout())?, copy(std::io::stderr())?))
    }
}

/// The process, with the values that the specification inherits from the caller if they are
/// missing.
pub(crate) fn inherit(program: &Program) -> Result<Process, Error> {
    let mut process = program.process.clone();
    if !program.oom_score_given {
        let path = Path::new("/proc/self/oom_score_adj");
        let text = fs::read_to_string(path).about("read", path)?;
        process.oom_score_adj = text.trim().parse().unwrap_or(0);
    }
    if !process.rlimits.iter().any(|limit| limit.resource == Resource::NoFile) {
        use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit};
        let (soft, hard) = getrlimit(RLIMIT_NOFILE).map_err(sys("getrlimit"))?;
        process.rlimits.push(Rlimit { resource: Resource::NoFile, soft, hard });
    }
    Ok(process)
}

fn as_device(node: &DeviceNode) -> Device {
    Device { source: PathBuf::from(&node.path), target: node.path.clone() }
}

/// The engine binds the host's device nodes into the container, so a node must match the host's.
fn device(node: &DeviceNode) -> Result<Device, Error> {
    let differs = |what: &str| Error::Host {
        key: "linux.devices".to_owned(),
        reason: format!("{} has a different {what} on this host", node.path),
    };
    let found = stat(node.path.as_str()).about("find", Path::new(&node.path))?;
    let kind = match node.kind {
        DeviceKind::Char => SFlag::S_IFCHR,
        DeviceKind::Block => SFlag::S_IFBLK,
    };
    let rdev = found.st_rdev;
    if SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT != kind {
        return Err(differs("type"));
    }
    if (major(rdev), minor(rdev)) != (u64::from(node.major), u64::from(node.minor)) {
        return Err(differs("number"));
    }
    if node.mode.is_some_and(|mode| found.st_mode & 0o777 != mode) {
        return Err(differs("mode"));
    }
    if node.uid.is_some_and(|uid| found.st_uid != uid)
        || node.gid.is_some_and(|gid| found.st_gid != gid)
    {
        return Err(differs("owner"));
    }
    Ok(as_device(node))
}

/// Installs the device filter: allows the devices that every container has and those of
/// `config.json`.
fn enforce(devices: &Devices, group: &Cgroup) -> Result<(), Error> {
    let Devices::Only(more) = devices else { return Ok(()) };
    let mut rules = DeviceRule::USUAL.to_vec();
    rules.extend(more);
    Ok(DeviceFilter::load(&rules)?.attach(group)?)
}
