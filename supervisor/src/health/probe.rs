//! Health checks over the network: a connection from inside the container's own namespace.
//!
//! Nothing here blocks. Of an HTTP answer only the first twelve bytes of the status line are read.

use crate::kernel::{Errno, Kernel};

/// Bytes of `HTTP/1.1 200`.
const STATUS_LINE: usize = 12;

/// What is checked once the connection is established.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Question {
    /// Nothing: a connection is enough.
    Connect,
    /// An HTTP status; the rest of the request still to be sent, and the answer so far.
    Http { request: Vec<u8>, answer: Vec<u8> },
}

/// A check in progress.
#[derive(Debug)]
pub struct NetProbe<F> {
    socket: F,
    connected: bool,
    question: Question,
}

impl<F> NetProbe<F> {
    /// Checks over a connection that is being established. With `path` an HTTP request is made.
    pub fn new(socket: F, path: Option<&str>) -> NetProbe<F> {
        let question = match path {
            None => Question::Connect,
            Some(path) => Question::Http {
                request: format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: keelhost\r\nConnection: close\r\n\r\n")
                    .into_bytes(),
                answer: Vec::new(),
            },
        };
        NetProbe { socket, connected: false, question }
    }

    /// Its socket.
    pub fn socket(&self) -> &F {
        &self.socket
    }

    /// Continues as far as possible without waiting; `Some` is the result.
    pub fn advance<K: Kernel<Fd = F>>(&mut self, kernel: &K) -> Option<Result<(), String>> {
        if !self.connected {
            match kernel.is_connected(&self.socket) {
                Ok(true) => self.connected = true,
                Ok(false) => return None,
                Err(errno) => return Some(Err(errno.desc().to_owned())),
            }
        }
        let Question::Http { request, answer } = &mut self.question else { return Some(Ok(())) };
        while !request.is_empty() {
            match kernel.write(&self.socket, request) {
                Ok(sent) => drop(request.drain(..sent)),
                Err(errno) => return blocked(errno),
            }
        }
        let mut buffer = [0u8; STATUS_LINE];
        while answer.len() < STATUS_LINE {
            let wanted = STATUS_LINE - answer.len();
            match kernel.read(&self.socket, buffer.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => {
                    return Some(Err("closed the connection without an HTTP status".to_owned()));
                }
                Ok(got) => answer.extend_from_slice(buffer.get(..got).unwrap_or_default()),
                Err(errno) => return blocked(errno),
            }
        }
        Some(judge(answer))
    }
}

fn blocked(errno: Errno) -> Option<Result<(), String>> {
    if errno == Errno::EAGAIN { None } else { Some(Err(errno.desc().to_owned())) }
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
    use crate::kernel::linux::Linux;
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
        let kernel = Linux::new().unwrap();
        let answer = match kernel.connect(None, port) {
            Err(why) => Err(why.to_string()),
            Ok(socket) => NetProbe::new(socket, None).advance(&kernel).unwrap(),
        };
        assert!(answer.unwrap_err().contains("Connection refused"));
    }

    proptest! {
        #[test]
        fn any_answer_is_judged(bytes in prop::collection::vec(any::<u8>(), 12)) {
            let _ = judge(&bytes);
        }
    }
}
