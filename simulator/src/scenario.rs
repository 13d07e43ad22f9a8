//! The input of a schedule: units, people's requests, and how often what goes wrong.

use crate::actors::people::People;
use crate::machine::agenda::Event;
use crate::rng::Rng;
use ipc::control::Request;
use ipc::{Service, ShutdownKind};
use layout::images::{Image, ImageConfig, Images};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use supervisor::config::Config;
use units::SourceFile;
use units::model::{HostConfig, Unit};

/// What may go wrong, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Packets that a link holds.
    pub queue: usize,
    /// Process numbers go up to here.
    pub max_pid: i32,
    /// A call fails, in this many of a million cases.
    pub fault_ppm: u32,
    /// Only these calls fail; empty: any.
    pub fault_calls: Vec<&'static str>,
    /// The supervisor is killed before or after a call, in this many of a million cases.
    pub kill_ppm: u32,
    /// Containers and health checks do what they should from the beginning.
    pub benign: bool,
    /// How long netsetup takes to attach a namespace; `None`: it is drawn.
    pub attach_us: Option<u64>,
    /// netsetup cannot attach a namespace.
    pub attach_fails_percent: u32,
    /// A new netsetup hangs until it is killed.
    pub hang_percent: u32,
}

impl Options {
    /// Nothing goes wrong.
    pub const QUIET: Options = Options {
        queue: 64,
        max_pid: 4_000_000,
        fault_ppm: 0,
        fault_calls: Vec::new(),
        kill_ppm: 0,
        benign: true,
        attach_us: Some(2_000),
        attach_fails_percent: 0,
        hang_percent: 0,
    };
}

/// The call of a supervisor at which it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// The call's number, from 1, over all supervisors of the schedule.
    pub call: u64,
    /// After it, not before.
    pub after: bool,
}

/// A schedule, but for what is drawn while it runs.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// For everything that is drawn.
    pub seed: u64,
    /// What may go wrong.
    pub options: Options,
    /// The unit files, by name.
    pub files: BTreeMap<String, String>,
    /// The host, read from them.
    pub host: HostConfig,
    /// The units in it.
    pub units: BTreeMap<String, Unit>,
    /// The images that the units name.
    pub images: Images,
    /// What people ask for, and when (microseconds from the start).
    pub requests: Vec<(u64, Request)>,
    /// What else happens by itself.
    pub events: Vec<(u64, Event)>,
    /// When nothing goes wrong any more, microseconds from the start.
    pub calm_us: u64,
    /// How long it is calm.
    pub settle_us: u64,
    /// The call at which the supervisor is killed.
    pub crash: Option<Crash>,
}

impl Scenario {
    /// A scenario of these units in which nothing goes wrong.
    ///
    /// # Panics
    /// The unit files have mistakes.
    pub fn new(seed: u64, files: &[(&str, &str)]) -> Scenario {
        let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        Scenario::of_files(seed, files.collect())
    }

    fn of_files(seed: u64, files: BTreeMap<String, String>) -> Scenario {
        let sources = files
            .iter()
            .map(|(name, text)| SourceFile {
                path: format!("units/{name}.toml"),
                text: text.clone(),
            })
            .collect();
        let loaded = units::load(None, sources);
        let errors: Vec<String> = loaded
            .diagnostics
            .iter()
            .filter(|it| it.severity == units::Severity::Error)
            .map(|it| format!("{}: {}", it.file, it.message))
            .collect();
        assert!(errors.is_empty(), "{errors:?}\n{files:#?}");
        let host = loaded.config;
        let image = Image {
            digest: "sha256:simulated".to_owned(),
            layers: vec!["base".to_owned(), "top".to_owned()],
            config: ImageConfig { cmd: vec!["/bin/program".to_owned()], ..ImageConfig::default() },
        };
        let images = host.units.values().map(|unit| (unit.container.image.clone(), image.clone()));
        let images = Images { images: images.collect() };
        Scenario {
            seed,
            options: Options::QUIET,
            files,
            units: host.units.clone(),
            host,
            images,
            requests: Vec::new(),
            events: Vec::new(),
            calm_us: 10_000_000,
            settle_us: 60_000_000,
            crash: None,
        }
    }

    /// The host folder as the supervisor has read it.
    pub(crate) fn config(&self) -> Config {
        Config::new(self.host.clone(), self.images.clone(), &BTreeMap::new())
    }

    /// The people of this scenario.
    pub(crate) fn people(&self) -> People {
        let requires = |unit: &Unit| unit.requires.clone();
        let pulls = |unit: &Unit| unit.requires.iter().chain(&unit.wants).cloned().collect();
        let base = 1_500_000;
        People {
            plan: self.requests.iter().map(|(at, request)| (at + base, request.clone())).collect(),
            requires: self.units.iter().map(|(name, it)| (name.clone(), requires(it))).collect(),
            pulls: self.units.iter().map(|(name, it)| (name.clone(), pulls(it))).collect(),
            ..People::default()
        }
    }

    /// The schedule of a seed: everything about it is drawn.
    pub fn of_seed(seed: u64) -> Scenario {
        let mut rng = Rng::new(seed ^ 0x0073_6365_6e61_7269);
        let mut scenario = Scenario::of_files(seed, draw_units(&mut rng));
        scenario.calm_us = rng.between(2_000_000, 25_000_000);
        scenario.options = draw_options(&mut rng);
        scenario.draw_requests(&mut rng);
        scenario.draw_events(&mut rng);
        scenario
    }

    fn draw_requests(&mut self, rng: &mut Rng) {
        let names: Vec<String> = self.units.keys().cloned().collect();
        let mut times: Vec<u64> = (0..rng.below(8)).map(|_| rng.below(self.calm_us)).collect();
        times.sort_unstable();
        for at in times {
            let Some(name) = rng.pick(&names).cloned() else { continue };
            let request = match rng.below(3) {
                0 => Request::Start { name },
                1 => Request::Stop { name },
                _ => Request::Restart { name },
            };
            self.requests.push((at, request));
        }
        if rng.percent(15) {
            let kind = match rng.below(3) {
                0 => ShutdownKind::Poweroff,
                1 => ShutdownKind::Reboot,
                _ => ShutdownKind::Halt,
            };
            self.requests
                .push((self.calm_us / 2 + rng.below(self.calm_us / 2), Request::Shutdown { kind }));
        }
    }

    fn draw_events(&mut self, rng: &mut Rng) {
        for _ in 0..rng.below(4) {
            let service = match rng.below(8) {
                0..4 => Service::Supervisor,
                4..6 => Service::Netsetup,
                6 => Service::Logger,
                _ => Service::Devices,
            };
            self.events.push((rng.below(self.calm_us), Event::Kill(service)));
        }
        if rng.percent(3) {
            let signal = nix::sys::signal::Signal::SIGINT as i32;
            self.events.push((rng.below(self.calm_us), Event::Signal(signal)));
        }
    }
}

fn draw_options(rng: &mut Rng) -> Options {
    let one_of = |of: &[u32], rng: &mut Rng| rng.pick(of).copied().unwrap_or(0);
    Options {
        queue: usize::try_from(rng.between(2, 40)).unwrap_or(8),
        max_pid: if rng.percent(10) { 160 } else { 4_000_000 },
        fault_calls: Vec::new(),
        fault_ppm: one_of(&[0, 0, 300, 3_000, 20_000], rng),
        kill_ppm: one_of(&[0, 200, 1_000, 5_000], rng),
        benign: false,
        attach_us: None,
        attach_fails_percent: one_of(&[0, 0, 20], rng),
        hang_percent: one_of(&[0, 0, 20], rng),
    }
}

fn draw_units(rng: &mut Rng) -> BTreeMap<String, String> {
    let names = ["alpha", "bravo", "charlie", "delta", "echo", "foxtrot"];
    let count = usize::try_from(rng.between(1, 5)).unwrap_or(3);
    let mut files = BTreeMap::new();
    for at in 0..count {
        let earlier = names.get(..at).unwrap_or_default();
        let Some(name) = names.get(at) else { continue };
        files.insert((*name).to_owned(), draw_unit(rng, earlier));
    }
    files
}

fn draw_unit(rng: &mut Rng, earlier: &[&str]) -> String {
    let mut text = String::new();
    let oneshot = rng.percent(30);
    let network = *rng.pick(&["bridge", "bridge", "host", "none"]).unwrap_or(&"none");
    let ready = if oneshot {
        "started"
    } else {
        *rng.pick(&["started", "started", "notify", "healthy"]).unwrap_or(&"started")
    };
    let policy = if oneshot {
        *rng.pick(&["never", "on-failure"]).unwrap_or(&"never")
    } else {
        *rng.pick(&["always", "always", "on-failure", "never"]).unwrap_or(&"always")
    };
    if oneshot {
        text.push_str("type = \"oneshot\"\n");
    } else {
        let _ = writeln!(text, "ready = \"{ready}\"");
    }
    for key in ["requires", "after", "wants"] {
        if !earlier.is_empty() && rng.percent(25) {
            let _ = writeln!(text, "{key} = [{:?}]", rng.pick(earlier).unwrap_or(&""));
        }
    }
    if rng.percent(20) {
        text.push_str("wait_for = [\"net.addr\"]\n");
    }
    if rng.percent(20) {
        let _ = writeln!(text, "start_timeout = \"{}s\"", rng.between(1, 10));
    }
    let _ = writeln!(text, "stop_timeout = \"{}ms\"", rng.between(100, 4_000));
    if rng.percent(15) {
        text.push_str("enabled = false\n");
    }
    if rng.percent(6) && policy != "always" {
        text.push_str("on_failure = \"reboot\"\n");
    }
    let limit = if rng.percent(10) { ", max_attempts = 3" } else { "" };
    if policy == "never" {
        text.push_str("restart = { policy = \"never\" }\n");
    } else {
        let _ = writeln!(
            text,
            "restart = {{ policy = \"{policy}\", delay = \"100ms\", max_delay = \"2s\"{limit} }}"
        );
    }
    let userns = if rng.percent(50) { "userns = \"host\"\n" } else { "" };
    let _ = write!(
        text,
        "[container]\nimage = \"./images/web.tar\"\nnetwork = \"{network}\"\nseccomp = \"unconfined\"\n{userns}"
    );
    if !oneshot && (ready == "healthy" || rng.percent(20)) {
        let probe = *rng.pick(&["tcp = \":80\"", "command = [\"/check\"]"]).unwrap_or(&"");
        let _ = write!(
            text,
            "[healthcheck]\n{probe}\ninterval = \"2s\"\ntimeout = \"1s\"\nretries = 2\n"
        );
    }
    text
}
