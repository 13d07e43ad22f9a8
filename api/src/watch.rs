//! The time limits of a connection: how long it may be idle, and how long a request's head may take.

use bytes::Bytes;
use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Idle since then.
    Idle(Instant),
    /// A request's head has begun to arrive then.
    Head(Instant),
    /// A request is being answered: its handler has its own time limits.
    Busy,
}

/// What a connection is doing.
#[derive(Debug)]
pub struct Watch {
    phase: Cell<Phase>,
    /// The client does not read what is written.
    blocked: Cell<bool>,
    /// An answer has been begun and not been written to its end.
    writing: Cell<bool>,
    changed: Notify,
}

/// What to do with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has been idle for a short time: its buffers can be freed.
    Resting,
    /// It has exceeded a time limit: close it.
    Overdue,
}

/// The time limits.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Until an idle connection counts as resting.
    pub rest: Duration,
    /// For a client to read the end of an answer.
    pub idle: Duration,
    /// For the head of a request.
    pub head: Duration,
}

impl Watch {
    /// A connection on which a request has just begun to arrive.
    pub fn new() -> Rc<Watch> {
        Rc::new(Watch {
            phase: Cell::new(Phase::Head(Instant::now())),
            blocked: Cell::new(false),
            writing: Cell::new(false),
            changed: Notify::new(),
        })
    }

    /// Each phase has its own deadline.
    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.changed.notify_one();
    }

    /// Bytes have arrived.
    fn received(&self) {
        if matches!(self.phase.get(), Phase::Idle(_)) {
            self.enter(Phase::Head(Instant::now()));
        }
    }

    /// The head of a request is complete.
    pub fn asked(&self) {
        self.writing.set(true);
        self.enter(Phase::Busy);
    }

    /// The answer has been given.
    pub fn answered(&self) {
        self.enter(Phase::Idle(Instant::now()));
    }

    /// Everything has been written.
    fn flushed(&self) {
        if self.phase.get() != Phase::Busy {
            self.writing.set(false);
        }
    }

    /// Whether there is no answer to write. What hyper writes then is its own error about a head that it
    /// cannot parse, without the body that all other errors here have; it is dropped, and the owner of
    /// the connection writes an error with a body.
    pub fn nothing_to_write(&self) -> bool {
        !self.writing.get()
    }

    /// Returns when there is something to do with the connection.
    pub async fn verdict(&self, patience: &Patience) -> Verdict {
        let Patience { rest, idle, head } = *patience;
        loop {
            let now = Instant::now();
            let next = match self.phase.get() {
                // The end of its last answer is still being sent.
                Phase::Idle(since) if self.blocked.get() && since + idle > now => now + rest,
                Phase::Idle(since) if !self.blocked.get() && since + rest > now => since + rest,
                Phase::Idle(_) if !self.blocked.get() => return Verdict::Resting,
                Phase::Head(since) if since + head > now => since + head,
                Phase::Idle(_) | Phase::Head(_) => return Verdict::Overdue,
                Phase::Busy => {
                    self.changed.notified().await;
                    continue;
                }
            };
            let _ = tokio::time::timeout_at(next, self.changed.notified()).await;
        }
    }
}

/// A connection's bytes, as its [`Watch`] sees them.
#[derive(Debug)]
pub struct Watched<T> {
    inner: T,
    /// Bytes that have been read from it already.
    begun: Bytes,
    watch: Rc<Watch>,
}

impl<T> Watched<T> {
    /// Watches `inner`, from which `begun` has been read already.
    pub fn new(inner: T, begun: Bytes, watch: Rc<Watch>) -> Watched<T> {
        Watched { inner, begun, watch }
    }

    /// The watched stream.
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The stream, and the bytes of `begun` that have not been read.
    pub fn into_inner(self) -> (T, Bytes) {
        (self.inner, self.begun)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.begun.is_empty() {
            let len = self.begun.len().min(buf.remaining());
            buf.put_slice(&self.begun.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.received();
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.watch.nothing_to_write() {
            return Poll::Ready(Ok(buf.len()));
        }
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watch.blocked.set(result.is_pending());
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        self.watch.blocked.set(result.is_pending());
        if result.is_ready() {
            self.watch.flushed();
        }
        result
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.watch.nothing_to_write() {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watch.blocked.set(result.is_pending());
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
