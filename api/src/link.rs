//! The link to the supervisor: many requests at once, each with its answer, and programs that run
//! until they end.
//!
//! PID 1 keeps the link when the supervisor dies. Requests that the dead one had read are never
//! answered, so each waits a limited time.

use crate::error::Error;
use api_types::{ErrorCode, ExecRequest};
use ipc::api::{ApiRequest, FromApi, ToApi};
use ipc::outbox::RETRY_MS;
use ipc::{Answer, Channel, ChannelError, ExitStatus, Outbox, Received, Reply};
use serde::de::DeserializeOwned;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};

/// Longest answer that is read from a file.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// Messages handled before other tasks get their turn.
const BATCH: usize = 32;

/// Why a link is unusable; PID 1 starts the process again.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It cannot be watched.
    #[error("watch a link: {0}")]
    Watch(#[from] std::io::Error),
    /// It is broken.
    #[error("link to {0}: {1}")]
    Broken(&'static str, ChannelError),
}

/// A [`Channel`] that tokio can wait for.
#[derive(Debug)]
pub struct Wire {
    peer: &'static str,
    fd: AsyncFd<Watchable>,
}

#[derive(Debug)]
struct Watchable(Channel);

impl AsRawFd for Watchable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Wire {
    /// Watches a link; to be called inside the runtime.
    ///
    /// # Errors
    /// epoll_ctl(2) fails.
    pub fn new(peer: &'static str, channel: Channel) -> Result<Wire, LinkError> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        // SAFETY: the link owns its descriptor, always gives the same one and closes it only when it
        // is dropped itself; nothing here takes it out of the `AsyncFd`.
        let fd = unsafe { AsyncFd::register_with_interest(Watchable(channel), interest) };
        Ok(Wire { peer, fd: fd.map_err(std::io::Error::from)? })
    }

    /// The link itself.
    pub fn channel(&self) -> &Channel {
        &self.fd.get_ref().0
    }

    /// The next message. One that cannot be read is logged and skipped.
    ///
    /// # Errors
    /// The link is broken.
    pub async fn next<M: DeserializeOwned>(&self) -> Result<Received<M>, LinkError> {
        loop {
            let mut guard = self.fd.readable().await?;
            match self.channel().recv::<M>() {
                Ok(Some(received)) => return Ok(received),
                Ok(None) => guard.clear_ready(),
                // A closed link reads as an empty message.
                Err(error @ (ChannelError::Sys { .. } | ChannelError::Decode { size: 0, .. })) => {
                    return Err(LinkError::Broken(self.peer, error));
                }
                Err(error) => log::error!("a message from {} is lost: {error}", self.peer),
            }
        }
    }
}

/// Where the numbers of requests begin: an answer to a request of an earlier process, which may still
/// be in the link, must never be taken for one of ours.
fn first_number() -> u64 {
    // Nanoseconds since boot: no process makes that many requests.
    ipc::clock::monotonic_ns()
}

/// A reply, and the descriptors beside it.
pub type WithFds = (Reply, Vec<OwnedFd>);

type Raw = (Option<Answer>, Vec<OwnedFd>);

/// The link to the supervisor.
#[derive(Debug)]
pub struct Link {
    wire: Wire,
    most: usize,
    patience: Duration,
    outbox: RefCell<Outbox<FromApi>>,
    waiting: Notify,
    pending: RefCell<HashMap<u64, oneshot::Sender<Raw>>>,
    programs: RefCell<HashMap<u64, oneshot::Sender<ExitStatus>>>,
    last: Cell<u64>,
    /// Messages received: whether the supervisor answers at all.
    heard: Cell<u64>,
}

impl Link {
    /// A link with at most `most` pending requests, which wait this long for their answers.
    pub fn new(wire: Wire, most: usize, patience: Duration) -> Link {
        Link {
            wire,
            most,
            patience,
            outbox: RefCell::default(),
            waiting: Notify::new(),
            pending: RefCell::default(),
            programs: RefCell::default(),
            last: Cell::new(first_number()),
            heard: Cell::new(0),
        }
    }

    /// Sends a message now or later.
    pub fn send(&self, message: FromApi) {
        let mut outbox = self.outbox.borrow_mut();
        // A failure loses only that message; if the link is broken, reading fails too.
        if let Err(error) = outbox.send(self.wire.channel(), message, Vec::new()) {
            log::error!("a message to the supervisor is lost: {error}");
        }
        if !outbox.is_empty() {
            self.waiting.notify_one();
        }
    }

    /// Sends what could not be sent at once; never returns.
    ///
    /// # Errors
    /// The link is broken.
    pub async fn drive(&self) -> Result<std::convert::Infallible, LinkError> {
        loop {
            self.waiting.notified().await;
            while !self.outbox.borrow().is_empty() {
                if self.outbox.borrow().is_stalled() {
                    // The kernel is short of memory: the link does not signal when it accepts more.
                    tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
                }
                let mut guard = self.wire.fd.writable().await?;
                if let Err(error) = self.outbox.borrow_mut().flush(self.wire.channel()) {
                    log::error!("a message to the supervisor is lost: {error}");
                }
                if self.outbox.borrow().is_blocked() {
                    guard.clear_ready();
                }
            }
        }
    }

    /// Receives answers; passes all other messages to `other`. Never returns.
    ///
    /// # Errors
    /// The link is broken.
    pub async fn listen(
        &self,
        mut other: impl FnMut(ToApi),
    ) -> Result<std::convert::Infallible, LinkError> {
        loop {
            for _ in 0..BATCH {
                let Received { message, fds } = self.wire.next::<ToApi>().await?;
                self.heard.set(self.heard.get().wrapping_add(1));
                match message {
                    ToApi::Answer { id, answer } => {
                        // The client has disconnected. The descriptors are closed here.
                        if let Some(asker) = self.pending.borrow_mut().remove(&id) {
                            let _ = asker.send((answer, fds));
                        }
                    }
                    ToApi::Exited { id, status } => {
                        if let Some(program) = self.programs.borrow_mut().remove(&id) {
                            let _ = program.send(status);
                        }
                    }
                    message @ (ToApi::Clients { .. } | ToApi::Event(_)) => other(message),
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// Makes a request for this client.
    ///
    /// # Errors
    /// The supervisor's refusal, or that there is no answer.
    pub async fn ask(&self, key: &str, request: ApiRequest) -> Result<WithFds, Error> {
        let id = self.number();
        self.ask_as(id, key, request).await
    }

    fn number(&self) -> u64 {
        self.last.set(self.last.get().wrapping_add(1));
        self.last.get()
    }

    async fn ask_as(&self, id: u64, key: &str, request: ApiRequest) -> Result<WithFds, Error> {
        if self.pending.borrow().len() >= self.most {
            return Err(Error::new(
                ErrorCode::Busy,
                "too many requests are waiting for the supervisor",
            ));
        }
        let (sender, receiver) = oneshot::channel();
        self.pending.borrow_mut().insert(id, sender);
        let _asked = Asked { link: self, id };
        let before = self.heard.get();
        self.send(FromApi::Ask { id, key: key.to_owned(), request });
        let Ok(answer) = tokio::time::timeout(self.patience, receiver).await else {
            return Err(if self.heard.get() == before {
                away()
            } else {
                Error::new(ErrorCode::Timeout, "the supervisor did not answer in time")
            });
        };
        let (answer, mut fds) = answer.map_err(|_| away())?;
        let answer = match answer {
            Some(answer) => answer,
            None if fds.is_empty() => {
                return Err(Error::failed("the supervisor sent an answer without content"));
            }
            None => read_answer(File::from(fds.remove(0)))?,
        };
        match answer {
            Answer::Ok(reply) => Ok((reply, fds)),
            Answer::Refused(problem) => Err(problem.into()),
        }
    }

    /// Starts a program for this client.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn exec(
        self: &Rc<Self>,
        key: &str,
        name: String,
        program: ExecRequest,
    ) -> Result<Program, Error> {
        let id = self.number();
        let (sender, exited) = oneshot::channel();
        self.programs.borrow_mut().insert(id, sender);
        // From here on the program is killed if the client disconnects before the answer.
        let mut started =
            Program { link: self.clone(), id, key: key.to_owned(), exited, fds: Vec::new() };
        started.fds = self.ask_as(id, key, ApiRequest::Exec { name, program }).await?.1;
        Ok(started)
    }
}

/// The error for a supervisor that does not answer.
pub fn away() -> Error {
    Error::new(ErrorCode::Unavailable, "the supervisor does not answer; it is being restarted")
}

fn read_answer(mut file: File) -> Result<Answer, Error> {
    let failed =
        |error: &dyn std::fmt::Display| Error::failed(format!("cannot read the answer: {error}"));
    file.rewind().map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_ANSWER).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(&error))
}

/// A pending request; forgotten when this is dropped.
struct Asked<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.link.pending.borrow_mut().remove(&self.id).is_some() {
            // If it has not been sent yet, it is not sent: clients that come and go must not fill the
            // memory while the supervisor does not run.
            let mut outbox = self.link.outbox.borrow_mut();
            outbox.retain(|message| !matches!(message, FromApi::Ask { id, .. } if *id == self.id));
        }
    }
}

/// A program that was started for a client; killed when this is dropped before its end.
#[derive(Debug)]
pub struct Program {
    link: Rc<Link>,
    id: u64,
    key: String,
    exited: oneshot::Receiver<ExitStatus>,
    fds: Vec<OwnedFd>,
}

impl Program {
    /// Its descriptors: standard input, output and error, or a terminal. Once.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Its end; `None` if it will never be reported.
    pub async fn exited(&mut self) -> Option<ExitStatus> {
        (&mut self.exited).await.ok()
    }

    /// Changes the size of its terminal. The answer is ignored.
    pub fn resize(&self, rows: u16, columns: u16) {
        let request = ApiRequest::Resize { id: self.id, rows, columns };
        self.link.send(FromApi::Ask { id: self.link.number(), key: self.key.clone(), request });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Still listed: its end has not been reported.
        if self.link.programs.borrow_mut().remove(&self.id).is_some() {
            self.link.send(FromApi::Abandon { id: self.id });
        }
    }
}
