//! `linux.resources`, as files of a v2 cgroup (kernel `Documentation/admin-guide/cgroup-v2.rst`).
//! The specification has the values of cgroup v1; they are converted as other runtimes convert them
//! (crun(1), "cgroup v2").

use super::node::{ConfigError, Node, quote};
use container::{DeviceAccess, DeviceKind, DeviceRule};

/// A value for one of the cgroup's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The key of `config.json` that it comes from.
    pub key: String,
    /// The file, `memory.max`.
    pub file: String,
    /// The value.
    pub value: String,
}

/// `linux.resources.devices`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Devices {
    /// Only these devices, and those that every container has, are allowed.
    Only(Vec<DeviceRule>),
    /// All devices are allowed.
    Any,
}

impl Default for Devices {
    fn default() -> Self {
        Devices::Only(Vec::new())
    }
}

/// The parsed object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Resources {
    pub(super) settings: Vec<Setting>,
    pub(super) devices: Devices,
}

pub(super) fn read(node: &Node<'_>) -> Result<Resources, ConfigError> {
    node.refuse(&["network", "rdma"], "not supported by cgroup v2")?;
    let mut settings = Settings(Vec::new());
    if let Some(memory) = node.get("memory")? {
        settings.memory(&memory)?;
    }
    if let Some(cpu) = node.get("cpu")? {
        settings.cpu(&cpu)?;
    }
    if let Some(limit) = node.get("pids")?.map(|pids| pids.need("limit")).transpose()? {
        match limit.integer()? {
            0 | -1 => settings.add(&limit, "pids.max", "max"),
            count @ 1.. => settings.add(&limit, "pids.max", count),
            _ => return Err(limit.bad("must be -1 (no limit) or more")),
        }
    }
    if let Some(block_io) = node.get("blockIO")? {
        settings.block_io(&block_io)?;
    }
    if let Some(list) = node.get("hugepageLimits")? {
        settings.huge_pages(&list)?;
    }
    if let Some(table) = node.get("unified")? {
        settings.unified(&table)?;
    }
    let devices = match node.get("devices")? {
        Some(list) => devices(&list)?,
        None => Devices::default(),
    };
    Ok(Resources { settings: settings.0, devices })
}

struct Settings(Vec<Setting>);

impl Settings {
    fn add(&mut self, node: &Node<'_>, file: &str, value: impl ToString) {
        let (key, file) = (node.key().to_owned(), file.to_owned());
        self.0.push(Setting { key, file, value: value.to_string() });
    }

    fn memory(&mut self, node: &Node<'_>) -> Result<(), ConfigError> {
        node.refuse(
            &["kernel", "kernelTCP", "swappiness", "disableOOMKiller"],
            "not supported by cgroup v2",
        )?;
        let amount = |name: &str| -> Result<_, ConfigError> {
            let Some(node) = node.get(name)? else { return Ok(None) };
            match node.integer()? {
                -1.. => Ok(Some((node.integer()?, node))),
                _ => Err(node.bad("must be -1 (no limit) or more")),
            }
        };
        let text = |bytes: i64| if bytes < 0 { "max".to_owned() } else { bytes.to_string() };
        let limit = amount("limit")?;
        let swap = amount("swap")?;
        if let Some((bytes, node)) = &limit {
            // Encoders write 0 for a limit that is not set.
            if *bytes != 0 {
                self.add(node, "memory.max", text(*bytes));
            }
        }
        if let Some((bytes, node)) = amount("reservation")? {
            self.add(&node, "memory.low", text(bytes));
        }
        // In v1 the sum of memory and swap, in v2 the swap alone.
        match (swap, limit.map(|(bytes, _)| bytes).filter(|bytes| *bytes != 0)) {
            (None | Some((0, _)), _) => {}
            (Some((-1, node)), _) => self.add(&node, "memory.swap.max", "max"),
            (Some((_, node)), None | Some(-1)) => {
                return Err(node.bad("requires a memory limit"));
            }
            (Some((both, node)), Some(limit)) if both < limit => {
                return Err(node.bad(
                    "is the sum of memory and swap and must not be less than the memory limit",
                ));
            }
            (Some((both, node)), Some(limit)) => self.add(&node, "memory.swap.max", both - limit),
        }
        Ok(())
    }

    fn cpu(&mut self, node: &Node<'_>) -> Result<(), ConfigError> {
        node.refuse(&["realtimeRuntime", "realtimePeriod"], "not supported by cgroup v2")?;
        if let Some(shares) = node.get("shares")?.filter(|node| !node.is_empty()) {
            let value = shares.unsigned()?;
            self.add(&shares, "cpu.weight", weight(value));
        }
        let period = node.get("period")?.filter(|node| !node.is_empty());
        let period_us = period.as_ref().map(Node::unsigned).transpose()?;
        let quota = node.get("quota")?.filter(|node| !node.is_empty());
        if let Some(node) = quota.as_ref().or(period.as_ref()) {
            let quota = match &quota {
                None => "max".to_owned(),
                Some(quota) => match quota.integer()? {
                    -1 => "max".to_owned(),
                    us @ 1.. => us.to_string(),
                    _ => return Err(quota.bad("must be -1 (no limit) or more than 0")),
                },
            };
            self.add(node, "cpu.max", format!("{quota} {}", period_us.unwrap_or(100_000)));
        }
        if let Some(burst) = node.get("burst")?.filter(|node| !node.is_empty()) {
            self.add(&burst, "cpu.max.burst", burst.unsigned()?);
        }
        if let Some(idle) = node.get("idle")? {
            let value = idle.number(1)?;
            self.add(&idle, "cpu.idle", value);
        }
        for (name, file) in [("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")] {
            if let Some(list) = node.get(name)?.filter(|node| !node.is_empty()) {
                self.add(&list, file, one_line(&list)?);
            }
        }
        Ok(())
    }

    fn block_io(&mut self, node: &Node<'_>) -> Result<(), ConfigError> {
        let text = "not supported; only limits in bytes and operations per second are";
        node.refuse(&["weight", "leafWeight", "weightDevice"], text)?;
        for (name, key) in [
            ("throttleReadBpsDevice", "rbps"),
            ("throttleWriteBpsDevice", "wbps"),
            ("throttleReadIOPSDevice", "riops"),
            ("throttleWriteIOPSDevice", "wiops"),
        ] {
            let Some(list) = node.get(name)? else { continue };
            for one in list.list()? {
                let number = |name| one.need(name)?.number(i32::MAX as u32);
                let (major, minor) = (number("major")?, number("minor")?);
                let rate = one.need("rate")?.unsigned()?;
                self.add(&one, "io.max", format!("{major}:{minor} {key}={rate}"));
            }
        }
        Ok(())
    }

    fn huge_pages(&mut self, list: &Node<'_>) -> Result<(), ConfigError> {
        for one in list.list()? {
            let size = one.need("pageSize")?;
            let name = size.text()?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                return Err(size.bad(format!("{} is not a page size", quote(name))));
            }
            let limit = one.need("limit")?.unsigned()?;
            self.add(&one, &format!("hugetlb.{name}.max"), limit);
        }
        Ok(())
    }

    /// Any file of a controller, but not the hierarchy's own files (such as `cgroup.procs`).
    fn unified(&mut self, table: &Node<'_>) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        for (file, node) in table.members()? {
            let (controller, rest) = file.split_once('.').unwrap_or_default();
            if controller.is_empty() || rest.is_empty() || !file.chars().all(plain) {
                return Err(node.bad("is not a file of a controller"));
            }
            if controller == "cgroup" {
                return Err(node.bad("is a file of the cgroup itself and cannot be set"));
            }
            let value = one_line(&node)?;
            self.add(&node, file, value);
        }
        Ok(())
    }
}

/// A text that is written unchanged.
fn one_line(node: &Node<'_>) -> Result<String, ConfigError> {
    let text = node.text()?;
    match text.len() <= 4096 && !text.trim_end().contains('\n') {
        true => Ok(text.to_owned()),
        false => Err(node.bad("must be one line")),
    }
}

/// Converts 2 to 262144 shares to a weight of 1 to 10000.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

/// Rules of cgroup v1, where later rules take precedence. Supported are lists that first deny all
/// devices and then allow some.
fn devices(list: &Node<'_>) -> Result<Devices, ConfigError> {
    let mut access = Devices::default();
    for (number, node) in list.list()?.iter().enumerate() {
        let allow = node.need("allow")?.boolean()?;
        let kind = node.get("type")?.map_or(Ok(""), |node| node.text())?;
        let number_of = |name: &str| match node.get(name)? {
            // -1 also means all.
            Some(node) if node.integer()? != -1 => node.number(i32::MAX as u32).map(Some),
            _ => Ok(None),
        };
        let (major, minor) = (number_of("major")?, number_of("minor")?);
        let how = node.get("access")?.map_or(Ok("rwm"), |node| node.text())?;
        if how.is_empty() || !how.chars().all(|c| matches!(c, 'r' | 'w' | 'm')) {
            return Err(node.bad("access must consist of r, w and m"));
        }
        let (read, write) = (how.contains('r'), how.contains('w'));
        let kind = match kind {
            "" | "a" => {
                if major.or(minor).is_some() || !(read && write && how.contains('m')) {
                    return Err(node.bad(
                        "a rule for all devices must not have numbers, and its access must be rwm",
                    ));
                }
                access = if allow { Devices::Any } else { Devices::default() };
                continue;
            }
            "c" | "u" => DeviceKind::Char,
            "b" => DeviceKind::Block,
            other => return Err(node.bad(format!("type {} is not supported", quote(other)))),
        };
        match (&mut access, major) {
            _ if !allow && number > 0 => {
                return Err(node.bad("only a rule for all devices can deny access"));
            }
            _ if !allow => return Err(node.bad("the first rule must be for all devices")),
            // Creating nodes is controlled by CAP_MKNOD alone.
            _ if !read && !write => {}
            (Devices::Any, _) => {}
            (Devices::Only(_), None) => return Err(node.bad("major is missing")),
            (Devices::Only(rules), Some(major)) => {
                let access = DeviceAccess { read, write };
                rules.push(DeviceRule { kind, major, minor, access });
            }
        }
    }
    Ok(access)
}

#[cfg(test)]
mod tests {
    use super::weight;
    use proptest::prelude::*;

    #[test]
    fn the_limits_of_the_weights() {
        assert_eq!([0, 2, 1024, 262_144, u64::MAX].map(weight), [1, 1, 39, 10_000, 10_000]);
    }

    proptest! {
        #[test]
        fn weights_rise_with_shares(a in 0u64..300_000, b in 0u64..300_000) {
            prop_assert!((1..=10_000).contains(&weight(a)));
            prop_assert_eq!(weight(a.min(b)) <= weight(a.max(b)), true);
        }
    }
}
