//! Checks across units: references, start order, port conflicts, limits of the host.

use crate::container::conflicts;
use crate::diagnostic::{Diagnostic, Related, Severity, quoted};
use crate::model::{Condition, Ipv4Net, NetworkMode, Unit, VolumeSource};
use crate::render::position;
use crate::suggest::closest;
use crate::unit::{Link, LinkKind, Parsed};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

/// The order in which units can start: stages, each of which depends only on earlier stages.
///
/// It contains every unit of the configuration, including disabled ones. A dependency on a unit that
/// is unknown or was left out is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StartOrder(pub Vec<Vec<String>>);

impl StartOrder {
    /// The stages of `units`, from `after` and `requires`. Units in a cycle come last, in one stage, so
    /// that no unit is missing.
    pub fn of(units: &BTreeMap<String, Unit>) -> StartOrder {
        let mut left: BTreeMap<&str, BTreeSet<&str>> = units
            .values()
            .map(|unit| {
                let needs = unit.after.iter().chain(&unit.requires).map(String::as_str);
                let known = needs.filter(|name| units.contains_key(*name) && *name != unit.name);
                (unit.name.as_str(), known.collect())
            })
            .collect();
        let mut stages = Vec::new();
        while !left.is_empty() {
            let mut stage: Vec<&str> =
                left.iter().filter(|(_, needs)| needs.is_empty()).map(|(name, _)| *name).collect();
            if stage.is_empty() {
                stage = left.keys().copied().collect();
            }
            for name in &stage {
                left.remove(name);
            }
            for needs in left.values_mut() {
                needs.retain(|name| !stage.contains(name));
            }
            stages.push(stage.into_iter().map(str::to_owned).collect());
        }
        StartOrder(stages)
    }
}

/// All units by name, including those with errors.
pub(crate) type All<'a> = BTreeMap<String, Parsed<'a>>;

/// Reports units that refer to themselves or to units that do not exist.
pub(crate) fn check_names(units: &All<'_>) {
    for (name, parsed) in units {
        for link in &parsed.links {
            let key = link.kind.key();
            if link.to == *name {
                let message = format!("unit `{name}` lists itself in `{key}`");
                parsed.source.error(&link.span, message, "remove it");
            } else if !units.contains_key(&link.to) {
                let message = format!("unit {} not found", quoted(&link.to));
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

/// The name without the suffix that other systems use.
fn without_suffix(name: &str) -> Option<&str> {
    [".service", ".container", ".toml"].iter().find_map(|suffix| name.strip_suffix(suffix))
}

fn unknown_unit_hint(name: &str) -> String {
    match name {
        "network-online.target" | "network.target" => {
            "to wait for the network, use `wait_for = [\"net.route\"]`".to_owned()
        }
        _ => format!("a unit `{name}` is defined in a file `units/{name}.toml`"),
    }
}

/// The outgoing edges of a unit in the start order: one for each other unit that it waits for.
fn edges<'p>(units: &'p All<'_>, name: &str) -> Vec<&'p Link> {
    let links = units.get(name).map(|parsed| parsed.links.as_slice()).unwrap_or_default();
    links
        .iter()
        .filter(|link| link.kind != LinkKind::Wants && link.to != name)
        .filter(|link| units.contains_key(&link.to))
        .collect()
}

/// Reports the cycles of the start order: a shortest cycle for every unit in one, each cycle once,
/// with the place of each of its edges. Returns all units in a cycle; none of them can start.
pub(crate) fn check_cycles(units: &All<'_>) -> BTreeSet<String> {
    let mut in_cycle = BTreeSet::new();
    let mut seen: BTreeSet<Vec<String>> = BTreeSet::new();
    for name in units.keys() {
        let Some(path) = shortest_cycle(units, name) else { continue };
        in_cycle.insert(name.clone());
        let mut members: Vec<String> = path.iter().map(|(from, _)| from.clone()).collect();
        // The same cycle is found from each of its units; comparing it from its first unit by name
        // detects repetitions.
        let first = members.iter().enumerate().min_by_key(|(_, name)| *name).map_or(0, |(i, _)| i);
        members.rotate_left(first);
        if !seen.insert(members) {
            continue;
        }
        report_cycle(units, &path);
    }
    in_cycle
}

/// A shortest path from a unit back to itself: each unit on it with the link that leaves it.
fn shortest_cycle<'p>(units: &'p All<'_>, start: &str) -> Option<Vec<(String, &'p Link)>> {
    let mut reached_by: BTreeMap<&'p str, (String, &'p Link)> = BTreeMap::new();
    let mut queue: VecDeque<String> = VecDeque::from([start.to_owned()]);
    while let Some(from) = queue.pop_front() {
        for link in edges(units, &from) {
            if reached_by.contains_key(link.to.as_str()) {
                continue;
            }
            reached_by.insert(&link.to, (from.clone(), link));
            if link.to != start {
                queue.push_back(link.to.clone());
                continue;
            }
            let mut path = Vec::new();
            let mut at = start;
            while let Some((from, link)) = reached_by.get(at) {
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
    let message = format!("dependency cycle: {}", names.join(" → "));
    let source = &parsed.source;
    let mut found =
        Diagnostic::new(Severity::Error, source.file, source.text, first.span.clone(), message)
            .with_hint("none of these units can start; remove one of the entries");
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

/// Reports host ports that two units publish.
///
/// Only one of the two gets the error, so that the other still runs: a unit that has errors already,
/// else the later one by name. If one of them is not started at boot, it is a warning: they may be
/// alternatives.
pub(crate) fn check_ports(units: &All<'_>) {
    let all: Vec<&Parsed<'_>> = units.values().collect();
    for (index, first) in all.iter().enumerate() {
        for second in all.iter().skip(index + 1) {
            let pairs = first
                .spans
                .ports
                .iter()
                .flat_map(|one| second.spans.ports.iter().map(move |other| (one, other)));
            for ((one, one_at), (other, other_at)) in pairs.filter(|(a, b)| conflicts(&a.0, &b.0)) {
                let (reported, at, port, kept, kept_at) =
                    if first.source.has_errors() && !second.source.has_errors() {
                        (first, one_at, one, second, other_at)
                    } else {
                        (second, other_at, other, first, one_at)
                    };
                let both = first.unit.enabled && second.unit.enabled;
                let severity = if both { Severity::Error } else { Severity::Warning };
                let name = &kept.unit.name;
                let message = format!("host port {} is also published by `{name}`", port.host);
                let source = &reported.source;
                let mut found =
                    Diagnostic::new(severity, source.file, source.text, at.clone(), message);
                found.related.push(related(kept, kept_at, format!("`{name}` publishes it here")));
                source.push(found);
            }
        }
    }
}

/// Limit of published ports over all units: far more than a host needs, and few enough to available into one
/// message to netsetup.
const MAX_PORTS: usize = 1000;

/// Reports units whose ports exceed the limit. Units are counted in the order of their names, so that
/// those within the limit still run.
pub(crate) fn check_port_count(units: &All<'_>, in_cycle: &BTreeSet<String>) {
    let mut left = MAX_PORTS;
    for parsed in good(units, in_cycle) {
        let ports = &parsed.spans.ports;
        match ports.get(left) {
            None => left -= ports.len(),
            Some((_, at)) => {
                let message =
                    format!("too many published ports: the limit is {MAX_PORTS} over all units");
                let hint = "a service with many ports can listen on the host directly: \
                            use `network = \"host\"` without `ports`";
                parsed.source.error(at, message, hint);
            }
        }
    }
}

/// Reports bridged units for which the bridge's subnet has no address left. Addresses are assigned in
/// the order of the names, to disabled units too, so that the units before them still run.
pub(crate) fn check_bridge_capacity(units: &All<'_>, in_cycle: &BTreeSet<String>, bridge: Ipv4Net) {
    // All addresses except the network address, the broadcast address and the host's own.
    let capacity = |prefix: u8| (1u64 << 32u8.saturating_sub(prefix)).saturating_sub(3);
    let bridged: Vec<&Parsed<'_>> = good(units, in_cycle)
        .filter(|parsed| parsed.unit.container.network == NetworkMode::Bridge)
        .collect();
    let sufficient =
        (8..bridge.prefix).rev().find(|prefix| capacity(*prefix) >= bridged.len() as u64);
    let hint = match sufficient {
        Some(prefix) => format!(
            "use a larger subnet in host.toml: `bridge = \"{}/{prefix}\"` in `[network]`",
            bridge.addr
        ),
        None => String::new(),
    };
    let available = usize::try_from(capacity(bridge.prefix)).unwrap_or(usize::MAX);
    for parsed in bridged.iter().skip(available) {
        let message = format!(
            "no bridge address left for `{}`: {}/{} has addresses for {available} units",
            parsed.unit.name, bridge.addr, bridge.prefix
        );
        let found = Diagnostic::whole_file(Severity::Error, parsed.source.file, message);
        parsed.source.push(if hint.is_empty() { found } else { found.with_hint(&hint) });
    }
}

/// The units without errors so far.
fn good<'p, 'a>(
    units: &'p All<'a>,
    in_cycle: &'p BTreeSet<String>,
) -> impl Iterator<Item = &'p Parsed<'a>> {
    let good = units
        .iter()
        .filter(|(name, parsed)| !parsed.source.has_errors() && !in_cycle.contains(*name));
    good.map(|(_, parsed)| parsed)
}

/// Warns about conditions that name a volume which no unit mounts.
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
            parsed.source.warning(at, format!("no unit mounts a volume `{name}`"), &hint);
        }
    }
}

/// Adds notes to units that are kept but require one that is left out.
pub(crate) fn note_blocked(units: &All<'_>, left_out: &BTreeSet<String>) {
    for (name, parsed) in units {
        if left_out.contains(name) {
            continue;
        }
        for link in &parsed.links {
            if link.kind == LinkKind::Requires && left_out.contains(&link.to) {
                let message =
                    format!("`{name}` cannot start: it requires `{}`, which has errors", link.to);
                parsed.source.report(Severity::Note, &link.span, message, None);
            }
        }
    }
}
