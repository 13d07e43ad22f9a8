//! The main loop: one thread, one poll, and no blocking on any single operation.

use ipc::outbox::RETRY_MS;
use ipc::{Channel, ChannelError, FromInit, FromNet, NetRequest, Network, Outbox, ToInit, ToNet};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use serde::Serialize;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;
use units::model::Host;

use crate::attach::{self, Place};
use crate::bridge::{self, Bridge};
use crate::firewall::{Firewall, MODULE_TIMEOUT};
use crate::modules;
use crate::monitor::Monitor;
use crate::netlink::{Netlink, NetlinkError};
use crate::nft;
use crate::retry::Retry;
use crate::uplink::Context;
use crate::uplinks::Uplinks;

/// The configuration of the process.
#[derive(Debug)]
pub struct Settings {
    /// host.toml.
    pub host: Host,
    /// Name of the bridge.
    pub bridge: String,
    /// Directory for resolv.conf and leases.
    pub directory: PathBuf,
}

/// A fatal error of the loop.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A netlink error.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A link to another process.
    #[error("link to {0}: {1}")]
    Link(&'static str, ChannelError),
    /// poll(2).
    #[error("poll: {0}")]
    Poll(nix::errno::Errno),
}

/// A link and its queue of unsent messages.
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
                // That message has been removed from the queue; continue with the others.
                Err(error) => log::error!("message to {} dropped: {error}", self.peer),
            }
        }
    }

    fn poll_fd(&self) -> PollFd<'_> {
        let out = if self.outbox.is_blocked() { PollFlags::POLLOUT } else { PollFlags::empty() };
        PollFd::new(self.channel.as_fd(), PollFlags::POLLIN | out)
    }
}

/// A namespace that is not attached yet.
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
    /// For the bridge and pending attachments: both only wait for modules.
    retry: Retry,
    sent: Option<Network>,
    /// The receiver of `sent` may have been replaced: send the state even if it has not changed.
    resend_state: bool,
    now: fn() -> Duration,
}

impl App {
    /// Takes over the existing state, sends Hello and Ready. `now` is the time since boot.
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
            // Before the links are listed, so that no change is missed.
            monitor: Monitor::open()?,
            firewall: Firewall::new(&settings.bridge, network.bridge),
            uplinks: Uplinks::new(network, hostname, settings.directory.clone()),
            bridge: None,
            bridge_reported: false,
            pending: VecDeque::new(),
            retry: Retry::default(),
            sent: None,
            resend_state: false,
            settings,
            now,
        };
        app.supervisor.send(FromNet::Hello)?;
        app.attach_pending()?;
        app.init.send(ToInit::Ready)?;
        let now = (app.now)();
        app.uplinks.list(&mut Context { netlink: &mut app.netlink, now })?;
        Ok(app)
    }

    /// Waits for an event (at most `longest`) and does everything that is due.
    ///
    /// # Errors
    /// See [`AppError`]; the process must exit and be restarted.
    pub fn turn(&mut self, longest: Option<Duration>) -> Result<(), AppError> {
        self.process_due()?;
        self.wait(longest)?;
        self.receive_all()?;
        self.process_due()
    }

    fn wait(&self, longest: Option<Duration>) -> Result<(), AppError> {
        let now = (self.now)();
        // A link that the kernel has no memory for does not say when it takes more.
        let stalled = self.supervisor.outbox.is_stalled() || self.init.outbox.is_stalled();
        let resend = stalled.then(|| now + Duration::from_millis(RETRY_MS));
        let deadlines =
            [self.uplinks.deadline(now), self.firewall.deadline(), self.retry.next(), resend];
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

    /// Receives all messages and link events.
    fn receive_all(&mut self) -> Result<(), AppError> {
        // PID 1 sends nothing that matters here, but its queue must not fill up.
        while receive::<FromInit>("PID 1", &self.init.channel)?.is_some() {}
        while let Some((message, fds)) =
            receive::<ToNet>(self.supervisor.peer, &self.supervisor.channel)?
        {
            match message {
                Some(ToNet::Attach { unit, request }) => {
                    self.handle_attach(unit, request, fds)?;
                }
                Some(ToNet::Ports { units }) => {
                    self.firewall.want(units);
                    // Every supervisor sends this first. The link outlives the supervisor, so this
                    // is the only sign of a new one, which does not know the state sent to the
                    // previous.
                    self.resend_state = true;
                }
                None => {}
            }
        }
        let now = (self.now)();
        let bridge = self.settings.bridge.clone();
        // The names of the host's ends of veth pairs come from `attach::host_name`.
        let ours = |name: &str| name == bridge || name.starts_with("v-") || name.starts_with("v.");
        for event in self.monitor.read(ours) {
            self.uplinks.handle(&mut Context { netlink: &mut self.netlink, now }, event)?;
        }
        Ok(())
    }

    /// Does everything that is due.
    fn process_due(&mut self) -> Result<(), AppError> {
        if self.retry.next().is_some() && self.retry.due((self.now)()) {
            self.attach_pending()?;
        }
        // Containers wait only for their attachment to start, so the firewall comes second.
        if self.bridge.is_some()
            && let Some(error) = self.firewall.turn((self.now)())
        {
            self.supervisor.send(FromNet::PortsFailed { reason: error.to_string() })?;
        }
        let now = (self.now)();
        self.uplinks.turn(&mut Context { netlink: &mut self.netlink, now });
        self.uplinks.write_resolv();
        let state = self.uplinks.state(now);
        if self.sent.as_ref() != Some(&state) || self.resend_state {
            self.report(state)?;
            self.resend_state = false;
        }
        self.supervisor.flush()?;
        self.init.flush()
    }

    fn report(&mut self, state: Network) -> Result<(), AppError> {
        // Log each reason once, not again whenever its number of seconds changes.
        let without_digits = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
        let sent = self.sent.iter().flat_map(|sent| &sent.waiting);
        let logged: Vec<String> = sent.map(|old| without_digits(old)).collect();
        let is_new = |reason: &&String| !logged.contains(&without_digits(reason));
        for reason in state.waiting.iter().filter(is_new) {
            log::info!("{reason}");
        }
        self.sent = Some(state.clone());
        // A supervisor that does not read gets only the newest state.
        self.supervisor.outbox.retain(|message| !matches!(message, FromNet::State(_)));
        self.supervisor.send(FromNet::State(state))
    }

    fn handle_attach(
        &mut self,
        unit: NetRequest,
        request: u64,
        fds: Vec<OwnedFd>,
    ) -> Result<(), AppError> {
        let name = unit.unit.clone();
        let failed = |reason: String| FromNet::AttachFailed { unit: name, request, reason };
        let Ok([namespace, socket]) = <[OwnedFd; 2]>::try_from(fds) else {
            let reason = "the request has no namespace and socket".into();
            return self.supervisor.send(failed(reason));
        };
        let inside = match Netlink::from_fd(socket) {
            Ok(inside) => inside,
            Err(error) => return self.supervisor.send(failed(error.to_string())),
        };
        let since = (self.now)();
        // A newer request for the same unit replaces a pending one.
        self.pending.retain(|pending| pending.unit.unit != unit.unit);
        self.pending.push_back(Pending { unit, request, namespace, inside, since });
        self.attach_pending()
    }

    /// Creates the bridge, and attaches pending namespaces.
    fn attach_pending(&mut self) -> Result<(), AppError> {
        let now = (self.now)();
        if self.bridge.is_none()
            && modules::not_yet_loaded(modules::BRIDGING).is_some()
            && self.retry.failing(now) < MODULE_TIMEOUT
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
                (None, Some(bridge)) => self.attach(&mut pending, bridge),
                (Some(error), _) => Err(Failure::of(error)),
                (None, None) => continue,
            };
            let (unit, request) = (pending.unit.unit.clone(), pending.request);
            match result {
                Ok(()) => self.supervisor.send(FromNet::Attached { unit, request })?,
                Err(failure)
                    if failure.transient && now.saturating_sub(pending.since) < MODULE_TIMEOUT =>
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
            let late = self.retry.failed(now) >= MODULE_TIMEOUT;
            if let Some(error) = missing.filter(|_| late && !self.bridge_reported) {
                log::error!("cannot create the bridge for containers: {error}");
                self.bridge_reported = true;
            }
        } else {
            self.retry.reset();
        }
        Ok(())
    }

    fn attach(&mut self, pending: &mut Pending, bridge: Bridge) -> Result<(), Failure> {
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

/// Why a namespace could not be attached.
struct Failure {
    reason: String,
    transient: bool,
}

impl Failure {
    fn of(error: &NetlinkError) -> Failure {
        Failure { reason: error.to_string(), transient: nft::module_missing(error) }
    }
}

/// The next message, or `None` if there is none now. A message that cannot be decoded is logged and
/// returned as `Some((None, …))`.
#[allow(clippy::type_complexity)]
fn receive<M: serde::de::DeserializeOwned>(
    peer: &'static str,
    channel: &Channel,
) -> Result<Option<(Option<M>, Vec<OwnedFd>)>, AppError> {
    match channel.recv::<M>() {
        Ok(None) => Ok(None),
        Ok(Some(received)) => Ok(Some((Some(received.message), received.fds))),
        // No message is empty: an empty one means that the link is closed.
        Err(error @ (ChannelError::Sys { .. } | ChannelError::Decode { size: 0, .. })) => {
            Err(AppError::Link(peer, error))
        }
        Err(error) => {
            log::error!("message from {peer} dropped: {error}");
            Ok(Some((None, Vec::new())))
        }
    }
}
