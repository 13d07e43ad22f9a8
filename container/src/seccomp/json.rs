//! Profiles in JSON: the format of docker and podman, and the `linux.seccomp` of an OCI
//! `config.json` (runtime-spec `config-linux.md`).
//!
//! A file has the same meaning as with runc and libseccomp:
//! - Of several rules for a call, one without conditions takes precedence over all that have some,
//!   whatever the order. (A rule that forbids a call conditionally therefore has no effect next to
//!   one that always allows it; this causes a warning.)
//! - A rule with several conditions on the same argument is equivalent to several rules with one
//!   condition each.
//! - Names of other architectures' calls are ignored.
//! - Calls newer than all calls named in the file fail with `ENOSYS`, unless the default allows.
//!
//! Unlike there, an unknown key is an error: `arg` instead of `args` would make a rule apply to any
//! arguments.

use super::names;
use super::profile::{Action, Compare, Condition, Profile, Rule};
use crate::caps::{CapSet, Capability};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use table::{Table, quote};

mod table;

pub use table::ProfileError;

/// Maximum size of a file in bytes. Docker's default profile has 17 KiB.
pub const MAX_SIZE: usize = 256 * 1024;

/// A kernel version, for `minKernel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel(
    /// The major version.
    pub u32,
    /// The minor version.
    pub u32,
);

impl Kernel {
    /// The running kernel (uname(2)); 0.0 if its version cannot be parsed.
    pub fn running() -> Kernel {
        let release = nix::sys::utsname::uname().ok();
        let release = release.as_ref().and_then(|name| name.release().to_str());
        release.and_then(Kernel::parse).unwrap_or(Kernel(0, 0))
    }

    /// Parses `MAJOR.MINOR`; the rest is ignored.
    fn parse(text: &str) -> Option<Kernel> {
        let mut numbers = text.split(|c: char| !c.is_ascii_digit());
        Some(Kernel(numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
    }
}

/// When a rule of a file applies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct When {
    caps: Vec<Capability>,
    /// Whether the list of architectures contains this one; `None`: there is no list.
    here: Option<bool>,
    min_kernel: Option<Kernel>,
}

/// A rule of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Its index in the file.
    number: usize,
    calls: Vec<u32>,
    action: Action,
    /// At least one of these groups must hold as a whole; never empty.
    conditions: Vec<Vec<Condition>>,
    includes: When,
    excludes: When,
}

/// A parsed file: a profile for any set of capabilities and any kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    default: Action,
    flags: u32,
    entries: Vec<Entry>,
    warnings: Vec<String>,
}

impl Document {
    /// Parses a file.
    ///
    /// # Errors
    /// The first mistake and its location.
    pub fn parse(text: &[u8]) -> Result<Document, ProfileError> {
        Document::from_value(&units::json::parse(text, MAX_SIZE)?)
    }

    /// Parses the `linux.seccomp` of a `config.json`.
    ///
    /// # Errors
    /// Those of [`Document::parse`].
    pub fn from_value(value: &Value) -> Result<Document, ProfileError> {
        let top = Table::new(value, String::new())?;
        top.only(&[
            "defaultAction",
            "defaultErrnoRet",
            "defaultErrno",
            "architectures",
            "archMap",
            "flags",
            "listenerPath",
            "listenerMetadata",
            "syscalls",
            "comment",
        ])?;
        let mut warnings = Vec::new();
        let default = action(&top, "defaultAction", "defaultErrnoRet", "defaultErrno")?;
        if let Some(path) = top.text("listenerPath")?.filter(|path| !path.is_empty()) {
            let reason = format!("{} is not supported: there is no listener", quote(path));
            return Err(top.bad("listenerPath", reason));
        }
        if !architectures(&top)? {
            warnings
                .push("the profile does not list SCMP_ARCH_X86_64; it is used anyway".to_owned());
        }
        let flags = flags(&top)?;
        let mut entries = Vec::new();
        let mut unknown = BTreeSet::new();
        for (number, value) in top.list("syscalls")?.iter().enumerate() {
            let rule = Table::new(value, format!("syscalls[{number}]"))?;
            entries.push(entry(&rule, number, &mut unknown, &mut warnings)?);
        }
        if !unknown.is_empty() {
            let some: Vec<String> = unknown.iter().take(8).map(|name| quote(name)).collect();
            let more = if unknown.len() > some.len() { ", …" } else { "" };
            warnings.push(format!("ignored unknown system calls: {}{more}", some.join(", ")));
        }
        Ok(Document { default, flags, entries, warnings })
    }

    /// Warnings about valid content that is probably a mistake.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The profile of a container with these capabilities on this kernel, and warnings about rules
    /// that have no effect.
    pub fn profile(&self, caps: CapSet, kernel: Kernel) -> (Profile, Vec<String>) {
        let entries: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.applies(caps, kernel)).collect();
        // The first rule without conditions for each call takes precedence over all others.
        let mut unconditional: BTreeMap<u32, &Entry> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| entry.is_unconditional()) {
            for call in &entry.calls {
                unconditional.entry(*call).or_insert(entry);
            }
        }
        let mut warnings = Vec::new();
        let mut rules = Vec::new();
        for entry in &entries {
            let (mut calls, mut covered) = (Vec::new(), Vec::new());
            for call in &entry.calls {
                match unconditional.get(call) {
                    Some(other) if other.number != entry.number => {
                        if other.action != entry.action {
                            covered.push((*call, other.number));
                        }
                    }
                    _ => calls.push(*call),
                }
            }
            if let Some((call, other)) = covered.first() {
                warnings.push(format!(
                    "syscalls[{}] has no effect on {}: syscalls[{other}] has no conditions and \
                     takes precedence",
                    entry.number,
                    names::name(*call).unwrap_or("?"),
                ));
            }
            if !calls.is_empty() {
                rules.extend(entry.conditions.iter().map(|conditions| Rule {
                    calls: calls.clone(),
                    action: entry.action,
                    conditions: conditions.clone(),
                }));
            }
        }
        let named = self.entries.iter().flat_map(|entry| entry.calls.iter().copied());
        let newest = named.max();
        let newest = newest.filter(|_| !self.default.allows());
        (Profile { default: self.default, newest, rules, flags: self.flags }, warnings)
    }
}

impl Entry {
    fn is_unconditional(&self) -> bool {
        self.conditions.iter().any(Vec::is_empty)
    }

    fn applies(&self, caps: CapSet, kernel: Kernel) -> bool {
        let included = self.includes.caps.iter().all(|cap| caps.contains(*cap))
            && self.includes.here != Some(false)
            && self.includes.min_kernel.is_none_or(|min| kernel >= min);
        let excluded = self.excludes.caps.iter().any(|cap| caps.contains(*cap))
            || self.excludes.here == Some(true)
            || self.excludes.min_kernel.is_some_and(|min| kernel >= min);
        included && !excluded
    }
}

fn action(
    table: &Table<'_>,
    key: &'static str,
    errno_key: &str,
    errno_name: &str,
) -> Result<Action, ProfileError> {
    let text =
        table.text(key)?.ok_or_else(|| ProfileError::Missing { place: table.name(), key })?;
    let number = match table.number(errno_key)? {
        None => None,
        Some(number @ 0..=4095) => Some(number as u16),
        Some(_) => return Err(table.bad(errno_key, "must be 0 to 4095")),
    };
    let by_name = table.text(errno_name)?.filter(|name| !name.is_empty());
    Ok(match text {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_TRACE" => Action::Trace(number.unwrap_or(libc::EPERM as u16)),
        "SCMP_ACT_ERRNO" => match (number, by_name) {
            (Some(number), _) => Action::Errno(number),
            (None, None) => Action::DENY,
            (None, Some(name)) => {
                let reason = || {
                    format!("unknown error name {}; use its number in `{errno_key}`", quote(name))
                };
                let number = errno(name).ok_or_else(|| table.bad(errno_name, reason()))?;
                Action::Errno(number)
            }
        },
        "SCMP_ACT_NOTIFY" => {
            return Err(table.bad(key, "SCMP_ACT_NOTIFY is not supported: there is no listener"));
        }
        other => return Err(table.bad(key, format!("unknown action {}", quote(other)))),
    })
}

/// The error names that occur in profiles (podman's have them besides the number).
fn errno(name: &str) -> Option<u16> {
    let number = match name {
        "EPERM" => libc::EPERM,
        "ENOENT" => libc::ENOENT,
        "EIO" => libc::EIO,
        "EAGAIN" => libc::EAGAIN,
        "ENOMEM" => libc::ENOMEM,
        "EACCES" => libc::EACCES,
        "EINVAL" => libc::EINVAL,
        "ENOSYS" => libc::ENOSYS,
        "EOPNOTSUPP" | "ENOTSUP" => libc::EOPNOTSUPP,
        "EAFNOSUPPORT" => libc::EAFNOSUPPORT,
        _ => return None,
    };
    u16::try_from(number).ok()
}

/// Whether the profile lists x86-64, or lists no architecture at all.
fn architectures(top: &Table<'_>) -> Result<bool, ProfileError> {
    let mut named = top.texts("architectures")?;
    for (number, value) in top.list("archMap")?.iter().enumerate() {
        let map = Table::new(value, format!("archMap[{number}]"))?;
        map.only(&["architecture", "subArchitectures"])?;
        named.extend(map.text("architecture")?);
        map.texts("subArchitectures")?;
    }
    if let Some(other) = named.iter().find(|name| !name.starts_with("SCMP_ARCH_")) {
        return Err(top.bad("architectures", format!("unknown architecture {}", quote(other))));
    }
    Ok(named.is_empty() || named.contains(&"SCMP_ARCH_X86_64"))
}

fn flags(top: &Table<'_>) -> Result<u32, ProfileError> {
    let flag = |name: &&str| match *name {
        "SECCOMP_FILTER_FLAG_LOG" => Ok(libc::SECCOMP_FILTER_FLAG_LOG as u32),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32),
        // No effect: the filter is loaded in a single-threaded process, and there is no listener.
        "SECCOMP_FILTER_FLAG_TSYNC" | "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(0),
        other => Err(top.bad("flags", format!("unknown flag {}", quote(other)))),
    };
    top.texts("flags")?.iter().try_fold(0, |all, name| Ok(all | flag(name)?))
}

fn entry(
    rule: &Table<'_>,
    number: usize,
    unknown: &mut BTreeSet<String>,
    warnings: &mut Vec<String>,
) -> Result<Entry, ProfileError> {
    rule.only(&[
        "names", "name", "action", "errnoRet", "errno", "args", "comment", "includes", "excludes",
    ])?;
    let mut named = rule.texts("names")?;
    named.extend(rule.text("name")?);
    if named.is_empty() {
        return Err(ProfileError::Missing { place: rule.name(), key: "names" });
    }
    let mut calls = BTreeSet::new();
    for name in named {
        match names::number(name) {
            Some(call) => drop(calls.insert(call)),
            None if super::foreign::is_known(name) => {}
            None => drop(unknown.insert(name.to_owned())),
        }
    }
    let conditions =
        rule.list("args")?.iter().enumerate().map(|(at, value)| {
            condition(&Table::new(value, format!("{}.args[{at}]", rule.place))?)
        });
    let conditions = conditions.collect::<Result<Vec<Condition>, _>>()?;
    let arguments: BTreeSet<u8> = conditions.iter().map(|c| c.argument).collect();
    let repeated = arguments.len() < conditions.len();
    if repeated {
        warnings.push(format!(
            "{}: several conditions on the same argument: the rule applies if any one of them holds",
            rule.place
        ));
    }
    Ok(Entry {
        number,
        calls: calls.into_iter().collect(),
        action: action(rule, "action", "errnoRet", "errno")?,
        conditions: match repeated {
            true => conditions.into_iter().map(|condition| vec![condition]).collect(),
            false => vec![conditions],
        },
        includes: when(rule, "includes")?,
        excludes: when(rule, "excludes")?,
    })
}

fn condition(table: &Table<'_>) -> Result<Condition, ProfileError> {
    table.only(&["index", "value", "valueTwo", "op"])?;
    let missing = |key| ProfileError::Missing { place: table.name(), key };
    let argument = match table.number("index")?.ok_or_else(|| missing("index"))? {
        index @ 0..=5 => index as u8,
        _ => return Err(table.bad("index", "must be 0 to 5")),
    };
    let value = table.number("value")?.ok_or_else(|| missing("value"))?;
    let two = table.number("valueTwo")?.unwrap_or(0);
    let (compare, value) = match table.text("op")?.ok_or_else(|| missing("op"))? {
        "SCMP_CMP_NE" => (Compare::Ne, value),
        "SCMP_CMP_LT" => (Compare::Lt, value),
        "SCMP_CMP_LE" => (Compare::Le, value),
        "SCMP_CMP_EQ" => (Compare::Eq, value),
        "SCMP_CMP_GE" => (Compare::Ge, value),
        "SCMP_CMP_GT" => (Compare::Gt, value),
        "SCMP_CMP_MASKED_EQ" => (Compare::MaskedEq(value), two),
        other => return Err(table.bad("op", format!("unknown operator {}", quote(other)))),
    };
    Ok(Condition { argument, compare, value })
}

fn when(rule: &Table<'_>, key: &str) -> Result<When, ProfileError> {
    let Some(value) = rule.get(key) else { return Ok(When::default()) };
    let table = Table::new(value, rule.at(key))?;
    table.only(&["caps", "arches", "minKernel"])?;
    let mut caps = Vec::new();
    for name in table.texts("caps")? {
        let cap = Capability::from_name(name);
        let reason = || format!("unknown capability {}", quote(name));
        caps.push(cap.ok_or_else(|| table.bad("caps", reason()))?);
    }
    let arches = table.texts("arches")?;
    let min_kernel = match table.text("minKernel")? {
        None | Some("") => None,
        Some(text) => {
            let reason = || format!("invalid version {}: must be like \"4.8\"", quote(text));
            Some(Kernel::parse(text).ok_or_else(|| table.bad("minKernel", reason()))?)
        }
    };
    // The architecture's name in Go.
    let here = (!arches.is_empty()).then(|| arches.contains(&"amd64"));
    Ok(When { caps, here, min_kernel })
}

#[cfg(test)]
mod tests;
