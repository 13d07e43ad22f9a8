//! An uplink: the configuration of its link, and its DHCP client with its sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;
use units::model::{Interface, IpNet};

use crate::addresses;
use crate::dhcp::client::{Action, Client, Config, Event, Held, Lost};
use crate::dhcp::lease::FOREVER;
use crate::dhcp::socket::Sockets;
use crate::lease_file;
use crate::links::{self, Change, Link, Mac};
use crate::netlink::{Batch, Netlink, NetlinkError};
use crate::retry::Retry;
use crate::routes::{self, Owner, Route};

/// Base metrics: static routes take precedence over those of DHCP. The index of the link is added,
/// because the kernel treats two routes with the same destination and metric as the same route.
const STATIC_METRIC: u32 = 100;
const DHCP_METRIC: u32 = 10_000;

/// How often the message about a server that does not respond is updated.
const REPORT_STEP: Duration = Duration::from_secs(10);

/// A link that connects the host to the outside.
#[derive(Debug)]
pub struct Uplink {
    link: Link,
    settings: Interface,
    client: Option<Client>,
    sockets: Sockets,
    lease_file: PathBuf,
    /// The error of the last attempt to configure the link.
    problem: Option<String>,
    /// The MTU that the link refused, so that this is logged only once.
    refused_mtu: Option<u32>,
    retry: Retry,
}

/// The environment of an uplink.
#[derive(Debug)]
pub struct Context<'a> {
    /// A route socket of the host.
    pub netlink: &'a mut Netlink,
    /// The time since boot.
    pub now: Duration,
}

impl Uplink {
    /// Takes over a link: continues with the lease in `lease_file`, or starts without one.
    pub fn start(
        context: &mut Context<'_>,
        link: Link,
        settings: Interface,
        hostname: &str,
        lease_file: PathBuf,
    ) -> Uplink {
        let mut actions = Vec::new();
        let mac = link.mac.unwrap_or_default();
        let client = settings.dhcp.then(|| {
            let config = Config { mac, hostname: hostname.into(), seed: seed(mac, context.now) };
            match lease_file::load(&lease_file, mac) {
                Some(held) => {
                    let (client, first) = Client::resume(config, held, link.carrier(), context.now);
                    actions = first;
                    client
                }
                None => Client::new(config, link.carrier(), context.now),
            }
        });
        let sockets = Sockets::new(link.index, &link.name);
        let mut uplink = Uplink {
            link,
            settings,
            client,
            sockets,
            lease_file,
            problem: None,
            refused_mtu: None,
            retry: Retry::default(),
        };
        uplink.settle(context);
        uplink.act(context, actions);
        uplink
    }

    /// The link, as of the last event.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// True if this is the same link, so that [`Uplink::changed`] can be used.
    pub fn same(&self, link: &Link) -> bool {
        link.name == self.link.name && link.mac == self.link.mac
    }

    /// Handles a change of the link.
    pub fn changed(&mut self, context: &mut Context<'_>, link: Link) {
        let (carrier, went_down) = (link.carrier(), self.link.up() && !link.up());
        self.link = link;
        if went_down {
            self.settle(context);
        }
        self.event(context, Event::Carrier(carrier));
    }

    /// Handles received messages and everything that is due.
    pub fn turn(&mut self, context: &mut Context<'_>) {
        // Bounded, so that a flood on one link does not delay the others.
        for _ in 0..64 {
            let Some(payload) = self.sockets.receive() else { break };
            self.event(context, Event::Packet(&payload));
        }
        self.event(context, Event::Timer);
        if self.problem.is_some() && self.retry.due(context.now) {
            self.settle(context);
        }
    }

    /// When [`Uplink::turn`] is due.
    pub fn deadline(&self, now: Duration) -> Option<Duration> {
        let client = self.client.as_ref();
        // The message in `waiting` includes the number of seconds, in steps.
        let report = client.and_then(Client::searching_since).map(|since| {
            let steps = now.saturating_sub(since).as_secs() / REPORT_STEP.as_secs() + 1;
            since + REPORT_STEP * u32::try_from(steps).unwrap_or(u32::MAX)
        });
        let retry = self.retry.next();
        [client.and_then(Client::deadline), report, retry].into_iter().flatten().min()
    }

    /// The sockets to poll.
    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// The lease in use.
    pub fn held(&self) -> Option<&Held> {
        self.client.as_ref().and_then(Client::held)
    }

    /// The addresses of the link.
    pub fn addresses(&self) -> Vec<IpNet> {
        if self.problem.is_some() { Vec::new() } else { self.wanted_addresses() }
    }

    /// The router of its default route, IPv4 before IPv6.
    pub fn gateway(&self) -> Option<IpAddr> {
        let lease = self.held().and_then(|held| held.lease.gateway()).map(IpAddr::from);
        self.settings.gateway.iter().copied().min().or(lease)
    }

    /// Why the link has no address, or is not fully configured.
    pub fn waiting(&self, now: Duration) -> Option<String> {
        let name = &self.link.name;
        if let Some(problem) = &self.problem {
            return Some(format!("{name}: {problem}"));
        }
        let client = self.client.as_ref().filter(|client| client.held().is_none())?;
        let Some(since) = client.searching_since() else {
            return Some(format!("{name}: no carrier"));
        };
        let steps = now.saturating_sub(since).as_secs() / REPORT_STEP.as_secs();
        let what =
            if client.refused() { "refused by the DHCP server" } else { "no answer to DHCP" };
        Some(match steps {
            0 => format!("{name}: requesting an address by DHCP"),
            _ => format!("{name}: {what} for {} s", steps * REPORT_STEP.as_secs()),
        })
    }

    fn event(&mut self, context: &mut Context<'_>, event: Event<'_>) {
        let Some(client) = &mut self.client else { return };
        let actions = client.step(context.now, event);
        self.act(context, actions);
    }

    fn act(&mut self, context: &mut Context<'_>, actions: Vec<Action>) {
        let name = self.link.name.clone();
        for action in actions {
            match action {
                Action::Send(payload, to) => {
                    if let Err(error) = self.sockets.send(&payload, to) {
                        log::debug!("{name}: DHCP: {error}");
                    }
                }
                Action::Hold(held) => {
                    let lease = &held.lease;
                    let (address, prefix, server) = (lease.address, lease.prefix, lease.server);
                    log::info!("{name}: {address}/{prefix} from {server} for {} s", lease.seconds);
                    if let Err(error) = lease_file::save(&self.lease_file, self.mac(), &held) {
                        log::warn!("{name}: cannot save the DHCP lease: {error}");
                    }
                    self.retry.reset();
                    self.settle(context);
                }
                Action::Release(why) => {
                    let why = match why {
                        Lost::Expired => "has expired",
                        Lost::Refused => "was refused by the server",
                    };
                    log::warn!("{name}: the DHCP lease {why}");
                    lease_file::remove(&self.lease_file);
                    self.settle(context);
                }
            }
        }
        if let Some(client) = &self.client {
            let (raw, udp) = (client.needs_raw_socket(), client.held().is_some());
            if let Err(error) = self.sockets.want(raw, udp) {
                log::warn!("{name}: DHCP: {error}");
            }
        }
    }

    fn mac(&self) -> Mac {
        self.link.mac.unwrap_or_default()
    }

    fn wanted_addresses(&self) -> Vec<IpNet> {
        let lease = self.held().map(|held| &held.lease);
        let lease = lease.map(|l| IpNet { addr: l.address.into(), prefix: l.prefix });
        self.settings.address.iter().copied().chain(lease).collect()
    }

    fn wanted_routes(&self) -> Vec<Route> {
        let index = self.link.index;
        let all = self.wanted_addresses();
        // A gateway that no address covers is assumed to be on the link.
        let on_link = |gateway: IpAddr| {
            let local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
            !local && !all.iter().any(|net| routes::covers(*net, gateway))
        };
        let declared = self.settings.gateway.iter().map(|&gateway| Route {
            to: routes::everywhere(gateway),
            gateway: Some(gateway),
            on_link: on_link(gateway),
            index,
            metric: STATIC_METRIC + index,
            owner: Owner::Static,
            source: None,
        });
        let lease = self.held().map(|held| &held.lease);
        let leased = lease.into_iter().flat_map(|lease| {
            lease.routes.iter().map(|route| {
                let gateway =
                    Some(route.gateway).filter(|&gateway| gateway != Ipv4Addr::UNSPECIFIED);
                let gateway = gateway.map(IpAddr::from);
                Route {
                    to: IpNet { addr: route.to.into(), prefix: route.prefix },
                    gateway,
                    on_link: gateway.is_some_and(on_link),
                    index,
                    metric: DHCP_METRIC + index,
                    owner: Owner::Dhcp,
                    source: Some(lease.address.into()),
                }
            })
        });
        let mut routes: Vec<Route> = declared.chain(leased).collect();
        // Routes without a gateway come first: a gateway may be reached through them.
        routes.sort_by_key(|route| route.gateway.is_some());
        routes
    }

    /// Configures the link as required, whatever its state; what is correct already is not changed.
    fn settle(&mut self, context: &mut Context<'_>) {
        match self.apply(context) {
            Ok(()) => {
                self.problem = None;
                self.retry.reset();
            }
            Err(error) => {
                let text = error.to_string();
                if self.problem.as_ref() != Some(&text) {
                    log::warn!("{}: {text}", self.link.name);
                }
                self.problem = Some(text);
                self.retry.failed(context.now);
            }
        }
    }

    /// Sets the MTU from host.toml or the lease. In a separate request, because some servers send
    /// MTUs that the link does not support: this must not prevent setting the address.
    fn apply_mtu(&mut self, context: &mut Context<'_>) {
        let leased = self.held().and_then(|held| held.lease.mtu);
        let wanted = self.settings.mtu.or(leased).filter(|&mtu| mtu != self.link.mtu);
        let Some(mtu) = wanted else { return };
        let mut batch = Batch::new();
        let change = Change { mtu: Some(mtu), ..Change::default() };
        links::set(&mut batch, self.link.index, change, format!("set the MTU to {mtu}"));
        match context.netlink.run(batch, |_, _| {}) {
            Ok(()) => self.refused_mtu = None,
            Err(_) if self.refused_mtu == Some(mtu) => {}
            Err(error) => {
                log::warn!("{}: {error}; keeping {}", self.link.name, self.link.mtu);
                self.refused_mtu = Some(mtu);
            }
        }
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<(), NetlinkError> {
        // First, because some drivers accept a new MTU only while the link is down.
        self.apply_mtu(context);
        let index = self.link.index;
        let (wanted, wanted_routes) = (self.wanted_addresses(), self.wanted_routes());
        let mut batch = Batch::new();
        let change = Change { up: true, ..Change::default() };
        links::set(&mut batch, index, change, "set the link up");

        // Old routes and addresses are removed first: removing the primary address of a subnet also
        // removes the secondary ones. All IPv4 addresses of an uplink are ours; IPv6 addresses may
        // come from the network (SLAAC).
        for route in routes::list(context.netlink)? {
            if route.index == index && !wanted_routes.iter().any(|w| same_route(w, &route)) {
                routes::delete(&mut batch, &route);
            }
        }
        for present in addresses::list(context.netlink)? {
            let foreign = present.index != index || !present.net.addr.is_ipv4();
            if !foreign && !present.link_local && !wanted.contains(&present.net) {
                addresses::delete(&mut batch, index, present.net);
            }
        }
        for &net in &wanted {
            addresses::replace(&mut batch, index, net, self.lifetime(net, context.now));
        }
        for route in &wanted_routes {
            routes::replace(&mut batch, route);
        }
        context.netlink.run(batch, |_, _| {})
    }

    /// Seconds after which the kernel removes an address by itself, in case this process does not.
    fn lifetime(&self, net: IpNet, now: Duration) -> u32 {
        let held = self.held().filter(|held| IpAddr::from(held.lease.address) == net.addr);
        match held.and_then(Held::ends) {
            None => addresses::FOREVER,
            Some(end) => {
                let left = end.saturating_sub(now).as_secs().max(1);
                u32::try_from(left).unwrap_or(FOREVER - 1).min(FOREVER - 1)
            }
        }
    }
}

/// True if setting one route replaces the other.
fn same_route(a: &Route, b: &Route) -> bool {
    (routes::network(a.to), a.metric, a.gateway, a.owner)
        == (routes::network(b.to), b.metric, b.gateway, b.owner)
}

/// A seed from the kernel's entropy, or, if there is none yet, from values that differ between
/// hosts.
fn seed(mac: Mac, now: Duration) -> u64 {
    let mut bytes = [0u8; 8];
    // SAFETY: the pointer and the length are those of a live, writable array.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if usize::try_from(got) == Ok(bytes.len()) {
        return u64::from_ne_bytes(bytes);
    }
    let [a, b, c, d, e, f] = mac;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f]) ^ u64::from(now.subsec_nanos()) << 32
}
