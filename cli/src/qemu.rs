//! QEMU's command line, and QEMU as a child process that never outlives `keel`.

use crate::Failure;
use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// How QEMU runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// Hardware virtualization.
    Kvm,
    /// TCG emulation with all virtual CPUs on one thread. With several threads, QEMU 7.2 can crash a guest
    /// (`int3: 0000`, while the kernel patches its code).
    Tcg,
    /// TCG emulation with a thread per virtual CPU.
    TcgMulti,
}

/// A forwarded port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// Address on this machine.
    pub address: String,
    /// Port on this machine.
    pub host: u16,
    /// Port of the guest.
    pub guest: u16,
    /// UDP instead of TCP.
    pub udp: bool,
}

/// The network of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nic {
    /// QEMU's user-mode network, with forwarded ports.
    User(Vec<Forward>),
    /// A card that is connected to nothing.
    Silent,
    /// No network card.
    None,
}

/// The configuration of a virtual machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initrd.
    pub initrd: PathBuf,
    /// Memory in QEMU's notation (`512M`).
    pub memory: String,
    /// Number of virtual CPUs.
    pub cpus: u32,
    /// Kernel command line.
    pub append: String,
    /// How its instructions are executed.
    pub accelerator: Accelerator,
    /// The network.
    pub nic: Nic,
    /// The file of the data disk.
    pub data: Option<PathBuf>,
    /// A Unix socket for the guest's virtio port [`CONTROL_PORT`].
    pub control: Option<PathBuf>,
    /// A Unix socket for QMP, QEMU's monitor protocol.
    pub qmp: PathBuf,
    /// Exit instead of rebooting.
    pub no_reboot: bool,
}

/// Name of the virtio port for control requests.
pub const CONTROL_PORT: &str = "org.keelhost.control";

impl Machine {
    /// QEMU's arguments.
    pub fn arguments(&self) -> Vec<String> {
        let mut args: Vec<String> = Vec::new();
        let mut add = |words: &[&str]| args.extend(words.iter().map(|word| (*word).to_owned()));
        add(&[
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "q35,vmport=off,sata=off,smbus=off",
        ]);
        let (accelerator, cpu) = match self.accelerator {
            Accelerator::Kvm => ("kvm", "host"),
            Accelerator::Tcg => ("tcg,thread=single", "max"),
            Accelerator::TcgMulti => ("tcg,thread=multi", "max"),
        };
        add(&["-accel", accelerator, "-cpu", cpu]);
        add(&["-smp", &self.cpus.to_string(), "-m", &self.memory]);
        add(&[
            "-kernel",
            &text(&self.kernel),
            "-initrd",
            &text(&self.initrd),
            "-append",
            &self.append,
        ]);
        // The console goes to standard output. A host has no shell, so nothing is typed.
        add(&["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        add(&["-device", "virtio-rng-pci"]);
        let qmp = format!("unix:{},server=on,wait=off", text(&self.qmp));
        add(&["-qmp", &qmp]);
        match &self.nic {
            Nic::User(forwards) => {
                let mut user = "user,id=net0".to_owned();
                for forward in forwards {
                    let protocol = if forward.udp { "udp" } else { "tcp" };
                    user.push_str(&format!(
                        ",hostfwd={protocol}:{}:{}-:{}",
                        forward.address, forward.host, forward.guest
                    ));
                }
                add(&["-netdev", &user, "-device", "virtio-net-pci,netdev=net0,romfile="]);
            }
            Nic::Silent => {
                add(&[
                    "-netdev",
                    "hubport,id=net0,hubid=0",
                    "-device",
                    "virtio-net-pci,netdev=net0,romfile=",
                ]);
            }
            Nic::None => {}
        }
        if let Some(data) = &self.data {
            let drive = format!("if=none,id=data,format=raw,discard=unmap,file={}", text(data));
            add(&["-drive", &drive, "-device", "virtio-blk-pci,drive=data"]);
        }
        if let Some(control) = &self.control {
            let chardev = format!("socket,id=control,server=on,wait=off,path={}", text(control));
            let port = format!("virtserialport,chardev=control,name={CONTROL_PORT}");
            add(&["-device", "virtio-serial-pci", "-chardev", &chardev, "-device", &port]);
        }
        if self.no_reboot {
            add(&["-no-reboot"]);
        }
        args
    }

    /// Starts it. The console goes to standard output. Standard input is not used and may be closed.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub fn start(&self) -> Result<Child, Failure> {
        spawn(OsStr::new(PROGRAM), &self.arguments(), Stdio::inherit(), Stdio::inherit())
    }
}

/// A path in QEMU's arguments, where commas separate options unless they are doubled.
fn text(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Starts QEMU in its own process group, because Ctrl-C is handled here, and has the kernel end it when we
/// end.
///
/// # Errors
/// QEMU cannot be started.
pub fn spawn(
    program: &OsStr,
    arguments: &[String],
    stdout: Stdio,
    stderr: Stdio,
) -> Result<Child, Failure> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr).process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let program = program.display();
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure(format!("{program} is not installed (Debian: apt-get install qemu-system-x86)"))
        }
        _ => Failure(format!("{program}: {error}")),
    })
}
