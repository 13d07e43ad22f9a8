//! The VM: one processor under TCG emulation, with a snapshot of the disk that is discarded.

use engine_bench::{Failure, Naming};
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

const PROGRAM: &str = "qemu-system-x86_64";

/// The fixed arguments of QEMU. The drivers of the disk (NVMe) and of its file system (ext4) are built
/// into the kernel, so there is no initrd.
const WORDS: &[&str] = &[
    "-nodefaults",
    "-no-user-config",
    "-no-reboot",
    "-display",
    "none",
    "-machine",
    "q35,vmport=off,sata=off,smbus=off",
    "-accel",
    "tcg,thread=single",
    "-cpu",
    "max",
    "-smp",
    "1",
    "-m",
    "2G",
    "-device",
    "virtio-rng-pci",
    // The first serial line is the console, the second the report.
    "-serial",
    "chardev:console",
    "-chardev",
    "stdio,id=report,signal=off",
    "-serial",
    "chardev:report",
    "-device",
    "nvme,serial=bench,drive=disk",
];

/// The kernel's command line.
const APPEND: &str =
    "root=/dev/nvme0n1 rw console=ttyS0 loglevel=4 panic=-1 init=/bench/bench_guest";

/// A running VM. Dropping this kills it.
pub struct Machine {
    child: Child,
    console: PathBuf,
}

impl Machine {
    /// Boots from a disk, which stays unchanged, with the kernel of an unpacked package.
    pub fn boot(disk: &Path, kernel: &Path) -> Result<Machine, Failure> {
        let image = image(kernel)?;
        let console = disk.with_extension("console");
        let text = |path: &Path| path.display().to_string().replace(',', ",,");
        // The kernel passes it to PID 1 as an environment variable.
        let append = match std::env::var("BENCH_ROUNDS") {
            Ok(rounds) => format!("{APPEND} BENCH_ROUNDS={rounds}"),
            Err(_) => APPEND.to_owned(),
        };
        let mut command = Command::new(PROGRAM);
        command
            .args(["-kernel", &text(&image)])
            .args(["-chardev", &format!("file,id=console,path={}", text(&console))])
            .arg("-drive")
            .arg(format!("if=none,id=disk,format=raw,snapshot=on,cache=unsafe,file={}", text(disk)))
            .args(WORDS)
            .args(["-append", &append])
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        // SAFETY: between fork and exec only prctl is called, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| {
                // QEMU ends when this process ends, also by Ctrl-C.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().naming(format!("{PROGRAM} (Debian: qemu-system-x86)"))?;
        Ok(Machine { child, console })
    }

    /// The pipe from which to read the report.
    pub fn report(&mut self) -> Result<ChildStdout, Failure> {
        let report = self.child.stdout.take();
        report.ok_or_else(|| Failure("the report was taken already".to_owned()))
    }

    /// Adds the console's last lines to a failure.
    pub fn explain(&self, error: Failure) -> Failure {
        let console = fs::read(&self.console).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(30)..).unwrap_or_default().join("\n");
        Failure(format!("{error}\n--- the VM's console ---\n{tail}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn image(kernel: &Path) -> Result<PathBuf, Failure> {
    let boot = kernel.join("boot");
    let entries = fs::read_dir(&boot).naming(boot.display())?;
    let found = entries
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz"))
        .ok_or_else(|| Failure(format!("{}: no vmlinuz", boot.display())))?;
    Ok(found.path())
}
