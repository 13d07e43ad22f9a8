//! The terminal during and after `keel exec -it`.

use super::fake::{FakeHost, Reply};
use super::home::Home;
use super::streams::Program;
use api_types::FrameKind;
use nix::pty::{OpenptyResult, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// `keel exec -it` on a pseudoterminal, after the program has printed `ready`.
struct OnTerminal {
    pty: OpenptyResult,
    before: Termios,
    child: Child,
    _home: Home,
}

impl OnTerminal {
    fn start(host: &FakeHost) -> OnTerminal {
        let home = Home::knowing(&[host]);
        let pty = openpty(None, None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = home
            .command(&["-H", &host.address.to_string(), "exec", "-it", "web", "sh"])
            .stdin(slave())
            .stdout(slave())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut shown = [0; 5];
        File::from(pty.master.try_clone().unwrap()).read_exact(&mut shown).unwrap();
        assert_eq!(&shown, b"ready");
        assert_ne!(tcgetattr(&pty.slave).unwrap(), before);
        OnTerminal { pty, before, child, _home: home }
    }

    /// Waits for its exit code; `None` if a signal ended it, or if it hung and was killed here.
    fn wait(&mut self) -> Option<i32> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            if begun.elapsed() > Duration::from_secs(60) {
                self.child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_restored(&self) -> bool {
        tcgetattr(&self.pty.slave).unwrap() == self.before
    }
}

/// A host whose programs never read and never exit.
fn host_with_stuck_program() -> FakeHost {
    FakeHost::start(|_| {
        Reply::Custom(Box::new(|wire| {
            Program::begin(wire).send(FrameKind::Stdout, b"ready");
            std::thread::sleep(Duration::from_secs(120));
        }))
    })
}

#[test]
fn the_escape_works_after_a_paste_into_a_program_that_does_not_read() {
    let host = host_with_stuck_program();
    let mut keel = OnTerminal::start(&host);
    let mut master = File::from(keel.pty.master.try_clone().unwrap());
    // The thread is left behind if the input is not read.
    std::thread::spawn(move || {
        let line = [b'x'; 1023].into_iter().chain([b'\r']).collect::<Vec<u8>>();
        // More than all buffers on the way hold.
        for _ in 0..16 * 1024 {
            master.write_all(&line).unwrap();
        }
        master.write_all(b"~.").unwrap();
    });
    assert_eq!(keel.wait(), Some(1));
    assert!(keel.is_restored());
}

#[test]
fn a_signal_does_not_leave_the_terminal_raw() {
    let host = host_with_stuck_program();
    for signal in [Signal::SIGQUIT, Signal::SIGTERM] {
        let mut keel = OnTerminal::start(&host);
        kill(Pid::from_raw(i32::try_from(keel.child.id()).unwrap()), signal).unwrap();
        assert_eq!(keel.wait(), Some(1), "{signal}");
        assert!(keel.is_restored(), "{signal}");
    }
}
