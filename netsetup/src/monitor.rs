//! Link events of the kernel (`RTMGRP_LINK`).

use nix::sys::socket::{NetlinkAddr, bind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::links::Link;
use crate::netlink::{self, NetlinkError, messages};

const RTMGRP_LINK: u32 = 1;

/// A socket that receives every change of a link.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// An event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkEvent {
    /// A link is new or has changed.
    Link(Link),
    /// The link with this index was removed.
    Removed(u32),
    /// Some events were lost: list the links again.
    Lost,
}

impl Monitor {
    /// Opens the socket; it receives events from now on.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn open() -> Result<Monitor, NetlinkError> {
        let fd = netlink::socket(libc::NETLINK_ROUTE)?;
        // The socket must be bound, not only a member of the group: the kernel does not deliver
        // notifications to a socket without an address (`do_one_broadcast`, af_netlink.c).
        let address = NetlinkAddr::new(0, RTMGRP_LINK);
        bind(fd.as_raw_fd(), &address)
            .map_err(|errno| NetlinkError::Sys { call: "bind(AF_NETLINK)", errno })?;
        Ok(Monitor { fd, buffer: vec![0; 32 * 1024] })
    }

    /// Reads all queued events, without those of links for whose name `skip` is true: attaching a
    /// container causes a dozen of them.
    pub fn read(&mut self, skip: impl Fn(&str) -> bool) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        loop {
            match netlink::receive(self.fd.as_fd(), &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(Some(bytes)) => {
                    for message in messages(bytes) {
                        let Some(link) = Link::parse(message.body) else { continue };
                        match message.kind {
                            libc::RTM_NEWLINK if !skip(&link.name) => {
                                events.push(LinkEvent::Link(link))
                            }
                            libc::RTM_DELLINK => events.push(LinkEvent::Removed(link.index)),
                            _ => {}
                        }
                    }
                }
                Ok(None) => return events,
                // ENOBUFS: the queue was full. Any other error will occur again when listing.
                Err(_) => {
                    events.push(LinkEvent::Lost);
                    return events;
                }
            }
        }
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
