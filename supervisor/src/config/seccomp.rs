//! Which system calls each unit may make: one filter per unit, compiled when the host folder is
//! read.

use container::CapSet;
use container::seccomp::{Document, Filter, Kernel, Profile};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::rc::Rc;
use units::model::{Seccomp, Unit};

/// The filters of all units. Units with the same settings share one.
#[derive(Debug, Default, Clone)]
pub struct Filters {
    by_unit: BTreeMap<String, Result<Option<Rc<Filter>>, String>>,
}

/// Profile as written and capabilities: what a filter depends on.
type Key = (Option<String>, u64);

impl Filters {
    /// Compiles the filters of `units`, and returns the errors. A unit without a valid filter does
    /// not start.
    pub fn compile<'u>(
        profiles: &BTreeMap<String, String>,
        units: impl Iterator<Item = &'u Unit>,
    ) -> (Filters, Vec<String>) {
        let mut problems = Vec::new();
        let mut made: BTreeMap<Key, Rc<Filter>> = BTreeMap::new();
        let mut by_unit = BTreeMap::new();
        for unit in units {
            let filter = of(unit, profiles, &mut made);
            if let Err(error) = &filter {
                problems.push(format!("{}: {error}", unit.name));
            }
            by_unit.insert(unit.name.clone(), filter);
        }
        (Filters { by_unit }, problems)
    }

    /// A unit's filter; `None`: it has none.
    ///
    /// # Errors
    /// What is wrong with its profile.
    pub fn of(&self, unit: &str) -> Result<Option<Rc<Filter>>, String> {
        let missing = || Err(format!("{unit} has no system call filter"));
        self.by_unit.get(unit).cloned().unwrap_or_else(missing)
    }
}

/// Reads the profiles ([`layout::folder::SECCOMP`]); none if no unit has its own profile.
///
/// # Errors
/// The file cannot be read, or is not what the image builder writes.
pub(crate) fn read(file: &Path) -> io::Result<BTreeMap<String, String>> {
    match fs::read(file) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => Err(error),
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
            let text = profiles
                .get(name)
                .ok_or_else(|| format!("seccomp {name} not found on this host"))?;
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
        let texts = [
            ("./good.json", r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#),
            ("./bad.json", r#"{"defaultAction":"SCMP_ACT_KILL"}"#),
        ];
        let texts = texts.map(|(name, text)| (name.to_owned(), text.to_owned()));
        let texts = BTreeMap::from(texts);
        let (filters, problems) = Filters::compile(&texts, units.iter());
        let of = |name: &str| filters.of(name).unwrap().unwrap();
        assert!(Rc::ptr_eq(&of("a"), &of("b")) && !Rc::ptr_eq(&of("a"), &of("admin")));
        assert!(filters.of("open").unwrap().is_none());
        assert!(of("own").instructions() < of("a").instructions());
        let forbids = "seccomp ./bad.json: forbids execve, which is needed to start the program";
        assert_eq!(filters.of("bad").unwrap_err(), forbids);
        assert_eq!(filters.of("none").unwrap_err(), "seccomp ./none.json not found on this host");
        assert_eq!(problems.len(), 2);
        let absent = read(Path::new("/nonexistent")).unwrap();
        assert!(absent.is_empty(), "a host without profiles has no file");
        let (_, problems) = Filters::compile(&absent, units[..4].iter());
        assert_eq!(problems, [""; 0]);
    }
}
