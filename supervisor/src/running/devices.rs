//! Which devices a unit's processes may open: the usual ones and those of its `devices`. The kernel
//! keeps the filter with the unit's cgroup, also while there is no supervisor.

use crate::shell::Shell;
use container::{Cgroup, DeviceAccess, DeviceFilter, DeviceRule};
use std::path::Path;
use units::model::Unit;

/// What the units' cgroups are given.
#[derive(Debug, Default)]
pub struct Devices {
    /// The filter of all units without `devices`: they share one.
    usual: Option<DeviceFilter>,
}

/// The devices of a unit. A node that is not there (yet) has no rule; the start that needs it says
/// so.
fn rules(unit: &Unit) -> Vec<DeviceRule> {
    let own = unit.container.devices.iter().filter_map(|device| {
        DeviceRule::of_node(Path::new(&device.source), DeviceAccess::READ_WRITE).ok()
    });
    let mut rules: Vec<DeviceRule> = DeviceRule::USUAL.into_iter().chain(own).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

impl Shell {
    /// Puts the unit's device filter into force, unless it is already.
    ///
    /// # Errors
    /// The step that failed; without the filter nothing must run in the cgroup.
    pub(crate) fn confine_devices(&mut self, unit: &Unit, group: &Cgroup) -> Result<(), String> {
        let rules = rules(unit);
        if self.runs.of(&unit.name).devices.as_ref() == Some(&rules) {
            return Ok(());
        }
        let done = if rules.len() == DeviceRule::USUAL.len() {
            match self.devices.usual.take().map_or_else(|| DeviceFilter::load(&rules), Ok) {
                Ok(filter) => self.devices.usual.insert(filter).attach(group),
                Err(error) => Err(error),
            }
        } else {
            DeviceFilter::load(&rules).and_then(|filter| filter.attach(group))
        };
        done.map_err(|error| error.to_string())?;
        self.runs.of(&unit.name).devices = Some(rules);
        Ok(())
    }
}
