//! `keel exec`.

use super::args::ExecArgs;
use super::client::Client;
use super::error::Error;
use super::fleet::Fleet;
use super::http::{Payload, Request, url};
use super::terminal::{Raw, signals, size};
use super::tls::{self, PATIENCE, Tls};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rest::{Decoder, EXEC_HEADER, EXEC_PROTOCOL, ExecRequest, Frame, FrameKind, Resize, Status};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;

/// How much input is read at once.
const PIECE: usize = 16 * 1024;

/// Runs the program; its exit code is ours.
pub fn exec(fleet: &Fleet, args: &ExecArgs) -> Result<u8, Error> {
    let target = fleet.only("exec")?;
    if args.tty && !io::stdin().is_terminal() {
        let message = "-t needs a terminal on standard input; for a pipe, -i is enough";
        return Err(Error::Usage(message.to_owned()));
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
        .map_err(|error| Error::Local(format!("the request: {error}")))?;
    let encoded = STANDARD.encode(json);
    let headers = [("Connection", "Upgrade"), ("Upgrade", EXEC_PROTOCOL), (EXEC_HEADER, &encoded)];
    let path = url(&["v1", "units", &args.unit, "exec"], &[]);
    let mut client = Client::new(target.clone());
    let request = Request { method: "POST", path: &path, headers: &headers };
    // A body of no bytes, said so: a POST without a length is one that some servers refuse.
    let head = client.ask(&request, Payload::Bytes(b""), PATIENCE)?;
    if head.status != 101 {
        return Err(Error::garbled(format!("status {} instead of an upgrade", head.status)));
    }
    let (tls, ahead) = client.into_stream()?;
    let raw = match args.tty {
        true => Some(Raw::enter().map_err(|error| Error::Local(format!("terminal: {error}")))?),
        false => None,
    };
    let mut session = Session {
        tls,
        decoder: Decoder::default(),
        input: args.interactive || args.tty,
        escape: args.tty.then(Escape::default),
        ended: false,
    };
    session.decoder.push(&ahead);
    let result = session.run();
    drop(raw);
    let status = result.map_err(|error| match error {
        Trouble::Connection(error) => tls::broken(&target.address, &error),
        Trouble::Other(error) => error,
    })?;
    Ok(match status {
        Status::Code(code) => u8::try_from(code).unwrap_or(255),
        Status::Signal(number) => u8::try_from(number.saturating_add(128)).unwrap_or(255),
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

/// A program that runs.
struct Session {
    tls: Tls,
    decoder: Decoder,
    /// Our standard input is passed on.
    input: bool,
    escape: Option<Escape>,
    /// The host has closed its side.
    ended: bool,
}

impl Session {
    /// Carries bytes until the program has ended. One thread and one poll: a TLS connection cannot be
    /// read and written by two.
    fn run(&mut self) -> Result<Status, Trouble> {
        let local = |error: io::Error| Error::Local(format!("exec: {error}"));
        self.tls.sock.set_nonblocking(true).map_err(Trouble::Connection)?;
        let mut resized = signals(&[libc::SIGWINCH]).map_err(local)?;
        // Without these the terminal would stay raw.
        let ending = match self.escape {
            Some(_) => signals(&[libc::SIGTERM, libc::SIGHUP, libc::SIGINT]),
            // Ctrl-C ends us at once: there is nothing to put in order.
            None => signals(&[libc::SIGTERM, libc::SIGHUP]),
        };
        let ending = ending.map_err(local)?;
        let stdin = io::stdin();
        if !self.input {
            self.send(FrameKind::Stdin, &[])?;
        }
        loop {
            if let Some(status) = self.take_frames()? {
                return Ok(status);
            }
            if self.ended {
                return Err(Trouble::Connection(io::ErrorKind::UnexpectedEof.into()));
            }
            self.flush()?;
            let mut events = PollFlags::POLLIN;
            let full = self.tls.conn.wants_write();
            if full {
                events |= PollFlags::POLLOUT;
            }
            let mut fds = vec![
                PollFd::new(self.tls.sock.as_fd(), events),
                PollFd::new(resized.as_fd(), PollFlags::POLLIN),
                PollFd::new(ending.as_fd(), PollFlags::POLLIN),
            ];
            // No more input while the host has not taken what there is.
            if self.input && !full {
                fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
            }
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(local(error.into()).into()),
            }
            let ready: Vec<bool> = fds
                .iter()
                .map(|fd| fd.revents().is_some_and(|events| !events.is_empty()))
                .collect();
            let is = |at: usize| ready.get(at).copied().unwrap_or(false);
            if is(2) {
                return Err(Error::Local("ended by a signal".to_owned()).into());
            }
            if is(0) {
                self.receive()?;
            }
            if is(1) {
                // How many there were does not matter.
                let _ = resized.read(&mut [0; 64]);
                if let Some(size) = size().filter(|_| self.escape.is_some()) {
                    self.send(FrameKind::Resize, &size.encode())?;
                }
            }
            if is(3) {
                self.pass_input()?;
            }
        }
    }

    fn pass_input(&mut self) -> Result<(), Trouble> {
        let mut piece = [0; PIECE];
        let got = match nix::unistd::read(io::stdin(), &mut piece) {
            Ok(got) => got,
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(()),
            // A terminal that is gone: the end of the input.
            Err(_) => 0,
        };
        let data = piece.get(..got).unwrap_or_default();
        let data = match &mut self.escape {
            Some(escape) => match escape.filter(data) {
                Some(data) => data,
                None => {
                    let message = "disconnected; what was started is killed";
                    return Err(Error::Local(message.to_owned()).into());
                }
            },
            None => data.to_vec(),
        };
        if got == 0 {
            self.input = false;
            return self.send(FrameKind::Stdin, &[]);
        }
        // All of it may wait for what comes after a `~`; an empty frame would be the end of the input.
        if data.is_empty() { Ok(()) } else { self.send(FrameKind::Stdin, &data) }
    }

    fn send(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), Trouble> {
        let header = Frame::header(kind, payload.len())
            .map_err(|error| Error::Local(format!("a frame: {error}")))?;
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
                Ok(_) => {}
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
    fn take_frames(&mut self) -> Result<Option<Status>, Trouble> {
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
                FrameKind::Stdout => write_out(&mut io::stdout().lock(), &frame.payload)?,
                FrameKind::Stderr => write_out(&mut io::stderr().lock(), &frame.payload)?,
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

fn write_out(out: &mut dyn Write, bytes: &[u8]) -> Result<(), Error> {
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}

/// `Enter ~ .` disconnects, as with ssh; `Enter ~ ~` is one `~`.
#[derive(Debug)]
struct Escape {
    /// At the beginning of a line.
    start: bool,
    /// After a `~` there.
    tilde: bool,
}

impl Default for Escape {
    fn default() -> Escape {
        Escape { start: true, tilde: false }
    }
}

impl Escape {
    /// What of the input is for the program; `None`: disconnect.
    fn filter(&mut self, input: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(input.len() + 1);
        for &byte in input {
            if std::mem::take(&mut self.tilde) {
                match byte {
                    b'.' => return None,
                    b'~' => {}
                    _ => out.push(b'~'),
                }
            } else if self.start && byte == b'~' {
                self.tilde = true;
                continue;
            }
            out.push(byte);
            self.start = matches!(byte, b'\r' | b'\n');
        }
        Some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_escape_is_only_one_at_the_beginning_of_a_line() {
        let filter = |pieces: &[&str]| {
            let mut escape = Escape::default();
            let mut out = Vec::new();
            for piece in pieces {
                out.extend(escape.filter(piece.as_bytes())?);
            }
            Some(String::from_utf8(out).unwrap())
        };
        assert_eq!(filter(&["ls ~.\r"]).as_deref(), Some("ls ~.\r"));
        assert_eq!(filter(&["~~.\r~x"]).as_deref(), Some("~.\r~x"));
        assert_eq!(filter(&["\r", "~", "."]), None);
        assert_eq!(filter(&["~."]), None);
    }
}
