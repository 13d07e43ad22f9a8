//! `keel run`.

use crate::build::build_folder;
use crate::folder::Folder;
use crate::qemu::{Accelerator, CONTROL_PORT, Forward, Machine, Nic};
use crate::remote::run_host::{self, Remembered};
use crate::{Failure, data_disk, kvm, places, qmp};
use clap::{Args, ValueEnum};
use std::io::{IsTerminal, Write};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use units::model::{HostConfig, NetworkMode, Protocol};

/// Arguments of `keel run`.
#[derive(Args)]
pub struct RunArgs {
    /// Folder with host.toml and units/
    dir: PathBuf,
    /// Memory of the virtual machine
    #[arg(long, default_value = "512M")]
    memory: String,
    /// Number of virtual CPUs
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Forward a port of this machine to the host: [ADDRESS:]HOST:GUEST[/udp]. Can be repeated; by
    /// default, all published ports are forwarded
    #[arg(long, value_name = "HOST:GUEST")]
    publish: Vec<Publish>,
    /// File of the data disk, created if missing
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Additional kernel command line arguments
    #[arg(long, value_name = "ARGS")]
    append: Vec<String>,
    /// Network of the virtual machine
    #[arg(long, value_enum, default_value_t = NicArg::User)]
    nic: NicArg,
    /// Accelerator of QEMU
    #[arg(long, value_enum, default_value_t = AccelArg::Auto)]
    accel: AccelArg,
    /// Forward this port of this machine to the host's API, and admit this user as an admin; 0 picks a free
    /// port
    #[arg(long, value_name = "PORT")]
    api: Option<u16>,
    /// Unix socket for control requests, one JSON object per line
    #[arg(long, value_name = "SOCKET")]
    control: Option<PathBuf>,
    /// Exit when the host reboots
    #[arg(long)]
    no_reboot: bool,
    /// Boot even if units have errors; those units will not run
    #[arg(long)]
    allow_broken_units: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum NicArg {
    /// QEMU's user-mode network, with a DHCP server
    User,
    /// A network card that is connected to nothing
    Silent,
    /// No network card
    None,
}

#[derive(Clone, Copy, ValueEnum)]
enum AccelArg {
    /// KVM if a test boot with it works, else TCG
    Auto,
    /// KVM hardware virtualization
    Kvm,
    /// TCG emulation on one thread
    Tcg,
    /// TCG emulation with a thread per virtual CPU (QEMU 7.2 can crash guests in this mode)
    TcgMulti,
}

/// A `--publish` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Publish(Forward);

impl FromStr for Publish {
    type Err = String;

    fn from_str(text: &str) -> Result<Publish, String> {
        let (ports, udp) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.split('/').next().unwrap_or_default(), false),
            Some((ports, "udp")) => (ports, true),
            Some((_, other)) => {
                return Err(format!("unknown protocol `{other}`: expected tcp or udp"));
            }
        };
        let mut parts = ports.rsplitn(3, ':');
        let port = |part: Option<&str>| {
            part.and_then(|part| part.parse::<u16>().ok()).filter(|port| *port > 0).ok_or_else(
                || "expected [ADDRESS:]HOST:GUEST[/udp], ports from 1 to 65535".to_owned(),
            )
        };
        let (guest, host) = (port(parts.next())?, port(parts.next())?);
        let address = parts.next().unwrap_or("127.0.0.1");
        if !address.is_empty() && address.parse::<std::net::Ipv4Addr>().is_err() {
            return Err(format!("invalid IPv4 address `{address}`"));
        }
        Ok(Publish(Forward { address: address.to_owned(), host, guest, udp }))
    }
}

/// Builds the host and boots it.
pub fn run(args: &RunArgs) -> Result<ExitCode, Failure> {
    let kit = places::open_kit()?;
    let out = places::run_output(&args.dir);
    build_folder(&args.dir, &out, args.allow_broken_units, &kit)?;
    let config = Folder::read(&args.dir)?.loaded.config;
    if let Some(data) = &args.data {
        data_disk::prepare(data)?;
    }
    if args.api.is_some() && !matches!(args.nic, NicArg::User) {
        return Err(Failure(
            "--api requires --nic user: ports are forwarded only by that network".to_owned(),
        ));
    }
    let api = args.api.map(|port| run_host::remember(&args.dir, &out, port)).transpose()?;
    let mut forwards = forwards(args, &config, api.as_ref());
    forwards.extend(api.as_ref().map(|api| Forward {
        address: "127.0.0.1".to_owned(),
        host: api.port,
        guest: api_types::PORT,
        udp: false,
    }));
    let scratch = Scratch::new()?;
    let machine = Machine {
        kernel: out.join("vmlinuz"),
        initrd: out.join("initrd"),
        memory: args.memory.clone(),
        cpus: args.cpus,
        append: command_line(args, api.as_ref()),
        accelerator: match args.accel {
            AccelArg::Auto => kvm::choose(&kit.kernel()),
            AccelArg::Kvm => Accelerator::Kvm,
            AccelArg::Tcg => Accelerator::Tcg,
            AccelArg::TcgMulti => Accelerator::TcgMulti,
        },
        nic: match args.nic {
            NicArg::User => Nic::User(forwards.clone()),
            NicArg::Silent => Nic::Silent,
            NicArg::None => Nic::None,
        },
        data: args.data.clone(),
        control: args.control.clone(),
        qmp: scratch.path.join("qmp"),
        no_reboot: args.no_reboot,
    };
    announce(args, &machine, &forwards, api.as_ref());
    supervise(&machine)
}

/// Waits for QEMU to exit. The first Ctrl-C (or SIGTERM, SIGHUP) presses the guest's power button, the
/// second kills QEMU.
fn supervise(machine: &Machine) -> Result<ExitCode, Failure> {
    let asked = Arc::new(AtomicUsize::new(0));
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let asked = Arc::clone(&asked);
        // SAFETY: the handler only adds to an atomic number, which is async-signal-safe.
        unsafe {
            signal_hook::low_level::register(signal, move || {
                asked.fetch_add(1, Ordering::Relaxed);
            })
        }?;
    }
    let mut child = machine.start()?;
    let mut answered = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
        let asked = asked.load(Ordering::Relaxed);
        if asked > answered {
            answered = asked;
            let pressed = asked == 1 && qmp::press_power_button(&machine.qmp).is_ok();
            if pressed {
                eprintln!(
                    "\nkeel: shutting down the host; press Ctrl-C again to stop QEMU immediately"
                );
            } else {
                // It may have exited in the meantime.
                let _ = child.kill();
            }
        }
        std::thread::sleep(Duration::from_millis(30));
    }
}

fn command_line(args: &RunArgs, api: Option<&Remembered>) -> String {
    let mut words = vec!["console=ttyS0", "quiet", "panic=10", "rootfstype=ramfs"];
    let control = format!("keel.control={CONTROL_PORT}");
    if args.control.is_some() {
        words.push(&control);
    }
    if args.data.is_some() {
        // Without this, the host would fall back to memory if it cannot use the disk.
        words.push("keel.data=required");
    }
    words.extend(api.map(|api| api.word.as_str()));
    words.extend(args.append.iter().map(String::as_str));
    words.join(" ")
}

/// The ports given with --publish, else all published ports, with the same number if it is free.
fn forwards(args: &RunArgs, config: &HostConfig, api: Option<&Remembered>) -> Vec<Forward> {
    if !args.publish.is_empty() {
        return args.publish.iter().map(|publish| publish.0.clone()).collect();
    }
    let mut found: Vec<Forward> = Vec::new();
    for unit in config.units.values().filter(|unit| unit.container.network != NetworkMode::None) {
        for port in &unit.container.ports {
            // Ports on the guest's loopback address are not published to the outside.
            if port.address.is_some_and(|address| address.is_loopback()) {
                continue;
            }
            let udp = port.protocol == Protocol::Udp;
            let taken = !udp && api.is_some_and(|api| api.port == port.host);
            if let Some(host) = free_port(if taken { 0 } else { port.host }, udp) {
                found.push(Forward {
                    address: "127.0.0.1".to_owned(),
                    host,
                    guest: port.host,
                    udp,
                });
            }
        }
    }
    found
}

/// `wanted` if it is free, else any free port.
fn free_port(wanted: u16, udp: bool) -> Option<u16> {
    let try_port = |port: u16| -> Option<u16> {
        let address = ("127.0.0.1", port);
        if udp {
            Some(UdpSocket::bind(address).ok()?.local_addr().ok()?.port())
        } else {
            Some(TcpListener::bind(address).ok()?.local_addr().ok()?.port())
        }
    };
    try_port(wanted).or_else(|| try_port(0))
}

fn announce(args: &RunArgs, machine: &Machine, forwards: &[Forward], api: Option<&Remembered>) {
    let how = match machine.accelerator {
        Accelerator::Kvm => "KVM",
        Accelerator::Tcg | Accelerator::TcgMulti => {
            "TCG emulation (KVM cannot be used; about ten times slower)"
        }
    };
    let mut err = std::io::stderr().lock();
    let bold = if std::io::stderr().is_terminal() { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    // A closed terminal does not prevent the boot.
    let _ = writeln!(
        err,
        "keel: booting {} with {how}, {} of memory",
        args.dir.display(),
        machine.memory
    );
    if matches!(machine.nic, Nic::User(_)) {
        let is_api =
            |forward: &Forward| api.is_some_and(|api| !forward.udp && forward.host == api.port);
        for forward in forwards.iter().filter(|forward| !is_api(forward)) {
            let protocol = if forward.udp { "udp" } else { "http" };
            let _ = writeln!(
                err,
                "keel: {}{protocol}://{}:{}{} is forwarded to port {} of the host",
                bold.0, forward.address, forward.host, bold.1, forward.guest
            );
        }
    }
    if let Some(api) = api {
        // As this program was called; it may not be in the PATH.
        let keel = std::env::args().next().unwrap_or_else(|| "keel".to_owned());
        let _ = writeln!(
            err,
            "keel: in another terminal: {}{keel} --host 127.0.0.1:{} ps{}",
            bold.0, api.port, bold.1
        );
    }
    let _ = writeln!(
        err,
        "keel: {}Ctrl-C{} shuts the host down; a second Ctrl-C stops QEMU immediately",
        bold.0, bold.1
    );
}

/// A folder for sockets, removed when dropped.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Result<Scratch, Failure> {
        let path = std::env::temp_dir().join(format!("keel-{}", std::process::id()));
        std::fs::create_dir(&path)
            .map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        Ok(Scratch { path })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_ports_are_parsed() {
        let forward = |address: &str, host, guest, udp| {
            Publish(Forward { address: address.to_owned(), host, guest, udp })
        };
        assert_eq!("8080:80".parse(), Ok(forward("127.0.0.1", 8080, 80, false)));
        assert_eq!("0.0.0.0:53:5353/udp".parse(), Ok(forward("0.0.0.0", 53, 5353, true)));
        for bad in ["80", "0:80", "x:80", "80:80/sctp", "a.b:1:2", ""] {
            assert!(bad.parse::<Publish>().is_err(), "{bad}");
        }
    }
}
