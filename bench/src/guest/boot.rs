//! PID 1 of the VM: mounts and modules, the measurement, power off.

use crate::mounts;
use engine_bench::{Failure, Naming, places};
use nix::sys::reboot::{RebootMode, reboot};
use std::ffi::CStr;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::process::Command;

/// Modules that the engines need, in the order of their dependencies.
const MODULES: [&str; 3] = ["overlay", "libcrc32c", "erofs"];

/// `MODULE_INIT_COMPRESSED_FILE` of `linux/module.h`: the kernel unpacks the file itself.
const COMPRESSED: libc::c_int = 4;

/// The VM's second serial line.
const REPORT: &str = "/dev/ttyS1";

/// Runs the measurement and powers the VM off; never returns.
pub fn main() -> ! {
    if let Err(error) = run() {
        eprintln!("bench: {error}");
    }
    let _ = reboot(RebootMode::RB_POWER_OFF);
    std::process::exit(1)
}

fn run() -> Result<(), Failure> {
    mounts::all()?;
    for module in MODULES {
        load(module)?;
    }
    let program = format!("{}/bench_guest", places::PROGRAMS);
    let stage = Command::new(&program)
        .args(["stage", REPORT, "podman", "docker"])
        // The same as in the packages' own services.
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .spawn()
        .naming(program)?;
    let stage = i32::try_from(stage.id()).naming("process id")?;
    // Orphaned processes (conmon, shims) are reparented to this process.
    loop {
        // SAFETY: null pointers are allowed; the status is not needed.
        let pid =
            unsafe { libc::wait4(-1, std::ptr::null_mut(), libc::__WALL, std::ptr::null_mut()) };
        if pid == stage {
            return Ok(());
        }
        if pid < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error).naming("wait4");
            }
        }
    }
}

/// Loads one module from the list in `/bench/modules`.
fn load(name: &str) -> Result<(), Failure> {
    let list = fs::read_to_string("/bench/modules").naming("/bench/modules")?;
    let path = list
        .lines()
        .find(|path| path.rsplit('/').next() == Some(&format!("{name}.ko.xz")))
        .ok_or_else(|| Failure(format!("module {name}: not in the kernel's package")))?;
    let file = File::open(path).naming(path)?;
    let none: &CStr = c"";
    // SAFETY: the descriptor is open, the parameters are a C string.
    let done = unsafe {
        libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), none.as_ptr(), COMPRESSED)
    };
    nix::errno::Errno::result(done).map(drop).naming(path)
}
