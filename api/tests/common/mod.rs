//! A server in this process with a simulated supervisor and real clients.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod client;
pub mod log;
pub mod supervisor;

use api::{Config, HostKey, Limits};
use ipc::{Channel, FromInit, ToInit};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub use client::{Connection, Key, Response};
pub use supervisor::Supervisor;

/// Long enough for everything here, unless something is broken.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// A test's own directory, removed at the end.
pub struct Directory(pub PathBuf);

impl Directory {
    pub fn new() -> Directory {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("keel-api-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server.
pub struct Host {
    pub address: SocketAddr,
    pub fingerprint: String,
    pub supervisor: Supervisor,
    pub init: Channel,
    pub directory: Directory,
    pub admin: Key,
    pub reader: Key,
}

impl Host {
    pub fn new() -> Host {
        Host::with(Limits::default())
    }

    pub fn with(limits: Limits) -> Host {
        Host::start(limits, false)
    }

    /// `silent`: the supervisor does not even send the list of clients.
    pub fn start(limits: Limits, silent: bool) -> Host {
        let directory = Directory::new();
        let (admin, reader) = (Key::new(), Key::new());
        let key = HostKey::obtain(None, &directory.0).unwrap();
        let listener = api::listen::on(0).unwrap();
        let address = (Ipv4Addr::LOCALHOST, listener.local_addr().unwrap().port()).into();
        let (supervisor, far) = Channel::pair().unwrap();
        let (init, far_init) = Channel::pair().unwrap();
        let fingerprint = key.fingerprint();
        std::thread::spawn(move || {
            let config = Config {
                listener,
                key,
                supervisor: far,
                init: far_init,
                limits,
                confine: || Ok(()),
            };
            let Err(error) = api::serve(config);
            eprintln!("the server ended: {error}");
        });
        let clients = vec![
            admin.client("ada", api_types::Role::Admin),
            reader.client("ray", api_types::Role::Reader),
        ];
        let supervisor = Supervisor::start(supervisor, clients, directory.0.clone(), silent);
        let ready: ToInit = receive(&init);
        assert_eq!(ready, ToInit::Ready);
        supervisor.wait_for(|state| state.hellos.first().cloned());
        Host { address, fingerprint, supervisor, init, directory, admin, reader }
    }

    pub fn connect(&self, key: &Key) -> Connection {
        Connection::open(self.address, Some(key), &self.fingerprint).unwrap()
    }

    /// One request on a separate connection.
    pub fn ask(&self, key: &Key, method: &str, path: &str) -> Response {
        self.connect(key).ask(method, path, &[], b"")
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask(&self.admin, "GET", path)
    }

    pub fn tell(&self, message: &FromInit) {
        self.init.send(message, &[]).unwrap();
    }
}

/// The next message on a link.
pub fn receive<M: serde::de::DeserializeOwned>(link: &Channel) -> M {
    loop {
        if let Some(received) = link.recv().unwrap() {
            return received.message;
        }
        let timeout = PollTimeout::try_from(TIMEOUT).unwrap();
        assert_ne!(poll(&mut [PollFd::new(link.as_fd(), PollFlags::POLLIN)], timeout), Ok(0));
    }
}

/// Calls `look` until it returns something.
pub fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let begun = std::time::Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < TIMEOUT, "it never came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn write(path: &Path, content: &[u8]) {
    std::fs::write(path, content).unwrap();
}
