//! A supervisor with one unit, `web`, whose container is this machine.

use super::until;
use ipc::api::{
    Answer, ApiRequest, Client, Code, EventRecord, FileReport, FromApi, LogRing, Refusal, ToApi,
};
use ipc::control::Request;
use ipc::{Channel, ChannelError, ExitStatus};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

/// What has come, and how to behave.
pub struct Heard {
    pub hellos: Vec<(String, String)>,
    pub asks: Vec<(String, ApiRequest)>,
    pub abandoned: Vec<u64>,
    pub clients: Vec<Client>,
    /// Takes questions in and answers none.
    pub silent: bool,
    /// Answers by file.
    pub by_file: bool,
    pub unit: Value,
    /// What the unit becomes when it is asked to start, restart or stop.
    pub becomes: Value,
    /// Does at once what it is asked, instead of what `becomes` says, and runs no program: for
    /// clients who ask for anything.
    pub obliging: bool,
    pub events: Vec<EventRecord>,
    /// The far end of the terminal of the last program with one.
    pub terminal: Option<UnixStream>,
}

type Refused = (Code, String);

#[derive(Clone)]
pub struct Supervisor {
    link: Arc<Channel>,
    heard: Arc<Mutex<Heard>>,
    directory: PathBuf,
}

pub fn unit(state: &str, ready: bool, generation: u64) -> Value {
    json!({
        "name": "web", "state": state, "ready": ready, "generation": generation, "desired": "up",
        "by": {"unit": "app"}, "memory": 4096, "ports": ["8080:80"], "address": "10.88.0.2",
        "log": {"lines": 3, "bytes": 9}, "pid": null, "health": {"state": "healthy"},
        "last_exit": {"cause": "code", "detail": 1, "at": 5, "asked": false, "ran_ms": 2},
        "colour": "blue",
    })
}

impl Supervisor {
    pub fn start(
        link: Channel,
        clients: Vec<Client>,
        directory: PathBuf,
        silent: bool,
    ) -> Supervisor {
        let heard = Heard {
            hellos: Vec::new(),
            asks: Vec::new(),
            abandoned: Vec::new(),
            clients,
            silent,
            by_file: false,
            unit: unit("running", true, 1),
            becomes: unit("running", true, 2),
            obliging: false,
            events: Vec::new(),
            terminal: None,
        };
        let heard = Arc::new(Mutex::new(heard));
        let supervisor = Supervisor { link: Arc::new(link), heard, directory };
        let running = supervisor.clone();
        std::thread::spawn(move || running.run());
        supervisor
    }

    pub fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap()
    }

    pub fn wait_for<T>(&self, look: impl Fn(&mut Heard) -> Option<T>) -> T {
        until(|| look(&mut self.heard()))
    }

    pub fn ring(&self) -> PathBuf {
        self.directory.join("ring")
    }

    /// The logger's folder on the data disk.
    pub fn logs(&self) -> PathBuf {
        self.directory.join("logs")
    }

    pub fn send(&self, message: &ToApi, fds: Vec<OwnedFd>) {
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        loop {
            match self.link.send(message, &fds) {
                Err(ChannelError::WouldBlock) => std::thread::yield_now(),
                result => return result.unwrap(),
            }
        }
    }

    pub fn set_clients(&self, clients: Vec<Client>) {
        self.heard().clients = clients.clone();
        self.send(&ToApi::Clients { clients }, Vec::new());
    }

    pub fn happens(&self, seq: u64, unit: Option<&str>, kind: &str) {
        let event = EventRecord {
            seq,
            time_us: 1,
            unit: unit.map(Into::into),
            kind: kind.to_owned(),
            text: format!("{kind} it is"),
        };
        self.heard().events.push(event.clone());
        self.send(&ToApi::Event(event), Vec::new());
    }

    fn run(self) {
        loop {
            let _ =
                poll(&mut [PollFd::new(self.link.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
            while let Ok(received) = self.link.recv::<FromApi>() {
                let Some(received) = received else { break };
                self.take(received.message);
            }
        }
    }

    fn take(&self, message: FromApi) {
        match message {
            FromApi::Hello { host_key, listens } => {
                if !self.heard().silent {
                    let clients = self.heard().clients.clone();
                    self.send(&ToApi::Clients { clients }, Vec::new());
                }
                self.heard().hellos.push((host_key, listens));
            }
            FromApi::Abandon { id } => self.heard().abandoned.push(id),
            FromApi::Ask { id, key, request } => {
                self.heard().asks.push((key.clone(), request.clone()));
                if self.heard().silent {
                    return;
                }
                let mut fds = Vec::new();
                let answer = match self.answer(id, &key, request, &mut fds) {
                    Ok(value) => Answer::Ok(value),
                    Err((code, message)) => Answer::Refused(Refusal { code, message }),
                };
                if self.heard().by_file {
                    let path = self.directory.join(format!("answer-{id}"));
                    let mut options = OpenOptions::new();
                    options.create(true).read(true).write(true).truncate(true);
                    let mut file = options.open(path).unwrap();
                    file.write_all(&serde_json::to_vec(&answer).unwrap()).unwrap();
                    self.send(&ToApi::Answer { id, answer: None }, vec![file.into()]);
                } else {
                    self.send(&ToApi::Answer { id, answer: Some(answer) }, fds);
                }
            }
        }
    }

    fn answer(
        &self,
        id: u64,
        key: &str,
        request: ApiRequest,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<Value, (Code, String)> {
        let client = self.heard().clients.iter().find(|client| client.key == key).cloned();
        let client = client.ok_or((Code::UnknownKey, "who?".to_owned()))?;
        if client.role < request.role() {
            return Err((Code::Forbidden, format!("{} is {}", client.name, client.role)));
        }
        let known = |name: &str| match name {
            "web" => Ok(()),
            _ => Err((Code::NotFound, format!("there is no unit {name}"))),
        };
        match request {
            ApiRequest::Whoami => Ok(serde_json::to_value(client).unwrap()),
            ApiRequest::Plain { request } => self.plain(request, &known),
            ApiRequest::Log { name } => {
                known(&name)?;
                let file = File::open(self.ring()).ok();
                let empty = file.is_none();
                fds.extend(file.map(OwnedFd::from));
                Ok(serde_json::to_value(LogRing { empty }).unwrap())
            }
            ApiRequest::LogFiles { name } => {
                known(&name)?;
                fds.extend(logger::history::open(&self.logs(), &name).unwrap());
                Ok(Value::Null)
            }
            ApiRequest::Events { after } => {
                let events = self.heard().events.clone();
                let later = events.into_iter().filter(|event| event.seq > after);
                Ok(serde_json::to_value(later.collect::<Vec<_>>()).unwrap())
            }
            ApiRequest::Pressure => Ok(json!({ "web": { "cpu": { "some_us": 1_500_000 } } })),
            ApiRequest::Processes => Ok(json!([
                {"pid": 1, "parent": 0, "name": "keel-os", "command": "/init", "state": "S",
                    "rss": 700_000, "cpu_ms": 120, "uid": 0},
                {"pid": 70, "parent": 40, "unit": "web", "name": "httpd", "command": "httpd -f",
                    "state": "S", "rss": 90_000, "cpu_ms": 3, "uid": 1000},
            ])),
            ApiRequest::Config => Ok(json!([
                {"key": "hostname", "value": "\"box\"", "origin": "host.toml:1"},
                {"unit": "web", "key": "container.image", "value": "\"./images/web\"",
                    "origin": "units/web.toml:2"},
            ])),
            ApiRequest::Exec(exec) => {
                known(&exec.name)?;
                if self.heard().obliging {
                    return Err((Code::Conflict, "no programs here".to_owned()));
                } else if exec.tty.is_some() {
                    let (near, far) = UnixStream::pair().unwrap();
                    self.heard().terminal = Some(far);
                    fds.push(near.into());
                } else {
                    self.exec(id, &exec.command, fds)?;
                }
                Ok(Value::Null)
            }
            ApiRequest::OpenFile { name, path, write, mode } => {
                known(&name)?;
                // The directory is all there is: nothing is above it.
                if path.split('/').any(|part| part == "..") {
                    return Err((Code::NotFound, "no `..` here".to_owned()));
                }
                let path = self.directory.join(path.trim_start_matches('/'));
                let mut options = OpenOptions::new();
                options.read(!write).write(write).create(write).truncate(write).mode(mode);
                let file =
                    options.open(path).map_err(|error| (Code::NotFound, error.to_string()))?;
                let metadata = file.metadata().unwrap();
                if !metadata.is_file() {
                    return Err((Code::NotFound, "no regular file".to_owned()));
                }
                let size = metadata.len();
                fds.push(file.into());
                Ok(serde_json::to_value(FileReport { size, mode: 0o100640 }).unwrap())
            }
            ApiRequest::Resize { .. } => Ok(Value::Null),
        }
    }

    fn plain(
        &self,
        request: Request,
        known: &dyn Fn(&str) -> Result<(), Refused>,
    ) -> Result<Value, Refused> {
        let mut heard = self.heard();
        match request {
            Request::Units => Ok(json!([heard.unit])),
            Request::Unit { name } => known(&name).map(|()| heard.unit.clone()),
            Request::Explain { name } => {
                known(&name).map(|()| json!(["web is as it is", "because"]))
            }
            Request::Start { ref name }
            | Request::Restart { ref name }
            | Request::Stop { ref name } => {
                known(name)?;
                let before = heard.unit.clone();
                if heard.obliging {
                    let run = before["generation"].as_u64().unwrap() + 1;
                    let stop = matches!(request, Request::Stop { .. });
                    heard.unit = unit(if stop { "stopped" } else { "running" }, !stop, run);
                    return Ok(heard.unit.clone());
                }
                heard.unit = heard.becomes.clone();
                Ok(before)
            }
            Request::SignalUnit { name, .. } => known(&name).map(|()| Value::Null),
            Request::Host => Ok(json!({
                "version": "0.1.0", "hostname": "box", "uptime_ms": 5000, "kernel": "6.12.0",
                "net": {"addresses": [["eth0", "10.0.0.7/24"]], "gateway": "10.0.0.1"},
                "memory": {"total": 500_000_000, "available": 400_000_000},
                "boot": {"start_us": 9, "phases": [
                    {"name": "mounts", "note": "", "start_us": 9, "end_us": 70}]},
                "data_disk": {"path": "/data", "reason": "/dev/vda", "pending": false},
            })),
            Request::Dmesg => Ok(json!("the kernel says\n")),
            Request::Shutdown { .. } => Ok(Value::Null),
            other => Err((Code::Invalid, format!("{other:?}"))),
        }
    }

    fn exec(
        &self,
        id: u64,
        command: &[String],
        fds: &mut Vec<OwnedFd>,
    ) -> Result<(), (Code, String)> {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| (Code::Failed, error.to_string()))?;
        fds.push(child.stdin.take().unwrap().into());
        fds.push(child.stdout.take().unwrap().into());
        fds.push(child.stderr.take().unwrap().into());
        let supervisor = self.clone();
        std::thread::spawn(move || {
            let status = child.wait().unwrap();
            let status = match status.code() {
                Some(code) => ExitStatus::Code(code),
                None => ExitStatus::Signal(status.signal().unwrap()),
            };
            supervisor.send(&ToApi::Exited { id, status }, Vec::new());
        });
        Ok(())
    }
}
