//! The supervisor's side of the API: who may make which request, and the answers.
//!
//! The `api` process names the key that a request comes from; what that key may do is decided
//! only here. The supervisor trusts nothing else from `api`, and never waits for it.

use crate::kernel::{EpollFlags, Errno, Kernel, Source};
use crate::requests::execs::Execs;
use crate::requests::queries::{not_running, unknown};
use crate::shell::{Fds, Shell};
use api_types::{Action, Client, ErrorCode, EventKind, Problem, State};
use ipc::api::{ApiRequest, FromApi, MAX_INLINE, ToApi};
use ipc::control::Request;
use ipc::{Answer, ChannelError, Link, Outbox, Reply};
use layout::Cmdline;

/// Messages handled before other sources get their turn.
const MESSAGES_PER_TURN: usize = 32;

/// Maximum number of messages queued for `api`; beyond it events are dropped and requests are not
/// read.
const MAX_WAITING: usize = 1024;

/// Delay between the answer to a shutdown request and the shutdown, so that the answer reaches the
/// client: with few units the host would be down before the answer was sent.
const SHUTDOWN_DELAY_MS: u64 = 500;

/// The link to `api`.
pub struct Api<K: Kernel> {
    /// Each `api` process has its own link; none between the end of one and the start of the next.
    link: Option<K::Link>,
    outbox: Outbox<ToApi, Fds<K>>,
    clients: Vec<Client>,
    /// The `api` process has sent [`FromApi::Hello`].
    greeted: bool,
    pub(crate) execs: Execs<K::Fd>,
}

/// The answer to a request whose own answer cannot be sent.
fn unsendable(id: u64, error: &dyn std::error::Error) -> ToApi {
    let why = Problem::failed(format!("cannot send the answer: {error}"));
    ToApi::Answer { id, answer: Some(Answer::Refused(why)) }
}

/// A reply with the descriptors that go with it.
type WithFds<K> = (Reply, Fds<K>);

impl<K: Kernel> Api<K> {
    /// Without a link.
    pub fn new(clients: Vec<Client>) -> Api<K> {
        Api {
            link: None,
            outbox: Outbox::default(),
            clients,
            greeted: false,
            execs: Execs::default(),
        }
    }

    /// Takes the link to a new `api` process. One that is older than this supervisor has sent its
    /// hello to the predecessor (`greeted`): it receives the list of clients immediately.
    pub(crate) fn connect(&mut self, kernel: &mut K, link: K::Link, greeted: bool) {
        self.disconnect(kernel);
        let watched = kernel.watch(Source::Api, link.as_ref(), EpollFlags::EPOLLIN);
        self.link = Some(link);
        if let Err(error) = watched {
            log::error!("api: {error}");
            return self.disconnect(kernel);
        }
        self.greeted = greeted;
        let clients = self.clients.clone();
        self.tell(ToApi::Clients { clients }, Vec::new());
    }

    /// Drops the link, which would be reported as closed continuously, and everything queued for
    /// it.
    fn disconnect(&mut self, kernel: &mut K) {
        let Some(link) = self.link.take() else { return };
        kernel.unwatch(&Source::Api, link.as_ref());
        // PID 1 has a copy: only this tells an `api` that is still running that its link is closed.
        kernel.shut_down(&link);
        self.greeted = false;
        self.outbox.clear();
        self.execs.kill_all(kernel);
    }

    /// The next message, or `None` when there is none now.
    fn next(&mut self, kernel: &mut K) -> Result<Option<FromApi>, ChannelError> {
        let Some(link) = &self.link else { return Ok(None) };
        match link.recv::<FromApi>() {
            Ok(received) => Ok(received.map(|received| received.message)),
            // A closed link reads as an empty message.
            Err(error) if error.is_closed() => {
                log::info!("api: link closed");
                self.disconnect(kernel);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends a message, now or as soon as the link accepts it.
    pub(crate) fn tell(&mut self, message: ToApi, fds: Fds<K>) {
        let Some(link) = self.link.as_ref().filter(|_| self.greeted) else { return };
        if matches!(message, ToApi::Event(_)) && self.outbox.len() >= MAX_WAITING {
            return;
        }
        let asked = match &message {
            ToApi::Answer { id, .. } => Some(*id),
            _ => None,
        };
        if let Err(error) = self.outbox.send(link, message, fds) {
            log::error!("api: {error}");
            // Every request is answered.
            if let Some(id) = asked {
                self.outbox.push(unsendable(id, &error), Vec::new());
            }
        }
    }

    /// Whether too many messages are queued. An `api` that respects its own limits never has this
    /// many requests waiting; from one that does not, no more requests are accepted.
    fn is_backlogged(&self) -> bool {
        self.outbox.len() >= MAX_WAITING
    }

    /// Sends waiting messages. `true`: some are left.
    pub(crate) fn flush(&mut self) -> bool {
        if let Some(link) = &self.link
            && let Err(error) = self.outbox.flush(link)
        {
            log::error!("api: {error}");
        }
        self.outbox.is_blocked()
    }

    /// Whether messages wait for the kernel; see [`Outbox::is_stalled`].
    pub(crate) fn is_stalled(&self) -> bool {
        self.outbox.is_stalled()
    }

    /// Answers a request; a long answer is sent as a file.
    pub(crate) fn answer(&mut self, kernel: &K, id: u64, answer: Answer, fds: Fds<K>) {
        let text = serde_json::to_vec(&answer).unwrap_or_default();
        if text.len() <= MAX_INLINE {
            self.tell(ToApi::Answer { id, answer: Some(answer) }, fds);
            return;
        }
        match kernel.memory_file(&text) {
            Ok(file) => self.tell(ToApi::Answer { id, answer: None }, vec![file]),
            Err(error) => self.tell(unsendable(id, &error), Vec::new()),
        }
    }
}

/// The client that holds this key, if it may make this request.
///
/// # Errors
/// The key is not listed, or its role is not sufficient.
pub fn permit<'a>(
    clients: &'a [Client],
    key: &str,
    request: &ApiRequest,
) -> Result<&'a Client, Problem> {
    let Some(client) = clients.iter().find(|client| client.key == key) else {
        let message = format!("key {key} is not listed in host.toml");
        return Err(Problem::new(ErrorCode::UnknownKey, message));
    };
    let required = request.role();
    if client.role < required {
        let (name, role) = (&client.name, client.role);
        let message = format!("{name} has role {role}; this request requires {required}");
        return Err(Problem::new(ErrorCode::Forbidden, message));
    }
    if let ApiRequest::Plain { request } = request
        && request.host_only()
    {
        let message = "this request is accepted on the host's control socket only";
        return Err(Problem::new(ErrorCode::Forbidden, message));
    }
    Ok(client)
}

/// The clients of host.toml, and those that the kernel's command line names for this boot.
pub fn clients(host: &units::model::Host, cmdline: &Cmdline) -> Vec<Client> {
    let configured = host.api.clients.iter().map(|(name, client)| Client {
        name: name.clone(),
        key: client.key.clone(),
        role: client.role,
    });
    let mut clients: Vec<Client> = configured.collect();
    for word in &cmdline.clients {
        match word.parse::<Client>() {
            Ok(client) => clients.push(client),
            Err(error) => log::warn!("keel.client={word}: {error}"),
        }
    }
    clients
}

impl<K: Kernel> Shell<K> {
    /// Handles the messages of `api`.
    pub(crate) fn read_api(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            if self.api.is_backlogged() {
                return;
            }
            match self.api.next(&mut self.kernel) {
                Ok(None) => return,
                Ok(Some(message)) => self.api_says(message),
                Err(error) => log::warn!("api: {error}"),
            }
        }
    }

    fn api_says(&mut self, message: FromApi) {
        self.api.greeted = true;
        match message {
            FromApi::Hello { host_key, listens } => {
                // Queued messages and running programs belong to an earlier `api` process.
                self.api.outbox.clear();
                self.api.execs.kill_all(&self.kernel);
                let clients = self.api.clients.clone();
                self.reporter.api(&mut self.kernel, &listens, &host_key);
                self.api.tell(ToApi::Clients { clients }, Vec::new());
            }
            FromApi::Ask { id, key, request } => match self.ask(id, &key, request) {
                Ok(None) => {}
                Ok(Some((reply, fds))) => self.api.answer(&self.kernel, id, Answer::Ok(reply), fds),
                Err(why) => self.api.answer(&self.kernel, id, Answer::Refused(why), Vec::new()),
            },
            FromApi::Abandon { id } => self.api.execs.kill(&self.kernel, id),
        }
    }

    /// `Ok(None)`: the answer comes later.
    fn ask(
        &mut self,
        id: u64,
        key: &str,
        request: ApiRequest,
    ) -> Result<Option<WithFds<K>>, Problem> {
        let client = permit(&self.api.clients, key, &request)?.clone();
        let reply = match request {
            ApiRequest::Plain { request } => self.plain(client.name, request)?,
            ApiRequest::Whoami => Reply::Client(client),
            ApiRequest::Log { name } => return self.log_ring(&name).map(Some),
            ApiRequest::LogFiles { name } => return self.log_files(&name).map(Some),
            ApiRequest::Events { after } => Reply::Events(self.events.after(after)),
            ApiRequest::Pressure => Reply::Pressure(self.pressure()),
            ApiRequest::Processes => Reply::Processes(self.kernel.processes()),
            ApiRequest::Config => Reply::Config(self.kernel.config_values()),
            ApiRequest::Exec { name, program } => {
                let command = program.command.clone();
                self.record(Some(&name), EventKind::Exec { client: client.name, command });
                return self.exec(id, &name, &program).map(|()| None);
            }
            ApiRequest::OpenFile { name, path, write, mode } => {
                let event = EventKind::File { client: client.name, path: path.clone(), write };
                self.record(Some(&name), event);
                return self.open_file(&name, &path, write, mode).map(Some);
            }
            ApiRequest::Resize { id, rows, columns } => {
                self.api.execs.resize(&self.kernel, id, rows, columns)?;
                Reply::Done
            }
        };
        Ok(Some((reply, Vec::new())))
    }

    /// A request that the control socket accepts too.
    fn plain(&mut self, client: String, request: Request) -> Result<Reply, Problem> {
        let (name, action, signal) = match &request {
            Request::Start { name } => (name, Action::Start, None),
            Request::Stop { name } => (name, Action::Stop, None),
            Request::Restart { name } => (name, Action::Restart, None),
            Request::SignalUnit { name, signal } => (name, Action::Signal, Some(*signal)),
            Request::Shutdown { kind } => {
                let how = *kind;
                let event = EventKind::Shutdown { client, how };
                let reason = event.to_string();
                self.record(None, event);
                self.pending_shutdown =
                    Some((self.now().as_millis() + SHUTDOWN_DELAY_MS, how, reason));
                return Ok(Reply::Done);
            }
            _ => return self.carry_out(request),
        };
        self.known(name)?;
        let event = EventKind::Asked { client, action, signal };
        log::info!("{name}: {event}");
        self.record(Some(name), event);
        self.carry_out(request)
    }

    /// Begins a requested shutdown, when it is due.
    pub(crate) fn go_down_if_due(&mut self) {
        if self.pending_shutdown.as_ref().is_some_and(|(due, _, _)| *due <= self.now().as_millis())
            && let Some((_, kind, reason)) = self.pending_shutdown.take()
        {
            self.request_shutdown(kind, reason);
        }
    }

    /// The state of a unit.
    ///
    /// # Errors
    /// The host has no unit of this name.
    pub(crate) fn known(&self, name: &str) -> Result<State, Problem> {
        let status = self.core.status(name, self.now()).ok_or_else(|| unknown(name))?;
        Ok(status.state)
    }

    fn log_files(&self, name: &str) -> Result<WithFds<K>, Problem> {
        self.known(name)?;
        let Some(disk) = &self.data_disk.path else { return Ok((Reply::Done, Vec::new())) };
        let files = self.kernel.log_files(disk, name);
        let files = files.map_err(|error| Problem::failed(format!("log files: {error}")))?;
        Ok((Reply::Done, files))
    }

    fn log_ring(&self, name: &str) -> Result<WithFds<K>, Problem> {
        self.known(name)?;
        let ring = self.kernel.log_ring(name);
        let ring = ring.map_err(|error| Problem::failed(format!("log of {name}: {error}")))?;
        Ok((Reply::Done, Fds::<K>::from_iter(ring)))
    }

    fn open_file(
        &mut self,
        name: &str,
        path: &str,
        write: bool,
        mode: u32,
    ) -> Result<WithFds<K>, Problem> {
        let (pid, pidfd) = self.running(name)?;
        let owner = self.runs.of(name).ids().map_or(0, |ids| ids.first);
        let access = match write {
            true => container::Access::Write { mode, owner },
            false => container::Access::Read,
        };
        let opened = self.kernel.open_file(pid, &pidfd, path, access);
        let (file, opened) = opened.map_err(|error| {
            let code = match &error {
                container::InsideError::Ended => ErrorCode::Conflict,
                container::InsideError::Sys { errno: Errno::ENOENT | Errno::ENOTDIR, .. } => {
                    ErrorCode::NotFound
                }
                container::InsideError::Sys {
                    errno: Errno::ENAMETOOLONG | Errno::ELOOP | Errno::EACCES | Errno::EISDIR,
                    ..
                } => ErrorCode::Invalid,
                container::InsideError::Path | container::InsideError::NotAFile => {
                    ErrorCode::Invalid
                }
                _ => ErrorCode::Failed,
            };
            Problem::new(code, format!("{name}:{path}: {error}"))
        })?;
        Ok((Reply::File(opened), vec![file]))
    }

    /// The main process of a unit whose program runs.
    pub(crate) fn running(&self, name: &str) -> Result<(i32, K::Fd), Problem> {
        let state = self.known(name)?;
        let run = self.runs.get(name).and_then(|runtime| runtime.run.as_ref());
        let run = run.filter(|run| run.exec && !run.ended);
        let found =
            run.and_then(|run| Some((run.pid, self.kernel.duplicate(run.pidfd.as_ref()?).ok()?)));
        found.ok_or_else(|| not_running(name, state))
    }

    /// Records an event and passes it on to followers.
    pub(crate) fn record(&mut self, unit: Option<&str>, kind: EventKind) {
        let event = self.events.add(self.kernel.unix_us(), unit, kind);
        self.api.tell(ToApi::Event(event), Vec::new());
    }

    /// Watches the link for writing while messages are queued.
    pub(crate) fn flush_api(&mut self) {
        let waits = self.api.flush();
        let mut flags = if waits { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        flags.set(EpollFlags::EPOLLIN, !self.api.is_backlogged());
        if let Some(link) = &self.api.link {
            let _ = self.kernel.rewatch(&Source::Api, link.as_ref(), flags);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::linux::Linux;
    use ipc::Channel;
    use nix::sys::socket::{Shutdown, shutdown};
    use std::os::fd::{AsFd, AsRawFd};

    fn hello() -> FromApi {
        FromApi::Hello { host_key: String::new(), listens: String::new() }
    }

    fn received(link: &Channel) -> Option<ToApi> {
        link.recv::<ToApi>().unwrap().map(|received| received.message)
    }

    #[test]
    fn a_link_that_api_shuts_down_causes_no_more_wakeups_and_the_next_one_works() {
        for how in [Shutdown::Write, Shutdown::Both] {
            let mut kernel = Linux::new().unwrap();
            let mut api = Api::new(Vec::new());
            assert!(matches!(api.next(&mut kernel), Ok(None)));
            let (ours, theirs) = Channel::pair().unwrap();
            // PID 1 has a copy, which keeps a closed descriptor in the set.
            let kept = ours.as_fd().try_clone_to_owned().unwrap();
            api.connect(&mut kernel, ours, false);
            theirs.send(&hello(), &[]).unwrap();
            shutdown(theirs.as_fd().as_raw_fd(), how).unwrap();
            assert_eq!(kernel.wait(Some(0)).len(), 1);
            // Messages sent before are received.
            assert_eq!(api.next(&mut kernel).unwrap(), Some(hello()));
            api.greeted = true;
            assert_eq!(api.next(&mut kernel).unwrap(), None);
            assert_eq!(kernel.wait(Some(0)), []);
            api.answer(&kernel, 1, Answer::Ok(Reply::Done), Vec::new());
            assert!(!api.flush());

            let (ours, theirs) = Channel::pair().unwrap();
            api.connect(&mut kernel, ours, false);
            theirs.send(&hello(), &[]).unwrap();
            assert_eq!(kernel.wait(Some(0)), [(Source::Api, EpollFlags::EPOLLIN)]);
            assert_eq!(api.next(&mut kernel).unwrap(), Some(hello()));
            api.greeted = true;
            api.answer(&kernel, 2, Answer::Ok(Reply::Done), Vec::new());
            assert!(matches!(received(&theirs), Some(ToApi::Answer { id: 2, .. })));
            drop(kept);
        }
    }

    #[test]
    fn what_waits_for_an_api_does_not_go_to_the_next_one() {
        let mut kernel = Linux::new().unwrap();
        let mut api = Api::new(Vec::new());
        let (ours, old) = Channel::pair().unwrap();
        api.connect(&mut kernel, ours, true);
        while !api.flush() {
            api.answer(&kernel, 1, Answer::Ok(Reply::Done), Vec::new());
        }
        // The end of the old one may be noticed later than the start of the new one.
        let (ours, new) = Channel::pair().unwrap();
        api.connect(&mut kernel, ours, false);
        assert!(!api.flush());
        assert_eq!(received(&new), None);
        // One that is older than this supervisor receives the present list.
        let (ours, known) = Channel::pair().unwrap();
        api.connect(&mut kernel, ours, true);
        assert_eq!(received(&known), Some(ToApi::Clients { clients: Vec::new() }));
        drop(old);
    }
}
