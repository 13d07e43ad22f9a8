//! The kernel's announcements of devices that appear while the host runs.
//!
//! A uevent is one datagram: `ACTION@PATH`, then `KEY=VALUE` strings, each ended by a zero byte
//! (lib/kobject_uevent.c).

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, socket,
};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The kernel's own multicast group (udev's second group is 2).
const KERNEL_GROUP: u32 = 1;

/// The socket on which uevents arrive.
pub struct Uevents {
    fd: OwnedFd,
}

/// The fields of an event that are used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uevent {
    /// `add`, `remove`, `change`, …
    pub action: String,
    /// `block`, `pci`, `net`, …
    pub subsystem: String,
    /// The device's modalias, which names its driver, if it has one.
    pub modalias: Option<String>,
}

impl Uevents {
    /// Starts listening.
    ///
    /// # Errors
    /// socket(2) or bind(2) fails.
    pub fn listen() -> Result<Uevents, Errno> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Datagram,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkKObjectUEvent,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Uevents { fd })
    }

    /// The next event, or `None` when there is none now. `Err` when events were lost because the queue
    /// overflowed: the caller should scan everything again.
    ///
    /// # Errors
    /// recvfrom(2) fails; `ENOBUFS` means that the queue overflowed.
    pub fn next(&self) -> Result<Option<Uevent>, Errno> {
        let mut buffer = [0u8; 8192];
        loop {
            match recvfrom::<NetlinkAddr>(self.fd.as_raw_fd(), &mut buffer) {
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                // Only the kernel has port 0: anything else was forged by a process.
                Ok((size, Some(from))) if from.pid() == 0 => {
                    return Ok(Some(parse(buffer.get(..size).unwrap_or_default())));
                }
                Ok(_) => {}
            }
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads one datagram; parts that are not a field are skipped.
pub fn parse(packet: &[u8]) -> Uevent {
    let mut event = Uevent::default();
    for field in packet.split(|byte| *byte == 0).skip(1) {
        let Ok(field) = std::str::from_utf8(field) else { continue };
        match field.split_once('=') {
            Some(("ACTION", value)) => event.action = value.to_owned(),
            Some(("SUBSYSTEM", value)) => event.subsystem = value.to_owned(),
            Some(("MODALIAS", value)) => event.modalias = Some(value.to_owned()),
            _ => {}
        }
    }
    event
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_block_device_is_recognised() {
        let event =
            parse(b"add@/devices/x/vda\0ACTION=add\0SUBSYSTEM=block\0MODALIAS=virtio:d2v1\0");
        assert_eq!(event.subsystem, "block");
        assert_eq!(event.modalias.as_deref(), Some("virtio:d2v1"));
    }

    proptest! {
        #[test]
        fn any_packet_is_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            parse(&bytes);
        }
    }
}
