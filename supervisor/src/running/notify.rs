//! sd_notify(3): a program says that it is ready.

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, bind, recv, socket};
use policy::Notice;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// Where the socket is seen inside a container, and the value of `$NOTIFY_SOCKET`.
pub const INSIDE: &str = "/run/keel-notify.sock";

/// Where a unit's socket is on the host.
pub fn path(unit: &str) -> PathBuf {
    PathBuf::from(format!("{}/{unit}.notify", layout::paths::RUN_UNITS))
}

/// Makes a unit's socket. The directory above it is closed to all but root; the socket itself is
/// open, because inside the container (where it alone is mounted) the program may be any user.
///
/// # Errors
/// socket(2)'s and bind(2)'s.
pub fn listen(unit: &str) -> Result<OwnedFd, Errno> {
    let path = path(unit);
    // One that an earlier life left behind is of no use to anybody.
    let _ = fs::remove_file(&path);
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    Ok(fd)
}

/// The next datagram's notices; `None` when there is none now.
pub fn receive(fd: &OwnedFd) -> Option<Vec<Notice>> {
    // systemd's own limit for such a message is a page.
    let mut buffer = [0u8; 4096];
    loop {
        match recv(fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(size) => return Some(parse(buffer.get(..size).unwrap_or_default())),
            Err(Errno::EINTR) => {}
            Err(_) => return None,
        }
    }
}

/// `KEY=VALUE` lines; those that mean nothing to us are passed over.
pub fn parse(bytes: &[u8]) -> Vec<Notice> {
    let text = String::from_utf8_lossy(bytes);
    text.lines()
        .filter_map(|line| match line.split_once('=')? {
            ("READY", "1") => Some(Notice::Ready),
            ("STOPPING", "1") => Some(Notice::Stopping),
            ("STATUS", status) => {
                Some(Notice::Status(status.chars().filter(|c| !c.is_control()).take(200).collect()))
            }
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ready_is_found_among_others() {
        assert_eq!(
            parse(b"MAINPID=4\nREADY=1\nSTATUS=up\x1b[31m\n"),
            [Notice::Ready, Notice::Status("up[31m".into())]
        );
    }

    proptest! {
        #[test]
        fn any_datagram_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
