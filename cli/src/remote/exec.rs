//! `keel exec`.

use super::args::ExecArgs;
use super::fleet::Fleet;
use super::input::{CHUNK, Input, Pushed};
use super::output;
use super::terminal::{Raw, signals, size};
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

/// Runs the program and returns its exit code.
pub fn exec(fleet: &Fleet, args: &ExecArgs) -> Result<u8, Error> {
    let target = fleet.only("exec")?;
    if args.tty && !io::stdin().is_terminal() {
        let message = "-t requires a terminal on standard input; use only -i for a pipe";
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
        .map_err(|error| Error::local(format!("cannot encode the request: {error}")))?;
    let encoded = STANDARD.encode(json);
    let headers = [("Connection", "Upgrade"), ("Upgrade", EXEC_PROTOCOL), (EXEC_HEADER, &encoded)];
    let path = url(&["v1", "units", &args.unit, "exec"], &[]);
    let mut client = Client::new(target.clone());
    let request = Request { method: "POST", path: &path, headers: &headers };
    // With `Content-Length: 0`: some servers reject a POST without a length.
    let head = client.send(&request, Payload::Bytes(b""), TIMEOUT)?;
    if head.status != 101 {
        return Err(Error::garbled(format!("status {} instead of 101", head.status)));
    }
    let (tls, ahead) = client.into_upgraded()?;
    // Before the terminal is raw: a signal in between would leave it raw.
    let watch = Watch::begin(args.tty).map_err(|error| local(&error))?;
    let raw = match args.tty {
        true => Some(Raw::enter(b"").map_err(|error| Error::local(format!("terminal: {error}")))?),
        false => None,
    };
    let mut session = Session {
        tls,
        decoder: Decoder::default(),
        input: Input::new(args.tty, args.interactive || args.tty),
        resized: false,
        ended: false,
    };
    session.decoder.push(&ahead);
    let result = session.run(watch);
    drop(raw);
    let status = result.map_err(|error| match error {
        Failure::Connection(error) => tls::connection_error(&target.address, &error),
        Failure::Other(error) => error,
    })?;
    Ok(match status {
        ExitStatus::Code(code) => u8::try_from(code).unwrap_or(255),
        ExitStatus::Signal(number) => u8::try_from(number.saturating_add(128)).unwrap_or(255),
    })
}

enum Failure {
    Connection(io::Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Other(error)
    }
}

fn local(error: &io::Error) -> Error {
    Error::local(format!("exec: {error}"))
}

/// Signals that are handled while a program runs.
struct Watch {
    resized: UnixStream,
    ending: UnixStream,
}

impl Watch {
    fn begin(terminal: bool) -> io::Result<Watch> {
        let ending: &[i32] = if terminal {
            // Otherwise the terminal would stay raw.
            &[libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGQUIT]
        } else {
            // Ctrl-C ends the command immediately: there is no terminal to restore.
            &[libc::SIGTERM, libc::SIGHUP]
        };
        Ok(Watch { resized: signals(&[libc::SIGWINCH])?, ending: signals(ending)? })
    }
}

/// A running program.
struct Session {
    tls: Tls,
    decoder: Decoder,
    /// Standard input on its way to the program.
    input: Input,
    /// The terminal's size has changed and has not been sent.
    resized: bool,
    /// The host has closed the connection.
    ended: bool,
}

impl Session {
    /// Forwards data until the program has ended. One thread with one poll loop, because two threads cannot
    /// read and write one TLS connection.
    fn run(&mut self, mut watch: Watch) -> Result<ExitStatus, Failure> {
        self.tls.sock.set_nonblocking(true).map_err(Failure::Connection)?;
        let stdin = io::stdin();
        loop {
            if let Some(status) = self.take_frames()? {
                return Ok(status);
            }
            if self.ended {
                return Err(Failure::Connection(io::ErrorKind::UnexpectedEof.into()));
            }
            self.send_input()?;
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
            if self.input.wanted(now) {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            } else if let Some(wait) = self.input.wait(now) {
                // Rounded up, so that the last millisecond is not a busy loop.
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
                // The number of signals does not matter.
                let _ = watch.resized.read(&mut [0; 64]);
                self.resized = self.input.terminal();
            }
            if is(3) {
                self.read_input()?;
            }
        }
    }

    fn read_input(&mut self) -> Result<(), Failure> {
        let mut chunk = [0; CHUNK];
        let got = match nix::unistd::read(io::stdin(), &mut chunk) {
            Ok(got) => got,
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(()),
            // The terminal is gone: the end of the input.
            Err(_) => 0,
        };
        match self.input.push(chunk.get(..got).unwrap_or_default()) {
            Pushed::Kept => Ok(()),
            Pushed::Dropped => {
                // The terminal is raw.
                eprint!(
                    "\r\nkeel: the program is not reading its input; further input is discarded (Enter ~ . disconnects)\r\n"
                );
                Ok(())
            }
            Pushed::Disconnect => {
                let message = "disconnected; the program is killed";
                Err(Error::local(message.to_owned()).into())
            }
        }
    }

    /// Sends input as long as the connection accepts it.
    fn send_input(&mut self) -> Result<(), Failure> {
        loop {
            self.flush()?;
            if self.ended || self.tls.conn.wants_write() {
                return Ok(());
            }
            // Only the latest size matters.
            if std::mem::take(&mut self.resized)
                && let Some(size) = size()
            {
                self.send(FrameKind::Resize, &size.encode())?;
            }
            match self.input.next_chunk() {
                Some(chunk) => self.send(FrameKind::Stdin, &chunk)?,
                None => return self.flush(),
            }
        }
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), Failure> {
        let header = Frame::header(kind, payload.len())
            .map_err(|error| Error::local(format!("cannot encode a frame: {error}")))?;
        let mut writer = self.tls.conn.writer();
        writer
            .write_all(&header)
            .and_then(|()| writer.write_all(payload))
            .map_err(Failure::Connection)
    }

    /// Writes to the socket without blocking.
    fn flush(&mut self) -> Result<(), Failure> {
        while self.tls.conn.wants_write() {
            match self.tls.conn.write_tls(&mut self.tls.sock) {
                Ok(_) => self.input.progress(Instant::now()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The host may have closed the connection; read what it sent before.
                Err(_) => {
                    self.receive()?;
                    self.ended = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        match self.tls.conn.read_tls(&mut self.tls.sock) {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => return Err(Failure::Connection(error)),
        }
        self.tls.conn.process_new_packets().map_err(|error| {
            Failure::Connection(io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        Ok(())
    }

    /// Handles received frames; returns the exit status when it has arrived.
    fn take_frames(&mut self) -> Result<Option<ExitStatus>, Failure> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match self.tls.conn.reader().read(&mut chunk) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(got) => self.decoder.push(chunk.get(..got).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    self.ended = true;
                    break;
                }
                Err(error) => return Err(Failure::Connection(error)),
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
                // Never sent by this version of the host; ignored.
                FrameKind::Stdin | FrameKind::Resize => {}
            }
        }
        Ok(None)
    }
}
