//! Connections for control requests: a unix socket, and a virtio port if the kernel's command line
//! names one (`keel.control=NAME`; adding a port requires control of the machine anyway).

use crate::kernel::{EpollFlags, Errno, Kernel, Source};
use ipc::control::MAX_REQUEST;
use std::collections::BTreeMap;

/// Maximum number of connections at the same time; a further one is closed.
const MAX_CONNECTIONS: usize = 64;

/// Maximum number of bytes queued for a slow reader; beyond it the connection is closed.
const MAX_UNSENT: usize = 4 * 1024 * 1024;

/// One connection.
struct Connection<F> {
    file: F,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// A virtio port stays open when its other side disconnects.
    port: bool,
}

/// All connections.
pub struct Control<F> {
    listener: Option<F>,
    connections: BTreeMap<u64, Connection<F>>,
    next: u64,
}

/// Edge-triggered: a virtio port without a reader would otherwise be reported continuously.
const WATCH: EpollFlags =
    EpollFlags::EPOLLIN.union(EpollFlags::EPOLLOUT).union(EpollFlags::EPOLLET);

impl<F> Control<F> {
    /// Opens the socket and the port. Failures are only logged: the host also works without them.
    pub fn open(kernel: &mut impl Kernel<Fd = F>, port: Option<&str>) -> Control<F> {
        let listener = match kernel.listen_control() {
            Ok(listener) => Some(listener),
            Err(error) => {
                log::error!("{error}");
                None
            }
        };
        if let Some(listener) = &listener
            && let Err(error) = kernel.watch(Source::Listener, listener, EpollFlags::EPOLLIN)
        {
            log::error!("control socket: {error}");
        }
        let mut control = Control { listener, connections: BTreeMap::new(), next: 0 };
        if let Some(name) = port {
            match kernel.open_port(name) {
                Some(file) => control.add(kernel, file, true),
                None => log::warn!("no virtio port {name} (keel.control)"),
            }
        }
        control
    }

    /// Accepts a new connection.
    pub fn accept(&mut self, kernel: &mut impl Kernel<Fd = F>) {
        while let Some(stream) = self.listener.as_ref().and_then(|fd| kernel.accept_control(fd)) {
            if self.connections.len() < MAX_CONNECTIONS {
                self.add(kernel, stream, false);
            }
        }
    }

    fn add(&mut self, kernel: &mut impl Kernel<Fd = F>, file: F, port: bool) {
        self.next += 1;
        if let Err(error) = kernel.watch(Source::Connection(self.next), &file, WATCH) {
            log::warn!("control connection: {error}");
            return;
        }
        let connection = Connection { file, incoming: Vec::new(), outgoing: Vec::new(), port };
        self.connections.insert(self.next, connection);
    }

    /// Reads complete request lines from a connection.
    pub fn read(
        &mut self,
        kernel: &mut impl Kernel<Fd = F>,
        id: u64,
        flags: EpollFlags,
    ) -> Vec<String> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let mut buffer = [0u8; 4096];
        let mut closed = false;
        loop {
            match kernel.read(&connection.file, &mut buffer) {
                // The other side of a port is not connected. If it has disconnected, its
                // incomplete request is discarded.
                Ok(0) => {
                    closed = true;
                    break;
                }
                Ok(got) => {
                    connection.incoming.extend_from_slice(buffer.get(..got).unwrap_or_default())
                }
                Err(Errno::EAGAIN) => break,
                Err(_) => {
                    closed = true;
                    break;
                }
            }
            if connection.incoming.len() > 2 * MAX_REQUEST {
                // Other sources get their turn; the rest is reported as an event again.
                let _ = kernel.rewatch(&Source::Connection(id), &connection.file, WATCH);
                break;
            }
        }
        let lines = take_lines(&mut connection.incoming);
        let too_long = connection.incoming.len() > MAX_REQUEST;
        if connection.port {
            if closed || too_long {
                connection.incoming.clear();
            }
        } else if closed || too_long || flags.contains(EpollFlags::EPOLLHUP) {
            // Requests received before the disconnect are carried out, but not answered.
            self.close(kernel, id);
        }
        lines
    }

    /// Sends an answer line on a connection, now or when it can be written.
    pub fn answer(&mut self, kernel: &mut impl Kernel<Fd = F>, id: u64, line: &str) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.outgoing.extend_from_slice(line.as_bytes());
            connection.outgoing.push(b'\n');
        }
        self.write(kernel, id);
    }

    /// Sends queued answers.
    pub fn write(&mut self, kernel: &mut impl Kernel<Fd = F>, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        while !connection.outgoing.is_empty() {
            match kernel.write(&connection.file, &connection.outgoing) {
                Ok(0) => break,
                Ok(sent) => drop(connection.outgoing.drain(..sent)),
                Err(Errno::EAGAIN) => break,
                Err(_) if connection.port => {
                    connection.outgoing.clear();
                    break;
                }
                Err(_) => {
                    self.close(kernel, id);
                    return;
                }
            }
        }
        if connection.outgoing.len() > MAX_UNSENT {
            self.close(kernel, id);
        }
    }

    fn close(&mut self, kernel: &mut impl Kernel<Fd = F>, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            kernel.unwatch(&Source::Connection(id), &connection.file);
        }
    }
}

/// Removes the complete lines from the input; the beginning of the next one stays.
pub fn take_lines(incoming: &mut Vec<u8>) -> Vec<String> {
    let Some(last) = incoming.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let whole: Vec<u8> = incoming.drain(..=last).collect();
    let text = String::from_utf8_lossy(&whole);
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lines_are_complete_whatever_the_pieces(lines in prop::collection::vec("[a-z]{1,10}", 0..10), cut in 1usize..7) {
            let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
            let mut incoming = Vec::new();
            let mut found = Vec::new();
            for piece in text.as_bytes().chunks(cut) {
                incoming.extend_from_slice(piece);
                found.extend(take_lines(&mut incoming));
            }
            prop_assert_eq!(found, lines);
            prop_assert!(incoming.is_empty());
        }
    }
}
