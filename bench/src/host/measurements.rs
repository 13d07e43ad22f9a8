//! The measurements, and the ratios computed from them.

use engine_bench::line::{Line, Mode};
use serde::Serialize;
use std::collections::BTreeMap;

/// The name of our engine in the report.
pub const ENGINE: &str = "engine";
/// The name of our engine with a user namespace.
pub const USERNS: &str = "engine-userns";

/// Everything that the guest has reported.
#[derive(Debug, Default, Serialize)]
pub struct Measurements {
    /// Nanoseconds of each start.
    pub times: BTreeMap<Mode, BTreeMap<String, Vec<u64>>>,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// Versions, memory, idle containers, filters, steps: as reported.
    pub others: Vec<Line>,
}

/// The median and the 95th percentile of some starts, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The number of starts.
    pub count: usize,
}

/// One value of the last line, and its target.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// Its key.
    pub name: &'static str,
    /// `None` if one of the two was not measured.
    pub value: Option<f64>,
    /// The target.
    pub aim: f64,
    /// Whether the target is a minimum; otherwise it is a maximum.
    pub at_least: bool,
}

impl Ratio {
    /// `ok`, `MISSED`, or `-` if nothing was measured.
    pub fn verdict(&self) -> &'static str {
        match self.value {
            None => "-",
            Some(value) if (value >= self.aim) == self.at_least => "ok",
            Some(_) => "MISSED",
        }
    }
}

impl Measurements {
    /// Adds one report.
    pub fn add(&mut self, line: Line) {
        match line {
            Line::Times { who, mode, ns } => {
                self.times.entry(mode).or_default().entry(who).or_default().extend(ns);
            }
            Line::Note(text) => self.notes.push(text),
            line => self.others.push(line),
        }
    }

    /// The starts of one competitor.
    pub fn spread(&self, mode: Mode, who: &str) -> Option<Spread> {
        let mut ns = self.times.get(&mode)?.get(who)?.clone();
        ns.sort_unstable();
        let at = |share: usize| ns.get(ns.len() * share / 100).map(|ns| *ns as f64 / 1e6);
        Some(Spread { median: at(50)?, p95: at(95)?, count: ns.len() })
    }

    /// The ratio of two medians; `pick` selects the larger or the smaller of the two modes.
    fn over(&self, who: &str, whom: &str, pick: fn(f64, f64) -> f64) -> Option<f64> {
        let ratio = |mode| Some(self.spread(mode, who)?.median / self.spread(mode, whom)?.median);
        Some(pick(ratio(Mode::Hot)?, ratio(Mode::Gaps)?))
    }

    /// The values of the last line. Each is the worse of the two modes, hot and with gaps.
    pub fn ratios(&self) -> [Ratio; 6] {
        let peer = |name, aim| Ratio {
            name,
            value: self.over(name, ENGINE, f64::min),
            aim,
            at_least: true,
        };
        let own = |name, who, whom, aim| Ratio {
            name,
            value: self.over(who, whom, f64::max),
            aim,
            at_least: false,
        };
        [
            own("floor", ENGINE, "floor", 1.3),
            peer("crun", 2.0),
            peer("runc", 6.0),
            peer("podman", 25.0),
            // The same target as podman: a daemon that starts the same kind of runtime is not faster.
            peer("docker", 25.0),
            own("userns", USERNS, ENGINE, 1.2),
        ]
    }

    /// `engine: floor=… crun=… …`, with a dash where nothing was measured.
    pub fn last_line(&self) -> String {
        let values: Vec<String> = self
            .ratios()
            .iter()
            .map(|ratio| match ratio.value {
                Some(value) => format!("{}={value:.2}", ratio.name),
                None => format!("{}=-", ratio.name),
            })
            .collect();
        format!("engine: {}", values.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_the_worse_mode_and_a_dash_for_missing_values() {
        let mut measurements = Measurements::default();
        for (who, mode, ms) in [
            ("floor", Mode::Hot, 10),
            ("engine", Mode::Hot, 11),
            ("crun", Mode::Hot, 22),
            ("floor", Mode::Gaps, 10),
            ("engine", Mode::Gaps, 12),
            ("crun", Mode::Gaps, 60),
            ("podman", Mode::Hot, 60),
        ] {
            measurements.add(Line::Times { who: who.into(), mode, ns: vec![ms * 1_000_000; 3] });
        }
        assert_eq!(
            measurements.last_line(),
            "engine: floor=1.20 crun=2.00 runc=- podman=- docker=- userns=-"
        );
        let [floor, crun, runc, ..] = measurements.ratios();
        assert_eq!([floor.verdict(), crun.verdict(), runc.verdict()], ["ok", "ok", "-"]);
    }
}
