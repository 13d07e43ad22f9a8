//! Connections for control requests: a unix socket, and a virtio port if the kernel's command line
//! names one (`keel.control=NAME`; whoever can add a port controls the machine anyway).

use crate::poller::{Poller, Source};
use ipc::control::MAX_REQUEST;
use layout::{Cmdline, paths};
use nix::sys::epoll::EpollFlags;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;

/// Most connections at the same time; a further one is closed.
const MAX_CONNECTIONS: usize = 64;

/// Most bytes of answers that wait for a slow reader; beyond it the connection is closed.
const MAX_UNSENT: usize = 4 * 1024 * 1024;

/// One connection.
struct Connection {
    file: File,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    /// A virtio port stays open when its other side disconnects.
    port: bool,
}

/// All connections.
pub struct Control {
    listener: Option<UnixListener>,
    connections: BTreeMap<u64, Connection>,
    next: u64,
}

/// Edge-triggered: a virtio port without a reader would otherwise be reported without end.
const WATCH: EpollFlags =
    EpollFlags::EPOLLIN.union(EpollFlags::EPOLLOUT).union(EpollFlags::EPOLLET);

impl Control {
    /// Listens. Errors are logged: a host without a control socket still runs.
    pub fn open(poller: &mut Poller) -> Control {
        let listener = match listen() {
            Ok(listener) => Some(listener),
            Err(error) => {
                log::error!("{}: {error}", paths::RUN_CONTROL);
                None
            }
        };
        if let Some(listener) = &listener
            && let Err(errno) = poller.add(Source::Listener, listener, EpollFlags::EPOLLIN)
        {
            log::error!("{}: epoll: {errno}", paths::RUN_CONTROL);
        }
        let mut control = Control { listener, connections: BTreeMap::new(), next: 0 };
        if let Some(name) = Cmdline::read().control {
            match open_port(&name) {
                Some(file) => control.add(poller, file, true),
                None => log::warn!("keel.control={name}: virtio port not found"),
            }
        }
        control
    }

    /// Accepts new connections.
    pub fn accept(&mut self, poller: &mut Poller) {
        while let Some(Ok((stream, _))) = self.listener.as_ref().map(UnixListener::accept) {
            let ready = stream.set_nonblocking(true).is_ok();
            if self.connections.len() < MAX_CONNECTIONS && ready {
                self.add(poller, File::from(OwnedFd::from(stream)), false);
            }
        }
    }

    fn add(&mut self, poller: &mut Poller, file: File, port: bool) {
        self.next += 1;
        if let Err(errno) = poller.add(Source::Connection(self.next), &file, WATCH) {
            log::warn!("control connection: epoll: {errno}");
            return;
        }
        let connection = Connection { file, incoming: Vec::new(), outgoing: Vec::new(), port };
        self.connections.insert(self.next, connection);
    }

    /// Reads the complete request lines that have arrived on a connection.
    pub fn read(&mut self, poller: &mut Poller, id: u64, flags: EpollFlags) -> Vec<String> {
        let Some(connection) = self.connections.get_mut(&id) else { return Vec::new() };
        let mut buffer = [0u8; 4096];
        let mut closed = false;
        loop {
            match connection.file.read(&mut buffer) {
                // A port reads so when its other side is not connected; an incomplete line of an
                // earlier connection is discarded.
                Ok(0) => {
                    closed = true;
                    break;
                }
                Ok(got) => {
                    connection.incoming.extend_from_slice(buffer.get(..got).unwrap_or_default())
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    closed = true;
                    break;
                }
            }
            if connection.incoming.len() > 2 * MAX_REQUEST {
                // Other sources get their turn; the rest is reported again.
                let _ = poller.change(&Source::Connection(id), &connection.file, WATCH);
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
            // Requests before the hang-up are still carried out, but their answers are lost.
            self.close(poller, id);
        }
        lines
    }

    /// Sends an answer line on a connection, now or when it can be written.
    pub fn answer(&mut self, poller: &mut Poller, id: u64, line: &str) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.outgoing.extend_from_slice(line.as_bytes());
            connection.outgoing.push(b'\n');
        }
        self.write(poller, id);
    }

    /// Sends waiting answers.
    pub fn write(&mut self, poller: &mut Poller, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        while !connection.outgoing.is_empty() {
            match connection.file.write(&connection.outgoing) {
                Ok(0) => break,
                Ok(sent) => drop(connection.outgoing.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) if connection.port => {
                    connection.outgoing.clear();
                    break;
                }
                Err(_) => {
                    self.close(poller, id);
                    return;
                }
            }
        }
        if connection.outgoing.len() > MAX_UNSENT {
            self.close(poller, id);
        }
    }

    fn close(&mut self, poller: &mut Poller, id: u64) {
        if let Some(connection) = self.connections.remove(&id) {
            poller.remove(&Source::Connection(id), &connection.file);
        }
    }
}

/// Takes the complete lines off the input; the beginning of the next one stays.
pub fn take_lines(incoming: &mut Vec<u8>) -> Vec<String> {
    let Some(last) = incoming.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let whole: Vec<u8> = incoming.drain(..=last).collect();
    let text = String::from_utf8_lossy(&whole);
    text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

fn listen() -> io::Result<UnixListener> {
    // The socket of an earlier supervisor.
    let _ = fs::remove_file(paths::RUN_CONTROL);
    let listener = UnixListener::bind(paths::RUN_CONTROL)?;
    fs::set_permissions(paths::RUN_CONTROL, fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The port whose name sysfs gives (`/sys/class/virtio-ports/*/name`).
fn open_port(name: &str) -> Option<File> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let found = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if found.trim_end() == name {
            let path = format!("/dev/{}", entry.file_name().to_string_lossy());
            let opened =
                File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path);
            return opened.ok();
        }
    }
    None
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
