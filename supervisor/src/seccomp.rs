//! Which system calls each unit may make: a filter for each, compiled when the host folder is read.

use container::CapSet;
use container::seccomp::{Document, Filter, Kernel, Profile};
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::rc::Rc;
use units::model::{Seccomp, Unit};

/// The filters of all units. Units that ask for the same share one.
#[derive(Debug, Default)]
pub struct Filters {
    by_unit: BTreeMap<String, Result<Option<Rc<Filter>>, String>>,
}

/// Profile as written and capabilities: what a filter depends on.
type Key = (Option<String>, u64);

impl Filters {
    /// Compiles the filters of `units`, whose profiles lie in `file` ([`ipc::paths::SECCOMP`]), and
    /// says what is wrong. A unit without a filter that can be used does not start.
    pub fn load<'u>(file: &Path, units: impl Iterator<Item = &'u Unit>) -> (Filters, Vec<String>) {
        let mut problems = Vec::new();
        let profiles = match read(file) {
            Ok(profiles) => profiles,
            Err(error) => {
                problems.push(format!("{}: {error}", file.display()));
                BTreeMap::new()
            }
        };
        let mut made: BTreeMap<Key, Rc<Filter>> = BTreeMap::new();
        let mut by_unit = BTreeMap::new();
        for unit in units {
            let filter = of(unit, &profiles, &mut made);
            if let Err(error) = &filter {
                problems.push(format!("{}: {error}", unit.name));
            }
            by_unit.insert(unit.name.clone(), filter);
        }
        (Filters { by_unit }, problems)
    }

    /// A unit's filter; `None`: it asks for none.
    ///
    /// # Errors
    /// What is wrong with its profile.
    pub fn of(&self, unit: &str) -> Result<Option<Rc<Filter>>, String> {
        let missing = || Err(format!("{unit} has no system call filter"));
        self.by_unit.get(unit).cloned().unwrap_or_else(missing)
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, String>, String> {
    match fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map_err(|error| error.to_string()),
        // No unit has a profile of its own.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error.to_string()),
    }
}

fn of(
    unit: &Unit,
    profiles: &BTreeMap<String, String>,
    made: &mut BTreeMap<Key, Rc<Filter>>,
) -> Result<Option<Rc<Filter>>, String> {
    let container = &unit.container;
    let caps = CapSet::from_names(&container.cap_add, &container.cap_drop)
        .map_err(|name| format!("unknown capability {name}"))?;
    let name = match &container.seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::Default => None,
        Seccomp::Profile(name) => Some(name),
    };
    let key = (name.cloned(), caps.bits());
    if let Some(filter) = made.get(&key) {
        return Ok(Some(Rc::clone(filter)));
    }
    let profile = match name {
        None => Profile::default_for(caps),
        Some(name) => {
            let text =
                profiles.get(name).ok_or_else(|| format!("seccomp {name} is not in this host"))?;
            let document = Document::parse(text.as_bytes());
            let document = document.map_err(|error| format!("seccomp {name}: {error}"))?;
            document.profile(caps, Kernel::running()).0
        }
    };
    let filter = Filter::new(&profile).map_err(|error| match name {
        Some(name) => format!("seccomp {name}: {error}"),
        None => format!("seccomp: {error}"),
    })?;
    let filter = Rc::new(filter);
    made.insert(key, Rc::clone(&filter));
    Ok(Some(filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_share_filters_and_one_bad_profile_harms_no_other() {
        let with = |name: &str, seccomp: Seccomp, caps: &[&str]| {
            let path = format!("units/{name}.toml");
            let text = "container.image = './images/web'".to_owned();
            let mut loaded = units::load(None, vec![units::SourceFile { path, text }]);
            let mut unit = loaded.config.units.remove(name).unwrap();
            unit.container.seccomp = seccomp;
            unit.container.cap_add = caps.iter().map(|cap| cap.to_string()).collect();
            unit
        };
        let profile = |name: &str| Seccomp::Profile(format!("./{name}.json"));
        let units = [
            with("a", Seccomp::Default, &[]),
            with("b", Seccomp::Default, &[]),
            with("admin", Seccomp::Default, &["SYS_ADMIN"]),
            with("open", Seccomp::Unconfined, &[]),
            with("own", profile("good"), &[]),
            with("bad", profile("bad"), &[]),
            with("none", profile("none"), &[]),
        ];
        let dir = std::env::temp_dir().join(format!("keel-seccomp-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("seccomp.json");
        let texts = BTreeMap::from([
            ("./good.json", r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#),
            ("./bad.json", r#"{"defaultAction":"SCMP_ACT_KILL"}"#),
        ]);
        fs::write(&file, serde_json::to_vec(&texts).unwrap()).unwrap();
        let (filters, problems) = Filters::load(&file, units.iter());
        fs::remove_dir_all(&dir).unwrap();
        let of = |name: &str| filters.of(name).unwrap().unwrap();
        assert!(Rc::ptr_eq(&of("a"), &of("b")) && !Rc::ptr_eq(&of("a"), &of("admin")));
        assert!(filters.of("open").unwrap().is_none());
        assert!(of("own").instructions() < of("a").instructions());
        let forbids = "seccomp ./bad.json: forbids execve, which is needed to start the program";
        assert_eq!(filters.of("bad").unwrap_err(), forbids);
        assert_eq!(filters.of("none").unwrap_err(), "seccomp ./none.json is not in this host");
        assert_eq!(problems.len(), 2);
        let (_, problems) = Filters::load(&file, units[..4].iter());
        assert_eq!(problems, [""; 0], "a host without profiles has no file");
    }
}
