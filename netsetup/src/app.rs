//! The loop that drives it all: one thread, one poll, no wait for anything in particular.

use ipc::{Channel, ChannelError, FromInit, FromNet, NetRequest, NetState, Outbox, ToInit, ToNet};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::Serialize;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use units::model::Host;

use crate::attach::{self, Place};
use crate::bridge::{self, Bridge};
use crate::firewall::{Firewall, MODULE_PATIENCE};
use crate::modules;
use crate::monitor::Monitor;
use crate::netlink::{Netlink, NetlinkError};
use crate::nft;
use crate::retry::Retry;
use crate::uplink::Context;
use crate::uplinks::Uplinks;

/// What the process is told at its start.
#[derive(Debug)]
pub struct Settings {
    /// host.toml.
    pub host: Host,
    /// Name of the bridge.
    pub bridge: String,
    /// Directory for resolv.conf and leases.
    pub directory: PathBuf,
}

/// Why the loop cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The kernel's netlink.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A link to another process.
    #[error("link to {0}: {1}")]
    Link(&'static str, ChannelError),
    /// poll(2).
    #[error("poll: {0}")]
    Poll(nix::errno::Errno),
}

/// A link and what could not be sent on it yet.
#[derive(Debug)]
struct Link<M> {
    peer: &'static str,
    channel: Channel,
    outbox: Outbox<M>,
}

impl<M: Serialize> Link<M> {
    fn new(peer: &'static str, channel: Channel) -> Link<M> {
        Link { peer, channel, outbox: Outbox::default() }
    }

    fn send(&mut self, message: M) -> Result<(), AppError> {
        self.outbox.push(message, Vec::new());
        self.flush()
    }

    fn flush(&mut self) -> Result<(), AppError> {
        loop {
            match self.outbox.flush(&self.channel) {
                Ok(()) => return Ok(()),
                Err(error @ ChannelError::Sys { .. }) => {
                    return Err(AppError::Link(self.peer, error));
                }
                // That message is out of the queue; the others go on.
                Err(error) => log::error!("a message to {} is lost: {error}", self.peer),
            }
        }
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let out = if self.outbox.is_empty() { PollFlags::empty() } else { PollFlags::POLLOUT };
        PollFd::new(self.channel.as_fd(), PollFlags::POLLIN | out)
    }
}

/// A namespace that could not be attached yet.
#[derive(Debug)]
struct Pending {
    unit: NetRequest,
    request: u64,
    namespace: OwnedFd,
    inside: Netlink,
    since: Duration,
}

/// The whole process.
#[derive(Debug)]
pub struct App {
    settings: Settings,
    supervisor: Link<FromNet>,
    init: Link<ToInit>,
    netlink: Netlink,
    monitor: Monitor,
    uplinks: Uplinks,
    firewall: Firewall,
    bridge: Option<Bridge>,
    bridge_reported: bool,
    pending: VecDeque<Pending>,
    /// For the bridge and the pending ones: both wait for modules alone.
    retry: Retry,
    sent: Option<NetState>,
    /// Whoever was told `sent` may be gone: say the state even if it is the same.
    say_again: bool,
    now: fn() -> Duration,
}

impl App {
    /// Takes over what there is, says hello and is ready. `now` is the time since boot.
    ///
    /// # Errors
    /// See [`AppError`].
    pub fn start(
        settings: Settings,
        supervisor: Channel,
        init: Channel,
        now: fn() -> Duration,
    ) -> Result<App, AppError> {
        let network = settings.host.network.clone();
        let hostname = settings.host.hostname.clone();
        let mut app = App {
            supervisor: Link::new("the supervisor", supervisor),
            init: Link::new("PID 1", init),
            netlink: Netlink::open(libc::NETLINK_ROUTE)?,
            // Before the links are listed, so that none falls between.
            monitor: Monitor::open()?,
            firewall: Firewall::new(&settings.bridge, network.bridge),
            uplinks: Uplinks::new(network, hostname, settings.directory.clone()),
            bridge: None,
            bridge_reported: false,
            pending: VecDeque::new(),
            retry: Retry::default(),
            sent: None,
            say_again: false,
            settings,
            now,
        };
        app.supervisor.send(FromNet::Hello)?;
        app.place_all()?;
        app.init.send(ToInit::Ready)?;
        let now = (app.now)();
        app.uplinks.list(&mut Context { netlink: &mut app.netlink, now })?;
        Ok(app)
    }

    /// Waits for something to happen (at most `longest`) and does what there is to do.
    ///
    /// # Errors
    /// See [`AppError`]; the process should end and be started again.
    pub fn turn(&mut self, longest: Option<Duration>) -> Result<(), AppError> {
        self.settle()?;
        self.wait(longest)?;
        self.hear()?;
        self.settle()
    }

    fn wait(&self, longest: Option<Duration>) -> Result<(), AppError> {
        let now = (self.now)();
        let deadlines = [self.uplinks.deadline(now), self.firewall.deadline(), self.retry.next()];
        let next = deadlines.into_iter().flatten().min().map(|at| at.saturating_sub(now));
        let timeout = match next.into_iter().chain(longest).min() {
            None => PollTimeout::NONE,
            // Rounded up, so that the deadline has passed when poll returns.
            Some(span) => {
                let ms = span.as_millis().saturating_add(1).min(60_000);
                PollTimeout::try_from(u64::try_from(ms).unwrap_or(60_000))
                    .unwrap_or(PollTimeout::MAX)
            }
        };
        let mut fds = vec![self.supervisor.poll_fd(), self.init.poll_fd()];
        fds.push(PollFd::new(self.monitor.as_fd(), PollFlags::POLLIN));
        fds.extend(self.uplinks.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match nix::poll::poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(AppError::Poll(errno)),
        }
    }

    /// Takes in all messages.
    fn hear(&mut self) -> Result<(), AppError> {
        // PID 1 says nothing that matters here, but its queue must not fill up.
        while receive::<FromInit>("PID 1", &self.init.channel)?.is_some() {}
        while let Some((message, fds)) =
            receive::<ToNet>(self.supervisor.peer, &self.supervisor.channel)?
        {
            match message {
                Some(ToNet::Attach { unit, request }) => {
                    self.asked_to_attach(unit, request, fds)?;
                }
                Some(ToNet::Ports { units }) => {
                    self.firewall.want(units);
                    // Every supervisor begins with this. The link outlives it, so a new one is
                    // seen by nothing else, and it knows nothing of what its predecessor was told.
                    self.say_again = true;
                }
                None => {}
            }
        }
        let now = (self.now)();
        let bridge = self.settings.bridge.clone();
        // The host's ends of veth pairs are named by `attach::host_name`.
        let ours = |name: &str| name == bridge || name.starts_with("v-") || name.starts_with("v.");
        for news in self.monitor.read(ours) {
            self.uplinks.news(&mut Context { netlink: &mut self.netlink, now }, news)?;
        }
        Ok(())
    }

    /// Does everything that is due.
    fn settle(&mut self) -> Result<(), AppError> {
        if self.retry.next().is_some() && self.retry.due((self.now)()) {
            self.place_all()?;
        }
        // The containers' start waits for their attachment only, so the firewall comes second.
        if self.bridge.is_some()
            && let Some(error) = self.firewall.turn((self.now)())
        {
            self.supervisor.send(FromNet::PortsFailed { reason: error.to_string() })?;
        }
        let now = (self.now)();
        self.uplinks.turn(&mut Context { netlink: &mut self.netlink, now });
        self.uplinks.write_resolv();
        let state = self.uplinks.state(now);
        if self.sent.as_ref() != Some(&state) || self.say_again {
            self.report(state)?;
            self.say_again = false;
        }
        self.supervisor.flush()?;
        self.init.flush()
    }

    fn report(&mut self, state: NetState) -> Result<(), AppError> {
        // The counted seconds are for those who ask; the log is told once.
        let gist = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        let told: Vec<String> =
            self.sent.iter().flat_map(|sent| &sent.waiting).map(|old| gist(old)).collect();
        for reason in state.waiting.iter().filter(|reason| !told.contains(&gist(reason))) {
            log::info!("{reason}");
        }
        self.sent = Some(state.clone());
        // A supervisor that does not read gets the newest state only.
        self.supervisor.outbox.retain(|message| !matches!(message, FromNet::State(_)));
        self.supervisor.send(FromNet::State(state))
    }

    fn asked_to_attach(
        &mut self,
        unit: NetRequest,
        request: u64,
        fds: Vec<OwnedFd>,
    ) -> Result<(), AppError> {
        let name = unit.unit.clone();
        let failed = |reason: String| FromNet::AttachFailed { unit: name, request, reason };
        let Ok([namespace, socket]) = <[OwnedFd; 2]>::try_from(fds) else {
            let reason = "the request did not come with a namespace and a socket".into();
            return self.supervisor.send(failed(reason));
        };
        let inside = match Netlink::from_fd(socket) {
            Ok(inside) => inside,
            Err(error) => return self.supervisor.send(failed(error.to_string())),
        };
        let since = (self.now)();
        // A newer request for the same unit takes the place of one that waits.
        self.pending.retain(|pending| pending.unit.unit != unit.unit);
        self.pending.push_back(Pending { unit, request, namespace, inside, since });
        self.place_all()
    }

    /// Makes the bridge, and attaches what is pending.
    fn place_all(&mut self) -> Result<(), AppError> {
        let now = (self.now)();
        if self.bridge.is_none()
            && modules::coming(modules::BRIDGING).is_some()
            && self.retry.failing(now) < MODULE_PATIENCE
        {
            self.retry.failed(now);
            return Ok(());
        }
        let net = self.settings.host.network.bridge;
        let missing = match self.bridge {
            Some(_) => None,
            None => match bridge::ensure(&mut self.netlink, &self.settings.bridge, net) {
                Ok(bridge) => {
                    self.bridge = Some(bridge);
                    None
                }
                Err(error) => Some(error),
            },
        };
        let mut again = false;
        for mut pending in std::mem::take(&mut self.pending) {
            let result = match (&missing, self.bridge) {
                (None, Some(bridge)) => self.place(&mut pending, bridge),
                (Some(error), _) => Err(Failure::of(error)),
                (None, None) => continue,
            };
            let (unit, request) = (pending.unit.unit.clone(), pending.request);
            match result {
                Ok(()) => self.supervisor.send(FromNet::Attached { unit, request })?,
                Err(failure)
                    if failure.may_pass && now.saturating_sub(pending.since) < MODULE_PATIENCE =>
                {
                    again = true;
                    self.pending.push_back(pending);
                }
                Err(Failure { reason, .. }) => {
                    log::error!("{unit}: {reason}");
                    self.supervisor.send(FromNet::AttachFailed { unit, request, reason })?;
                }
            }
        }
        if again || missing.is_some() {
            let late = self.retry.failed(now) >= MODULE_PATIENCE;
            if let Some(error) = missing.filter(|_| late && !self.bridge_reported) {
                log::error!("no bridge for containers: {error}");
                self.bridge_reported = true;
            }
        } else {
            self.retry.reset();
        }
        Ok(())
    }

    fn place(&mut self, pending: &mut Pending, bridge: Bridge) -> Result<(), Failure> {
        let place = Place {
            unit: &pending.unit.unit,
            address: pending.unit.address,
            bridge,
            namespace: pending.namespace.as_fd(),
        };
        attach::attach(&mut self.netlink, &mut pending.inside, &place)
            .map_err(|error| Failure::of(&error))
    }
}

/// Why something could not be put in its place.
struct Failure {
    reason: String,
    may_pass: bool,
}

impl Failure {
    fn of(error: &NetlinkError) -> Failure {
        Failure { reason: error.to_string(), may_pass: nft::module_missing(error) }
    }
}

/// The next message, or `None` when there is none now. One that cannot be read is logged and
/// skipped: it comes as `Some((None, …))`.
#[allow(clippy::type_complexity)]
fn receive<M: serde::de::DeserializeOwned>(
    peer: &'static str,
    channel: &Channel,
) -> Result<Option<(Option<M>, Vec<OwnedFd>)>, AppError> {
    match channel.recv::<M>() {
        Ok(None) => Ok(None),
        Ok(Some(received)) => Ok(Some((Some(received.message), received.fds))),
        // No message is empty: this is how a closed link reads.
        Err(error @ (ChannelError::Sys { .. } | ChannelError::Decode { size: 0, .. })) => {
            Err(AppError::Link(peer, error))
        }
        Err(error) => {
            log::error!("a message from {peer} is lost: {error}");
            Ok(Some((None, Vec::new())))
        }
    }
}
