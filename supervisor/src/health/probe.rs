//! Health probes over the network: a connection from inside the container's own namespace.
//!
//! The socket is made by a short visit to the namespace; after that everything is non-blocking and
//! belongs to the supervisor's loop. Of an HTTP answer only the status line's twelve bytes are read.

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, connect, getsockopt, socket, sockopt,
};
use nix::sys::stat::Mode;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Bytes of `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

/// What is asked once the connection stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    /// Nothing: a connection is enough.
    Connect,
    /// An HTTP status; the rest of the request still to be sent, and the answer so far.
    Http { request: Vec<u8>, answer: Vec<u8> },
}

/// A probe under way.
#[derive(Debug)]
pub struct NetProbe {
    stream: TcpStream,
    connected: bool,
    question: Question,
}

/// The process is in a container's network namespace and cannot go back: it must end.
#[derive(Debug, thiserror::Error)]
#[error("cannot return to the host's network namespace: {0}")]
pub struct Lost(Errno);

impl NetProbe {
    /// Begins to ask port `port` on loopback, inside `netns` (`None`: the host's own). With `path`
    /// an HTTP request is made.
    ///
    /// # Errors
    /// Outer: the process is lost. Inner: the probe has failed already, and why.
    pub fn start(
        netns: Option<BorrowedFd<'_>>,
        port: u16,
        path: Option<&str>,
    ) -> Result<Result<NetProbe, String>, Lost> {
        let socket = match netns {
            None => tcp_socket(),
            Some(netns) => {
                let home = match open(
                    "/proc/self/ns/net",
                    OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                    Mode::empty(),
                ) {
                    Ok(home) => home,
                    Err(errno) => return Ok(Err(format!("/proc/self/ns/net: {errno}"))),
                };
                if let Err(errno) = setns(netns, CloneFlags::CLONE_NEWNET) {
                    return Ok(Err(format!("cannot enter the network namespace: {errno}")));
                }
                let socket = tcp_socket();
                setns(home, CloneFlags::CLONE_NEWNET).map_err(Lost)?;
                socket
            }
        };
        let socket = match socket {
            Ok(socket) => socket,
            Err(errno) => return Ok(Err(format!("socket: {errno}"))),
        };
        match connect(socket.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Ok(Err(format!("port {port}: {}", errno.desc()))),
        }
        let question = match path {
            None => Question::Connect,
            Some(path) => Question::Http {
                request: format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: keelhost\r\nConnection: close\r\n\r\n")
                    .into_bytes(),
                answer: Vec::new(),
            },
        };
        Ok(Ok(NetProbe { stream: TcpStream::from(socket), connected: false, question }))
    }

    /// Goes on as far as it can without waiting; `Some` is the answer.
    pub fn advance(&mut self) -> Option<Result<(), String>> {
        if !self.connected {
            match getsockopt(&self.stream, sockopt::SocketError) {
                Ok(0) if self.stream.peer_addr().is_ok() => self.connected = true,
                Ok(0) => return None,
                Ok(errno) => return Some(Err(Errno::from_raw(errno).desc().to_owned())),
                Err(errno) => return Some(Err(errno.desc().to_owned())),
            }
        }
        let Question::Http { request, answer } = &mut self.question else { return Some(Ok(())) };
        while !request.is_empty() {
            match self.stream.write(request) {
                Ok(sent) => drop(request.drain(..sent)),
                Err(error) => return blocked(&error),
            }
        }
        let mut buffer = [0u8; STATUS_LINE];
        while answer.len() < STATUS_LINE {
            let wanted = STATUS_LINE - answer.len();
            match self.stream.read(buffer.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => {
                    return Some(Err("closed the connection without an HTTP status".to_owned()));
                }
                Ok(got) => answer.extend_from_slice(buffer.get(..got).unwrap_or_default()),
                Err(error) => return blocked(&error),
            }
        }
        Some(judge(answer))
    }

    /// Whether it waits to write rather than to read.
    pub fn wants_write(&self) -> bool {
        !self.connected
            || matches!(&self.question, Question::Http { request, .. } if !request.is_empty())
    }
}

impl AsFd for NetProbe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn tcp_socket() -> Result<OwnedFd, Errno> {
    socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
}

fn blocked(error: &std::io::Error) -> Option<Result<(), String>> {
    match error.kind() {
        std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted => None,
        _ => Some(Err(error.to_string())),
    }
}

/// `HTTP/1.x 200` to `399` is healthy, as in Kubernetes.
pub fn judge(line: &[u8]) -> Result<(), String> {
    let status = line
        .strip_prefix(b"HTTP/1.")
        .and_then(|rest| rest.get(2..5))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| digits.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        Some(status) => Err(format!("HTTP status {status}")),
        None => Err("the answer is not HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_status_is_judged() {
        assert_eq!(judge(b"HTTP/1.1 200"), Ok(()));
        assert_eq!(judge(b"HTTP/1.0 302"), Ok(()));
        assert!(judge(b"HTTP/1.1 503").unwrap_err().contains("503"));
        assert!(judge(b"SSH-2.0-Open").is_err());
    }

    #[test]
    fn a_refused_connection_is_a_failed_probe_at_once_or_soon() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let answer = match NetProbe::start(None, port, None).unwrap() {
            Err(why) => Some(Err(why)),
            Ok(mut probe) => probe.advance(),
        };
        assert!(answer.unwrap().is_err());
    }

    proptest! {
        #[test]
        fn any_answer_is_judged(bytes in prop::collection::vec(any::<u8>(), 12)) {
            let _ = judge(&bytes);
        }
    }
}
