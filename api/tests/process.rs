//! The whole process, confined as on a host. This program is also that process: it runs itself again
//! with a variable in its environment.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api::start::{Place, run};
use common::{Connection, Directory, Key, Supervisor, receive, until, write};
use ipc::{Channel, DataDisk, FromInit, ToInit, fds};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

const WORD: &str = "KEEL_API_TEST_DIRECTORY";
/// Idle connections; `KEEL_API_CONNECTIONS` overrides the number.
const IDLE: usize = 100;
/// The memory that one of them may use.
const KIB_EACH: usize = 30;

/// The variable for a run of [`try_everything`].
const TRIES: &str = "KEEL_API_TEST_TRIES";

fn main() {
    if std::env::var_os(TRIES).is_some() {
        return try_everything();
    }
    match std::env::var_os(WORD) {
        Some(directory) => {
            let place = Place { port: 0, data: "/nonexistent".into(), run: directory.into() };
            let Err(error) = run(&place);
            eprintln!("the process ended: {error}");
        }
        None => {
            the_confined_process_serves_everything();
            a_compromised_process_can_reach_nothing();
            println!(
                "\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out"
            );
        }
    }
}

fn a_compromised_process_can_reach_nothing() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    assert!(command.env(TRIES, "1").status().unwrap().success());
}

/// Tries, confined, what a compromised process would try. Succeeds if every attempt is refused.
fn try_everything() {
    let (ours, theirs) = Channel::pair().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    api::confine::confine().unwrap();
    let refused = |what: &str, result: i64| {
        let errno = std::io::Error::last_os_error().raw_os_error();
        assert!(result < 0 && errno == Some(libc::EPERM), "{what}: {result}, {errno:?}");
    };
    // Closing the last copy of a socket with SO_LINGER blocks: it must not be passed to the supervisor.
    let handed = ours.send(&"take this", &[socket.as_fd()]).unwrap_err().to_string();
    assert!(handed.contains("EPERM"), "{handed}");
    let linger = libc::linger { l_onoff: 1, l_linger: 1_000_000 };
    // SAFETY: each call receives a valid object and its size, or only numbers and strings that outlive
    // it; none of them should get as far as using them.
    unsafe {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_LINGER);
        let size = size_of_val(&linger) as u32;
        let set =
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const linger).cast(), size);
        refused("setsockopt(SO_LINGER)", set.into());
        refused("open", libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY).into());
        refused("socket", libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0).into());
        let to = std::mem::zeroed::<libc::sockaddr_in>();
        let length = size_of_val(&to) as u32;
        let connected = libc::connect(socket.as_raw_fd(), (&raw const to).cast(), length);
        refused("connect", connected.into());
        refused("kill", libc::kill(1, 0).into());
        refused("fork", libc::syscall(libc::SYS_fork));
        refused(
            "execve",
            libc::execve(c"/bin/true".as_ptr(), std::ptr::null(), std::ptr::null()).into(),
        );
        refused("ptrace", libc::syscall(libc::SYS_ptrace, libc::PTRACE_ATTACH, 1, 0, 0));
    }
    // What serving needs still works.
    assert!(ours.send(&"hello", &[]).is_ok());
    drop(theirs);
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn start(directory: &Directory, init: &Channel, supervisor: &Channel) -> Process {
        let links = [init, supervisor].map(|link| {
            // Higher than the numbers that they get in the child.
            let high = nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(100);
            nix::fcntl::fcntl(link.as_fd(), high).unwrap()
        });
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(WORD, &directory.0);
        // SAFETY: dup2 is async-signal-safe, and nothing else is done between fork and exec.
        unsafe {
            command.pre_exec(move || {
                for (from, to) in links.into_iter().zip([fds::INIT, fds::PARTNERS]) {
                    if libc::dup2(from, to) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        Process(command.spawn().unwrap())
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.0.id())).unwrap()
    }

    fn field(&self, file: &str, name: &str) -> usize {
        let text = self.proc(file);
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
    }
}

fn the_confined_process_serves_everything() {
    let directory = Directory::new();
    let (init, far_init) = Channel::pair().unwrap();
    let (link, far_link) = Channel::pair().unwrap();
    let process = Process::start(&directory, &far_init, &far_link);
    assert!(far_init.as_fd().as_raw_fd() != far_link.as_fd().as_raw_fd());
    drop((far_init, far_link));
    let disk = DataDisk { pending: true, ..DataDisk::default() };
    init.send(&FromInit::DataDisk(disk), &[]).unwrap();
    let key = Key::new();
    let clients = vec![key.client("ada", api_types::Role::Admin)];
    let supervisor = Supervisor::start(link, clients, directory.0.clone(), false);
    assert_eq!(receive::<ToInit>(&init), ToInit::Ready);
    let (host_key, listens) = supervisor.wait_for(|state| state.hellos.first().cloned());
    let port = listens.strip_prefix("port ").unwrap().parse().unwrap();
    let address: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    let connect = || Connection::open(address, Some(&key), &host_key).unwrap();

    assert_eq!(process.field("status", "Seccomp"), 2);
    assert_eq!(process.field("status", "NoNewPrivs"), 1);
    let before = process.field("smaps_rollup", "Pss");

    let idle: Vec<Connection> = (0..connections())
        .map(|_| {
            let mut connection = connect();
            assert_eq!(connection.ask("GET", "/v1/whoami", &[], b"").status, 200);
            connection
        })
        .collect();
    let after = process.field("smaps_rollup", "Pss");
    println!("{before} KiB, with {} connections {after} KiB", idle.len());
    assert!(after < before + idle.len() * KIB_EACH);
    drop(idle);

    write(&directory.path("file"), &[7; 100_000]);
    let mut connection = connect();
    for path in [
        "/v1/units",
        "/v1/units/web/logs",
        "/v1/host/bundle",
        "/v1/openapi.json",
        "/metrics",
        "/v1/units/web/files?path=/file",
        "/v1/events?follow=false",
    ] {
        assert_eq!(connection.ask("GET", path, &[], b"").status, 200, "{path}");
    }
    let put = connection.ask("PUT", "/v1/units/web/files?path=/new", &[], &[8; 100_000]);
    assert_eq!(put.status, 200);
    let request = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        r#"{"command": ["echo", "hello"]}"#,
    );
    let header = format!("x-keel-exec: {request}");
    let headers = ["connection: upgrade", "upgrade: keel-exec", header.as_str()];
    connection.request("POST", "/v1/units/web/exec", &headers, b"");
    assert_eq!(connection.head().unwrap().status, 101);
    assert_eq!(connection.take(11).unwrap(), b"\x01\0\0\0\x06hello\n");

    // Only the end of PID 1's link ends it.
    drop(init);
    let mut process = process;
    until(|| process.0.try_wait().unwrap());
}

fn connections() -> usize {
    let said = std::env::var("KEEL_API_CONNECTIONS").ok();
    said.map_or(IDLE, |number| number.parse().unwrap())
}
