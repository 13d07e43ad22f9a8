//! What holds between units: whom they name, in which order they start, which ports they share.

use crate::container::clash;
use crate::diagnostic::{Diagnostic, Related, Severity, quoted};
use crate::model::{Condition, Ipv4Net, NetworkMode, Unit, VolumeSource};
use crate::render::position;
use crate::suggest::closest;
use crate::unit::{Link, LinkKind, Parsed};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

/// The order in which units can start: layers, each of which needs only those before it.
///
/// It holds every unit of the configuration, disabled ones too; a unit whose dependency is broken
/// or unknown stands where it would without that dependency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartOrder(pub Vec<Vec<String>>);

impl StartOrder {
    /// The layers of `units` under `after` and `requires`. Units in a cycle come last, in one
    /// layer, so that none is lost.
    pub fn of(units: &BTreeMap<String, Unit>) -> StartOrder {
        let mut left: BTreeMap<&str, BTreeSet<&str>> = units
            .values()
            .map(|unit| {
                let needs = unit.after.iter().chain(&unit.requires).map(String::as_str);
                let known = needs.filter(|name| units.contains_key(*name) && *name != unit.name);
                (unit.name.as_str(), known.collect())
            })
            .collect();
        let mut layers = Vec::new();
        while !left.is_empty() {
            let mut layer: Vec<&str> =
                left.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).collect();
            if layer.is_empty() {
                layer = left.keys().copied().collect();
            }
            for name in &layer {
                left.remove(name);
            }
            for needs in left.values_mut() {
                needs.retain(|name| !layer.contains(name));
            }
            layers.push(layer.into_iter().map(str::to_owned).collect());
        }
        StartOrder(layers)
    }
}

/// All units by name. `names` also has those whose file could not be read at all.
pub(crate) type All<'a> = BTreeMap<String, Parsed<'a>>;

/// Errors on units that name themselves or units that do not exist.
pub(crate) fn check_names(units: &All<'_>) {
    for (name, parsed) in units {
        for link in &parsed.links {
            let key = link.kind.key();
            if link.to == *name {
                let message = format!("`{name}` names itself in `{key}`");
                parsed.source.error(&link.span, message, "remove it");
            } else if !units.contains_key(&link.to) {
                let message = format!("there is no unit {}", quoted(&link.to));
                let others = units.keys().map(String::as_str).filter(|other| other != name);
                let plain = without_suffix(&link.to);
                let hint = match closest(plain.unwrap_or(&link.to), others) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => unknown_unit_hint(plain.unwrap_or(&link.to)),
                };
                parsed.source.error(&link.span, message, &hint);
            }
        }
    }
}

/// The name without what other systems put behind it.
fn without_suffix(name: &str) -> Option<&str> {
    [".service", ".container", ".toml"].iter().find_map(|suffix| name.strip_suffix(suffix))
}

fn unknown_unit_hint(name: &str) -> String {
    match name {
        "network-online.target" | "network.target" => {
            "for the network write `wait_for = [\"net.route\"]`".to_owned()
        }
        _ => format!("a unit `{name}` would be the file `units/{name}.toml`"),
    }
}

/// The edges of start order that leave a unit: one for each other unit it waits for.
fn edges<'p>(units: &'p All<'_>, name: &str) -> Vec<&'p Link> {
    let links = units.get(name).map(|parsed| parsed.links.as_slice()).unwrap_or_default();
    links
        .iter()
        .filter(|link| link.kind != LinkKind::Wants && link.to != name)
        .filter(|link| units.contains_key(&link.to))
        .collect()
}

/// Finds the cycles of start order: for every unit in one, a shortest one, each cycle once, with
/// the place of each of its edges. Gives the units that are in any, none of which can ever start.
pub(crate) fn check_cycles(units: &All<'_>) -> BTreeSet<String> {
    let mut in_cycle = BTreeSet::new();
    let mut seen: BTreeSet<Vec<String>> = BTreeSet::new();
    for name in units.keys() {
        let Some(path) = shortest_cycle(units, name) else { continue };
        in_cycle.insert(name.clone());
        let mut members: Vec<String> = path.iter().map(|(from, _)| from.clone()).collect();
        // The same cycle is found from each of its units: it is told from the first by name.
        let first = members.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(i, _)| i);
        members.rotate_left(first);
        if !seen.insert(members) {
            continue;
        }
        report_cycle(units, &path);
    }
    in_cycle
}

/// A shortest way from a unit back to itself: each step's unit and the link that leaves it.
fn shortest_cycle<'p>(units: &'p All<'_>, start: &str) -> Option<Vec<(String, &'p Link)>> {
    let mut came: BTreeMap<&'p str, (String, &'p Link)> = BTreeMap::new();
    let mut queue: VecDeque<String> = VecDeque::from([start.to_owned()]);
    while let Some(from) = queue.pop_front() {
        for link in edges(units, &from) {
            if came.contains_key(link.to.as_str()) {
                continue;
            }
            came.insert(&link.to, (from.clone(), link));
            if link.to != start {
                queue.push_back(link.to.clone());
                continue;
            }
            let mut path = Vec::new();
            let mut at = start;
            while let Some((from, link)) = came.get(at) {
                path.push((from.clone(), *link));
                at = from;
                if at == start {
                    break;
                }
            }
            path.reverse();
            return Some(path);
        }
    }
    None
}

fn report_cycle(units: &All<'_>, path: &[(String, &Link)]) {
    let Some((start, first)) = path.first() else { return };
    let Some(parsed) = units.get(start) else { return };
    let names: Vec<&str> =
        path.iter().map(|(from, _)| from.as_str()).chain([start.as_str()]).collect();
    let message = format!("these units wait for each other: {}", names.join(" → "));
    let source = &parsed.source;
    let mut found =
        Diagnostic::new(Severity::Error, source.file, source.text, first.span.clone(), message)
            .with_hint("none of them can start; remove one of these entries");
    for (from, link) in path {
        let Some(parsed) = units.get(from) else { continue };
        found.related.push(related(
            parsed,
            &link.span,
            format!("`{from}` has `{}` in `{}`", link.to, link.kind.key()),
        ));
    }
    source.push(found);
}

fn related(parsed: &Parsed<'_>, span: &Range<usize>, message: String) -> Related {
    let (line, column) = position(parsed.source.text, span.start);
    Related { file: parsed.source.file.to_owned(), line, column, message }
}

/// Finds ports of the host that two units publish.
///
/// One of the two gets the error: the one that is broken anyway, else the later by name, so that
/// the other still runs. Where one of them is not started at boot it is a warning: they may be
/// meant as alternatives.
pub(crate) fn check_ports(units: &All<'_>) {
    let all: Vec<&Parsed<'_>> = units.values().collect();
    for (index, first) in all.iter().enumerate() {
        for second in all.iter().skip(index + 1) {
            let pairs = first
                .places
                .ports
                .iter()
                .flat_map(|one| second.places.ports.iter().map(move |other| (one, other)));
            for ((one, one_at), (other, other_at)) in pairs.filter(|(a, b)| clash(&a.0, &b.0)) {
                let (guilty, at, port, innocent, innocent_at) =
                    if first.source.has_errors() && !second.source.has_errors() {
                        (first, one_at, one, second, other_at)
                    } else {
                        (second, other_at, other, first, one_at)
                    };
                let both = first.unit.enabled && second.unit.enabled;
                let severity = if both { Severity::Error } else { Severity::Warning };
                let name = &innocent.unit.name;
                let message =
                    format!("port {} of the host is also published by `{name}`", port.host);
                let source = &guilty.source;
                let mut found =
                    Diagnostic::new(severity, source.file, source.text, at.clone(), message);
                found.related.push(related(
                    innocent,
                    innocent_at,
                    format!("`{name}` publishes it"),
                ));
                source.push(found);
            }
        }
    }
}

/// Ports that all units together may publish: far more than any host has use for, and few enough that
/// netsetup is told of all of them in one message.
const MOST_PORTS: usize = 1000;

/// Finds units that publish more ports than are left, in the order of their names, so that those
/// before them still run.
pub(crate) fn check_port_count(units: &All<'_>, in_cycle: &BTreeSet<String>) {
    let mut left = MOST_PORTS;
    for parsed in good(units, in_cycle) {
        let ports = &parsed.places.ports;
        match ports.get(left) {
            None => left -= ports.len(),
            Some((_, at)) => {
                let message =
                    format!("the units of a host publish {MOST_PORTS} ports at most, together");
                let hint = "a service of many ports can listen on the host itself: \
                            `network = \"host\"`, without `ports`";
                parsed.source.error(at, message, hint);
            }
        }
    }
}

/// Finds bridged units for which the bridge's subnet has no address left. Addresses are given out in
/// the order of the names, enabled or not, so that those before them still run.
pub(crate) fn check_bridge_room(units: &All<'_>, in_cycle: &BTreeSet<String>, bridge: Ipv4Net) {
    // All addresses but the subnet's own, the one that means everybody, and the host's.
    let room = |prefix: u8| (1u64 << 32u8.saturating_sub(prefix)).saturating_sub(3);
    let bridged: Vec<&Parsed<'_>> = good(units, in_cycle)
        .filter(|parsed| parsed.unit.container.network == NetworkMode::Bridge)
        .collect();
    let enough = (8..bridge.prefix).rev().find(|prefix| room(*prefix) >= bridged.len() as u64);
    let hint = match enough {
        Some(prefix) => format!(
            "host.toml can give it more: `bridge = \"{}/{prefix}\"` in `[network]`",
            bridge.addr
        ),
        None => String::new(),
    };
    let fit = usize::try_from(room(bridge.prefix)).unwrap_or(usize::MAX);
    for parsed in bridged.iter().skip(fit) {
        let message = format!(
            "the bridge has no address left for `{}`: {}/{} has room for {fit} units",
            parsed.unit.name, bridge.addr, bridge.prefix
        );
        let found = Diagnostic::whole_file(Severity::Error, parsed.source.file, message);
        parsed.source.push(if hint.is_empty() { found } else { found.with_hint(&hint) });
    }
}

/// The units that will not be left out, as far as is known.
fn good<'p, 'a>(
    units: &'p All<'a>,
    in_cycle: &'p BTreeSet<String>,
) -> impl Iterator<Item = &'p Parsed<'a>> {
    let good = units
        .iter()
        .filter(|(name, parsed)| !parsed.source.has_errors() && !in_cycle.contains(*name));
    good.map(|(_, parsed)| parsed)
}

/// Warns of conditions that name a volume which no unit has.
pub(crate) fn check_volumes(units: &All<'_>) {
    let volumes: BTreeSet<&str> = units
        .values()
        .flat_map(|parsed| &parsed.unit.container.volumes)
        .filter_map(|volume| match &volume.source {
            VolumeSource::Named(name) => Some(name.as_str()),
            VolumeSource::HostPath(_) => None,
        })
        .collect();
    for parsed in units.values() {
        for (condition, at) in &parsed.waits {
            let Condition::Volume(name) = condition else { continue };
            if volumes.contains(name.as_str()) {
                continue;
            }
            let hint = match closest(name, volumes.iter().copied()) {
                Some(near) => format!("did you mean `volume:{near}`?"),
                None => String::new(),
            };
            parsed.source.warning(at, format!("no unit has a volume `{name}`"), &hint);
        }
    }
}

/// Notes on units that stay, but need one that has been left out.
pub(crate) fn note_blocked(units: &All<'_>, left_out: &BTreeSet<String>) {
    for (name, parsed) in units {
        if left_out.contains(name) {
            continue;
        }
        for link in &parsed.links {
            if link.kind == LinkKind::Requires && left_out.contains(&link.to) {
                let message =
                    format!("`{name}` cannot start: it requires `{}`, which has mistakes", link.to);
                parsed.source.report(Severity::Note, &link.span, message, None);
            }
        }
    }
}
