//! Landlock (landlock(7)) without exceptions: only files that are already open stay usable.
//! Implemented here, because three system calls do not justify a dependency.

use std::io;

/// struct landlock_ruleset_attr. A kernel that knows fewer fields accepts it if the others are 0.
#[repr(C)]
#[derive(Default)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

const CREATE_RULESET_VERSION: u32 = 1;

/// What each version of the interface can restrict: access to files, TCP ports, and processes
/// outside the domain (abstract sockets, signals).
fn everything(version: i64) -> RulesetAttr {
    let bits = |count: u32| (1u64 << count) - 1;
    RulesetAttr {
        handled_access_fs: match version {
            ..=1 => bits(13),
            2 => bits(14),
            3..=4 => bits(15),
            _ => bits(16),
        },
        handled_access_net: if version >= 4 { bits(2) } else { 0 },
        scoped: if version >= 6 { bits(2) } else { 0 },
    }
}

/// Applies all restrictions that the kernel supports to this thread and the threads that it will
/// start.
pub fn forbid_everything() -> io::Result<()> {
    let none = std::ptr::null::<RulesetAttr>();
    // SAFETY: with this flag the kernel reads no structure and returns a number.
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, none, 0usize, CREATE_RULESET_VERSION)
    };
    if version < 0 {
        return Err(io::Error::last_os_error());
    }
    let attr = everything(version);
    // SAFETY: the structure lives through the call and the size is its own.
    let ruleset = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, &raw const attr, size_of_val(&attr), 0u32)
    };
    if ruleset < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a descriptor and a number; the descriptor was created above and is not used
    // elsewhere.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset, 0u32) };
    let error = io::Error::last_os_error();
    // SAFETY: as above; it is closed once.
    unsafe { libc::close(ruleset as i32) };
    if done == 0 { Ok(()) } else { Err(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    /// Only the calling thread is restricted, so a test can do this.
    #[test]
    fn what_is_open_stays_open_and_nothing_else_opens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let confined = std::thread::spawn(move || {
            let mut open = File::open("/proc/self/stat").unwrap();
            // SAFETY: sets a flag of this thread.
            unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            forbid_everything().unwrap();
            open.read_to_string(&mut String::new()).unwrap();
            let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
            assert!(File::open("/proc/self/stat").is_err_and(denied));
            assert!(File::create("/tmp/keel-api-landlock").is_err_and(denied));
            assert!(TcpListener::bind("127.0.0.1:0").is_err_and(denied));
            assert!(TcpStream::connect(address).is_err_and(denied));
        });
        confined.join().unwrap();
        assert!(File::open("/proc/self/stat").is_ok());
    }
}
