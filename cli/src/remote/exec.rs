//! `keel exec`.

use super::args::ExecArgs;
use super::fleet::Fleet;
use super::output;
use super::terminal::{Raw, signals, size};
use super::typed::{PIECE, Took, Typed};
use api_types::{
    Decoder, EXEC_HEADER, EXEC_PROTOCOL, ExecRequest, ExitStatus, Frame, FrameKind, Resize,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use client::Client;
use client::Error;
use client::http::{Payload, Request, url};
use client::tls::{self, TIMEOUT, Tls};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Runs the program; its exit code is ours.
pub fn exec(fleet: &Fleet, args: &ExecArgs) -> Result<u8, Error> {
    let target = fleet.only("exec")?;
    if args.tty && !io::stdin().is_terminal() {
        let message = "-t needs a terminal on standard input; for a pipe, -i is enough";
        return Err(Error::usage(message.to_owned()));
    }
    let mut env: BTreeMap<String, String> = args.env.iter().cloned().collect();
    if let (true, Ok(term)) = (args.tty, std::env::var("TERM")) {
        env.entry("TERM".to_owned()).or_insert(term);
    }
    let tty = args.tty.then(|| size().unwrap_or(Resize { rows: 24, columns: 80 }));
    let request = ExecRequest {
        command: args.command.clone(),
        env,
        tty: tty.map(|size| (size.rows, size.columns)),
    };
    let json = serde_json::to_vec(&request)
        .map_err(|error| Error::local(format!("the request: {error}")))?;
    let encoded = STANDARD.encode(json);
    let headers = [("Connection", "Upgrade"), ("Upgrade", EXEC_PROTOCOL), (EXEC_HEADER, &encoded)];
    let path = url(&["v1", "units", &args.unit, "exec"], &[]);
    let mut client = Client::new(target.clone());
    let request = Request { method: "POST", path: &path, headers: &headers };
    // A body of no bytes, said so: a POST without a length is one that some servers refuse.
    let head = client.send(&request, Payload::Bytes(b""), TIMEOUT)?;
    if head.status != 101 {
        return Err(Error::garbled(format!("status {} instead of an upgrade", head.status)));
    }
    let (tls, ahead) = client.into_upgraded()?;
    // Before the terminal is raw: a signal in between would leave it so.
    let watch = Watch::begin(args.tty).map_err(|error| local(&error))?;
    let raw = match args.tty {
        true => Some(Raw::enter(b"").map_err(|error| Error::local(format!("terminal: {error}")))?),
        false => None,
    };
    let mut session = Session {
        tls,
        decoder: Decoder::default(),
        typed: Typed::new(args.tty, args.interactive || args.tty),
        resized: false,
        ended: false,
    };
    session.decoder.push(&ahead);
    let result = session.run(watch);
    drop(raw);
    let status = result.map_err(|error| match error {
        Trouble::Connection(error) => tls::connection_error(&target.address, &error),
        Trouble::Other(error) => error,
    })?;
    Ok(match status {
        ExitStatus::Code(code) => u8::try_from(code).unwrap_or(255),
        ExitStatus::Signal(number) => u8::try_from(number.saturating_add(128)).unwrap_or(255),
    })
}

enum Trouble {
    Connection(io::Error),
    Other(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Trouble {
        Trouble::Other(error)
    }
}

fn local(error: &io::Error) -> Error {
    Error::local(format!("exec: {error}"))
}

/// Signals that matter while a program runs.
struct Watch {
    resized: UnixStream,
    ending: UnixStream,
}

impl Watch {
    fn begin(terminal: bool) -> io::Result<Watch> {
        let ending: &[i32] = if terminal {
            // Without these the terminal would stay raw.
            &[libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT]
        } else {
            // Ctrl-C ends us at once: there is nothing to put in order.
            &[libc::SIGTERM, libc::SIGHUP]
        };
        Ok(Watch { resized: signals(&[libc::SIGWINCH])?, ending: signals(ending)? })
    }
}

/// A program that runs.
struct Session {
    tls: Tls,
    decoder: Decoder,
    /// Our standard input, as far as it is passed on.
    typed: Typed,
    /// The terminal has another size than the host knows.
    resized: bool,
    /// The host has closed its side.
    ended: bool,
}

impl Session {
    /// Carries bytes until the program has ended. One thread and one poll: a TLS connection cannot be
    /// read and written by two.
    fn run(&mut self, mut watch: Watch) -> Result<ExitStatus, Trouble> {
        self.tls.sock.set_nonblocking(true).map_err(Trouble::Connection)?;
        let stdin = io::stdin();
        loop {
            if let Some(status) = self.take_frames()? {
                return Ok(status);
            }
            if self.ended {
                return Err(Trouble::Connection(io::ErrorKind::UnexpectedEof.into()));
            }
            self.pass_on()?;
            if self.ended {
                continue;
            }
            let mut events = PollFlags::POLLIN;
            if self.tls.conn.wants_write() {
                events |= PollFlags::POLLOUT;
            }
            let mut fds = vec![
                PollFd::new(self.tls.sock.as_fd(), events),
                PollFd::new(watch.resized.as_fd(), PollFlags::POLLIN),
                PollFd::new(watch.ending.as_fd(), PollFlags::POLLIN),
            ];
            let now = Instant::now();
            let mut timeout = PollTimeout::NONE;
            if self.typed.wanted(now) {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            } else if let Some(wait) = self.typed.wait(now) {
                // Rounded up, not to look again and again in the last millisecond.
                let wait = wait + std::time::Duration::from_millis(1);
                timeout = PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX);
            }
            match poll(&mut fds, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(local(&error.into()).into()),
            }
            let ready: Vec<bool> = fds
                .iter()
                .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
                .collect();
            let is = |at: usize| ready.get(at).copied().unwrap_or(false);
            if is(2) {
                return Err(Error::local("ended by a signal".to_owned()).into());
            }
            if is(0) {
                self.receive()?;
            }
            if is(1) {
                // How many there were does not matter.
                let _ = watch.resized.read(&mut [0; 64]);
                self.resized = self.typed.terminal();
            }
            if is(3) {
                self.read_input()?;
            }
        }
    }

    fn read_input(&mut self) -> Result<(), Trouble> {
        let mut piece = [0; PIECE];
        let got = match nix::unistd::read(io::stdin(), &mut piece) {
            Ok(got) => got,
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(()),
            // A terminal that is gone: the end of the input.
            Err(_) => 0,
        };
        match self.typed.push(piece.get(..got).unwrap_or_default()) {
            Took::Kept => Ok(()),
            Took::Lost => {
                // The terminal is raw.
                eprint!(
                    "\r\nkeel: the program does not read; what is typed from here on is lost until it does (Enter ~ . disconnects)\r\n"
                );
                Ok(())
            }
            Took::Disconnect => {
                let message = "disconnected; what was started is killed";
                Err(Error::local(message.to_owned()).into())
            }
        }
    }

    /// Gives the connection what it takes now.
    fn pass_on(&mut self) -> Result<(), Trouble> {
        loop {
            self.flush()?;
            if self.ended || self.tls.conn.wants_write() {
                return Ok(());
            }
            // Of several sizes the last is the one that counts.
            if std::mem::take(&mut self.resized)
                && let Some(size) = size()
            {
                self.send(FrameKind::Resize, &size.encode())?;
            }
            match self.typed.next_piece() {
                Some(piece) => self.send(FrameKind::Stdin, &piece)?,
                None => return self.flush(),
            }
        }
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), Trouble> {
        let header = Frame::header(kind, payload.len())
            .map_err(|error| Error::local(format!("a frame: {error}")))?;
        let mut writer = self.tls.conn.writer();
        writer
            .write_all(&header)
            .and_then(|()| writer.write_all(payload))
            .map_err(Trouble::Connection)
    }

    /// Gives the socket what it takes without blocking.
    fn flush(&mut self) -> Result<(), Trouble> {
        while self.tls.conn.wants_write() {
            match self.tls.conn.write_tls(&mut self.tls.sock) {
                Ok(_) => self.typed.moved(Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The host may have closed; what it said before is still to be read.
                Err(_) => {
                    self.receive()?;
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Trouble> {
        match self.tls.conn.read_tls(&mut self.tls.sock) {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(Trouble::Connection(error)),
        }
        self.tls.conn.process_new_packets().map_err(|error| {
            Trouble::Connection(io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        Ok(())
    }

    /// Writes what has come; gives the status when that has come.
    fn take_frames(&mut self) -> Result<Option<ExitStatus>, Trouble> {
        let mut piece = vec![0; PIECE];
        loop {
            match self.tls.conn.reader().read(&mut piece) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(got) => self.decoder.push(piece.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.ended = true;
                    break;
                }
                Err(error) => return Err(Trouble::Connection(error)),
            }
        }
        let garbled = |error: &dyn std::fmt::Display| Error::garbled(error.to_string());
        while let Some(frame) = self.decoder.next_frame().map_err(|error| garbled(&error))? {
            match frame.kind {
                FrameKind::Stdout => output::write(&mut io::stdout().lock(), &frame.payload)?,
                FrameKind::Stderr => output::write(&mut io::stderr().lock(), &frame.payload)?,
                FrameKind::Exit => {
                    let status = serde_json::from_slice(&frame.payload);
                    return Ok(Some(status.map_err(|error| garbled(&error))?));
                }
                // Not for us, but from a host that knows better.
                FrameKind::Stdin | FrameKind::Resize => {}
            }
        }
        Ok(None)
    }
}
