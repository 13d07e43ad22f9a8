//! Loading one module into the kernel.
//!
//! A module that every boot needs is in the image without its signature, which is next to it in
//! `FILE.sig`: checking an RSA signature is most of the cost of loading a small module, and the files
//! come from the same initrd as the program that loads them. For a kernel that requires signatures
//! (lockdown, `module.sig_enforce`) the two are joined again.

use crate::devices::modules::ModuleError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

/// finit_module(2)'s flag for a file that the kernel itself decompresses (include/uapi/linux/module.h).
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// Loads a module; `false` when it was loaded already.
///
/// # Errors
/// The file cannot be opened, or the kernel refuses the module.
pub fn insert(name: &str, path: &Path) -> Result<bool, ModuleError> {
    if is_live(name) {
        return Ok(false);
    }
    let open = |source| ModuleError::Open {
        name: name.to_owned(),
        file: path.display().to_string(),
        source,
    };
    let file = File::open(path).map_err(open)?;
    // The kernel may request a module that is just being loaded: the second loader waits instead of
    // making the kernel read and check the module again.
    let file = match Flock::lock(file, FlockArg::LockExclusive) {
        Ok(file) => file,
        Err((_, errno)) => return Err(open(errno.into())),
    };
    if is_live(name) {
        return Ok(false);
    }
    let packed = path.extension().is_some_and(|extension| extension == "xz");
    let flags = if packed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    let result = match finit_module(file.as_fd(), flags) {
        Err(Errno::EKEYREJECTED | Errno::EPERM | Errno::ENOKEY) if !packed => {
            let signed = with_signature(path).map_err(open)?;
            finit_module(signed.as_fd(), 0)
        }
        other => other,
    };
    match result {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(ModuleError::Load { name: name.to_owned(), errno }),
    }
}

/// Whether the module has been loaded and has finished its initialisation.
fn is_live(name: &str) -> bool {
    let state = std::fs::read_to_string(format!("/sys/module/{name}/initstate"));
    state.is_ok_and(|state| state.trim_end() == "live")
}

fn finit_module(file: BorrowedFd<'_>, flags: libc::c_int) -> Result<(), Errno> {
    // SAFETY: the descriptor is open, the parameter string is an empty C string that outlives the
    // call, and the kernel checks the module itself.
    let done =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), flags) };
    Errno::result(done).map(drop)
}

/// The module with its signature, in memory.
fn with_signature(path: &Path) -> std::io::Result<File> {
    let mut signature = path.as_os_str().to_owned();
    signature.push(".sig");
    let mut whole = File::from(memfd_create(c"module", MFdFlags::MFD_CLOEXEC)?);
    for part in [path.as_os_str(), &signature] {
        whole.write_all(&std::fs::read(part)?)?;
    }
    Ok(whole)
}
