//! How `keel cp` writes local files.

use super::fake::{FakeHost, Reply, chunked};
use super::home::{Home, code, err};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::time::{Duration, Instant};

fn host() -> FakeHost {
    FakeHost::start(|_| Reply::Bytes(chunked("X-Keel-Mode: 0640\r\n", &["hel", "lo"])))
}

#[test]
fn pipes_and_devices_are_written_to_and_not_replaced() {
    let host = host();
    let home = Home::knowing(&[&host]);
    let pipe = home.dir.join("pipe");
    mkfifo(&pipe, Mode::from_bits_truncate(0o600)).unwrap();
    let path = pipe.clone();
    let reader = std::thread::spawn(move || fs::read(path).unwrap());
    let copied = home.on(&host, &["cp", "web:/x", "pipe"]);
    assert_eq!(code(&copied), 0, "{}", err(&copied));
    // Checked first: the reader would block for ever on a pipe that was replaced.
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
    assert_eq!(reader.join().unwrap(), b"hello");
    // Through a symbolic link, so that a failure does not replace this machine's /dev/null.
    let null = home.dir.join("null");
    symlink("/dev/null", &null).unwrap();
    let copied = home.on(&host, &["cp", "web:/x", "null"]);
    assert_eq!(code(&copied), 0, "{}", err(&copied));
    assert_eq!(fs::read_link(&null).unwrap().to_str(), Some("/dev/null"));
    assert!(fs::metadata(&null).unwrap().file_type().is_char_device());
}

#[test]
fn the_target_of_a_symbolic_link_is_replaced() {
    let host = host();
    let home = Home::knowing(&[&host]);
    fs::create_dir(home.dir.join("far")).unwrap();
    fs::write(home.dir.join("far/file"), "old").unwrap();
    symlink("far/file", home.dir.join("link")).unwrap();
    let copied = home.on(&host, &["cp", "web:/x", "link"]);
    assert_eq!(code(&copied), 0, "{}", err(&copied));
    assert!(home.dir.join("link").is_symlink());
    assert_eq!(fs::read(home.dir.join("far/file")).unwrap(), b"hello");
    assert_eq!(fs::read_dir(home.dir.join("far")).unwrap().count(), 1);
    symlink("nowhere", home.dir.join("loose")).unwrap();
    let refused = home.on(&host, &["cp", "web:/x", "loose"]);
    assert_eq!(code(&refused), 1);
    assert!(err(&refused).contains("dangling"), "{}", err(&refused));
    assert!(!home.dir.join("nowhere").exists());
}

#[test]
fn signals_leave_no_incomplete_file() {
    let host = FakeHost::start(|_| {
        Reply::Custom(Box::new(|wire| {
            wire.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello").unwrap();
            wire.flush().unwrap();
            std::thread::sleep(Duration::from_secs(60));
        }))
    });
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let home = Home::knowing(&[&host]);
        let into = home.dir.join("into");
        fs::create_dir(&into).unwrap();
        let files = || fs::read_dir(&into).unwrap().flatten().collect::<Vec<_>>();
        let address = host.address.to_string();
        let mut command = home.command(&["-H", &address, "cp", "web:/x", "into"]);
        // A shell starts background processes with SIGINT ignored, which exec(2) keeps.
        // SAFETY: sigaction(2) is async-signal-safe, and nothing else is done between fork and exec.
        unsafe {
            command.pre_exec(move || {
                nix::sys::signal::signal(signal, nix::sys::signal::SigHandler::SigDfl)?;
                Ok(())
            });
        }
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        while files().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20), "no file was created");
            std::thread::sleep(Duration::from_millis(10));
        }
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(signal as i32));
        assert!(files().is_empty(), "{:?}", files());
    }
}
