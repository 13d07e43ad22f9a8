//! The loop that accepts, and one connection from its first byte to its last.

use crate::app::{App, Caller, refused};
use crate::error::Error;
use crate::key::{HostKey, KeyError};
use crate::link::{LinkError, Wire};
use crate::router;
use crate::tls::{self, TlsError};
use crate::watch::{Patience, Verdict, Watch, Watched};
use api_types::ErrorCode;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ipc::api::FromApi;
use ipc::{Channel, DataDisk, FromInit, ToInit};
use rustls::ServerConfig;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Largest head of a request: hyper's buffer for it, which each connection has.
const MAX_HEAD: usize = 16 * 1024;
/// Most bytes that are read and discarded at the end of a connection, so that its client can read the
/// answer: a client may still be sending a body that has been refused.
const MAX_UNREAD: usize = 4 * 1024 * 1024;
/// The same for clients whose key is not listed.
const MAX_UNREAD_UNLISTED: usize = 64 * 1024;

/// From an answer to the moment when hyper's buffers are freed: clients often make several requests in
/// a row.
const REST: Duration = Duration::from_secs(1);

/// Time for the client to close the connection, too.
const FINAL_READ_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection that is no longer HTTP.
pub type Stream = Watched<Box<TlsStream<TcpStream>>>;
/// What takes over the connection then.
pub type Takeover = Box<dyn FnOnce(Stream) -> Pin<Box<dyn Future<Output = ()>>>>;

/// Time and size limits.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most connections of listed clients at the same time.
    pub connections: usize,
    /// Most connections that have not authenticated yet, beside those. Few: each may make the server
    /// keep 64 KiB of a handshake.
    pub unauthenticated: usize,
    /// A TLS handshake.
    pub handshake: Duration,
    /// The head of a request, from its first byte to its last.
    pub head: Duration,
    /// A connection on which nothing happens.
    pub idle: Duration,
    /// Most requests that wait for the supervisor at the same time.
    pub pending: usize,
    /// The supervisor's answer.
    pub answer: Duration,
    /// The next piece of a request's body.
    pub piece: Duration,
    /// The pause between two comments in a stream of events.
    pub keep_alive: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 1100,
            unauthenticated: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            pending: 512,
            answer: Duration::from_secs(30),
            piece: Duration::from_secs(30),
            keep_alive: Duration::from_secs(15),
        }
    }
}

/// What the server needs.
#[derive(Debug)]
pub struct Config {
    /// Where it listens.
    pub listener: TcpListener,
    /// The host's key.
    pub key: HostKey,
    /// The link to the supervisor.
    pub supervisor: Channel,
    /// The link to PID 1, which may bring a data disk.
    pub init: Channel,
    /// Time and size limits.
    pub limits: Limits,
    /// Called once all files and sockets are open.
    pub confine: fn() -> io::Result<()>,
}

/// Why the server ends; PID 1 starts it again.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The runtime or the listening socket.
    #[error("{0}: {1}")]
    Io(&'static str, io::Error),
    /// A link.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The host's key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The key in use is in memory only, and a data disk to keep one has been mounted.
    #[error("the data disk is mounted: restarting with the key that is kept on it")]
    DataDisk,
}

/// Serves until it cannot continue.
///
/// # Errors
/// Always; see [`ServeError`].
pub fn serve(config: Config) -> Result<Infallible, ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Sockets and timers are polled after each round of the tasks, not after many: a round is long
        // when many clients have much to send.
        .event_interval(1)
        // For files of containers only: a disk that does not answer must not stop everything.
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_stack_size(256 * 1024)
        .build()
        .map_err(|error| ServeError::Io("start", error))?;
    tokio::task::LocalSet::new().block_on(&runtime, run(config))
}

async fn run(config: Config) -> Result<Infallible, ServeError> {
    let Config { listener, key, supervisor, init, limits, confine } = config;
    let tls = tls::config(&key)?;
    let (fingerprint, ephemeral) = (key.fingerprint(), key.ephemeral());
    drop(key);
    let listening = listener.local_addr().map_err(|error| ServeError::Io("listen", error))?;
    let listener =
        tokio::net::TcpListener::from_std(listener).map_err(|e| ServeError::Io("listen", e))?;
    let app = Rc::new(App::new(Wire::new("the supervisor", supervisor)?, limits));
    let init = Wire::new("PID 1", init)?;
    confine().map_err(|error| ServeError::Io("drop privileges", error))?;

    let listens = format!("port {}", listening.port());
    log::info!("listening on {listens}, key {fingerprint}");
    app.link.send(FromApi::Hello { host_key: fingerprint, listens });
    if let Err(error) = init.channel().send(&ToInit::Ready, &[]) {
        return Err(LinkError::Broken("PID 1", error).into());
    }
    tokio::select! {
        error = app.link.listen(|message| app.heard(message)) => Err(error.map_or_else(Into::into, |never| match never {})),
        error = app.link.drive() => Err(error.map_or_else(Into::into, |never| match never {})),
        error = hear_init(&init, ephemeral) => Err(error),
        never = accept(&app, &listener, tls) => match never {},
    }
}

/// Waits for a data disk to keep the key.
async fn hear_init(init: &Wire, ephemeral: bool) -> ServeError {
    loop {
        match init.next::<FromInit>().await {
            Err(error) => return error.into(),
            Ok(received) => {
                if let FromInit::DataDisk(DataDisk { path: Some(_), .. }) = received.message
                    && ephemeral
                {
                    return ServeError::DataDisk;
                }
            }
        }
    }
}

async fn accept(
    app: &Rc<App>,
    listener: &tokio::net::TcpListener,
    tls: Arc<ServerConfig>,
) -> Infallible {
    let acceptor = TlsAcceptor::from(tls);
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                app.connections.evict_unauthenticated();
                let (acceptor, owned) = (acceptor.clone(), app.clone());
                app.connections.spawn(|id| connection(owned, id, acceptor, stream, from));
            }
            Err(error) => {
                log::warn!("accept: {error}");
                // Out of descriptors or memory: connections that end free some.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn connection(
    app: Rc<App>,
    id: u64,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    from: SocketAddr,
) {
    let _ = stream.set_nodelay(true);
    keep_alive(&stream);
    // On the heap, here and below: a task keeps the memory of its largest state to its end, and most
    // of these wait for most of their time.
    let handshake = Box::pin(timeout(app.limits.handshake, acceptor.accept(stream)));
    let stream = match handshake.await {
        Ok(Ok(stream)) => Box::new(stream),
        // Any peer can cause these, so they are not logged at the default level.
        Ok(Err(error)) => return log::debug!("{from}: {error}"),
        Err(_) => return log::debug!("{from}: no handshake in time"),
    };
    let certificate = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let Some(key) = certificate.and_then(|certificate| tls::key_of(certificate).ok()) else {
        return log::debug!("{from}: no certificate");
    };
    match app.caller(&key) {
        Caller::Known(_) => {
            app.connections.identify(id, &key);
            serve_http(app, stream, key.into()).await;
        }
        caller => {
            log::debug!("{from}: unknown key {key}");
            if let Some(error) = refused(&caller, &key) {
                let _ = timeout(app.limits.head, Box::pin(refuse(stream, error))).await;
            }
        }
    }
}

/// A peer that has vanished is noticed after about two minutes, also while the server waits for it.
fn keep_alive(stream: &TcpStream) {
    use nix::sys::socket::{setsockopt, sockopt};
    let set = || {
        setsockopt(stream, sockopt::KeepAlive, &true)?;
        setsockopt(stream, sockopt::TcpKeepIdle, &60)?;
        setsockopt(stream, sockopt::TcpKeepInterval, &15)?;
        setsockopt(stream, sockopt::TcpKeepCount, &4)
    };
    if let Err(error) = set() {
        log::debug!("keep-alive: {error}");
    }
}

/// Answers everything with the same refusal: untrusted input is not even parsed.
async fn refuse(mut stream: Box<TlsStream<TcpStream>>, error: Error) -> io::Result<()> {
    let mut buffer = [0; 1024];
    // A client does not expect an answer before its request.
    if stream.read(&mut buffer).await? == 0 {
        return Ok(());
    }
    write_error(&mut stream, error).await?;
    close(&mut stream, MAX_UNREAD_UNLISTED).await
}

/// Writes an error without hyper; it ends the connection.
async fn write_error(stream: &mut TlsStream<TcpStream>, error: Error) -> io::Result<()> {
    let status = StatusCode::from_u16(error.code().status()).unwrap_or_default();
    let body = error.json();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.into_bytes(), body].concat()).await?;
    stream.flush().await
}

/// Why the head of a request cannot be parsed.
fn unreadable(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        let message = format!("the request's head is larger than {} KiB", MAX_HEAD / 1024);
        Error::new(ErrorCode::HeadTooLarge, message)
    } else {
        Error::invalid(format!("not an HTTP/1.1 request: {error}"))
    }
}

/// Closes a connection, and reads what the client is still sending: closing with unread bytes would be
/// a reset, which can destroy the answer before the client has read it.
async fn close(stream: &mut TlsStream<TcpStream>, max_unread: usize) -> io::Result<()> {
    stream.shutdown().await?;
    let (mut unread, mut buffer) = (0, [0; 1024]);
    while unread < max_unread {
        match stream.read(&mut buffer).await? {
            0 => break,
            some => unread += some,
        }
    }
    Ok(())
}

/// Serves a listed client until one side closes the connection. Between requests only the TLS stream
/// is kept: hyper's buffers would be half of what an idle connection costs.
async fn serve_http(app: Rc<App>, mut stream: Box<TlsStream<TcpStream>>, key: Rc<str>) {
    let mut begun = Bytes::new();
    loop {
        if begun.is_empty() {
            let mut first = [0; 256];
            begun = match timeout(app.limits.idle, stream.read(&mut first)).await {
                Ok(Ok(len @ 1..)) => Bytes::copy_from_slice(first.get(..len).unwrap_or_default()),
                _ => break,
            };
        }
        match Box::pin(answer_requests(&app, stream, begun, &key)).await {
            Next::Rest(back, unread) => (stream, begun) = (back, unread),
            Next::Close(back) => {
                stream = back;
                break;
            }
            Next::Gone => return,
        }
    }
    let _ =
        timeout(FINAL_READ_TIMEOUT.min(app.limits.head), Box::pin(close(&mut stream, MAX_UNREAD)))
            .await;
}

/// What follows some requests.
enum Next {
    /// The connection is idle; what has been read of the next request.
    Rest(Box<TlsStream<TcpStream>>, Bytes),
    /// It is to be closed.
    Close(Box<TlsStream<TcpStream>>),
    /// It is closed already.
    Gone,
}

/// Answers requests until the connection is idle.
async fn answer_requests(
    app: &Rc<App>,
    stream: Box<TlsStream<TcpStream>>,
    begun: Bytes,
    key: &Rc<str>,
) -> Next {
    let watch = Watch::new();
    let takeover = Rc::new(RefCell::new(None));
    let service = service_fn(|request| {
        watch.asked();
        let (app, key, watch) = (app.clone(), key.clone(), watch.clone());
        let takeover = takeover.clone();
        Box::pin(async move {
            let response = router::answer(app, key, takeover, request).await;
            Ok::<_, Infallible>(response.map(|body| body.watched(watch)))
        })
    });
    let mut connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        // Its own timer counts from the end of the last request, `Watch` from the first byte.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(Watched::new(stream, begun, watch.clone())), service);
    let Limits { idle, head, .. } = app.limits;
    let patience = Patience { rest: REST.min(idle), idle, head };
    let ended = tokio::select! {
        result = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(result),
        verdict = watch.verdict(&patience) => match verdict {
            Verdict::Resting => None,
            Verdict::Overdue => return Next::Gone,
        }
    };
    let ended = match ended {
        Some(result) => Some(result),
        None => {
            Pin::new(&mut connection).graceful_shutdown();
            match poll_fn(|cx| Poll::Ready(connection.poll_without_shutdown(cx))).await {
                Poll::Ready(Ok(())) => None,
                Poll::Ready(error) => Some(error),
                // A request has begun to arrive; the connection ends after it.
                Poll::Pending => {
                    let rest = poll_fn(|cx| connection.poll_without_shutdown(cx));
                    match timeout(idle, rest).await {
                        Ok(result) => Some(result),
                        Err(_) => return Next::Gone,
                    }
                }
            }
        }
    };
    if let Some(Err(error)) = &ended {
        log::debug!("a connection ended: {error}");
    }
    let parts = connection.into_parts();
    let (mut stream, begun) = parts.io.into_inner().into_inner();
    // Bytes that hyper has read come before those that it has not.
    let unread = Bytes::from([parts.read_buf, begun].concat());
    let takeover = takeover.borrow_mut().take();
    if let Some(takeover) = takeover {
        let watch = Watch::new();
        watch.asked();
        takeover(Watched::new(stream, unread, watch)).await;
        return Next::Gone;
    }
    if let Some(Err(error)) = &ended
        && error.is_parse()
        && watch.nothing_to_write()
    {
        let _ = timeout(head, write_error(&mut stream, unreadable(error))).await;
    }
    if ended.is_none() { Next::Rest(stream, unread) } else { Next::Close(stream) }
}
