//! One host's API.

use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::http::{Head, Http, Payload, Request};
use crate::identity::Identity;
use crate::pins::RunHost;
use crate::sse::{Parser, SseEvent};
use crate::target::{Pin, Target};
use crate::tls::{self, NoConnection, PATIENCE, Tls};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::VecDeque;
use std::io;
use std::time::Duration;

/// Longest answer that is kept in memory.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A stream says something every 15 seconds; after three silences it is dead.
const STREAM_PATIENCE: Duration = Duration::from_secs(50);

/// A host, and the connection to it while there is one.
pub struct Client {
    target: Target,
    identity: Option<Fingerprint>,
    http: Option<Http<Tls>>,
}

impl Client {
    /// Nothing is sent yet.
    pub fn new(target: Target) -> Client {
        Client { target, identity: None, http: None }
    }

    /// The host.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks and takes a JSON answer.
    pub fn get(&mut self, path: &str) -> Result<Value, Error> {
        self.json("GET", path, Payload::None, PATIENCE)
    }

    /// The same, read as what it should be.
    pub fn read<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Error> {
        typed(self.get(path)?)
    }

    /// Asks for something to be done; `body` is JSON. It may take `longer` than an answer usually does.
    pub fn post(
        &mut self,
        path: &str,
        body: Option<&Value>,
        longer: Duration,
    ) -> Result<Value, Error> {
        let text = body.map(Value::to_string).unwrap_or_default();
        self.json("POST", path, Payload::Bytes(text.as_bytes()), PATIENCE.saturating_add(longer))
    }

    fn json(
        &mut self,
        method: &str,
        path: &str,
        payload: Payload<'_>,
        patience: Duration,
    ) -> Result<Value, Error> {
        let bytes = {
            let headers = [("Accept", "application/json"), ("Content-Type", "application/json")];
            let headers = if method == "GET" { &headers[..1] } else { &headers[..] };
            self.ask(&Request { method, path, headers }, payload, patience)?;
            self.whole()?
        };
        serde_json::from_slice(&bytes).map_err(|error| Error::garbled(error.to_string()))
    }

    /// Sends a request and gives the head of its answer. Answers that are no success are errors.
    pub fn ask(
        &mut self,
        request: &Request<'_>,
        payload: Payload<'_>,
        patience: Duration,
    ) -> Result<Head, Error> {
        let again = request.method == "GET" && matches!(payload, Payload::None);
        let reused = self.http.as_ref().is_some_and(Http::reusable);
        let head = match self.ask_once(request, payload, patience) {
            // The host may close a connection that was idle, in the very moment we use it.
            Err(Broken::Connection(error)) if again && reused && is_closed(&error) => {
                self.http = None;
                self.ask_once(request, Payload::None, patience)
            }
            other => other,
        };
        let head = match head {
            Ok(head) => head,
            Err(Broken::Connection(error)) => {
                self.http = None;
                let error = tls::broken(&self.target.address, &error);
                return Err(self.explained(error));
            }
            Err(Broken::Before(error)) => return Err(error),
        };
        if head.status < 400 {
            return Ok(head);
        }
        let body = self.whole()?;
        Err(self.explained(problem(head.status, &body)))
    }

    fn ask_once(
        &mut self,
        request: &Request<'_>,
        payload: Payload<'_>,
        patience: Duration,
    ) -> Result<Head, Broken> {
        if self.http.as_ref().is_none_or(|http| !http.reusable()) {
            self.http = Some(Http::new(self.connect()?));
        }
        let host = self.target.address.to_string();
        let Some(http) = &mut self.http else { return Err(Broken::Before(Error::Closed)) };
        http.stream().sock.set_read_timeout(Some(patience)).map_err(Broken::Connection)?;
        http.ask(&host, request, payload).map_err(Broken::Connection)
    }

    /// The next bytes of the answer; none at its end.
    pub fn piece(&mut self) -> Result<Vec<u8>, Error> {
        let piece = match &mut self.http {
            Some(http) => http.piece(),
            None => Ok(Vec::new()),
        };
        piece.map_err(|error| {
            self.http = None;
            tls::broken(&self.target.address, &error)
        })
    }

    /// The rest of the answer.
    pub fn whole(&mut self) -> Result<Vec<u8>, Error> {
        let whole = match &mut self.http {
            Some(http) => http.whole(MAX_ANSWER),
            None => Ok(Vec::new()),
        };
        whole.map_err(|error| {
            self.http = None;
            tls::broken(&self.target.address, &error)
        })
    }

    /// Asks for a stream of events.
    pub fn stream(&mut self, path: &str) -> Result<Stream<'_>, Error> {
        let headers = [("Accept", "text/event-stream")];
        let request = Request { method: "GET", path, headers: &headers };
        self.ask(&request, Payload::None, STREAM_PATIENCE)?;
        Ok(Stream { client: self, parser: Parser::default(), ready: VecDeque::new() })
    }

    /// The connection, after the host has agreed to another protocol, and what has come of that already.
    pub fn into_stream(self) -> Result<(Tls, Vec<u8>), Error> {
        let http = self.http.ok_or_else(|| Error::garbled("no connection"))?;
        Ok(http.into_stream())
    }

    fn connect(&mut self) -> Result<Tls, Broken> {
        self.connect_pinned().map_err(Broken::Before)
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
            // A `keel run` that has started since has written its own.
            if RunHost::at(&target.address).as_ref() == Some(host) {
                seen.remember()?;
            }
            self.target.pin = Pin::Run(Some(shown), Box::new(seen));
        }
        Ok(tls)
    }

    /// A refusal of our key, with what to do about it.
    fn explained(&self, error: Error) -> Error {
        match (error, self.identity) {
            (Error::Refused { message, details }, Some(key)) if details.is_empty() => {
                let details = vec![
                    format!("our key is {key} ({})", self.target.identity.display()),
                    "the host lets in whom its host.toml lists: [api.client.NAME], key, role"
                        .to_owned(),
                ];
                Error::Refused { message, details }
            }
            (error, _) => error,
        }
    }
}

enum Broken {
    /// The connection, at whatever point.
    Connection(io::Error),
    /// Nothing has been sent.
    Before(Error),
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// No key is pinned for this host: says which one it shows.
fn unknown_host(target: &Target) -> Error {
    match tls::connect(&target.address, None, None) {
        Ok((_, shown)) => Error::HostKey {
            message: format!("the key of {} is not known yet", target.label),
            details: vec![
                format!("it shows {shown}; the host's console shows its key, too"),
                format!("if they are the same: keel trust {}", target.label),
            ],
        },
        Err(NoConnection::Other(error)) => error,
        // Nothing was pinned.
        Err(NoConnection::OtherKey(shown)) => other_key(target, shown),
    }
}

/// The host shows another key than the pinned one.
pub fn other_key(target: &Target, shown: Fingerprint) -> Error {
    let mut details = vec![
        "SOMEBODY MAY BE LISTENING IN, or the host was set up anew.".to_owned(),
        format!("pinned: {}", target.pin.key().map(|key| key.to_string()).unwrap_or_default()),
        format!("shown:  {shown}"),
    ];
    let label = &target.label;
    details.push(match &target.pin {
        Pin::Named(_, name) => format!(
            "if the new key is the host's own (its console shows it), change `key` of [host.{name}] in hosts.toml"
        ),
        Pin::Run(..) => format!(
            "a host without a data disk has a new key after every boot: keel trust --repin {label}"
        ),
        Pin::Known(_) | Pin::None => format!(
            "if the new key is the host's own (its console shows it): keel trust --repin {label}"
        ),
    });
    Error::HostKey { message: format!("THE KEY OF {label} HAS CHANGED"), details }
}

/// What the host says when it does not do it. The word is for programs and may be one we do not know.
#[derive(Deserialize)]
struct Body {
    error: Inner,
}

#[derive(Deserialize)]
struct Inner {
    code: String,
    message: String,
    #[serde(default)]
    details: Vec<String>,
}

fn problem(status: u16, body: &[u8]) -> Error {
    let Inner { code, message, details } = match serde_json::from_slice::<Body>(body) {
        Ok(body) => body.error,
        Err(_) => Inner {
            code: "http".to_owned(),
            message: format!("the host answers with HTTP status {status}"),
            details: String::from_utf8_lossy(body).lines().take(5).map(str::to_owned).collect(),
        },
    };
    match status {
        401 | 403 => Error::Refused { message, details },
        _ => Error::Failed { code, message, details },
    }
}

/// An answer as what it should be.
pub fn typed<T: DeserializeOwned>(value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| Error::garbled(error.to_string()))
}

/// A stream of events from a host.
pub struct Stream<'a> {
    client: &'a mut Client,
    parser: Parser,
    ready: VecDeque<SseEvent>,
}

impl Stream<'_> {
    /// The next event; `None` when the host has ended the stream.
    pub fn next_event(&mut self) -> Result<Option<SseEvent>, Error> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let piece = self.client.piece()?;
            if piece.is_empty() {
                return Ok(None);
            }
            let events = self.parser.push(&piece);
            self.ready.extend(events.map_err(|error| Error::garbled(error.to_string()))?);
        }
    }
}
