//! The environment of a test: an image layer, a cgroup, and the exits that "PID 1" forwards.

use container::*;
use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const BUSYBOX: &str = "/bin/busybox";

/// The panic payload of a test that this machine cannot run.
pub struct NotRun;

/// Ends the test as "not run", with a reason that is printed. Only for requirements that a machine
/// may lack; those that every machine must meet are in [`check_machine`].
pub fn not_run(reason: &str) -> ! {
    eprintln!("NOT RUN: {reason}");
    std::panic::resume_unwind(Box::new(NotRun))
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// A finished container.
#[derive(Debug)]
pub struct Outcome {
    pub setup: Setup,
    pub exit: Exit,
    pub out: String,
    pub err: String,
}

impl Outcome {
    /// Its output, after making sure that it ran and exited with 0.
    pub fn ok(self) -> String {
        assert_eq!((&self.setup, self.exit), (&Setup::Done, Exit::Code(0)), "{self:?}");
        self.out
    }

    /// The setup error that it must have ended with.
    pub fn error(self) -> SetupError {
        assert_eq!(self.exit, Exit::Code(125), "{self:?}");
        match self.setup {
            Setup::Failed(error) => error,
            other => panic!("expected a setup error, got {other:?}"),
        }
    }
}

pub struct Host {
    pub dir: PathBuf,
    pub layer: PathBuf,
    pub netns: Option<OwnedFd>,
    /// The containers' user namespace; without one they use the host's ids.
    pub userns: Option<UserNs>,
    pub cgroups: PathBuf,
    exits: fs::File,
    seen: HashMap<i32, Exit>,
    runs: u32,
    limits: Limits,
    /// Given to the cgroup of every container.
    pub devices: Option<DeviceFilter>,
}

/// Checks whether the tests can run at all.
pub fn check_machine() -> Result<(), String> {
    if nix::unistd::geteuid().as_raw() != 0 {
        return Err("root is required".into());
    }
    if !Path::new(BUSYBOX).exists() {
        return Err(format!("{BUSYBOX} is missing (Debian: busybox-static)"));
    }
    let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    for kind in ["overlay", "erofs", "cgroup2"] {
        if !known.split_whitespace().any(|word| word == kind) {
            return Err(format!("this kernel does not support {kind}"));
        }
    }
    cgroup_root().map(drop).ok_or("cgroup v2 is not mounted".into())
}

fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    line.split(' ').nth(1).map(PathBuf::from)
}

impl Host {
    pub fn new(name: &str, exits: OwnedFd, own_ids: bool) -> Host {
        let id = format!("keel-container-test-{}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        let layer = dir.join("layer");
        for sub in ["layer/bin", "layer/etc", "layer/tmp", "staging"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::copy(BUSYBOX, layer.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "id", "hostname", "mount", "touch", "stat", "dd", "sleep", "true",
            "false", "grep", "head", "readlink", "env", "pwd", "wc", "ip", "mkdir", "find", "ln",
            "umount", "mknod", "chroot", "test", "echo", "tail", "rm", "cp", "stty",
        ] {
            symlink("busybox", layer.join("bin").join(applet)).unwrap();
        }
        fs::write(
            layer.join("etc/passwd"),
            "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/srv/web:/bin/sh\n",
        )
        .unwrap();
        fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:1001:\nlogs:x:50:web\n").unwrap();
        let cgroups = cgroup_root().unwrap().join(&id);
        fs::create_dir(&cgroups).unwrap_or_else(|error| panic!("{name}: {cgroups:?}: {error}"));
        let seen = HashMap::new();
        let limits = Limits::default();
        let userns = own_ids.then(|| create_userns(IdRange::nth(7).unwrap()).unwrap());
        let exits = exits.into();
        let devices = Some(DeviceFilter::load(&DeviceRule::USUAL).unwrap());
        Host { dir, layer, netns: None, userns, cgroups, exits, seen, runs: 0, limits, devices }
    }

    /// The ids of the containers, for [`Execution`].
    pub fn ids(&self) -> Option<IdRange> {
        self.userns.as_ref().map(UserNs::range)
    }

    /// Maps an id of a container to the host's.
    pub fn outside(&self, id: u32) -> u32 {
        self.ids().map_or(id, |range| range.host_id(id).unwrap())
    }

    /// Waits until "PID 1" has reaped a process and returns how it ended.
    pub fn exit_of(&mut self, pid: i32) -> Exit {
        while !self.seen.contains_key(&pid) {
            let mut record = [0; 8];
            self.exits.read_exact(&mut record).expect("the reaper is running");
            let pid = i32::from_le_bytes(record[..4].try_into().unwrap());
            let status = i32::from_le_bytes(record[4..].try_into().unwrap());
            let exit = match libc::WIFSIGNALED(status) {
                true => Exit::Signal(libc::WTERMSIG(status)),
                false => Exit::Code(libc::WEXITSTATUS(status)),
            };
            self.seen.insert(pid, exit);
        }
        self.seen[&pid]
    }

    /// Writes a file into the image.
    pub fn image_file(&self, path: &str, content: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.layer.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// Creates a symbolic link in the image.
    pub fn image_link(&self, path: &str, target: &str) {
        let path = self.layer.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    /// Runs a shell command in a container and waits for its end.
    pub fn sh(&mut self, script: &str, edit: impl for<'p> FnOnce(&mut Plan<'p>)) -> Outcome {
        self.run(&["/bin/sh", "-c", script], edit)
    }

    /// Runs a program in a container and waits for its end.
    pub fn run(&mut self, argv: &[&str], edit: impl for<'p> FnOnce(&mut Plan<'p>)) -> Outcome {
        let running = self.start(argv, edit);
        self.finish(running)
    }

    /// Starts a container.
    pub fn start(&mut self, argv: &[&str], edit: impl for<'p> FnOnce(&mut Plan<'p>)) -> Running {
        self.try_start(argv, edit).expect("spawn")
    }

    /// Starts a container in a cgroup with these limits.
    pub fn start_limited(&mut self, argv: &[&str], limits: &Limits) -> Running {
        self.limits = *limits;
        self.start(argv, |_| {})
    }

    pub fn try_start(
        &mut self,
        argv: &[&str],
        edit: impl for<'p> FnOnce(&mut Plan<'p>),
    ) -> Result<Running, SpawnError> {
        self.runs += 1;
        let name = format!("run{}", self.runs);
        let cgroup = Cgroup::create(&self.cgroups, &name, &self.limits).unwrap();
        if let Some(filter) = &self.devices {
            filter.attach(&cgroup).unwrap();
        }
        let (out, stdout) = pipe();
        let (err, stderr) = pipe();
        let mut plan = Plan {
            hostname: "box".into(),
            staging: self.dir.join("staging"),
            root: Root::Layers { layers: vec![self.layer.clone()], writable_size: None },
            read_only: false,
            mounts: vec![],
            masked: vec![],
            read_only_paths: vec![],
            sysctls: vec![],
            unmasked: vec![],
            files: vec![],
            devices: vec![],
            process: process(argv),
            userns: self.userns.as_ref(),
            seccomp: Some(default_filter()),
            netns: self.netns.as_ref().map(AsFd::as_fd),
            cgroup: &cgroup,
            stdin: None,
            stdout: stdout.as_fd(),
            stderr: stderr.as_fd(),
            terminal: None,
            wait_for_go: false,
            handover: None,
        };
        edit(&mut plan);
        let spawned = spawn(&plan)?;
        drop((stdout, stderr));
        Ok(Running { spawned, cgroup, out, err })
    }

    /// Waits for the end of a container.
    pub fn finish(&mut self, running: Running) -> Outcome {
        let Running { spawned, cgroup, out, err } = running;
        let (out, err) = (read(out), read(err));
        let exit = self.exit_of(spawned.pid);
        let setup = read_status(&spawned.status).unwrap();
        cgroup.kill().unwrap();
        Outcome { setup, exit, out, err }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Ok(group) = Cgroup::open(&self.cgroups) {
            let _ = group.kill();
            while group.populated().unwrap_or(false) {
                std::thread::yield_now();
            }
            if let Err(error) = group.remove() {
                eprintln!("{error}");
            }
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub struct Running {
    pub spawned: Spawned,
    pub cgroup: Cgroup,
    pub out: OwnedFd,
    pub err: OwnedFd,
}

impl Running {
    /// Reads a line of the container's output.
    pub fn line(&mut self) -> String {
        let mut line = Vec::new();
        let mut byte = [0];
        while nix::unistd::read(&self.out, &mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}

/// The default filter.
pub fn default_filter() -> &'static seccomp::Filter {
    static FILTER: OnceLock<seccomp::Filter> = OnceLock::new();
    FILTER.get_or_init(|| seccomp::Filter::default_for(CapSet::DEFAULT).unwrap())
}

pub fn process(argv: &[&str]) -> Process {
    Process {
        argv: argv.iter().map(|arg| arg.to_string()).collect(),
        env: vec![],
        cwd: String::new(),
        user: String::new(),
        groups: None,
        umask: Process::UMASK,
        caps: CapSet::DEFAULT,
        inheritable: CapSet::EMPTY,
        ambient: CapSet::EMPTY,
        no_new_privs: true,
        rlimits: vec![],
        oom_score_adj: 0,
    }
}

/// The plan's layers.
pub fn layers<'p>(plan: &'p mut Plan<'_>) -> &'p mut Vec<PathBuf> {
    match &mut plan.root {
        Root::Layers { layers, .. } => layers,
        Root::Directory(_) => panic!("the root has no layers"),
    }
}

pub fn bind(path: &Path, target: &str) -> Mount {
    Mount {
        target: target.into(),
        read_only: false,
        no_exec: false,
        source: MountSource::Bind { path: path.into(), recursive: false, copy_up: None },
    }
}

pub fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

pub fn read(fd: OwnedFd) -> String {
    let mut bytes = Vec::new();
    fs::File::from(fd).read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of `name` in lines of `name: value`.
pub fn field<'t>(text: &'t str, name: &str) -> &'t str {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .unwrap_or_else(|| panic!("no {name} in {text:?}"))
        .trim()
}
