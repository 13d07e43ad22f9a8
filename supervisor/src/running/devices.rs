//! Which devices a unit's processes may open: the usual ones and those of its `devices`. The kernel
//! keeps the filter with the unit's cgroup, including while no supervisor runs.

use crate::kernel::Kernel;
use crate::shell::Shell;
use container::DeviceRule;
use std::path::Path;
use units::model::Unit;

/// The devices of a unit. A node that does not exist (yet) has no rule; the start that needs it
/// reports it.
fn rules(kernel: &impl Kernel, unit: &Unit) -> Vec<DeviceRule> {
    let devices = unit.container.devices.iter();
    let own = devices.filter_map(|device| kernel.device_rule(Path::new(&device.source)));
    let mut rules: Vec<DeviceRule> = DeviceRule::USUAL.into_iter().chain(own).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

impl<K: Kernel> Shell<K> {
    /// Puts the unit's device filter into force, unless it already is.
    ///
    /// # Errors
    /// The step that failed; without the filter nothing must run in the cgroup.
    pub(crate) fn confine_devices(&mut self, unit: &Unit, group: &K::Cgroup) -> Result<(), String> {
        let rules = rules(&self.kernel, unit);
        if self.runs.of(&unit.name).devices.as_ref() == Some(&rules) {
            return Ok(());
        }
        self.kernel.set_device_filter(group, &rules).map_err(|error| error.to_string())?;
        self.runs.of(&unit.name).devices = Some(rules);
        Ok(())
    }
}
