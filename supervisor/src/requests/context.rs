//! The host's additions to the policy's explanation: the network, the data disk, the last lines of
//! a failed unit.

use crate::kernel::Kernel;
use crate::shell::Shell;
use api_types::{ExitCause, State};
use units::model::Condition;

/// Number of log lines shown.
const LAST_LINES: usize = 3;

/// Maximum number of characters shown of such a line.
const LINE: usize = 160;

impl<K: Kernel> Shell<K> {
    /// For each condition that a waiting unit waits for: the state of the host.
    pub(crate) fn condition_reasons(&self, name: &str) -> Vec<String> {
        let waiting =
            self.core.status(name, self.now()).is_some_and(|unit| unit.state == State::Waiting);
        let Some(unit) = self.config.host.units.get(name).filter(|_| waiting) else {
            return Vec::new();
        };
        let (mut net, mut disk) = (false, false);
        for condition in &unit.wait_for {
            match condition {
                Condition::NetAddr => net |= self.net_state.addresses.is_empty(),
                Condition::NetRoute => net |= self.net_state.gateway.is_none(),
                Condition::Dns => net |= self.net_state.dns.is_empty(),
                Condition::Volume(_) => disk |= self.data_disk.pending,
                Condition::Clock => {}
            }
        }
        let network = self.net_state.waiting.iter().filter(|_| net);
        let disk = disk.then_some(&self.data_disk.reason);
        network
            .map(|reason| format!("  network: {reason}"))
            .chain(disk.map(|reason| format!("  data disk: {reason}")))
            .collect()
    }

    /// For each unit in an explanation that has failed or is in back-off: its memory limit, if it
    /// was killed for that, and the last lines of its log.
    pub(crate) fn failure_details(&self, explanation: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for name in self.core.names() {
            let headline = format!("{name} ");
            if !explanation.iter().any(|line| line.trim_start().starts_with(&headline)) {
                continue;
            }
            let Some(status) = self.core.status(name, self.now()) else { continue };
            if !matches!(status.state, State::Failed | State::Backoff) {
                continue;
            }
            let oom = status.last_exit.as_ref().is_some_and(|end| end.cause == ExitCause::Oom);
            let limit = self.config.host.units.get(name).and_then(|unit| unit.limits.memory);
            if let Some(limit) = limit.filter(|_| oom) {
                found.push(format!("{name} may use {} of memory (limits.memory)", size(limit)));
            }
            let lines = self.kernel.log_tail(name, LAST_LINES).unwrap_or_default();
            if !lines.is_empty() {
                found.push(format!("the last lines of {name}:"));
            }
            for line in lines {
                let text = String::from_utf8_lossy(&line.text);
                let text: String = text.chars().filter(|c| !c.is_control()).take(LINE).collect();
                found.push(format!("  {} | {text}", line.stream.name()));
            }
        }
        found
    }
}

/// A size as unit files write it.
fn size(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    let whole = units.iter().find(|(_, shift)| bytes != 0 && bytes.trailing_zeros() >= *shift);
    whole.map_or_else(|| bytes.to_string(), |(unit, shift)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_read_as_they_are_written() {
        assert_eq!(
            [256 << 20, 3 << 30, 1 << 10, 1500, 0].map(size),
            ["256M", "3G", "1K", "1500", "0"]
        );
    }
}
