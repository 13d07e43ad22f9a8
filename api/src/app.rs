//! What all connections share.

use crate::connections::Connections;
use crate::error::Error;
use crate::follow::Rings;
use crate::link::{Link, Wire, away};
use crate::log_files;
use crate::server::Limits;
use api_types::{Client, ErrorCode, Event};
use ipc::api::{ApiRequest, ToApi};
use ipc::{Reply, UnexpectedReply};
use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::{Semaphore, broadcast};

/// Events that a follower may be behind before it asks the supervisor for the missed ones.
const EVENTS: usize = 256;

/// What all connections share.
#[derive(Debug)]
pub struct App {
    /// The link to the supervisor.
    pub link: Rc<Link>,
    /// All connections.
    pub connections: Rc<Connections>,
    /// Time and size limits.
    pub limits: Limits,
    /// The rings that are being followed.
    pub rings: Rings,
    /// Limits how many clients read log files at the same time.
    pub log_file_readers: Arc<Semaphore>,
    /// Events as they happen.
    pub events: broadcast::Sender<Rc<Event>>,
    /// The clients by key; `None` until the supervisor has sent the list.
    clients: RefCell<Option<HashMap<String, Rc<Client>>>>,
}

/// The holder of a key.
#[derive(Debug, Clone)]
pub enum Caller {
    /// A client.
    Known(Rc<Client>),
    /// Not listed.
    Unknown,
    /// The supervisor has not sent the list yet.
    NotYet,
}

impl App {
    /// Without connections and without a list of clients.
    pub fn new(supervisor: Wire, limits: Limits) -> App {
        App {
            link: Rc::new(Link::new(supervisor, limits.pending, limits.answer)),
            connections: Rc::new(Connections::new(limits.connections, limits.unauthenticated)),
            rings: Rings::default(),
            log_file_readers: Arc::new(Semaphore::new(log_files::MAX_READERS)),
            events: broadcast::Sender::new(EVENTS),
            clients: RefCell::new(None),
            limits,
        }
    }

    /// The holder of this key.
    pub fn caller(&self, key: &str) -> Caller {
        match &*self.clients.borrow() {
            None => Caller::NotYet,
            Some(clients) => match clients.get(key) {
                Some(client) => Caller::Known(client.clone()),
                None => Caller::Unknown,
            },
        }
    }

    /// Handles a message of the supervisor that is not an answer.
    pub fn heard(&self, message: ToApi) {
        match message {
            ToApi::Clients { clients } => {
                let by_key = |client: Client| (client.key.clone(), Rc::new(client));
                let known: HashMap<_, _> = clients.into_iter().map(by_key).collect();
                let mut clients = self.clients.borrow_mut();
                let before = clients.replace(known).unwrap_or_default();
                let now = clients.as_ref();
                // A client that was removed or has another role loses its connections, even while it
                // follows a log or runs a command: permissions are not checked again later.
                self.connections.close(|key| now.and_then(|now| now.get(key)) != before.get(key));
            }
            ToApi::Event(event) => {
                // Fails without followers.
                let _ = self.events.send(Rc::new(event));
            }
            ToApi::Answer { .. } | ToApi::Exited { .. } => {}
        }
    }

    /// Makes a request for a client; the reply is of the expected kind.
    ///
    /// # Errors
    /// As [`Link::ask`], or the reply is of another kind.
    pub async fn ask<T: TryFrom<Reply>>(
        &self,
        key: &str,
        request: impl Into<ApiRequest>,
    ) -> Result<T, Error> {
        Ok(self.ask_with_fds(key, request).await?.0)
    }

    /// The same, with the descriptors that come with the reply.
    ///
    /// # Errors
    /// As [`App::ask`].
    pub async fn ask_with_fds<T: TryFrom<Reply>>(
        &self,
        key: &str,
        request: impl Into<ApiRequest>,
    ) -> Result<(T, Vec<OwnedFd>), Error> {
        let (reply, fds) = self.link.ask(key, request.into()).await?;
        let reply = T::try_from(reply).map_err(|_| Error::failed(UnexpectedReply.to_string()))?;
        Ok((reply, fds))
    }
}

/// Why this key is refused; `None`: it is not.
pub fn refused(caller: &Caller, key: &str) -> Option<Error> {
    match caller {
        Caller::Known(_) => None,
        Caller::NotYet => Some(away()),
        Caller::Unknown => {
            let message = format!("key {key} is not listed in host.toml");
            let hint = "add it to host.toml: [api.client.NAME] with this key";
            Some(Error::new(ErrorCode::UnknownKey, message).details(vec![hint.into()]))
        }
    }
}
