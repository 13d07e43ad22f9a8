//! Requests to one host.

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::http::{Head, Http, Payload, Request};
use crate::identity::Identity;
use crate::pins::RunHost;
use crate::sse::{Parser, SseEvent};
use crate::target::{Pin, Target};
use crate::tls::{self, NoConnection, TIMEOUT, Tls};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Longest answer that is read into memory.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A host sends a comment on an idle stream every 15 seconds; after three missed ones the stream is
/// considered dead.
const STREAM_TIMEOUT: Duration = Duration::from_secs(50);

/// A client of one host. It connects with the first request and keeps the connection for the next ones.
pub struct Client {
    target: Target,
    identity: Option<Fingerprint>,
    http: Option<Http<Tls>>,
}

impl Client {
    /// Does not connect yet.
    pub fn new(target: Target) -> Client {
        Client { target, identity: None, http: None }
    }

    /// The host that this client talks to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Sends a GET request and returns the JSON of the answer.
    ///
    /// # Errors
    /// See [`Client::send`]; or the answer is not JSON.
    pub fn get(&mut self, path: &str) -> Result<Value, Error> {
        self.json("GET", path, Payload::None, TIMEOUT)
    }

    /// Sends a GET request and deserializes the answer.
    ///
    /// # Errors
    /// See [`Client::send`]; or the answer is not a `T`.
    pub fn get_as<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Error> {
        from_json(self.get(path)?)
    }

    /// Sends a POST request with a JSON body and returns the JSON of the answer. `longer` is added to the
    /// usual timeout.
    ///
    /// # Errors
    /// See [`Client::send`]; or the answer is not JSON.
    pub fn post(
        &mut self,
        path: &str,
        body: Option<&Value>,
        longer: Duration,
    ) -> Result<Value, Error> {
        let text = body.map(Value::to_string).unwrap_or_default();
        self.json("POST", path, Payload::Bytes(text.as_bytes()), TIMEOUT.saturating_add(longer))
    }

    fn json(
        &mut self,
        method: &str,
        path: &str,
        payload: Payload<'_>,
        timeout: Duration,
    ) -> Result<Value, Error> {
        let bytes = {
            let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
            let headers = if method == "GET" { &headers[..1] } else { &headers[..] };
            self.send(&Request { method, path, headers }, payload, timeout)?;
            self.read_all()?
        };
        serde_json::from_slice(&bytes).map_err(Error::garbled)
    }

    /// Sends a request and returns the head of the answer, whose body is then read with
    /// [`Client::read_chunk`] or [`Client::read_all`]. `timeout` limits the wait for each read.
    ///
    /// # Errors
    /// The host's key is not pinned or has changed, our key cannot be read, the connection fails, or the
    /// status is 400 or above.
    pub fn send(
        &mut self,
        request: &Request<'_>,
        payload: Payload<'_>,
        timeout: Duration,
    ) -> Result<Head, Error> {
        let again = request.method == "GET" && matches!(payload, Payload::None);
        let reused = self.http.as_ref().is_some_and(Http::reusable);
        let head = match self.send_once(request, payload, timeout) {
            // The host may close an idle connection at the moment when it is used again.
            Err(Failure::Connection(error)) if again && reused && is_closed(&error) => {
                self.http = None;
                self.send_once(request, Payload::None, timeout)
            }
            other => other,
        };
        let head = match head {
            Ok(head) => head,
            Err(Failure::Connection(error)) => {
                self.http = None;
                let error = tls::connection_error(&self.target.address, &error);
                return Err(self.explained(error));
            }
            Err(Failure::Before(error)) => return Err(error),
        };
        if head.status < 400 {
            return Ok(head);
        }
        let body = self.read_all()?;
        Err(self.explained(Error::answer(head.status, &body)))
    }

    fn send_once(
        &mut self,
        request: &Request<'_>,
        payload: Payload<'_>,
        timeout: Duration,
    ) -> Result<Head, Failure> {
        if self.http.as_ref().is_none_or(|http| !http.reusable()) {
            self.http = Some(Http::new(self.connect()?));
        }
        let host = self.target.address.to_string();
        let Some(http) = &mut self.http else {
            return Err(Failure::Before(Error::garbled("no connection")));
        };
        http.stream().sock.set_read_timeout(Some(timeout)).map_err(Failure::Connection)?;
        http.send(&host, request, payload).map_err(Failure::Connection)
    }

    /// The next bytes of the answer's body; empty at its end.
    ///
    /// # Errors
    /// The connection breaks before the end.
    pub fn read_chunk(&mut self) -> Result<Vec<u8>, Error> {
        let chunk = match &mut self.http {
            Some(http) => http.read_chunk(),
            None => Ok(Vec::new()),
        };
        chunk.map_err(|error| {
            self.http = None;
            tls::connection_error(&self.target.address, &error)
        })
    }

    /// The rest of the answer's body.
    ///
    /// # Errors
    /// The connection breaks before the end, or the body is too long.
    pub fn read_all(&mut self) -> Result<Vec<u8>, Error> {
        let body = match &mut self.http {
            Some(http) => http.read_all(MAX_ANSWER),
            None => Ok(Vec::new()),
        };
        body.map_err(|error| {
            self.http = None;
            tls::connection_error(&self.target.address, &error)
        })
    }

    /// Sends a GET request for a stream of server-sent events.
    ///
    /// # Errors
    /// See [`Client::send`].
    pub fn stream(&mut self, path: &str) -> Result<Stream<'_>, Error> {
        let headers = [("Accept", "text/event-stream")];
        let request = Request { method: "GET", path, headers: &headers };
        self.send(&request, Payload::None, STREAM_TIMEOUT)?;
        Ok(Stream { client: self, parser: Parser::default(), ready: VecDeque::new() })
    }

    /// The connection after a protocol upgrade, and the bytes of the new protocol that have been read
    /// already.
    ///
    /// # Errors
    /// There is no connection.
    pub fn into_upgraded(self) -> Result<(Tls, Vec<u8>), Error> {
        let http = self.http.ok_or_else(|| Error::garbled("no connection"))?;
        Ok(http.into_inner())
    }

    fn connect(&mut self) -> Result<Tls, Failure> {
        self.connect_pinned().map_err(Failure::Before)
    }

    fn connect_pinned(&mut self) -> Result<Tls, Error> {
        let target = &self.target;
        if target.pin == Pin::None {
            return Err(unknown_host(target));
        }
        let identity = Identity::read(&target.identity)?;
        self.identity = identity.fingerprint().ok();
        let pinned = target.pin.key();
        let (tls, shown) = tls::connect(&target.address, pinned, Some(&identity)).map_err(
            |error| match error {
                NoConnection::OtherKey(shown) => other_key(target, shown),
                NoConnection::Other(error) => self.explained(error),
            },
        )?;
        if let Pin::Run(None, host) = &target.pin {
            let seen = RunHost { key: Some(shown.to_string()), ..(**host).clone() };
            // Unless another `keel run` has replaced the entry since.
            if RunHost::at(&target.address).as_ref() == Some(host) {
                seen.store()?;
            }
            self.target.pin = Pin::Run(Some(shown), Box::new(seen));
        }
        Ok(tls)
    }

    /// Adds to a refusal of our key what to do about it.
    fn explained(&self, error: Error) -> Error {
        let Some(key) = self.identity.filter(|_| error.is_refusal() && error.details().is_empty())
        else {
            return error;
        };
        error.with_details(vec![
            format!("our key is {key} ({})", self.target.identity.display()),
            "only clients listed in the host's host.toml can connect: [api.client.NAME] with `key` and `role`"
                .to_owned(),
        ])
    }
}

enum Failure {
    /// The connection failed.
    Connection(io::Error),
    /// Failed before anything was sent.
    Before(Error),
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// The error for a host without a pinned key; names the key that it presents.
fn unknown_host(target: &Target) -> Error {
    match tls::connect_unpinned(&target.address, None) {
        Ok((_, shown)) => Error::host_key(format!("host key of {} is not known", target.label))
            .with_details(vec![
                format!("its fingerprint is {shown}; the host prints the same one on its console"),
                format!("if both match: keel trust {}", target.label),
            ]),
        Err(error) => error,
    }
}

/// The error for a host whose key differs from the pinned one.
pub fn other_key(target: &Target, shown: Fingerprint) -> Error {
    let mut details = vec![
        "Someone could be intercepting this connection, or the host was reinstalled.".to_owned(),
        format!("pinned: {}", target.pin.key().map(|key| key.to_string()).unwrap_or_default()),
        format!("shown:  {shown}"),
    ];
    let label = &target.label;
    details.push(match &target.pin {
        Pin::Named(_, name) => format!(
            "if the host's console prints the new key, change `key` of [host.{name}] in hosts.toml"
        ),
        Pin::Run(..) => format!(
            "a host without a data disk has a new key after every boot: keel trust --repin {label}"
        ),
        Pin::Known(_) | Pin::None => {
            format!("if the host's console prints the new key: keel trust --repin {label}")
        }
    });
    Error::host_key(format!("HOST KEY OF {label} HAS CHANGED")).with_details(details)
}

/// Deserializes an answer.
///
/// # Errors
/// The answer is not a `T`.
pub fn from_json<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(Error::garbled)
}

/// A stream of server-sent events from a host.
pub struct Stream<'a> {
    client: &'a mut Client,
    parser: Parser,
    ready: VecDeque<SseEvent>,
}

impl Stream<'_> {
    /// The next event; `None` when the host has ended the stream.
    ///
    /// # Errors
    /// The connection breaks, or a field is too long.
    pub fn next_event(&mut self) -> Result<Option<SseEvent>, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let chunk = self.client.read_chunk()?;
            if chunk.is_empty() {
                return Ok(None);
            }
            let events = self.parser.push(&chunk);
            self.ready.extend(events.map_err(Error::garbled)?);
        }
    }
}
