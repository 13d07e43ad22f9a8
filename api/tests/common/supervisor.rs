//! A supervisor with one unit, `web`, whose container is this machine.

use super::until;
use api_types::{
    BootReport, By, Client, ConfigValue, DataDisk, Desired, ErrorCode, Event, EventKind, ExitCause,
    ExitStatus, Explanation, Health, HealthState, Host, LastExit, LogCounters, Memory, Network,
    Phase, Pressure, Problem, Process, Stall, State, Unit,
};
use ipc::api::{ApiRequest, FromApi, ToApi};
use ipc::control::Request;
use ipc::{Answer, Channel, ChannelError, OpenedFile, Reply};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};

/// What the simulated supervisor has received, and how it behaves.
pub struct SupervisorState {
    pub hellos: Vec<(String, String)>,
    pub asks: Vec<(String, ApiRequest)>,
    pub abandoned: Vec<u64>,
    pub clients: Vec<Client>,
    /// Receives requests and answers none.
    pub silent: bool,
    /// Sends answers in a file.
    pub by_file: bool,
    pub unit: Unit,
    /// What the unit becomes when it is asked to start, restart or stop.
    pub becomes: Unit,
    /// Carries out requests at once, instead of applying `becomes`, and runs no program: for clients
    /// that make arbitrary requests.
    pub obliging: bool,
    /// Refuses every request.
    pub refusal: Option<Problem>,
    pub events: Vec<Event>,
    /// The other end of the last program's terminal.
    pub terminal: Option<UnixStream>,
}

#[derive(Clone)]
pub struct Supervisor {
    link: Arc<Channel>,
    state: Arc<Mutex<SupervisorState>>,
    directory: PathBuf,
}

pub fn unit(state: State, ready: bool, generation: u64) -> Unit {
    Unit {
        state,
        ready,
        generation,
        desired: Desired::Up,
        by: Some(By::Unit("app".to_owned())),
        memory: Some(4096),
        ports: vec!["8080:80".to_owned()],
        address: Some("10.88.0.2".to_owned()),
        log: LogCounters { lines: 3, bytes: 9, ..LogCounters::default() },
        health: Some(Health {
            state: HealthState::Healthy,
            failures: 0,
            error: None,
            last_ok_ms: None,
        }),
        last_exit: Some(LastExit { cause: ExitCause::Code(1), at: 5, asked: false, ran_ms: 2 }),
        ..Unit::new("web")
    }
}

fn host() -> Host {
    let phase = Phase { name: "mounts".to_owned(), note: String::new(), start_us: 9, end_us: 70 };
    Host {
        version: "0.1.0".to_owned(),
        hostname: "box".to_owned(),
        uptime_ms: 5000,
        kernel: Some("6.12.0".to_owned()),
        net: Network {
            addresses: vec![("eth0".to_owned(), "10.0.0.7/24".to_owned())],
            gateway: Some([10, 0, 0, 1].into()),
            ..Network::default()
        },
        problems: Vec::new(),
        data_disk: DataDisk {
            path: Some("/data".to_owned()),
            reason: "/dev/vda".to_owned(),
            pending: false,
        },
        boot: Some(BootReport { start_us: 9, phases: vec![phase] }),
        memory: Some(Memory { total: 500_000_000, available: 400_000_000 }),
        clock: None,
        disks: Vec::new(),
        links: Vec::new(),
        supervisor_cpu_usec: 0,
        persists: 0,
    }
}

fn processes() -> Vec<Process> {
    let process = |pid, parent, unit: Option<&str>, name: &str, command: &str| Process {
        pid,
        parent,
        unit: unit.map(str::to_owned),
        name: name.to_owned(),
        command: command.to_owned(),
        state: "S".to_owned(),
        rss: 700_000,
        cpu_ms: 120,
        uid: 0,
    };
    vec![process(1, 0, None, "keel-os", "/init"), process(70, 40, Some("web"), "httpd", "httpd -f")]
}

fn config() -> Vec<ConfigValue> {
    let value = |unit: Option<&str>, key: &str, value: &str, origin: &str| ConfigValue {
        unit: unit.map(str::to_owned),
        key: key.to_owned(),
        value: value.to_owned(),
        origin: origin.to_owned(),
    };
    vec![
        value(None, "hostname", "\"box\"", "host.toml:1"),
        value(Some("web"), "container.image", "\"./images/web\"", "units/web.toml:2"),
    ]
}

fn refused<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem::new(code, message))
}

fn known(name: &str) -> Result<(), Problem> {
    match name {
        "web" => Ok(()),
        _ => refused(ErrorCode::NotFound, format!("unit {name} not found")),
    }
}

impl Supervisor {
    pub fn start(
        link: Channel,
        clients: Vec<Client>,
        directory: PathBuf,
        silent: bool,
    ) -> Supervisor {
        let state = SupervisorState {
            hellos: Vec::new(),
            asks: Vec::new(),
            abandoned: Vec::new(),
            clients,
            silent,
            by_file: false,
            unit: unit(State::Running, true, 1),
            becomes: unit(State::Running, true, 2),
            obliging: false,
            refusal: None,
            events: Vec::new(),
            terminal: None,
        };
        let state = Arc::new(Mutex::new(state));
        let supervisor = Supervisor { link: Arc::new(link), state, directory };
        let running = supervisor.clone();
        std::thread::spawn(move || running.run());
        supervisor
    }

    pub fn state(&self) -> MutexGuard<'_, SupervisorState> {
        self.state.lock().unwrap()
    }

    pub fn wait_for<T>(&self, look: impl Fn(&mut SupervisorState) -> Option<T>) -> T {
        until(|| look(&mut self.state()))
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
        self.state().clients = clients.clone();
        self.send(&ToApi::Clients { clients }, Vec::new());
    }

    pub fn happens(&self, seq: u64, unit: Option<&str>, kind: EventKind) {
        let text = kind.to_string();
        let event = Event { seq, time_us: 1, unit: unit.map(Into::into), kind, text };
        self.state().events.push(event.clone());
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
                if !self.state().silent {
                    let clients = self.state().clients.clone();
                    self.send(&ToApi::Clients { clients }, Vec::new());
                }
                self.state().hellos.push((host_key, listens));
            }
            FromApi::Abandon { id } => self.state().abandoned.push(id),
            FromApi::Ask { id, key, request } => {
                self.state().asks.push((key.clone(), request.clone()));
                if self.state().silent {
                    return;
                }
                let mut fds = Vec::new();
                let answer = Answer::from(self.answer(id, &key, request, &mut fds));
                if self.state().by_file {
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
    ) -> Result<Reply, Problem> {
        let client = self.state().clients.iter().find(|client| client.key == key).cloned();
        let client = client.ok_or_else(|| Problem::new(ErrorCode::UnknownKey, "who?"))?;
        if client.role < request.role() {
            return refused(ErrorCode::Forbidden, format!("{} is {}", client.name, client.role));
        }
        if let Some(refusal) = self.state().refusal.clone() {
            return Err(refusal);
        }
        Ok(match request {
            ApiRequest::Whoami => Reply::Client(client),
            ApiRequest::Plain { request } => self.plain(request)?,
            ApiRequest::Log { name } => {
                known(&name)?;
                fds.extend(File::open(self.ring()).ok().map(OwnedFd::from));
                Reply::Done
            }
            ApiRequest::LogFiles { name } => {
                known(&name)?;
                fds.extend(logger::history::open(&self.logs(), &name).unwrap());
                Reply::Done
            }
            ApiRequest::Events { after } => {
                let events = self.state().events.clone();
                Reply::Events(events.into_iter().filter(|event| event.seq > after).collect())
            }
            ApiRequest::Pressure => {
                let cpu = Stall { some_us: 1_500_000, full_us: 0 };
                let pressure = Pressure { cpu, ..Pressure::default() };
                Reply::Pressure(BTreeMap::from([("web".to_owned(), pressure)]))
            }
            ApiRequest::Processes => Reply::Processes(processes()),
            ApiRequest::Config => Reply::Config(config()),
            ApiRequest::Exec { name, program } => {
                known(&name)?;
                if self.state().obliging {
                    return refused(ErrorCode::Conflict, "no programs here");
                } else if program.tty.is_some() {
                    let (near, far) = UnixStream::pair().unwrap();
                    self.state().terminal = Some(far);
                    fds.push(near.into());
                } else {
                    self.exec(id, &program.command, fds)?;
                }
                Reply::Done
            }
            ApiRequest::OpenFile { name, path, write, mode } => {
                known(&name)?;
                let absent = |why: String| Problem::new(ErrorCode::NotFound, why);
                // The directory is the root: nothing is above it.
                if path.split('/').any(|part| part == "..") {
                    return Err(absent("no `..` here".to_owned()));
                }
                let path = self.directory.join(path.trim_start_matches('/'));
                let mut options = OpenOptions::new();
                options.read(!write).write(write).create(write).truncate(write).mode(mode);
                let file = options.open(path).map_err(|error| absent(error.to_string()))?;
                let metadata = file.metadata().unwrap();
                if !metadata.is_file() {
                    return Err(absent("not a regular file".to_owned()));
                }
                let size = metadata.len();
                fds.push(file.into());
                Reply::File(OpenedFile { size, mode: 0o100640 })
            }
            ApiRequest::Resize { .. } => Reply::Done,
        })
    }

    fn plain(&self, request: Request) -> Result<Reply, Problem> {
        let mut state = self.state();
        Ok(match request {
            Request::Units => Reply::Units(vec![state.unit.clone()]),
            Request::Unit { name } => {
                known(&name)?;
                Reply::Unit(Box::new(state.unit.clone()))
            }
            Request::Explain { name } => {
                known(&name)?;
                let lines = vec!["web is as it is".to_owned(), "because".to_owned()];
                Reply::Explanation(Explanation { lines })
            }
            Request::Start { ref name }
            | Request::Restart { ref name }
            | Request::Stop { ref name } => {
                known(name)?;
                let before = state.unit.clone();
                if state.obliging {
                    let run = before.generation + 1;
                    let stop = matches!(request, Request::Stop { .. });
                    let next = if stop { State::Stopped } else { State::Running };
                    state.unit = unit(next, !stop, run);
                    return Ok(Reply::Unit(Box::new(state.unit.clone())));
                }
                state.unit = state.becomes.clone();
                Reply::Unit(Box::new(before))
            }
            Request::SignalUnit { name, .. } => {
                known(&name)?;
                Reply::Done
            }
            Request::Host => Reply::Host(Box::new(host())),
            Request::Dmesg => Reply::Text("the kernel says\n".to_owned()),
            Request::Shutdown { .. } => Reply::Done,
            other => return refused(ErrorCode::Invalid, format!("{other:?}")),
        })
    }

    fn exec(&self, id: u64, command: &[String], fds: &mut Vec<OwnedFd>) -> Result<(), Problem> {
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Problem::failed(error.to_string()))?;
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
