//! The control socket, and TCP connections of health checks.

use super::Machine;
use super::agenda::Event;
use super::objects::{Id, Object};
use supervisor::kernel::{EpollFlags, Errno};

/// A connection of the control socket.
#[derive(Debug, Default)]
pub struct Connection {
    /// What the client has sent and the supervisor has not read.
    pub to_server: Vec<u8>,
    /// What the supervisor has sent and the client has not read.
    pub to_client: Vec<u8>,
    /// The supervisor's end, once it has taken the connection.
    id: Option<Id>,
    /// The client has closed its end.
    pub client_closed: bool,
    /// The supervisor has closed its end, or died.
    pub server_closed: bool,
}

/// A TCP connection that is being made.
#[derive(Debug)]
pub struct Tcp {
    id: Id,
    outcome: Result<(), Errno>,
    settled: bool,
}

impl Machine {
    /// Listens on the control socket: a reference to the listening socket.
    pub fn listen(&mut self) -> Id {
        let id = self.make(Object::Listener);
        self.listener = Some(id);
        id
    }

    pub(super) fn close_listener(&mut self) {
        self.listener = None;
        // Connections that nobody has taken are reset.
        for connection in self.connections.values_mut().filter(|it| it.id.is_none()) {
            connection.server_closed = true;
        }
        self.after(0, Event::Person);
    }

    /// A person connects; `None`: nobody listens.
    pub fn connect(&mut self) -> Option<u64> {
        let listener = self.listener?;
        self.last_connection += 1;
        self.connections.insert(self.last_connection, Connection::default());
        self.changed(listener);
        Some(self.last_connection)
    }

    pub(super) fn connection_waits(&self) -> bool {
        self.connections.values().any(|it| it.id.is_none() && !it.server_closed)
    }

    /// Takes a connection: a reference to it.
    pub fn accept(&mut self) -> Option<Id> {
        let waiting = self.connections.iter().find(|(_, it)| it.id.is_none() && !it.server_closed);
        let number = *waiting?.0;
        let id = self.make(Object::Connection(number));
        self.connections.get_mut(&number)?.id = Some(id);
        Some(id)
    }

    pub(super) fn connection_readiness(&self, number: u64) -> EpollFlags {
        let mut flags = EpollFlags::EPOLLOUT;
        if let Some(connection) = self.connections.get(&number) {
            let readable = !connection.to_server.is_empty() || connection.client_closed;
            flags.set(EpollFlags::EPOLLIN, readable);
            flags.set(EpollFlags::EPOLLHUP, connection.client_closed);
        }
        flags
    }

    pub(super) fn close_connection(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(&number) {
            connection.server_closed = true;
        }
        self.after(0, Event::Person);
    }

    /// The client sends.
    pub fn client_sends(&mut self, number: u64, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.to_server.extend_from_slice(bytes);
        if let Some(id) = connection.id {
            self.changed(id);
        }
    }

    /// The client hangs up and forgets the connection.
    pub fn client_closes(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.client_closed = true;
        if let Some(id) = connection.id {
            self.changed(id);
        }
    }

    /// Begins a TCP connection that will have this outcome: a reference to its socket.
    pub fn begin_tcp(&mut self, delay: Option<u64>, outcome: Result<(), Errno>) -> Id {
        self.last_connection += 1;
        let number = self.last_connection;
        let id = self.make(Object::Tcp(number));
        self.tcp.insert(number, Tcp { id, outcome, settled: false });
        if let Some(delay) = delay {
            self.after(delay, Event::Tcp(number));
        }
        id
    }

    pub(super) fn tcp_settles(&mut self, number: u64) {
        let Some(tcp) = self.tcp.get_mut(&number) else { return };
        tcp.settled = true;
        let id = tcp.id;
        self.changed(id);
    }

    pub(super) fn tcp_readiness(&self, number: u64) -> EpollFlags {
        match self.tcp.get(&number) {
            Some(Tcp { settled: true, outcome: Ok(()), .. }) => EpollFlags::EPOLLOUT,
            Some(Tcp { settled: true, .. }) => {
                EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLERR
            }
            _ => EpollFlags::empty(),
        }
    }

    /// Whether a TCP connection is made.
    ///
    /// # Errors
    /// Why it is not and will not be.
    pub fn tcp_state(&self, id: Id) -> Result<bool, Errno> {
        let Some(Object::Tcp(number)) = self.object(id) else { return Err(Errno::EBADF) };
        match self.tcp.get(number) {
            Some(Tcp { settled: true, outcome, .. }) => outcome.map(|()| true),
            _ => Ok(false),
        }
    }
}
