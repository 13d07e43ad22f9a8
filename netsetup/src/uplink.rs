//! One uplink: what its link shall have, made so, and its DHCP client with its sockets.

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

/// Metrics: what a person wrote goes before what a server says, and each link has its own, because
/// the kernel takes two routes to one place with one metric for the same route.
const STATIC_METRIC: u32 = 100;
const DHCP_METRIC: u32 = 10_000;

/// The text about a silent server changes this often.
const REPORT_STEP: Duration = Duration::from_secs(10);

/// One link that leads out of the host.
#[derive(Debug)]
pub struct Uplink {
    link: Link,
    wish: Interface,
    client: Option<Client>,
    sockets: Sockets,
    lease_file: PathBuf,
    /// Why the kernel's state is not what it should be, from the last try.
    problem: Option<String>,
    /// The MTU that the link did not take, so that this is said once.
    refused_mtu: Option<u32>,
    retry: Retry,
}

/// What an uplink needs from outside.
#[derive(Debug)]
pub struct Context<'a> {
    /// A route socket of the host.
    pub netlink: &'a mut Netlink,
    /// The time since boot.
    pub now: Duration,
}

impl Uplink {
    /// Takes a link over: goes on with the lease in `lease_file`, or begins.
    pub fn start(
        context: &mut Context<'_>,
        link: Link,
        wish: Interface,
        hostname: &str,
        lease_file: PathBuf,
    ) -> Uplink {
        let mut actions = Vec::new();
        let mac = link.mac.unwrap_or_default();
        let client = wish.dhcp.then(|| {
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
            wish,
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

    /// The link as last seen.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// True if this news is about the same link, so that [`Uplink::changed`] can take it in.
    pub fn same(&self, link: &Link) -> bool {
        link.name == self.link.name && link.mac == self.link.mac
    }

    /// The link has changed.
    pub fn changed(&mut self, context: &mut Context<'_>, link: Link) {
        let (carrier, went_down) = (link.carrier(), self.link.up() && !link.up());
        self.link = link;
        if went_down {
            self.settle(context);
        }
        self.event(context, Event::Carrier(carrier));
    }

    /// Time has passed, or a socket is readable.
    pub fn turn(&mut self, context: &mut Context<'_>) {
        // Bounded, so that a flood on one link does not keep the others waiting.
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
        // The text in `waiting` counts seconds, in steps.
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

    /// The addresses that it has.
    pub fn addresses(&self) -> Vec<IpNet> {
        if self.problem.is_some() { Vec::new() } else { self.wanted_addresses() }
    }

    /// The router of its default route, IPv4 before IPv6.
    pub fn gateway(&self) -> Option<IpAddr> {
        let lease = self.held().and_then(|held| held.lease.gateway()).map(IpAddr::from);
        self.wish.gateway.iter().copied().min().or(lease)
    }

    /// Why it has no address, or not all that it should have.
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
        let what = if client.refused() { "the DHCP server refuses" } else { "no answer to DHCP" };
        Some(match steps {
            0 => format!("{name}: asking for an address by DHCP"),
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
                        log::warn!("{name}: cannot keep the lease for a restart: {error}");
                    }
                    self.retry.reset();
                    self.settle(context);
                }
                Action::Release(why) => {
                    let why = match why {
                        Lost::Ended => "has ended",
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
        self.wish.address.iter().copied().chain(lease).collect()
    }

    fn wanted_routes(&self) -> Vec<Route> {
        let index = self.link.index;
        let all = self.wanted_addresses();
        // A gateway that no address covers is reached on the link all the same.
        let on_link = |gateway: IpAddr| {
            let local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
            !local && !all.iter().any(|net| routes::covers(*net, gateway))
        };
        let written = self.wish.gateway.iter().map(|&gateway| Route {
            to: routes::everywhere(gateway),
            gateway: Some(gateway),
            on_link: on_link(gateway),
            index,
            metric: STATIC_METRIC + index,
            owner: Owner::Static,
            source: None,
        });
        let lease = self.held().map(|held| &held.lease);
        let lent = lease.into_iter().flat_map(|lease| {
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
        let mut routes: Vec<Route> = written.chain(lent).collect();
        // What is on the link comes first: a gateway may be reached by it.
        routes.sort_by_key(|route| route.gateway.is_some());
        routes
    }

    /// Makes the kernel's state what it should be, whatever it was; what it is already is left
    /// alone.
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

    /// Sets the MTU that is declared or lent. Apart from all else, because servers lend MTUs that a
    /// link cannot have: packets of another size are no reason to have no address.
    fn apply_mtu(&mut self, context: &mut Context<'_>) {
        let lent = self.held().and_then(|held| held.lease.mtu);
        let wanted = self.wish.mtu.or(lent).filter(|&mtu| mtu != self.link.mtu);
        let Some(mtu) = wanted else { return };
        let mut batch = Batch::new();
        let change = Change { mtu: Some(mtu), ..Change::default() };
        links::set(&mut batch, self.link.index, change, format!("set the MTU to {mtu}"));
        match context.netlink.run(batch, |_, _| {}) {
            Ok(()) => self.refused_mtu = None,
            Err(_) if self.refused_mtu == Some(mtu) => {}
            Err(error) => {
                log::warn!("{}: {error}; it stays {}", self.link.name, self.link.mtu);
                self.refused_mtu = Some(mtu);
            }
        }
    }

    fn apply(&mut self, context: &mut Context<'_>) -> Result<(), NetlinkError> {
        // First, because some drivers take a new MTU only while the link is down.
        self.apply_mtu(context);
        let index = self.link.index;
        let (wanted, wanted_routes) = (self.wanted_addresses(), self.wanted_routes());
        let mut batch = Batch::new();
        let change = Change { up: true, ..Change::default() };
        links::set(&mut batch, index, change, "set the link up");

        // Old routes and addresses go first: removing a first address of a subnet takes the later
        // ones of the same subnet with it. All IPv4 addresses of an uplink are ours; IPv6 ones may
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

    /// Seconds until the kernel shall take an address off by itself, in case nobody else does.
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

/// True if replacing one by the other leaves one route.
fn same_route(a: &Route, b: &Route) -> bool {
    (routes::network(a.to), a.metric, a.gateway, a.owner)
        == (routes::network(b.to), b.metric, b.gateway, b.owner)
}

/// A seed from the kernel's entropy, or, before there is any, from what differs between hosts.
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
