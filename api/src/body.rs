//! The body of an answer: nothing, bytes, or bytes that are produced while they are sent.

use crate::watch::Watch;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;
use tokio::task::yield_now;

/// Produces a body: it sends pieces to a [`Sink`], and is dropped when the client disconnects.
type Producer = Pin<Box<dyn Future<Output = io::Result<()>>>>;

/// The body of an answer.
pub struct Body {
    content: Content,
    /// Notified when the body has been sent or dropped.
    watch: Option<Rc<Watch>>,
    /// Between two pieces other tasks get their turn. Hyper polls for pieces as long as the client
    /// reads them, which may be always: without this no timer, no new connection and no other client
    /// would be served.
    turn: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

enum Content {
    Bytes(Bytes),
    Stream { pieces: mpsc::Receiver<Bytes>, producer: Option<Producer> },
}

/// Where the producer of a body sends its pieces; waits while the client does not read.
#[derive(Clone)]
pub struct Sink(mpsc::Sender<Bytes>);

impl Sink {
    /// Sends a piece.
    ///
    /// # Errors
    /// The client has disconnected.
    pub async fn send(&self, piece: impl Into<Bytes>) -> io::Result<()> {
        self.0.send(piece.into()).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Body {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Body {
        Body { content: Content::Bytes(bytes.into()), watch: None, turn: None }
    }

    /// What `produce` sends. One piece at a time is produced ahead of what the client has read.
    pub fn stream<F>(produce: impl FnOnce(Sink) -> F) -> Body
    where
        F: Future<Output = io::Result<()>> + 'static,
    {
        let (sender, pieces) = mpsc::channel(1);
        let producer = Some(Box::pin(produce(Sink(sender))) as Producer);
        Body { content: Content::Stream { pieces, producer }, watch: None, turn: None }
    }

    /// Notifies the connection's watch when the answer is complete.
    pub fn watched(mut self, watch: Rc<Watch>) -> Body {
        self.watch = Some(watch);
        self
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.answered();
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(turn) = &mut self.turn {
            ready!(turn.as_mut().poll(cx));
            self.turn = None;
        }
        let frame = self.next_frame(cx);
        if frame.is_ready() {
            self.turn = Some(Box::pin(yield_now()));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Bytes(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream { .. } => SizeHint::default(),
        }
    }
}

impl Body {
    fn next_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut self.content {
            Content::Bytes(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Bytes(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Stream { pieces, producer } => loop {
                if let Poll::Ready(piece) = pieces.poll_recv(cx) {
                    return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
                }
                let Some(running) = producer else { return Poll::Ready(None) };
                let done = match running.as_mut().poll(cx) {
                    Poll::Ready(done) => done,
                    Poll::Pending => {
                        // It may have sent something in this very poll.
                        let piece = ready!(pieces.poll_recv(cx));
                        return Poll::Ready(piece.map(|piece| Ok(Frame::data(piece))));
                    }
                };
                // This drops its end of the queue, which then reports its end when it is empty.
                *producer = None;
                if let Err(error) = done {
                    return Poll::Ready(Some(Err(error)));
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::future::poll_fn;

    #[test]
    fn a_producer_that_always_has_more_leaves_others_their_turn() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let turns = Rc::new(Cell::new(0));
        let counted = turns.clone();
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            tokio::task::spawn_local(async move {
                loop {
                    yield_now().await;
                    counted.set(counted.get() + 1);
                }
            });
            let mut body = Body::stream(|sink| async move {
                loop {
                    sink.send("x").await?;
                }
            });
            // As hyper does: all pieces that are ready, in one go.
            let mut pieces = 0;
            poll_fn(|cx| {
                while pieces < 1000 {
                    ready!(Pin::new(&mut body).poll_frame(cx)).unwrap().unwrap();
                    pieces += 1;
                }
                Poll::Ready(())
            })
            .await;
        });
        assert!(turns.get() >= 990, "{} turns for 1000 pieces", turns.get());
    }
}
