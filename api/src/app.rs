//! What all connections share.

use crate::connections::Connections;
use crate::error::Error;
use crate::follow::Rings;
use crate::link::{Link, Reply, Wire, away};
use crate::past;
use crate::server::Limits;
use api_types::ErrorCode;
use ipc::api::{ApiRequest, Client, EventRecord, ToApi};
use ipc::control::Request;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Semaphore, broadcast};

/// Events that a follower may be behind before it asks the supervisor for what it missed.
const EVENTS: usize = 256;

/// What all connections share.
#[derive(Debug)]
pub struct App {
    /// To the supervisor.
    pub link: Rc<Link>,
    /// All that is connected.
    pub connections: Rc<Connections>,
    /// How long and how much.
    pub limits: Limits,
    /// The rings that are being followed.
    pub rings: Rings,
    /// Places of those who read log files.
    pub pasts: Arc<Semaphore>,
    /// What happens.
    pub events: broadcast::Sender<Rc<EventRecord>>,
    /// Whoever may call; `None` until the supervisor has said it.
    clients: RefCell<Option<HashMap<String, Rc<Client>>>>,
}

/// Who holds a key.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Somebody on the list.
    Known(Rc<Client>),
    /// Nobody.
    Unknown,
    /// The supervisor has not given the list yet.
    NotYet,
}

impl App {
    /// Nothing is connected, nobody is known.
    pub fn new(supervisor: Wire, limits: Limits) -> App {
        App {
            link: Rc::new(Link::new(supervisor, limits.questions, limits.answer)),
            connections: Rc::new(Connections::new(limits.connections, limits.strangers)),
            rings: Rings::default(),
            pasts: Arc::new(Semaphore::new(past::MAX_READERS)),
            events: broadcast::Sender::new(EVENTS),
            clients: RefCell::new(None),
            limits,
        }
    }

    /// Who holds this key.
    pub fn caller(&self, key: &str) -> Caller {
        match &*self.clients.borrow() {
            None => Caller::NotYet,
            Some(clients) => match clients.get(key) {
                Some(client) => Caller::Known(client.clone()),
                None => Caller::Unknown,
            },
        }
    }

    /// Takes in what the supervisor says unasked.
    pub fn heard(&self, message: ToApi) {
        match message {
            ToApi::Clients { clients } => {
                let by_key = |client: Client| (client.key.clone(), Rc::new(client));
                let known: HashMap<_, _> = clients.into_iter().map(by_key).collect();
                let mut clients = self.clients.borrow_mut();
                let before = clients.replace(known).unwrap_or_default();
                let now = clients.as_ref();
                // Whoever has gone or may do something else now, also in the middle of following a
                // log or of a command: what they once were allowed is not looked at again.
                self.connections.close(|key| now.and_then(|now| now.get(key)) != before.get(key));
            }
            ToApi::Event(event) => {
                // Fails when nobody follows.
                let _ = self.events.send(Rc::new(event));
            }
            ToApi::Answer { .. } | ToApi::Exited { .. } => {}
        }
    }

    /// Asks what can be asked on the host itself.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn plain(&self, key: &str, request: Request) -> Result<Value, Error> {
        Ok(self.link.ask(key, ApiRequest::Plain { request }).await?.value)
    }

    /// The same, for an answer whose shape matters here.
    ///
    /// # Errors
    /// As [`Link::ask`], and that the answer has another shape.
    pub async fn typed<T: DeserializeOwned>(
        &self,
        key: &str,
        request: ApiRequest,
    ) -> Result<(T, Reply), Error> {
        let mut reply = self.link.ask(key, request).await?;
        let value = std::mem::take(&mut reply.value);
        let value = serde_json::from_value(value)
            .map_err(|error| Error::failed(format!("an answer of another shape: {error}")))?;
        Ok((value, reply))
    }
}

/// That this key is refused, and why.
pub fn refused(caller: &Caller, key: &str) -> Option<Error> {
    match caller {
        Caller::Known(_) => None,
        Caller::NotYet => Some(away()),
        Caller::Unknown => {
            let message = format!("this host does not know the key {key}");
            let hint = "host.toml says who may call: [api.client.NAME] with this key";
            Some(Error::new(ErrorCode::UnknownKey, message).details(vec![hint.into()]))
        }
    }
}
