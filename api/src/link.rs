//! The link to the supervisor: many questions at once, each with its answer, and programs that run
//! until they end.
//!
//! PID 1 keeps the link over the supervisor's deaths. What the dead one had taken in and not
//! answered is answered by nobody: each question waits a limited time.

use crate::error::Error;
use api_types::ErrorCode;
use ipc::api::{Answer, ApiRequest, Exec, FromApi, ToApi};
use ipc::{Channel, ChannelError, ExitStatus, Outbox, Received};
use serde::de::DeserializeOwned;
use serde_json::Value;
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

/// Longest answer that is taken from a file.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;
/// Messages taken in before others get a turn.
const BATCH: usize = 32;

/// Why a link cannot go on; PID 1 starts the process again.
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
    /// epoll_ctl(2)'s.
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
                // No message is empty: this is how a closed link reads.
                Err(error @ (ChannelError::Sys { .. } | ChannelError::Decode { size: 0, .. })) => {
                    return Err(LinkError::Broken(self.peer, error));
                }
                Err(error) => log::error!("a message from {} is lost: {error}", self.peer),
            }
        }
    }
}

/// Where the numbers of questions begin: an answer to a question of an earlier process, which may
/// still lie in the link, must never be taken for one of ours.
fn first_number() -> u64 {
    // Nanoseconds since boot: no process asks as many questions as that.
    ipc::clock::monotonic_ns()
}

/// What came in answer: a value, and descriptors beside it.
#[derive(Debug)]
pub struct Reply {
    /// The value.
    pub value: Value,
    /// The descriptors.
    pub fds: Vec<OwnedFd>,
}

type Raw = (Option<Answer>, Vec<OwnedFd>);

/// See the module.
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
    /// Messages heard: whether the supervisor is there at all.
    heard: Cell<u64>,
}

impl Link {
    /// A link with at most `most` questions at a time, which wait so long for their answers.
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
        // A failure costs that one message; if the link is broken, reading says so.
        if let Err(error) = outbox.send(self.wire.channel(), message, Vec::new()) {
            log::error!("a message to the supervisor is lost: {error}");
        }
        if !outbox.is_empty() {
            self.waiting.notify_one();
        }
    }

    /// Sends what could not be sent at once; runs for ever.
    ///
    /// # Errors
    /// The link is broken.
    pub async fn drive(&self) -> Result<std::convert::Infallible, LinkError> {
        loop {
            self.waiting.notified().await;
            while !self.outbox.borrow().is_empty() {
                let mut guard = self.wire.fd.writable().await?;
                if let Err(error) = self.outbox.borrow_mut().flush(self.wire.channel()) {
                    log::error!("a message to the supervisor is lost: {error}");
                }
                if !self.outbox.borrow().is_empty() {
                    guard.clear_ready();
                }
            }
        }
    }

    /// Takes in answers; gives everything else to `other`. Runs for ever.
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
                        // Nobody there: the client went away. Its descriptors are closed here.
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

    /// Asks for this client.
    ///
    /// # Errors
    /// The supervisor's refusal, or that there is no answer.
    pub async fn ask(&self, key: &str, request: ApiRequest) -> Result<Reply, Error> {
        let id = self.number();
        self.ask_as(id, key, request).await
    }

    fn number(&self) -> u64 {
        self.last.set(self.last.get().wrapping_add(1));
        self.last.get()
    }

    async fn ask_as(&self, id: u64, key: &str, request: ApiRequest) -> Result<Reply, Error> {
        if self.pending.borrow().len() >= self.most {
            return Err(Error::new(ErrorCode::Busy, "too many requests wait for the supervisor"));
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
                Error::new(ErrorCode::Timeout, "the supervisor has not answered in time")
            });
        };
        let (answer, mut fds) = answer.map_err(|_| away())?;
        let answer = match answer {
            Some(answer) => answer,
            None if fds.is_empty() => return Err(Error::failed("an answer came without content")),
            None => read_answer(File::from(fds.remove(0)))?,
        };
        match answer {
            Answer::Ok(value) => Ok(Reply { value, fds }),
            Answer::Refused(refusal) => Err(refusal.into()),
        }
    }

    /// Starts a program for this client.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn exec(self: &Rc<Self>, key: &str, exec: Exec) -> Result<Program, Error> {
        let id = self.number();
        let (sender, exited) = oneshot::channel();
        self.programs.borrow_mut().insert(id, sender);
        // From here on, so that a client that goes away before the answer leaves nothing behind.
        let mut program =
            Program { link: self.clone(), id, key: key.to_owned(), exited, fds: Vec::new() };
        program.fds = self.ask_as(id, key, ApiRequest::Exec(exec)).await?.fds;
        Ok(program)
    }
}

/// That nobody answers.
pub fn away() -> Error {
    Error::new(ErrorCode::Unavailable, "the supervisor does not answer; it is being started again")
}

fn read_answer(mut file: File) -> Result<Answer, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::failed(format!("read an answer: {error}"));
    file.rewind().map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(MAX_ANSWER).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    serde_json::from_slice(&bytes).map_err(|error| failed(&error))
}

/// A question that waits; forgotten when its asker gives up.
struct Asked<'a> {
    link: &'a Link,
    id: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.link.pending.borrow_mut().remove(&self.id).is_some() {
            // If it has not even been sent, it need not be: clients that come and go must not fill
            // the memory while the supervisor is away.
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

    /// Its end; `None` when nobody will ever say.
    pub async fn exited(&mut self) -> Option<ExitStatus> {
        (&mut self.exited).await.ok()
    }

    /// Changes the size of its terminal. The answer is of no interest to anybody.
    pub fn resize(&self, rows: u16, columns: u16) {
        let request = ApiRequest::Resize { id: self.id, rows, columns };
        self.link.send(FromApi::Ask { id: self.link.number(), key: self.key.clone(), request });
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Still there: its end has not been reported.
        if self.link.programs.borrow_mut().remove(&self.id).is_some() {
            self.link.send(FromApi::Abandon { id: self.id });
        }
    }
}
