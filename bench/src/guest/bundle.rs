//! OCI bundles for crun and runc: the output of their own `spec` command, with settings that match
//! our engine's.
//!
//! The root file system is made as our engine makes it, inside the measured time: a tmpfs with the
//! writable layer, and an overlayfs of it and the image's layer. One detached unmount removes both.

use crate::command::{Run, run};
use crate::controllers::limits;
use crate::seccomp;
use engine_bench::{Failure, Naming, places};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The default set of our engine (and of podman), so that all runtimes set the same capabilities.
const CAPABILITIES: [&str; 11] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A bundle on disk.
pub struct Bundle {
    program: &'static str,
    dir: PathBuf,
    staging: PathBuf,
    options: String,
    /// Global options.
    globals: &'static [&'static str],
    /// The control group in which the runtime itself runs.
    pub group: Option<PathBuf>,
}

/// The option for crun where it may not raise `RLIMIT_MEMLOCK`: loading its device filter fails
/// there, and only a container without a control group has none. crun then does less than the others.
const NO_CGROUP: &[&str] = &["--cgroup-manager=disabled"];

impl Bundle {
    /// Lets the runtime write its default specification, and completes it.
    pub fn make(program: &'static str, argv: &[&str]) -> Result<Bundle, Failure> {
        let dir = Path::new(places::RUN).join(format!("bundle-{program}"));
        let staging = dir.join("staging");
        fs::create_dir_all(&staging).naming(staging.display())?;
        let config = dir.join("config.json");
        if config.exists() {
            fs::remove_file(&config).naming(config.display())?;
        }
        let written =
            Command::new(program).arg("spec").current_dir(&dir).status().naming(program)?;
        if !written.success() {
            return Err(Failure(format!("{program} spec: {written}")));
        }
        let text = fs::read(&config).naming(config.display())?;
        let mut spec: Value = serde_json::from_slice(&text).naming(config.display())?;
        complete(&mut spec, program, &staging.join("root"), argv)?;
        let text = serde_json::to_vec(&spec).naming(config.display())?;
        fs::write(&config, text).naming(config.display())?;
        let at = staging.display();
        let options =
            format!("lowerdir={},upperdir={at}/upper,workdir={at}/work,volatile", places::LAYER);
        let globals = if program == "crun" && !may_raise_limits() { NO_CGROUP } else { &[] };
        Ok(Bundle { program, dir, staging, options, globals, group: None })
    }

    /// What the runtime does not do on this machine, and why.
    pub fn handicap(&self) -> Option<String> {
        let program = self.program;
        (!self.globals.is_empty()).then(|| {
            format!("{program} runs without a control group: no CAP_SYS_RESOURCE on this machine")
        })
    }

    /// One start, from mounting the writable layer to unmounting the root.
    pub fn start(&self) -> Result<Run, Failure> {
        let began = Instant::now();
        let flags = MsFlags::MS_NODEV | MsFlags::MS_NOATIME;
        mount(Some("tmpfs"), &self.staging, Some("tmpfs"), flags, Some("mode=0755"))
            .naming("the writable layer")?;
        for name in ["upper", "work", "root"] {
            nix::unistd::mkdir(&self.staging.join(name), Mode::from_bits_truncate(0o755))
                .naming(name)?;
        }
        mount(
            Some("overlay"),
            &self.staging.join("root"),
            Some("overlay"),
            MsFlags::MS_NODEV,
            Some(self.options.as_str()),
        )
        .naming("the overlay root")?;
        let mut command = Command::new(self.program);
        command
            .args(self.globals)
            .arg("run")
            .arg("--bundle")
            .arg(&self.dir)
            .arg(format!("bench-{}", self.program));
        let ended = run(&mut command, self.group.as_deref());
        umount2(&self.staging, MntFlags::MNT_DETACH).naming("unmount")?;
        let mut ended = ended?;
        ended.ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        Ok(ended)
    }
}

/// Whether this process has CAP_SYS_RESOURCE (setrlimit(2)).
fn may_raise_limits() -> bool {
    let none = libc::RLIM_INFINITY;
    nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_MEMLOCK, none, none).is_ok()
}

fn complete(spec: &mut Value, program: &str, root: &Path, argv: &[&str]) -> Result<(), Failure> {
    let mut set = |pointer: &str, value: Value| {
        let (parent, key) = pointer.rsplit_once('/').unwrap_or(("", pointer));
        let parent = spec.pointer_mut(parent).and_then(Value::as_object_mut);
        let parent = parent.ok_or_else(|| Failure(format!("{program} spec: no {pointer}")))?;
        parent.insert(key.to_owned(), value);
        Ok::<(), Failure>(())
    };
    set("/process/terminal", json!(false))?;
    set("/process/args", json!(argv))?;
    set(
        "/process/capabilities",
        json!({"bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES}),
    )?;
    set("/root", json!({"path": root, "readonly": false}))?;
    let group = places::CGROUP.trim_start_matches("/sys/fs/cgroup");
    set("/linux/cgroupsPath", json!(format!("{group}/{program}")))?;
    set("/linux/seccomp", seccomp::for_capabilities(&CAPABILITIES)?)?;
    let limits = limits();
    if let Some(bytes) = limits.memory {
        // The same limit including swap means no swap, as in our engine.
        set("/linux/resources/memory", json!({"limit": bytes, "swap": bytes}))?;
    }
    if let Some(millis) = limits.cpu_millis {
        set("/linux/resources/cpu", json!({"quota": millis * 100, "period": 100_000}))?;
    }
    if let Some(tasks) = limits.pids {
        set("/linux/resources/pids", json!({"limit": tasks}))?;
    }
    Ok(())
}
