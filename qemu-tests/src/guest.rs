//! A host that runs in QEMU.

use crate::{Folder, keel, remote};
use ipc::Reply;
use ipc::ShutdownKind;
use ipc::control::Request;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Timeout of all waits. TCG emulation on a loaded machine is slow, and a timeout that is too short would
/// fail a test without reason.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// Maximum number of guests at the same time, over all test programs.
const MAX_GUESTS: usize = 2;

/// Options of `keel run`.
#[derive(Debug, Clone)]
pub struct Options {
    /// `--memory`
    pub memory: String,
    /// `--cpus`
    pub cpus: u32,
    /// `--data`
    pub data: Option<PathBuf>,
    /// `--append`
    pub append: String,
    /// `--nic`: `user`, `silent` or `none`.
    pub nic: &'static str,
    /// Guest ports to forward (TCP); see [`Guest::port`].
    pub publish: Vec<u16>,
    /// Guest ports to forward (UDP); see [`Guest::udp_port`].
    pub publish_udp: Vec<u16>,
    /// Whether the guest may reboot; otherwise QEMU exits.
    pub reboots: bool,
    /// Start `keel` with standard input closed.
    pub closed_stdin: bool,
    /// `SOURCE_DATE_EPOCH`: the build time of the image, seconds since 1970.
    pub made_at: Option<u64>,
    /// `--accel`
    pub accel: &'static str,
    /// `--allow-broken-units`
    pub allow_broken_units: bool,
    /// `--api` with a free port; see [`Guest::keel`].
    pub api: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            memory: "512M".to_owned(),
            cpus: 1,
            data: None,
            append: String::new(),
            nic: "user",
            publish: Vec::new(),
            publish_udp: Vec::new(),
            reboots: false,
            closed_stdin: false,
            made_at: None,
            accel: "auto",
            allow_broken_units: false,
            api: false,
        }
    }
}

/// A running host.
pub struct Guest {
    child: Child,
    pub(crate) scratch: Folder,
    pub(crate) link: RefCell<Option<BufReader<UnixStream>>>,
    pub(crate) asked: Cell<u64>,
    forwarded: Vec<(u16, u16)>,
    forwarded_udp: Vec<(u16, u16)>,
    pub(crate) api: Option<u16>,
    _slot: File,
}

impl Guest {
    /// Boots a host folder. Returns as soon as QEMU runs.
    pub fn boot(host: &Path, options: &Options) -> Guest {
        let slot = take_slot();
        let scratch = Folder::empty();
        let console = create(&scratch.path().join("console"));
        let errors = create(&scratch.path().join("errors"));
        let forwarded: Vec<(u16, u16)> =
            options.publish.iter().map(|guest| (free_port(), *guest)).collect();
        let forwarded_udp: Vec<(u16, u16)> =
            options.publish_udp.iter().map(|guest| (free_udp_port(), *guest)).collect();
        let mut command = Command::new(keel());
        command
            .arg("run")
            .arg(host)
            .args(["--memory", &options.memory, "--cpus", &options.cpus.to_string()])
            .args(["--nic", options.nic, "--accel", options.accel])
            .arg("--control")
            .arg(scratch.path().join("control"));
        if let Some(data) = &options.data {
            command.arg("--data").arg(data);
        }
        if !options.append.is_empty() {
            command.arg(format!("--append={}", options.append));
        }
        for (host, guest) in &forwarded {
            command.arg("--publish").arg(format!("{host}:{guest}"));
        }
        for (host, guest) in &forwarded_udp {
            command.arg("--publish").arg(format!("{host}:{guest}/udp"));
        }
        if !options.reboots {
            command.arg("--no-reboot");
        }
        if let Some(seconds) = options.made_at {
            command.env("SOURCE_DATE_EPOCH", seconds.to_string());
        }
        if options.closed_stdin {
            // SAFETY: between fork and exec only close is called, which is async-signal-safe.
            unsafe {
                command.pre_exec(|| {
                    libc::close(0);
                    Ok(())
                });
            }
        }
        if options.allow_broken_units {
            command.arg("--allow-broken-units");
        }
        let api = options.api.then(free_port);
        if let Some(port) = api {
            command.args(["--api", &port.to_string()]);
            remote::own_folders(&mut command, scratch.path());
        }
        let spawned = command.stdin(Stdio::null()).stdout(console).stderr(errors).spawn();
        let child = match spawned {
            Ok(child) => child,
            Err(error) => panic!("{}: {error}", keel().display()),
        };
        let link = RefCell::new(None);
        let asked = Cell::new(0);
        Guest { child, scratch, link, asked, forwarded, forwarded_udp, api, _slot: slot }
    }

    /// Boots a host and waits until it answers.
    pub fn up(host: &Path, options: &Options) -> Guest {
        let mut guest = Guest::boot(host, options);
        guest.wait_for("the host to answer", |guest| guest.try_ask::<Reply>(&Request::Units).ok());
        guest
    }

    /// The console output so far.
    pub fn console(&self) -> String {
        let bytes = fs::read(self.scratch.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Standard error of `keel run`.
    pub fn errors(&self) -> String {
        fs::read_to_string(self.scratch.path().join("errors")).unwrap_or_default()
    }

    /// The port of this machine that is forwarded to a guest's port.
    pub fn port(&self, guest: u16) -> u16 {
        match self.forwarded.iter().find(|(_, to)| *to == guest) {
            Some((from, _)) => *from,
            None => panic!("port {guest} is not forwarded"),
        }
    }

    /// The same for UDP.
    pub fn udp_port(&self, guest: u16) -> u16 {
        match self.forwarded_udp.iter().find(|(_, to)| *to == guest) {
            Some((from, _)) => *from,
            None => panic!("UDP port {guest} is not forwarded"),
        }
    }

    /// Sends an HTTP GET through a forwarded port; the body, if the status is 200.
    pub fn get(&self, guest: u16, path: &str) -> Result<String, String> {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port(guest)))?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
            let mut text = Vec::new();
            stream.read_to_end(&mut text)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        };
        let text = ask().map_err(|error| error.to_string())?;
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{text:?}"))?;
        let ok = head.split(' ').nth(1) == Some("200");
        if ok { Ok(body.to_owned()) } else { Err(head.to_owned()) }
    }

    /// Presses these keys together on the machine's keyboard (in QEMU's names, `QKeyCode`).
    pub fn press_keys(&self, keys: &[&str]) {
        let keys: Vec<Value> =
            keys.iter().map(|key| serde_json::json!({"type": "qcode", "data": key})).collect();
        let command =
            serde_json::json!({"execute": "send-key", "arguments": {"keys": keys}}).to_string();
        if let Err(error) = self.qmp(&command) {
            self.fail(&format!("QEMU's monitor: {error}"));
        }
    }

    /// Sends one command to QEMU's monitor, whose socket is in a folder that `keel run` names after its
    /// process ID.
    fn qmp(&self, command: &str) -> std::io::Result<()> {
        let folder = std::env::temp_dir().join(format!("keel-{}", self.child.id()));
        let mut stream = UnixStream::connect(folder.join("qmp"))?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        // The greeting comes first; events may come between a command and its answer.
        lines.read_line(&mut line)?;
        for command in ["{\"execute\":\"qmp_capabilities\"}", command] {
            writeln!(stream, "{command}")?;
            loop {
                line.clear();
                if lines.read_line(&mut line)? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                if line.contains("\"error\"") {
                    return Err(std::io::Error::other(line));
                }
                if line.contains("\"return\"") {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits until the console shows `text`.
    pub fn wait_console(&mut self, text: &str) {
        let what = format!("the console to show {text:?}");
        self.wait_for(&what, |guest| guest.console().contains(text).then_some(()));
    }

    /// Waits until `look` returns a value. Fails the test, with the console's output, if the guest ends or
    /// after the timeout.
    pub fn wait_for<T>(&mut self, what: &str, mut look: impl FnMut(&Guest) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(self) {
                return found;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                self.fail(&format!("the host ended ({status}) while waiting for {what}"));
            }
            if Instant::now() > deadline {
                self.fail(&format!("timed out waiting for {what}"));
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Powers off and waits for QEMU's end.
    pub fn power_off(&mut self) -> ExitStatus {
        let _ = self.try_ask::<Reply>(&Request::Shutdown { kind: ShutdownKind::Poweroff });
        self.wait_end()
    }

    /// Sends SIGINT (Ctrl-C) to `keel run`, which presses the guest's power button.
    pub fn interrupt(&self) {
        // SAFETY: our own child, not waited for yet, so that the process ID is its.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGINT) };
    }

    /// Waits for QEMU's end.
    pub fn wait_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                _ if Instant::now() > deadline => self.fail("the host did not end"),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// Kills QEMU, like a power cut.
    pub fn cut_power(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Fails the test and prints the end of the console output.
    pub fn fail(&self, why: &str) -> ! {
        let console = self.console();
        let from = console.len().saturating_sub(6000);
        let tail = console.get(from..).unwrap_or(&console);
        panic!("{why}\n--- console ---\n{tail}\n--- keel ---\n{}", self.errors());
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.cut_power();
    }
}

fn create(path: &Path) -> File {
    match File::create(path) {
        Ok(file) => file,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

fn free_port() -> u16 {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    match bound {
        Ok(address) => address.port(),
        Err(error) => panic!("no free port: {error}"),
    }
}

fn free_udp_port() -> u16 {
    let bound = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    match bound {
        Ok(address) => address.port(),
        Err(error) => panic!("no free UDP port: {error}"),
    }
}

/// Waits until fewer than [`MAX_GUESTS`] guests run. Closing the file frees the slot.
pub fn take_slot() -> File {
    loop {
        for number in 0..MAX_GUESTS {
            let path = std::env::temp_dir().join(format!("keel-qemu-{number}.lock"));
            let file = match File::options().create(true).truncate(false).write(true).open(&path) {
                Ok(file) => file,
                Err(error) => panic!("{}: {error}", path.display()),
            };
            // SAFETY: flock takes a descriptor, which is open, and a number.
            if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0 {
                return file;
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
