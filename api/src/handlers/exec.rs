//! A command in a running container, with its input and output over the connection.
//!
//! Three tasks run at once, and none waits for another: receiving frames from the client, writing
//! their input to the command, and sending the command's output to the client. When the client
//! disconnects, dropping [`Program`] tells the supervisor to kill the command.

use crate::body::Body;
use crate::error::Error;
use crate::handlers::units::UnitName;
use crate::link::Program;
use crate::pipe::{Pipe, hung_up};
use crate::response::Raw;
use crate::router::Call;
use crate::server::Stream;
use api_types::{
    Decoder, EXEC_HEADER, EXEC_PROTOCOL, ExecRequest, ExitStatus, FRAME_HEADER, Frame, FrameKind,
    Resize,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{HeaderMap, Response, StatusCode};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::timeout;

/// Bytes of output in a frame.
const PIECE: usize = 16 * 1024;
/// Most output that is passed on after a command's end: more than a pipe holds. A child process that
/// is still running and writing is not waited for.
const MAX_REST: usize = 256 * 1024;
/// Input frames that wait for the command to read.
const INPUT: usize = 4;
/// Once a command has closed its output, its end is reported within this time.
const END: Duration = Duration::from_secs(30);
/// The character that ends the input of a program on a terminal.
const END_OF_TRANSMISSION: &[u8] = b"\x04";

/// Runs a command in a running container. The request asks for an upgrade to `keel-exec` and has an
/// `ExecRequest` as base64 of its JSON in the header `X-Keel-Exec`. After the answer 101 frames go
/// both ways: a byte for the kind, four for the length (big-endian), the payload. From the client:
/// 0 input (empty: its end), 3 the terminal's size (lines and characters, 16 bits each,
/// big-endian). From the host: 1 standard output, 2 standard error, 4 the end, JSON
/// (`{"code": 0}` or `{"signal": 9}`).
#[utoipa::path(post, path = "/v1/units/{name}/exec", tag = "units", params(
    UnitName,
    ("Connection" = String, Header, description = "`Upgrade`"),
    ("Upgrade" = String, Header, pattern = "^keel-exec$"),
    ("X-Keel-Exec" = String, Header, description = "base64 of the JSON of an `ExecRequest`")),
    responses((status = 101, description = "frames from here on")))]
pub async fn exec(call: Call) -> Result<Raw, Error> {
    call.query.only(&[])?;
    let Call { app, key, unit, parts, takeover, .. } = call;
    let request = request(&parts.headers)?;
    let tty = request.tty.is_some();
    let mut program = app.link.exec(&key, unit, request).await?;
    let pipes = Pipes::new(program.take_fds(), tty)?;
    let go_on = |stream| async {
        if let Err(error) = run(stream, program, pipes).await {
            log::debug!("an exec ended: {error}");
        }
    };
    *takeover.borrow_mut() = Some(Box::new(|stream| Box::pin(go_on(stream))));
    let mut response = Response::new(Body::bytes(""));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(EXEC_PROTOCOL));
    Ok(Raw(response))
}

/// The exec request in the headers.
///
/// # Errors
/// There is none, or it is invalid.
pub fn request(headers: &HeaderMap) -> Result<ExecRequest, Error> {
    let upgrade = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    let connection = headers.get(CONNECTION).and_then(|value| value.to_str().ok());
    let asked = upgrade.is_some_and(|value| value.eq_ignore_ascii_case(EXEC_PROTOCOL))
        && connection
            .unwrap_or_default()
            .split(',')
            .any(|word| word.trim().eq_ignore_ascii_case("upgrade"));
    if !asked {
        let message = format!("exec requires `Connection: Upgrade` and `Upgrade: {EXEC_PROTOCOL}`");
        return Err(Error::invalid(message));
    }
    let wrong = |what: String| Error::invalid(format!("header `X-Keel-Exec`: {what}"));
    let value = headers.get(EXEC_HEADER).ok_or_else(|| wrong("missing".into()))?;
    let json = STANDARD.decode(value.as_bytes()).map_err(|error| wrong(error.to_string()))?;
    let request: ExecRequest =
        serde_json::from_slice(&json).map_err(|error| wrong(error.to_string()))?;
    let words = request.command.iter().chain(request.env.keys()).chain(request.env.values());
    if request.command.first().is_none_or(String::is_empty) {
        return Err(wrong("`command` is empty".into()));
    }
    if words.into_iter().any(|word| word.contains('\0')) {
        return Err(wrong("NUL is not allowed".into()));
    }
    Ok(request)
}

/// The command's descriptors.
struct Pipes {
    input: std::rc::Rc<Pipe>,
    output: std::rc::Rc<Pipe>,
    /// None with a terminal.
    error: Option<Pipe>,
    tty: bool,
}

impl Pipes {
    fn new(fds: Vec<OwnedFd>, tty: bool) -> Result<Pipes, Error> {
        let missing = || Error::failed("the supervisor sent no descriptors for the command");
        let failed = |error: io::Error| Error::failed(format!("cannot watch the command: {error}"));
        let mut fds: VecDeque<OwnedFd> = fds.into();
        let mut next = || Pipe::new(fds.pop_front().ok_or_else(missing)?).map_err(failed);
        let input = std::rc::Rc::new(next()?);
        Ok(if tty {
            Pipes { output: input.clone(), input, error: None, tty }
        } else {
            Pipes { input, output: next()?.into(), error: Some(next()?), tty }
        })
    }
}

/// Input from the client.
enum Input {
    Bytes(Vec<u8>),
    End,
}

async fn run(stream: Stream, mut program: Program, pipes: Pipes) -> io::Result<()> {
    let hung_up = hung_up(stream.get_ref().get_ref().0.as_fd().try_clone_to_owned()?);
    let (reading, mut writing) = tokio::io::split(stream);
    let (sender, receiver) = mpsc::channel(INPUT);
    let Pipes { input, output, error, tty } = pipes;
    let (resizes, mut sizes) = mpsc::channel::<Resize>(1);
    let feeding = async {
        feed(&input, receiver, tty).await;
        // Its pipe is closed here, which is the end of input that the command sees.
        drop(input);
        std::future::pending::<()>().await;
    };
    let status = {
        let output = Output { standard: &output, error: error.as_ref() };
        let mut passing = std::pin::pin!(output.pass(&mut writing, &mut program, &mut sizes));
        tokio::select! {
            status = &mut passing => status?,
            gone = receive(reading, sender, resizes) => return gone,
            // Noticed even while the command does not read its input.
            gone = hung_up => return gone,
            () = feeding => None,
        }
    };
    if let Some(status) = status {
        write_frame(&mut writing, FrameKind::Exit, &serde_json::to_vec(&status)?).await?;
    }
    writing.shutdown().await
}

/// Receives frames until the client disconnects.
async fn receive(
    mut reading: ReadHalf<Stream>,
    input: mpsc::Sender<Input>,
    sizes: mpsc::Sender<Resize>,
) -> io::Result<()> {
    let (mut decoder, mut buffer) = (Decoder::default(), vec![0; PIECE]);
    loop {
        while let Some(frame) = decoder.next_frame().map_err(io::Error::other)? {
            match frame.kind {
                // Fails if the command has closed its input.
                FrameKind::Stdin if frame.payload.is_empty() => {
                    let _ = input.send(Input::End).await;
                }
                FrameKind::Stdin => {
                    let _ = input.send(Input::Bytes(frame.payload)).await;
                }
                FrameKind::Resize => {
                    let size = Resize::decode(&frame.payload).map_err(io::Error::other)?;
                    let _ = sizes.send(size).await;
                }
                FrameKind::Stdout | FrameKind::Stderr | FrameKind::Exit => {
                    return Err(io::Error::other("a frame that only the host sends"));
                }
            }
        }
        let len = reading.read(&mut buffer).await?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        decoder.push(buffer.get(..len).unwrap_or_default());
    }
}

/// Writes the command's input until its end, or until the command has closed its input.
async fn feed(pipe: &Pipe, mut input: mpsc::Receiver<Input>, tty: bool) {
    while let Some(piece) = input.recv().await {
        let bytes = match &piece {
            Input::Bytes(bytes) => bytes,
            Input::End if tty => END_OF_TRANSMISSION,
            Input::End => return,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            match pipe.write(rest).await {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                Err(_) => return,
            }
        }
    }
}

type Writing = WriteHalf<Stream>;

/// The command's output.
struct Output<'a> {
    standard: &'a Pipe,
    error: Option<&'a Pipe>,
}

impl Output<'_> {
    /// Passes everything on, to the command's end and what it had written until then.
    async fn pass(
        self,
        writing: &mut Writing,
        program: &mut Program,
        sizes: &mut mpsc::Receiver<Resize>,
    ) -> io::Result<Option<ExitStatus>> {
        let (mut one, mut two) = (vec![0; PIECE], vec![0; PIECE]);
        let (mut standard, mut error) = (Some(self.standard), self.error);
        let status = loop {
            if standard.is_none() && error.is_none() {
                break timeout(END, program.exited()).await.ok().flatten();
            }
            tokio::select! {
                // In this order: output that was written before the end is sent before it.
                biased;
                Some(size) = sizes.recv() => program.resize(size.rows, size.columns),
                len = read(standard, &mut one) => {
                    pass_on(writing, FrameKind::Stdout, &one, len, &mut standard).await?;
                }
                len = read(error, &mut two) => {
                    pass_on(writing, FrameKind::Stderr, &two, len, &mut error).await?;
                }
                status = program.exited() => break status,
            }
        };
        for (pipe, kind) in [(standard, FrameKind::Stdout), (error, FrameKind::Stderr)] {
            let (Some(pipe), mut passed) = (pipe, 0) else { continue };
            while passed < MAX_REST {
                match pipe.read_now(&mut one) {
                    Ok(Some(len @ 1..)) => {
                        write_frame(writing, kind, one.get(..len).unwrap_or_default()).await?;
                        passed += len;
                    }
                    _ => break,
                }
            }
        }
        Ok(status)
    }
}

async fn read(pipe: Option<&Pipe>, buffer: &mut [u8]) -> io::Result<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await,
        None => std::future::pending().await,
    }
}

async fn pass_on(
    writing: &mut Writing,
    kind: FrameKind,
    buffer: &[u8],
    len: io::Result<usize>,
    pipe: &mut Option<&Pipe>,
) -> io::Result<()> {
    match len {
        Ok(0) | Err(_) => *pipe = None,
        Ok(len) => write_frame(writing, kind, buffer.get(..len).unwrap_or_default()).await?,
    }
    Ok(())
}

async fn write_frame(writing: &mut Writing, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
    let header = Frame::header(kind, payload.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(FRAME_HEADER + payload.len());
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(payload);
    writing.write_all(&bytes).await?;
    // Other tasks get their turn even if a command never stops writing.
    yield_now().await;
    writing.flush().await
}
