//! A compiled filter, and loading it.

use super::compile::{self, CompileError};
use super::profile::Profile;
use crate::caps::CapSet;
use nix::errno::Errno;

/// A compiled filter: 8 bytes per instruction, shared by all starts of a unit.
#[derive(Clone, PartialEq, Eq)]
pub struct Filter {
    steps: Box<[libc::sock_filter]>,
    flags: u32,
}

impl std::fmt::Debug for Filter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Filter of {} instructions", self.steps.len())
    }
}

impl Filter {
    /// Compiles a profile.
    ///
    /// # Errors
    /// The kernel would reject the program, or nothing could be started under it.
    pub fn new(profile: &Profile) -> Result<Filter, CompileError> {
        compile::check_start(profile)?;
        let steps = compile::assemble(profile)?.into_boxed_slice();
        Ok(Filter { steps, flags: profile.flags })
    }

    /// The default filter of a container with these capabilities.
    ///
    /// # Errors
    /// None in practice; the type is that of [`Filter::new`].
    pub fn default_for(caps: CapSet) -> Result<Filter, CompileError> {
        Filter::new(&Profile::default_for(caps))
    }

    /// The number of instructions, at most 4096.
    pub fn instructions(&self) -> usize {
        self.steps.len()
    }

    /// Loads the filter for the calling thread and everything it executes from here on; it cannot
    /// be removed. Needs no_new_privs or CAP_SYS_ADMIN.
    ///
    /// # Errors
    /// Those of `seccomp(2)`. `ENOSYS` or `EINVAL`: the kernel does not support filters.
    pub fn load(&self) -> Result<(), Errno> {
        let len = u16::try_from(self.steps.len()).map_err(|_| Errno::EINVAL)?;
        let program = libc::sock_fprog { len, filter: self.steps.as_ptr().cast_mut() };
        // SAFETY: the program points to `len` instructions that outlive the call; the kernel
        // copies and checks them, and writes nothing.
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                self.flags,
                &raw const program,
            )
        };
        Errno::result(done).map(drop)
    }
}
