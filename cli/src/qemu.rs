//! One QEMU: its command line, and a child process that never outlives us.

use crate::Failure;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// How QEMU runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The hardware does.
    Kvm,
    /// Translation, all processors in turn on one thread. QEMU 7.2 can crash a guest in the other mode
    /// (`int3: 0000`, while the kernel patches its code).
    Tcg,
    /// Translation, a thread for each processor.
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
    /// QEMU's own network, with forwarded ports.
    User(Vec<Forward>),
    /// A card without anybody on the other side.
    Silent,
    /// No card.
    None,
}

/// A virtual machine to be.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Kernel image.
    pub kernel: PathBuf,
    /// Initrd.
    pub initrd: PathBuf,
    /// Memory, as QEMU writes it (`512M`).
    pub memory: String,
    /// Processors.
    pub cpus: u32,
    /// Kernel command line.
    pub append: String,
    /// How it runs.
    pub accelerator: Accelerator,
    /// The network.
    pub nic: Nic,
    /// The data disk's file.
    pub data: Option<PathBuf>,
    /// A unix socket that becomes the guest's virtio port [`CONTROL_PORT`].
    pub control: Option<PathBuf>,
    /// A unix socket for QEMU's own commands.
    pub qmp: PathBuf,
    /// End instead of rebooting.
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
        // The console: out to our standard output; nothing is typed on a host without a shell.
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

    /// Starts it. Its console goes to our standard output; our standard input is left alone, so that it may
    /// be closed.
    ///
    /// # Errors
    /// QEMU is not there.
    pub fn start(&self) -> Result<Child, Failure> {
        spawn(&self.arguments(), Stdio::inherit())
    }
}

/// A comma in a file name separates options in QEMU's arguments; doubled, it does not.
fn text(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// Starts QEMU in a process group of its own (Ctrl-C is for us to handle), so that it ends with us.
///
/// # Errors
/// QEMU is not there.
pub fn spawn(arguments: &[String], output: Stdio) -> Result<Child, Failure> {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).stdin(Stdio::null()).stdout(output).process_group(0);
    // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    command.spawn().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure(format!("{PROGRAM} is not installed (Debian: apt-get install qemu-system-x86)"))
        }
        _ => Failure(format!("{PROGRAM}: {error}")),
    })
}
