//! What the host knows beyond the chain of an explanation: the network, the disk, a unit's last words.

use crate::kernel::Kernel;
use crate::shell::Shell;
use policy::{LastExit, State};
use units::model::Condition;

/// Lines of a log that are shown.
const LAST_WORDS: usize = 3;

/// Characters of such a line that are shown.
const LINE: usize = 160;

impl<K: Kernel> Shell<K> {
    /// For each condition that a waiting unit waits for: what the host knows about it.
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

    /// For each unit that an explanation has come to and that has failed or is tried again: its limit,
    /// if that was it, and what it wrote last.
    pub(crate) fn evidence(&self, lines: &[String]) -> Vec<String> {
        let mut found = Vec::new();
        for name in self.core.names() {
            let headline = format!("{name} ");
            if !lines.iter().any(|line| line.trim_start().starts_with(&headline)) {
                continue;
            }
            let Some(status) = self.core.status(name, self.now()) else { continue };
            if !matches!(status.state, State::Failed | State::Backoff) {
                continue;
            }
            let oom = status.last_exit.as_ref().is_some_and(|end| end.what == LastExit::Oom);
            let limit = self.config.host.units.get(name).and_then(|unit| unit.limits.memory);
            if let Some(limit) = limit.filter(|_| oom) {
                found.push(format!("{name} may use {} of memory (limits.memory)", size(limit)));
            }
            let words = self.kernel.log_tail(name, LAST_WORDS).unwrap_or_default();
            if !words.is_empty() {
                found.push(format!("the last lines of {name}:"));
            }
            for line in words {
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
