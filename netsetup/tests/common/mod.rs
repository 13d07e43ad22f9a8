//! Network namespaces for tests. Needs root, and fails without.

#![allow(dead_code, missing_docs)]

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netsetup::netlink::{self, Netlink};
use nix::sched::{CloneFlags, setns, unshare};
use units::model::Ipv4Net;

pub const BRIDGE: &str = "keel0";
pub const NET: Ipv4Net = Ipv4Net { addr: Ipv4Addr::new(10, 88, 0, 1), prefix: 16 };

/// A network namespace that exists as long as this value.
pub struct Namespace {
    file: File,
}

impl Namespace {
    pub fn new() -> Namespace {
        assert!(
            nix::unistd::geteuid().is_root(),
            "this test needs root: it creates network namespaces"
        );
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).expect("unshare(CLONE_NEWNET)");
            File::open("/proc/thread-self/ns/net").expect("open the namespace")
        });
        Namespace { file: made.join().unwrap() }
    }

    /// Runs a function on a thread inside. A panic is propagated to the caller.
    pub fn run<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(self.file.as_fd(), CloneFlags::CLONE_NEWNET).expect("setns");
                inside()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    pub fn dup(&self) -> OwnedFd {
        self.file.try_clone().unwrap().into()
    }

    /// A route socket inside, like the one that the supervisor opens.
    pub fn socket(&self) -> OwnedFd {
        self.run(|| netlink::socket(libc::NETLINK_ROUTE).unwrap())
    }

    pub fn netlink(&self) -> Netlink {
        Netlink::from_fd(self.socket()).unwrap()
    }

    /// Runs a shell command inside; it must succeed. Returns what it printed.
    pub fn sh(&self, command: &str) -> String {
        let output = self.try_sh(command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn try_sh(&self, command: &str) -> Output {
        self.run(|| Command::new("sh").args(["-c", command]).output().unwrap())
    }
}

/// Long enough for a connection on one machine, including retransmissions.
const CONNECT: Duration = Duration::from_secs(5);
/// After this time without a reply, the connection counts as blocked.
const SILENCE: Duration = Duration::from_millis(1500);

/// Replies to connections with their source address, until `over`.
fn answer_tcp(listener: &TcpListener, over: &AtomicBool) {
    listener.set_nonblocking(true).unwrap();
    while !over.load(Ordering::Relaxed) {
        if let Ok((mut stream, peer)) = listener.accept() {
            stream.write_all(peer.ip().to_string().as_bytes()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Listens on a port. Retries, because a test that starts a program at the same time may hold a
/// copy of the previous listener between its fork and its exec.
fn listen(port: u16) -> TcpListener {
    let until = Instant::now() + CONNECT;
    loop {
        match TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(2));
            }
            done => return done.unwrap(),
        }
    }
}

/// Connects from one namespace to a port that is served in another. Returns the source address that
/// the server saw, or `None` if the connection failed.
pub fn tcp(from: &Namespace, to: &Namespace, served: u16, at: (Ipv4Addr, u16)) -> Option<IpAddr> {
    let listener = to.run(|| listen(served));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| answer_tcp(&listener, &over));
        let seen = from.run(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::from(at), SILENCE).ok()?;
            stream.set_read_timeout(Some(CONNECT)).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).ok()?;
            text.parse().ok()
        });
        over.store(true, Ordering::Relaxed);
        seen
    })
}

/// The same over UDP.
pub fn udp(from: &Namespace, to: &Namespace, served: u16, at: (Ipv4Addr, u16)) -> Option<IpAddr> {
    let server = to.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, served)).unwrap());
    server.set_read_timeout(Some(SILENCE)).unwrap();
    let client = from.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    client.set_read_timeout(Some(SILENCE)).unwrap();
    client.send_to(b"?", at).ok()?;
    let mut buffer = [0; 64];
    let (_, peer) = server.recv_from(&mut buffer).ok()?;
    server.send_to(peer.ip().to_string().as_bytes(), peer).unwrap();
    let length = client.recv(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..length]).unwrap().parse().ok()
}

/// Drops every capability of this thread except those that PID 1 leaves to netsetup.
pub fn keep_capabilities_of_netsetup() {
    const NET_BIND_SERVICE: u32 = 10;
    const NET_ADMIN: u32 = 12;
    const NET_RAW: u32 = 13;
    const SYS_TIME: u32 = 25;
    let kept = [NET_BIND_SERVICE, NET_ADMIN, NET_RAW, SYS_TIME].map(|bit| 1u32 << bit);
    let kept: u32 = kept.into_iter().sum();
    // struct __user_cap_header_struct (_LINUX_CAPABILITY_VERSION_3, this thread) and twice
    // struct __user_cap_data_struct (effective, permitted, inheritable): capset(2).
    let header = [0x2008_0522u32, 0];
    let data = [[kept, kept, 0], [0, 0, 0]];
    // SAFETY: the pointers are to live arrays of the layout that the version states.
    let done = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    assert_eq!(done, 0, "capset: {}", std::io::Error::last_os_error());
}
