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
/// What is read of a request that is not looked at, so that its sender gets to read the answer.
/// For a client: what may be on its way of a body that is refused before its sender hears of it.
const MAX_UNREAD: usize = 4 * 1024 * 1024;
/// The same for strangers, who are owed less.
const MAX_UNREAD_OF_STRANGERS: usize = 64 * 1024;

/// From an answer to the moment when hyper's buffers are given up: clients often ask several
/// things in a row.
const REST: Duration = Duration::from_secs(1);

/// For the other side to take its leave, too.
const PARTING: Duration = Duration::from_secs(2);

/// A connection that is no longer HTTP.
pub type Stream = Watched<Box<TlsStream<TcpStream>>>;
/// What goes on with it then.
pub type Takeover = Box<dyn FnOnce(Stream) -> Pin<Box<dyn Future<Output = ()>>>>;

/// How long and how much.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections of known clients at a time.
    pub connections: usize,
    /// Beside them, connections that have not said yet whose they are. A few: each may make us keep
    /// 64 KiB of a handshake.
    pub strangers: usize,
    /// A TLS handshake.
    pub handshake: Duration,
    /// The head of a request, from its first byte to its last.
    pub head: Duration,
    /// A connection on which nothing happens.
    pub idle: Duration,
    /// Questions that wait for the supervisor at a time.
    pub questions: usize,
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
            strangers: 128,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            questions: 512,
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
    /// How long and how much.
    pub limits: Limits,
    /// Called when everything is open that will ever be opened.
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
    /// The key that is in use will be gone at the next boot, and there is a better place now.
    #[error("the data disk is there: starting anew with the key that is kept on it")]
    DataDisk,
}

/// Serves until it cannot go on.
///
/// # Errors
/// Always; see [`ServeError`].
pub fn serve(config: Config) -> Result<Infallible, ServeError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Sockets and clocks are looked at after each round of the tasks, not after many: a round is
        // long when many have much to send.
        .event_interval(1)
        // For files of containers alone: a disk that does not answer must not stop everything.
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
    confine().map_err(|error| ServeError::Io("give up what is not needed", error))?;

    let listens = format!("port {}", listening.port());
    log::info!("listens on {listens}, key {fingerprint}");
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

/// Waits for a better place for the key.
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
                app.connections.make_room();
                let (acceptor, owned) = (acceptor.clone(), app.clone());
                app.connections.spawn(|id| connection(owned, id, acceptor, stream, from));
            }
            Err(error) => {
                log::warn!("accept: {error}");
                // Out of descriptors or memory: what is connected may give some back.
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
    // On the heap, here and below: what a task once held in itself it holds to its end, and most of
    // these wait for most of their time.
    let handshake = Box::pin(timeout(app.limits.handshake, acceptor.accept(stream)));
    let stream = match handshake.await {
        Ok(Ok(stream)) => Box::new(stream),
        // Anybody can cause these, so they are no news at the usual level.
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

/// A peer that has vanished is noticed after some two minutes, also when it is we who wait.
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

/// Answers whatever comes with the same refusal: what a stranger sends is not even parsed.
async fn refuse(mut stream: Box<TlsStream<TcpStream>>, error: Error) -> io::Result<()> {
    let mut buffer = [0; 1024];
    // A client does not expect an answer before it has asked.
    if stream.read(&mut buffer).await? == 0 {
        return Ok(());
    }
    say(&mut stream, error).await?;
    part(&mut stream, MAX_UNREAD_OF_STRANGERS).await
}

/// Answers without hyper, for the last time.
async fn say(stream: &mut TlsStream<TcpStream>, error: Error) -> io::Result<()> {
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

/// Why a head cannot be read.
fn unreadable(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        let message = format!("the request's head has more than {} KiB", MAX_HEAD / 1024);
        Error::new(ErrorCode::HeadTooLarge, message)
    } else {
        Error::invalid(format!("this is no HTTP/1.1: {error}"))
    }
}

/// Ends a connection from our side, and lets the other side say what it is in the middle of saying:
/// closing over unread bytes would be a reset, which takes the answer away from its reader.
async fn part(stream: &mut TlsStream<TcpStream>, max_unread: usize) -> io::Result<()> {
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

/// Serves a known client until one of the two sides has had enough. Between requests there is only
/// the TLS stream: hyper's buffers would be half of what an idle connection costs.
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
        match Box::pin(converse(&app, stream, begun, &key)).await {
            Next::Rest(back, unread) => (stream, begun) = (back, unread),
            Next::Close(back) => {
                stream = back;
                break;
            }
            Next::Gone => return,
        }
    }
    let _ = timeout(PARTING.min(app.limits.head), Box::pin(part(&mut stream, MAX_UNREAD))).await;
}

/// What comes after some requests.
enum Next {
    /// Nothing for the moment; what has been read of the next one.
    Rest(Box<TlsStream<TcpStream>>, Bytes),
    /// The end.
    Close(Box<TlsStream<TcpStream>>),
    /// It is over already.
    Gone,
}

/// Answers requests as long as they come.
async fn converse(
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
        // Its own timer counts from the end of the last request, ours from the first byte.
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
                // It was not as idle as it seemed, and has been told to end after this request.
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
    // What hyper has taken in comes before what it has not.
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
        && watch.speechless()
    {
        let _ = timeout(head, say(&mut stream, unreadable(error))).await;
    }
    if ended.is_none() { Next::Rest(stream, unread) } else { Next::Close(stream) }
}
