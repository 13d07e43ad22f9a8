//! `hosts.toml`: names and groups of hosts.

use crate::address::Address;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use toml::Spanned;
use units::{Diagnostic, Severity};

/// A host that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHost {
    /// Where it is.
    pub address: Address,
    /// Its key, if the file pins it.
    pub key: Option<Fingerprint>,
    /// Our key for it, if not the usual one.
    pub identity: Option<PathBuf>,
}

/// The file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// By name.
    pub hosts: BTreeMap<String, NamedHost>,
    /// Names of hosts, by the group's name.
    pub groups: BTreeMap<String, Vec<String>>,
    /// What a command without `--host` is for.
    pub default: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    default: Option<Spanned<String>>,
    #[serde(default)]
    host: BTreeMap<Spanned<String>, RawHost>,
    #[serde(default)]
    group: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    address: Spanned<String>,
    key: Option<Spanned<String>>,
    identity: Option<PathBuf>,
}

impl Hosts {
    /// Reads the file; without one nothing has a name.
    ///
    /// # Errors
    /// It cannot be read, or has a mistake, which is shown at its place.
    pub fn read(path: &Path) -> Result<Hosts, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => Hosts::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Hosts::default()),
            Err(error) => Err(Error::Usage(format!("{}: {error}", path.display()))),
        }
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// It has a mistake, which is shown at its place.
    pub fn parse(path: &Path, text: &str) -> Result<Hosts, Error> {
        let source = Source { path, text };
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let hint = "it holds `default = \"NAME\"` at its top, tables `[host.NAME]` with \
                        `address`, `key`, `identity`, and a table `[group]` with lists of names";
            source.mistake(error.span().unwrap_or(0..0), error.message(), hint)
        })?;
        let mut hosts = BTreeMap::new();
        for (name, host) in raw.host {
            check_name(&source, &name)?;
            let key = host.key.map(|key| {
                let hint = "`keel trust ADDRESS` shows it";
                source.value(&key, hint)
            });
            let named = NamedHost {
                address: source.value(&host.address, "write \"ADDRESS\" or \"ADDRESS:PORT\"")?,
                key: key.transpose()?,
                identity: host.identity.map(|identity| place(path, identity)),
            };
            hosts.insert(name.into_inner(), named);
        }
        let mut groups = BTreeMap::new();
        for (name, members) in raw.group {
            check_name(&source, &name)?;
            if hosts.contains_key(name.as_ref()) {
                let message = format!("`{}` is already the name of a host", name.as_ref());
                return Err(source.mistake(name.span(), &message, "give the group another name"));
            }
            for member in &members {
                if !hosts.contains_key(member.as_ref()) {
                    let message = format!("there is no host `{}` in this file", member.as_ref());
                    let hint = format!("add a table `[host.{}]`", member.as_ref());
                    return Err(source.mistake(member.span(), &message, &hint));
                }
            }
            let members = members.into_iter().map(Spanned::into_inner).collect();
            groups.insert(name.into_inner(), members);
        }
        let default = raw.default.map(Spanned::into_inner);
        Ok(Hosts { hosts, groups, default })
    }

    /// Every name, for "there is no such host".
    pub fn names(&self) -> Vec<&str> {
        self.hosts.keys().chain(self.groups.keys()).map(String::as_str).collect()
    }
}

/// A path in the file is relative to the file, and may begin with the home folder.
fn place(file: &Path, path: PathBuf) -> PathBuf {
    if let (Ok(rest), Some(home)) = (path.strip_prefix("~"), std::env::var_os("HOME")) {
        return PathBuf::from(home).join(rest);
    }
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn check_name(source: &Source<'_>, name: &Spanned<String>) -> Result<(), Error> {
    let text: &str = name.as_ref();
    if text.is_empty() || text.contains([',', ':', '/', ' ']) {
        let message = format!("`{text}` cannot be a name of a host or a group");
        return Err(source.mistake(name.span(), &message, "no `,`, `:`, `/` or blank in it"));
    }
    Ok(())
}

/// The file while it is read.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn mistake(&self, span: std::ops::Range<usize>, message: &str, hint: &str) -> Error {
        let file = self.path.display().to_string();
        let found = Diagnostic::new(Severity::Error, &file, self.text, span, message)
            .with_hint(hint)
            .render(self.text, false);
        Error::Usage(format!("a mistake in {file}\n{}", found.trim_end()))
    }

    fn value<T>(&self, value: &Spanned<String>, hint: &str) -> Result<T, Error>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text: &str = value.as_ref();
        text.parse().map_err(|error: T::Err| self.mistake(value.span(), &error.to_string(), hint))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/etc/keel/hosts.toml";

    fn parse(text: &str) -> Result<Hosts, String> {
        Hosts::parse(Path::new(FILE), text).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_that_can_be_written() {
        let hosts = parse(
            "default = \"edge\"\n\
             [host.edge-1]\n\
             address = \"10.0.0.7:7443\"\n\
             key = \"SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU\"\n\
             identity = \"work.pem\"\n\
             [host.edge-2]\n\
             address = \"fd00::2\"\n\
             [group]\n\
             edge = [\"edge-1\", \"edge-2\"]\n",
        )
        .unwrap();
        let first = &hosts.hosts["edge-1"];
        assert_eq!(first.address.to_string(), "10.0.0.7:7443");
        assert!(first.key.is_some());
        assert_eq!(first.identity.as_deref(), Some(Path::new("/etc/keel/work.pem")));
        assert_eq!(hosts.hosts["edge-2"].address.to_string(), "[fd00::2]:7443");
        assert_eq!(hosts.groups["edge"], ["edge-1", "edge-2"]);
        assert_eq!(hosts.default.as_deref(), Some("edge"));
        assert_eq!(hosts.names(), ["edge-1", "edge-2", "edge"]);
    }

    #[test]
    fn mistakes_are_shown_at_their_place() {
        let cases = [
            ("[host.a]\naddress = 7\n", ":2:11", "string"),
            ("[host.a]\naddress = \"a:b\"\n", ":2:11", "port"),
            ("[host.a]\nkey = \"x\"\naddress = \"a\"", ":2:7", "fingerprint"),
            ("[host.a]\nadress = \"a\"\n", ":2:1", "adress"),
            ("[host.\"a,b\"]\naddress = \"a\"\n", ":1:7", "cannot be a name"),
            ("[host.a]\naddress = \"a\"\n[group]\na = []\n", ":4:1", "already the name"),
            ("[host.a]\naddress = \"a\"\n[group]\nb = [\"a\", \"c\"]\n", ":4:11", "no host `c`"),
            ("hosts = 1\n", ":1:1", "hosts"),
            ("[host.a\n", ":1:", "error"),
        ];
        for (text, place, word) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(&format!("{FILE}{place}")), "{text}\n{error}");
            assert!(error.contains(word), "{text}\n{error}");
        }
    }
}
