//! sd_notify(3): a program reports that it is ready.

use crate::kernel::Kernel;
use policy::Notice;
use std::path::PathBuf;

/// Where the socket is seen inside a container, and the value of `$NOTIFY_SOCKET`.
pub const INSIDE: &str = "/run/keel-notify.sock";

/// Where a unit's socket is on the host.
pub fn path(unit: &str) -> PathBuf {
    PathBuf::from(format!("{}/{unit}.notify", layout::paths::RUN_UNITS))
}

/// The next datagram's notices; `None` when there is none now. The datagram stays in the socket
/// ([`Kernel::drop_notice`]).
pub fn peek<K: Kernel>(kernel: &K, socket: &K::Fd) -> Option<Vec<Notice>> {
    // systemd's own limit for such a message is a page.
    let mut buffer = [0u8; 4096];
    let size = kernel.peek_notice(socket, &mut buffer)?;
    Some(parse(buffer.get(..size).unwrap_or_default()))
}

/// `KEY=VALUE` lines; unknown ones are ignored.
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
