//! The clock of a connection: how long it may do nothing, and how long a request's head may take.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is under way since then.
    Idle(Instant),
    /// A request's head has begun to come then.
    Head(Instant),
    /// A request is being answered: its handler knows what to wait for.
    Busy,
}

/// What a connection is doing.
///
/// (Locked, not borrowed, because hyper wants connections that can be upgraded to be `Send`.)
#[derive(Debug)]
pub struct Watch {
    phase: Mutex<Phase>,
    hurry: Notify,
}

impl Watch {
    /// A connection that is ready for its first request.
    pub fn new() -> Arc<Watch> {
        Arc::new(Watch { phase: Mutex::new(Phase::Idle(Instant::now())), hurry: Notify::new() })
    }

    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// Bytes have come.
    fn received(&self) {
        if matches!(self.phase(), Phase::Idle(_)) {
            self.set(Phase::Head(Instant::now()));
            self.hurry.notify_one();
        }
    }

    /// The head of a request is complete.
    pub fn asked(&self) {
        self.set(Phase::Busy);
    }

    /// The answer has been given.
    pub fn answered(&self) {
        self.set(Phase::Idle(Instant::now()));
    }

    /// Returns when the connection has been idle, or a request's head has been coming, for too long.
    pub async fn overdue(&self, idle: Duration, head: Duration) {
        loop {
            let deadline = match self.phase() {
                Phase::Idle(since) => since + idle,
                Phase::Head(since) => since + head,
                // Looked at again in time for whatever may begin meanwhile.
                Phase::Busy => Instant::now() + head.min(idle),
            };
            if deadline <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => {}
                () = self.hurry.notified() => {}
            }
        }
    }
}

/// A connection's bytes, as its [`Watch`] sees them.
#[derive(Debug)]
pub struct Watched<T> {
    inner: T,
    watch: Arc<Watch>,
}

impl<T> Watched<T> {
    /// Watches `inner`.
    pub fn new(inner: T, watch: Arc<Watch>) -> Watched<T> {
        Watched { inner, watch }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
