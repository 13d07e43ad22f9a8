//! The supervisor's side of the API: who may ask what, and the answers.
//!
//! The `api` process says whose key asks; only here is decided what that key may do. Nothing it says
//! is believed beyond that, and nothing waits for it.

use crate::kernel::{EpollFlags, Errno, Kernel, Source};
use crate::requests::execs::Execs;
use crate::requests::queries;
use crate::shell::{Fds, Shell};
use ipc::api::{
    Answer, ApiRequest, Client, Code, FromApi, LogRing, MAX_INLINE, Refusal, Role, ToApi,
};
use ipc::control::Request;
use ipc::{ChannelError, Link, Outbox};
use layout::Cmdline;
use policy::{Report, State};
use serde::Serialize;
use serde_json::Value;

/// Messages taken before the others get their turn.
const MESSAGES_PER_TURN: usize = 32;

/// Messages that wait for `api`; with more of them it hears of no events.
const MAX_WAITING: usize = 1024;

/// From the answer to a shutdown that was asked for through `api` to the shutdown: so that whoever
/// asked hears that it was heard. With few units the host is down sooner than an answer travels.
const LAST_WORD_MS: u64 = 500;

/// The link to `api`.
pub struct Api<K: Kernel> {
    /// Each `api` has its own; `None` from its end to the start of the next.
    link: Option<K::Link>,
    outbox: Outbox<ToApi, Fds<K>>,
    clients: Vec<Client>,
    /// There is an `api` that has said hello.
    greeted: bool,
    pub(crate) execs: Execs<K::Fd>,
}

/// Why something is refused.
pub(crate) fn refusal(code: Code, message: impl Into<String>) -> Refusal {
    Refusal { code, message: message.into() }
}

/// What is said instead of an answer that cannot be sent.
fn unsendable(id: u64, error: &dyn std::error::Error) -> ToApi {
    let why = refusal(Code::Failed, format!("the answer cannot be sent: {error}"));
    ToApi::Answer { id, answer: Some(Answer::Refused(why)) }
}

/// An answer with the descriptors that go with it, or why there is none. `Ok(None)`: it comes later.
pub(crate) type Done<K> = Result<Option<(Value, Fds<K>)>, Refusal>;

impl<K: Kernel> Api<K> {
    /// Has no link yet.
    pub fn new(clients: Vec<Client>) -> Api<K> {
        Api {
            link: None,
            outbox: Outbox::default(),
            clients,
            greeted: false,
            execs: Execs::default(),
        }
    }

    /// Takes the link to another `api`. One that was there before this supervisor has said hello to
    /// its predecessor (`greeted`): it is told at once what is true now.
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

    /// Lets go of the link, which would report its end for ever, and of all that was for whoever had
    /// the other end.
    fn disconnect(&mut self, kernel: &mut K) {
        let Some(link) = self.link.take() else { return };
        kernel.unwatch(&Source::Api, link.as_ref());
        // PID 1 has a copy: only this tells an `api` that lives on that it has no link any more.
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
            // No message is empty: this is how a closed link reads.
            Err(error) if error.is_closed() => {
                log::info!("api: its link has ended");
                self.disconnect(kernel);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends, now or as soon as it is taken.
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
            // No question stays without an answer.
            if let Some(id) = asked {
                self.outbox.push(unsendable(id, &error), Vec::new());
            }
        }
    }

    /// Whether it leaves unread what it asked for: one that keeps to its own limits never has so many
    /// questions, and one that does not is not asked for more.
    fn is_deaf(&self) -> bool {
        self.outbox.len() >= MAX_WAITING
    }

    /// Sends what waits. `true`: something still does.
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

    /// Answers an ask; a long answer goes as a file.
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

/// Whose key it is, if they may ask this.
///
/// # Errors
/// Nobody's, or their role is not enough.
pub fn permit<'a>(
    clients: &'a [Client],
    key: &str,
    request: &ApiRequest,
) -> Result<&'a Client, Refusal> {
    let Some(client) = clients.iter().find(|client| client.key == key) else {
        return Err(refusal(Code::UnknownKey, format!("the key {key} may not call this host")));
    };
    let needed = request.role();
    if client.role < needed {
        let text = format!("{} is a {}; this takes the role {needed}", client.name, client.role);
        return Err(refusal(Code::Forbidden, text));
    }
    if let ApiRequest::Plain { request } = request
        && request.host_only()
    {
        return Err(refusal(Code::Forbidden, "this is not for anybody outside the host"));
    }
    Ok(client)
}

/// Everybody who may call: host.toml's clients, and those that the kernel's command line names for
/// this boot.
pub fn clients(host: &units::model::Host, cmdline: &Cmdline) -> Vec<Client> {
    let role = |role| match role {
        units::model::Role::Reader => Role::Reader,
        units::model::Role::Operator => Role::Operator,
        units::model::Role::Admin => Role::Admin,
    };
    let mut clients: Vec<Client> = host
        .api
        .clients
        .iter()
        .map(|(name, client)| Client {
            name: name.clone(),
            key: client.key.clone(),
            role: role(client.role),
        })
        .collect();
    for word in &cmdline.clients {
        match Client::from_word(word) {
            Some(client) => clients.push(client),
            None => log::warn!("keel.client={word}: not NAME:ROLE:SHA256:…"),
        }
    }
    clients
}

impl<K: Kernel> Shell<K> {
    /// Takes in what `api` says.
    pub(crate) fn read_api(&mut self) {
        for _ in 0..MESSAGES_PER_TURN {
            if self.api.is_deaf() {
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
                // Whatever waits is for one that is gone, and so is whoever looked on.
                self.api.outbox.clear();
                self.api.execs.kill_all(&self.kernel);
                let clients = self.api.clients.clone();
                self.reporter.api(&mut self.kernel, &listens, &host_key);
                self.api.tell(ToApi::Clients { clients }, Vec::new());
            }
            FromApi::Ask { id, key, request } => match self.ask(id, &key, request) {
                Ok(None) => {}
                Ok(Some((value, fds))) => self.api.answer(&self.kernel, id, Answer::Ok(value), fds),
                Err(why) => self.api.answer(&self.kernel, id, Answer::Refused(why), Vec::new()),
            },
            FromApi::Abandon { id } => self.api.execs.kill(&self.kernel, id),
        }
    }

    fn ask(&mut self, id: u64, key: &str, request: ApiRequest) -> Done<K> {
        let client = permit(&self.api.clients, key, &request)?.clone();
        match request {
            ApiRequest::Plain { request } => self.plain(&client, request).map(whole),
            ApiRequest::Whoami => json(&client).map(whole),
            ApiRequest::Log { name } => self.log_ring(&name).map(Some),
            ApiRequest::LogFiles { name } => self.log_files(&name).map(Some),
            ApiRequest::Events { after } => json(&self.events.after(after)).map(whole),
            ApiRequest::Pressure => json(&self.pressure()).map(whole),
            ApiRequest::Processes => json(&self.kernel.processes()).map(whole),
            ApiRequest::Config => json(&self.kernel.config_values()).map(whole),
            ApiRequest::Exec(exec) => {
                self.record(
                    Some(&exec.name),
                    "exec",
                    format!("{} runs {}", client.name, exec.command.join(" ")),
                );
                self.exec(id, &exec).map(|()| None)
            }
            ApiRequest::OpenFile { name, path, write, mode } => {
                let what = if write { "writes" } else { "reads" };
                self.record(Some(&name), "file", format!("{} {what} {path}", client.name));
                self.open_file(&name, &path, write, mode).map(Some)
            }
            ApiRequest::Resize { id, rows, columns } => {
                self.api.execs.resize(&self.kernel, id, rows, columns)?;
                Ok(whole(Value::Null))
            }
        }
    }

    /// What can also be asked on the host itself.
    fn plain(&mut self, client: &Client, request: Request) -> Result<Value, Refusal> {
        let (unit, what) = match &request {
            Request::Unit { name } | Request::Explain { name } | Request::Logs { name, .. } => {
                (Some(name), None)
            }
            Request::Start { name } => (Some(name), Some("start".to_owned())),
            Request::Stop { name } => (Some(name), Some("stop".to_owned())),
            Request::Restart { name } => (Some(name), Some("restart".to_owned())),
            Request::SignalUnit { name, signal } => (Some(name), Some(format!("signal {signal}"))),
            Request::Shutdown { kind } => {
                let kind = *kind;
                let text = format!("{kind:?} asked for by {}", client.name).to_lowercase();
                self.record(None, "shutdown", text.clone());
                self.going_down = Some((self.now().as_millis() + LAST_WORD_MS, kind, text));
                return Ok(Value::Null);
            }
            _ => (None, None),
        };
        if let Some(name) = unit {
            self.known(name)?;
        }
        if let (Some(name), Some(what)) = (unit.cloned(), what) {
            log::info!("{name}: {what} asked for by {}", client.name);
            self.record(Some(&name), "asked", format!("{what} asked for by {}", client.name));
        }
        let code = if request.role() == Role::Operator { Code::Conflict } else { Code::Failed };
        self.carry_out(request).map_err(|message| refusal(code, message))
    }

    /// Begins the shutdown that was asked for, when it is time.
    pub(crate) fn go_down_if_due(&mut self) {
        if self.going_down.as_ref().is_some_and(|(due, _, _)| *due <= self.now().as_millis())
            && let Some((_, kind, reason)) = self.going_down.take()
        {
            self.request_shutdown(kind, reason);
        }
    }

    /// The state of a unit that exists.
    pub(crate) fn known(&self, name: &str) -> Result<State, Refusal> {
        let status = self.core.status(name, self.now());
        let status = status.ok_or_else(|| refusal(Code::NotFound, queries::unknown(name)))?;
        Ok(status.state)
    }

    fn log_files(&self, name: &str) -> Result<(Value, Fds<K>), Refusal> {
        self.known(name)?;
        let Some(disk) = &self.data_disk.path else { return Ok((Value::Null, Vec::new())) };
        let files = self.kernel.log_files(disk, name);
        let files = files.map_err(|error| refusal(Code::Failed, format!("log files: {error}")))?;
        Ok((Value::Null, files))
    }

    fn log_ring(&self, name: &str) -> Result<(Value, Fds<K>), Refusal> {
        self.known(name)?;
        let ring = self.kernel.log_ring(name);
        let ring = ring.map_err(|error| refusal(Code::Failed, format!("the log: {error}")))?;
        let ring = Fds::<K>::from_iter(ring);
        Ok((json(&LogRing { empty: ring.is_empty() })?, ring))
    }

    fn open_file(
        &mut self,
        name: &str,
        path: &str,
        write: bool,
        mode: u32,
    ) -> Result<(Value, Fds<K>), Refusal> {
        let (pid, pidfd) = self.running(name)?;
        let owner = self.runs.of(name).ids().map_or(0, |ids| ids.first);
        let access = match write {
            true => container::Access::Write { mode, owner },
            false => container::Access::Read,
        };
        let opened = self.kernel.open_file(pid, &pidfd, path, access);
        let (file, report) = opened.map_err(|error| {
            let code = match &error {
                container::InsideError::Ended => Code::Conflict,
                container::InsideError::Sys { errno: Errno::ENOENT | Errno::ENOTDIR, .. } => {
                    Code::NotFound
                }
                container::InsideError::Sys {
                    errno: Errno::ENAMETOOLONG | Errno::ELOOP | Errno::EACCES | Errno::EISDIR,
                    ..
                } => Code::Invalid,
                container::InsideError::Path | container::InsideError::NotAFile => Code::Invalid,
                _ => Code::Failed,
            };
            refusal(code, format!("{name}:{path}: {error}"))
        })?;
        Ok((json(&report)?, vec![file]))
    }

    /// The main process of a unit whose program runs.
    pub(crate) fn running(&self, name: &str) -> Result<(i32, K::Fd), Refusal> {
        let state = self.known(name)?;
        let run = self.runs.get(name).and_then(|runtime| runtime.run.as_ref());
        let run = run.filter(|run| run.exec && !run.ended);
        let found =
            run.and_then(|run| Some((run.pid, self.kernel.duplicate(run.pidfd.as_ref()?).ok()?)));
        found.ok_or_else(|| refusal(Code::Conflict, format!("{name} does not run: it is {state}")))
    }

    /// Something has happened.
    pub(crate) fn record(&mut self, unit: Option<&str>, kind: &str, text: String) {
        let record = self.events.add(self.kernel.unix_us(), unit, kind, text);
        self.api.tell(ToApi::Event(record), Vec::new());
    }

    /// News about a unit, for those who look from outside.
    pub(crate) fn record_report(&mut self, unit: &str, report: &Report) {
        self.record(Some(unit), report.kind(), report.to_string());
    }

    /// Watches the link as long as something waits to be sent.
    pub(crate) fn flush_api(&mut self) {
        let waits = self.api.flush();
        let mut flags = if waits { EpollFlags::EPOLLOUT } else { EpollFlags::empty() };
        flags.set(EpollFlags::EPOLLIN, !self.api.is_deaf());
        if let Some(link) = &self.api.link {
            let _ = self.kernel.rewatch(&Source::Api, link.as_ref(), flags);
        }
    }
}

fn json(value: &impl Serialize) -> Result<Value, Refusal> {
    queries::json(value).map_err(|message| refusal(Code::Failed, message))
}

/// An answer without descriptors.
fn whole<F>(value: Value) -> Option<(Value, Vec<F>)> {
    Some((value, Vec::new()))
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

    fn told(link: &Channel) -> Option<ToApi> {
        link.recv::<ToApi>().unwrap().map(|received| received.message)
    }

    #[test]
    fn a_link_that_an_api_shuts_down_wakes_nobody_again_and_the_next_one_serves() {
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
            // What was said before is heard.
            assert_eq!(api.next(&mut kernel).unwrap(), Some(hello()));
            api.greeted = true;
            assert_eq!(api.next(&mut kernel).unwrap(), None);
            assert_eq!(kernel.wait(Some(0)), []);
            api.answer(&kernel, 1, Answer::Ok(Value::Null), Vec::new());
            assert!(!api.flush());

            let (ours, theirs) = Channel::pair().unwrap();
            api.connect(&mut kernel, ours, false);
            theirs.send(&hello(), &[]).unwrap();
            assert_eq!(kernel.wait(Some(0)), [(Source::Api, EpollFlags::EPOLLIN)]);
            assert_eq!(api.next(&mut kernel).unwrap(), Some(hello()));
            api.greeted = true;
            api.answer(&kernel, 2, Answer::Ok(Value::Null), Vec::new());
            assert!(matches!(told(&theirs), Some(ToApi::Answer { id: 2, .. })));
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
            api.answer(&kernel, 1, Answer::Ok(Value::Null), Vec::new());
        }
        // The end of the old one may be noticed later than the start of the new one.
        let (ours, new) = Channel::pair().unwrap();
        api.connect(&mut kernel, ours, false);
        assert!(!api.flush());
        assert_eq!(told(&new), None);
        // One that was there before is told what is true now.
        let (ours, known) = Channel::pair().unwrap();
        api.connect(&mut kernel, ours, true);
        assert_eq!(told(&known), Some(ToApi::Clients { clients: Vec::new() }));
        drop(old);
    }
}
