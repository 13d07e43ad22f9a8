//! podman and docker: set up as in their packages, with the image imported.

use crate::command::output;
use crate::processes;
use engine_bench::{Failure, Naming, limits, places};
use std::fs::{self, File};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a daemon to start under TCG emulation.
const TIMEOUT: Duration = Duration::from_secs(300);

/// The image's name.
const IMAGE: &str = "bench";

/// containerd as its package's service starts it.
const CONTAINERD: &[&str] = &["--log-level=error"];
const CONTAINERD_SOCKET: &str = "/run/containerd/containerd.sock";

/// docker's daemon. No network is set up: the containers have none, and it would need iptables.
const DOCKERD: &[&str] = &[
    "--containerd=/run/containerd/containerd.sock",
    "--iptables=false",
    "--ip6tables=false",
    "--ip-forward=false",
    "--bridge=none",
    "--storage-driver=overlay2",
    "--exec-opt=native.cgroupdriver=cgroupfs",
    "--log-level=error",
];

/// The program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Podman,
    Docker,
}

/// podman or docker, ready to run containers.
pub struct Engine {
    which: Which,
    daemons: Vec<Child>,
    /// The control group in which its command runs, a sibling of its containers' groups.
    pub group: Option<PathBuf>,
}

/// Starts a daemon with its standard error in a file. Returns the daemon and the file's path.
fn begin(program: &str, arguments: &[&str]) -> Result<(Child, PathBuf), Failure> {
    let log = Path::new(places::RUN).join(format!("{program}.log"));
    let errors = File::create(&log).naming(log.display())?;
    let daemon = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .naming(program)?;
    Ok((daemon, log))
}

/// Repeats `ask` until it succeeds; after [`TIMEOUT`], fails with the daemon's log.
fn wait_for(log: &Path, mut ask: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let began = Instant::now();
    while let Err(error) = ask() {
        if began.elapsed() > TIMEOUT {
            let log = fs::read_to_string(log).unwrap_or_default();
            return Err(Failure(format!("{error}\n{log}")));
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

impl Engine {
    /// podman with the image; its storage is in its package's default location.
    pub fn podman() -> Result<Engine, Failure> {
        let engine = Engine { which: Which::Podman, daemons: Vec::new(), group: None };
        engine.import()?;
        Ok(engine)
    }

    /// containerd and docker's daemon, with the image.
    pub fn docker() -> Result<Engine, Failure> {
        let (containerd, log) = begin("containerd", CONTAINERD)?;
        let mut engine = Engine { which: Which::Docker, daemons: vec![containerd], group: None };
        wait_for(&log, || {
            UnixStream::connect(CONTAINERD_SOCKET).map(drop).naming(CONTAINERD_SOCKET)
        })?;
        let (dockerd, log) = begin("dockerd", DOCKERD)?;
        engine.daemons.push(dockerd);
        wait_for(&log, || output("docker", &["version"]).map(drop))?;
        engine.import()?;
        Ok(engine)
    }

    /// The command's name.
    pub fn program(&self) -> &'static str {
        match self.which {
            Which::Podman => "podman",
            Which::Docker => "docker",
        }
    }

    /// The daemons' process ids.
    pub fn daemons(&self) -> Vec<u32> {
        self.daemons.iter().map(Child::id).collect()
    }

    fn import(&self) -> Result<(), Failure> {
        let archive = format!("{}/layer.tar", places::PROGRAMS);
        let change = format!("ENTRYPOINT [\"{}\"]", places::PAYLOAD);
        output(self.program(), &["import", "--change", &change, &archive, IMAGE]).map(drop)
    }

    /// `run --rm` with defaults except for the network and the limits; `words` are the payload's
    /// arguments.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = self.run_command(&["--rm"]);
        command.args(words);
        command
    }

    fn run_command(&self, options: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command
            .arg("run")
            .args(options)
            .args(["--network", "none"])
            .args(["--memory", &limits::MEMORY.to_string()])
            .args(["--cpus", &format!("{:.3}", limits::CPU_MILLIS as f64 / 1000.0)])
            .args(["--pids-limit", &limits::PIDS.to_string()]);
        if let Some(group) = &self.group {
            let parent = group.parent().unwrap_or(group).display().to_string();
            command.args(["--cgroup-parent", parent.trim_start_matches("/sys/fs/cgroup")]);
        }
        command.arg(IMAGE);
        command
    }

    /// Starts a container that keeps running.
    pub fn start_resting(&self) -> Result<(), Failure> {
        let mut command = self.run_command(&["-d", "--name", "resting"]);
        let done = command.arg("pause").output().naming(self.program())?;
        if done.status.success() {
            return Ok(());
        }
        Err(Failure(format!("{}: {}", self.program(), String::from_utf8_lossy(&done.stderr))))
    }

    /// Removes that container.
    pub fn stop_resting(&self) -> Result<(), Failure> {
        output(self.program(), &["rm", "-f", "resting"]).map(drop)?;
        self.settle()
    }

    /// Waits until no helper process of the last container is running.
    pub fn settle(&self) -> Result<(), Failure> {
        let helpers: &[&str] = match self.which {
            Which::Podman => &["podman", "conmon", "crun", "runc"],
            // The kernel keeps 15 bytes of a name.
            Which::Docker => &["containerd-shim", "runc", "docker"],
        };
        let began = Instant::now();
        loop {
            let left = processes::named(helpers);
            if left.is_empty() {
                return Ok(());
            }
            if began.elapsed() > TIMEOUT {
                return Err(Failure(format!("{}: still there: {left:?}", self.program())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}
