//! News about links from the kernel (`RTMGRP_LINK`).

use nix::sys::socket::{NetlinkAddr, bind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::links::Link;
use crate::netlink::{self, NetlinkError, messages};

const RTMGRP_LINK: u32 = 1;

/// A socket that hears of every change of a link.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

/// One piece of news.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// A link is new or has changed.
    Link(Link),
    /// The link of this index is gone.
    Gone(u32),
    /// Some news was lost: list the links again.
    Lost,
}

impl Monitor {
    /// Listens from now on.
    ///
    /// # Errors
    /// The socket's.
    pub fn open() -> Result<Monitor, NetlinkError> {
        let fd = netlink::socket(libc::NETLINK_ROUTE)?;
        // Bound, not only a member of the group: to a socket without an address the kernel does not
        // pass on what it says of its own accord (`do_one_broadcast`, af_netlink.c).
        let address = NetlinkAddr::new(0, RTMGRP_LINK);
        bind(fd.as_raw_fd(), &address)
            .map_err(|errno| NetlinkError::Sys { call: "bind(AF_NETLINK)", errno })?;
        Ok(Monitor { fd, buffer: vec![0; 32 * 1024] })
    }

    /// What is queued. News of links for which `skip` is true by name is left out: attaching a
    /// container makes a dozen pieces of it.
    pub fn read(&mut self, skip: impl Fn(&str) -> bool) -> Vec<News> {
        let mut news = Vec::new();
        loop {
            match netlink::receive(self.fd.as_fd(), &mut self.buffer, libc::MSG_DONTWAIT) {
                Ok(Some(bytes)) => {
                    for message in messages(bytes) {
                        let Some(link) = Link::parse(message.body) else { continue };
                        match message.kind {
                            libc::RTM_NEWLINK if !skip(&link.name) => news.push(News::Link(link)),
                            libc::RTM_DELLINK => news.push(News::Gone(link.index)),
                            _ => {}
                        }
                    }
                }
                Ok(None) => return news,
                // ENOBUFS: the queue was full. Any other error will be met again when listing.
                Err(_) => {
                    news.push(News::Lost);
                    return news;
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
