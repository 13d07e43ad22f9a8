//! Many connections to an API at once.

use client::tls::{self, Tls};
use client::{Address, Error, Identity};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Connections that have requested a stream.
pub struct Connections {
    open: Vec<Tls>,
    identity: Identity,
    address: Address,
}

impl Connections {
    /// No connections yet; they will go to the API at `address`, with the key in the PEM file `identity`.
    ///
    /// # Errors
    /// The address is invalid or the key cannot be read.
    pub fn new(address: &str, identity: &Path) -> Result<Connections, Error> {
        let address: Address = address.parse().map_err(|error| Error::usage(format!("{error}")))?;
        Ok(Connections { open: Vec::new(), identity: Identity::read(identity)?, address })
    }

    /// Opens another connection and requests the stream at `path`: the host closes connections without a
    /// request. Any host key is accepted.
    ///
    /// # Errors
    /// The connection fails.
    pub fn open(&mut self, path: &str) -> Result<(), Error> {
        let (mut tls, _) = tls::connect_unpinned(&self.address, Some(&self.identity))?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: keelhost\r\n\r\n");
        tls.write_all(request.as_bytes())
            .and_then(|()| tls.flush())
            .map_err(|error| tls::connection_error(&self.address, &error))?;
        self.open.push(tls);
        Ok(())
    }

    /// The number of connections that the host has not closed.
    pub fn alive(&self) -> usize {
        self.open.iter().filter(|tls| is_open(&tls.sock)).count()
    }

    /// Reads from all connections, on another thread.
    ///
    /// # Errors
    /// fcntl(2) fails.
    pub fn follow(self) -> io::Result<Followers> {
        for tls in &self.open {
            tls.sock.set_nonblocking(true)?;
        }
        let received: Arc<Vec<AtomicU64>> =
            Arc::new(self.open.iter().map(|_| AtomicU64::default()).collect());
        let (counters, stop) = (Arc::clone(&received), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || read_all(self.open, &counters, &stopped));
        Ok(Followers { received, stop, thread: Some(thread) })
    }
}

fn is_open(mut stream: &TcpStream) -> bool {
    let mut unread = vec![0u8; 256 * 1024];
    // If this fails, the read below does, too.
    let _ = stream.set_nonblocking(true);
    loop {
        match stream.read(&mut unread) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// Connections that are being read. Dropping this closes them.
pub struct Followers {
    received: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Followers {
    /// Bytes of HTTP that each connection has received so far.
    pub fn received(&self) -> Vec<u64> {
        self.received.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Its panic has been reported already.
            let _ = thread.join();
        }
    }
}

fn read_all(mut open: Vec<Tls>, received: &[AtomicU64], stop: &AtomicBool) {
    let mut plain = vec![0u8; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        for (tls, received) in open.iter_mut().zip(received) {
            // A broken connection receives nothing more, which the measurement notices.
            if tls.conn.read_tls(&mut tls.sock).is_ok() && tls.conn.process_new_packets().is_ok() {
                while let Ok(some @ 1..) = tls.conn.reader().read(&mut plain) {
                    received.fetch_add(some as u64, Ordering::Relaxed);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
