//! Landlock (landlock(7)) without exceptions: only files that are open already stay usable. Three
//! system calls are not worth a crate.

use std::io;

/// struct landlock_ruleset_attr. A kernel that knows fewer fields takes it as long as those are 0.
#[repr(C)]
#[derive(Default)]
struct RulesetAttr {
    handled_access_fs: u64,
    handled_access_net: u64,
    scoped: u64,
}

const CREATE_RULESET_VERSION: u32 = 1;

/// What each version of the interface can forbid: kinds of access to files, to TCP ports, and
/// reach beyond the own domain (abstract sockets, signals).
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

/// Forbids this thread and those that it will start whatever the kernel can forbid.
pub fn forbid_everything() -> io::Result<()> {
    let none = std::ptr::null::<RulesetAttr>();
    // SAFETY: with this flag the kernel reads no structure and gives a number.
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
    // SAFETY: a descriptor and a number; the descriptor was made above and is used by nobody else.
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

    /// Only the thread that asks for it is confined, so a test can.
    #[test]
    fn what_is_open_stays_open_and_nothing_else_opens() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let confined = std::thread::spawn(move || {
            let mut open = File::open("/proc/self/stat").unwrap();
            // SAFETY: it sets a flag of this thread.
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
