//! A bundle for each test, and calls of the program under test.

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const BUSYBOX: &str = "/bin/busybox";

/// Timeout for operations that normally complete immediately.
const LONG: Duration = Duration::from_secs(60);

pub struct Bundle {
    pub dir: PathBuf,
    pub id: String,
    pub config: Value,
}

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Said {
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Standard error of a command that must have failed.
    pub fn refused(self) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        self.err
    }
}

/// The same as `runc spec` writes, which managers start from.
fn config(script: &str) -> Value {
    json!({
        "ociVersion": "1.0.2-dev",
        "process": {
            "terminal": false,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", script],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "effective": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"],
                "permitted": ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "runc",
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
              "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
            { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
              "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
            { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
              "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
            { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
              "options": ["nosuid", "noexec", "nodev"] },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs",
              "options": ["nosuid", "noexec", "nodev", "ro"] },
            { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
              "options": ["nosuid", "noexec", "nodev", "relatime", "ro"] }
        ],
        "linux": {
            "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
            "namespaces": [
                { "type": "pid" }, { "type": "network" }, { "type": "ipc" }, { "type": "uts" },
                { "type": "mount" }, { "type": "cgroup" }
            ],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug",
                "/sys/firmware", "/proc/scsi"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys",
                "/proc/sysrq-trigger"]
        }
    })
}

impl Bundle {
    pub fn new(script: &str) -> Bundle {
        // SAFETY: no arguments.
        assert_eq!(unsafe { libc::geteuid() }, 0, "these tests need root");
        assert!(Path::new(BUSYBOX).exists(), "{BUSYBOX} is missing (Debian: busybox-static)");
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("keel-oci-test-{}-{number}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        for sub in ["bin", "etc", "tmp"] {
            fs::create_dir_all(dir.join("rootfs").join(sub)).unwrap();
        }
        fs::copy(BUSYBOX, dir.join("rootfs/bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "ls", "id", "hostname", "mount", "touch", "stat", "sleep", "true", "test",
            "echo", "env", "pwd", "ip", "mkdir", "readlink", "kill", "tty", "stty", "grep",
            "mknod",
        ] {
            symlink("busybox", dir.join("rootfs/bin").join(applet)).unwrap();
        }
        Bundle { dir, id, config: config(script) }
    }

    pub fn root(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The cgroup that containers without `cgroupsPath` get.
    pub fn cgroup(&self) -> PathBuf {
        let table = fs::read_to_string("/proc/mounts").unwrap();
        let line = table.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
        let at = line.expect("cgroup v2 is mounted").split(' ').nth(1).unwrap();
        Path::new(at).join("keel-oci").join(&self.id)
    }

    /// A command, after writing the current `config.json`.
    pub fn command(&self, args: &[&str]) -> Command {
        fs::write(self.dir.join("config.json"), self.config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keel-oci"));
        command.arg("--root").arg(self.root()).args(args).stdin(Stdio::null());
        command
    }

    pub fn say(&self, mut command: Command) -> Said {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: status.code(), out: text(stdout), err: text(stderr) }
    }

    pub fn call(&self, args: &[&str]) -> Said {
        self.say(self.command(args))
    }

    /// `create`, with the container's output in a file: a pipe would stay open as long as it runs.
    pub fn create(&self) -> Said {
        let file =
            || fs::File::options().create(true).append(true).open(self.dir.join("out")).unwrap();
        let mut command = self.command(&["create", "--bundle"]);
        command.arg(&self.dir).arg(&self.id).stdout(file()).stderr(file());
        let code = command.status().unwrap().code();
        Said { code, out: String::new(), err: self.output() }
    }

    pub fn output(&self) -> String {
        fs::read_to_string(self.dir.join("out")).unwrap_or_default()
    }

    /// Waits until the container's output contains this text.
    pub fn output_with(&self, words: &str) -> String {
        self.until(words, || Some(self.output()).filter(|text| text.contains(words)))
    }

    pub fn start(&self) -> Said {
        self.call(&["start", &self.id])
    }

    pub fn status(&self) -> String {
        let state: Value = serde_json::from_str(&self.call(&["state", &self.id]).ok()).unwrap();
        state["status"].as_str().unwrap().to_owned()
    }

    pub fn pid(&self) -> i32 {
        let state: Value = serde_json::from_str(&self.call(&["state", &self.id]).ok()).unwrap();
        state["pid"].as_i64().unwrap() as i32
    }

    pub fn stopped(&self) {
        self.until("stopped", || (self.status() == "stopped").then_some(()));
    }

    pub fn until<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let end = Instant::now() + LONG;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < end, "not {what}: {}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn run(&self) -> Said {
        let mut command = self.command(&["run", "--bundle"]);
        command.arg(&self.dir).arg(&self.id);
        self.say(command)
    }

    /// Sets a key of `config.json`, given by its JSON pointer.
    pub fn set(&mut self, pointer: &str, value: Value) {
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        self.config.pointer_mut(parent).unwrap()[name] = value;
    }

    pub fn mount(&mut self, mount: Value) {
        self.config["mounts"].as_array_mut().unwrap().push(mount);
    }

    /// Asserts that the container, its cgroup and its mounts are gone.
    pub fn nothing_is_left(&self) {
        let left: Vec<_> = match fs::read_dir(self.root()) {
            Ok(list) => list.flatten().map(|entry| entry.path()).collect(),
            Err(_) => Vec::new(),
        };
        assert!(left.is_empty(), "{left:?}");
        assert!(!self.cgroup().exists(), "{:?}", self.cgroup());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&self.id), "{mounts}");
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        let _ = self.command(&["delete", "--force", &self.id]).output();
        let _ = fs::remove_dir_all(&self.dir);
    }
}
