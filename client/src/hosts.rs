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

/// A host with a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedHost {
    /// The address of its API.
    pub address: Address,
    /// The pinned key, if the file has one.
    pub key: Option<Fingerprint>,
    /// The file with our key for this host, if not the default one.
    pub identity: Option<PathBuf>,
}

/// The contents of the file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hosts {
    /// Hosts by name.
    pub hosts: BTreeMap<String, NamedHost>,
    /// The names of each group's hosts.
    pub groups: BTreeMap<String, Vec<String>>,
    /// The host or group of commands without `--host`.
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
    /// Reads the file; a missing one is empty.
    ///
    /// # Errors
    /// The file cannot be read or is invalid; the message shows the place.
    pub fn read(path: &Path) -> Result<Hosts, Error> {
        match std::fs::read_to_string(path) {
            Ok(text) => Hosts::parse(path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Hosts::default()),
            Err(error) => Err(Error::usage(format!("{}: {error}", path.display()))),
        }
    }

    /// Parses the file's text.
    ///
    /// # Errors
    /// The text is invalid; the message shows the place.
    pub fn parse(path: &Path, text: &str) -> Result<Hosts, Error> {
        let source = Source { path, text };
        let raw: RawFile = toml::from_str(text).map_err(|error| {
            let hint = "the file can have `default = \"NAME\"` at the top, tables `[host.NAME]` with \
                        `address`, `key` and `identity`, and a table `[group]` with lists of names";
            source.error(error.span().unwrap_or(0..0), error.message(), hint)
        })?;
        let mut hosts = BTreeMap::new();
        for (name, host) in raw.host {
            check_name(&source, &name)?;
            let key = host.key.map(|key| {
                let hint = "`keel trust ADDRESS` shows the fingerprint";
                source.value(&key, hint)
            });
            let named = NamedHost {
                address: source.value(&host.address, "expected \"ADDRESS\" or \"ADDRESS:PORT\"")?,
                key: key.transpose()?,
                identity: host.identity.map(|identity| place(path, identity)),
            };
            hosts.insert(name.into_inner(), named);
        }
        let mut groups = BTreeMap::new();
        for (name, members) in raw.group {
            check_name(&source, &name)?;
            if hosts.contains_key(name.as_ref()) {
                let message = format!("`{}` is the name of a host", name.as_ref());
                return Err(source.error(
                    name.span(),
                    &message,
                    "choose another name for the group",
                ));
            }
            for member in &members {
                if !hosts.contains_key(member.as_ref()) {
                    let message = format!("unknown host `{}`", member.as_ref());
                    let names: Vec<&str> = hosts.keys().map(String::as_str).collect();
                    let hint = match closest(member.as_ref(), &names) {
                        Some(name) => format!("did you mean `{name}`?"),
                        None => format!("add a table `[host.{}]`", member.as_ref()),
                    };
                    return Err(source.error(member.span(), &message, &hint));
                }
            }
            let members = members.into_iter().map(Spanned::into_inner).collect();
            groups.insert(name.into_inner(), members);
        }
        let default = raw.default.map(Spanned::into_inner);
        Ok(Hosts { hosts, groups, default })
    }

    /// The names of all hosts and groups.
    pub fn names(&self) -> Vec<&str> {
        self.hosts.keys().chain(self.groups.keys()).map(String::as_str).collect()
    }
}

/// The name that `word` is probably a misspelling of.
pub fn closest<'a>(word: &str, names: &[&'a str]) -> Option<&'a str> {
    let distance = |name: &str| strsim::osa_distance(word, name);
    let max = (word.chars().count() / 3).max(1);
    names.iter().copied().filter(|name| distance(name) <= max).min_by_key(|name| distance(name))
}

/// Paths in the file are relative to the file's folder; `~` is the home folder.
fn place(file: &Path, path: PathBuf) -> PathBuf {
    if let (Ok(rest), Some(home)) = (path.strip_prefix("~"), std::env::var_os("HOME")) {
        return PathBuf::from(home).join(rest);
    }
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn check_name(source: &Source<'_>, name: &Spanned<String>) -> Result<(), Error> {
    let text: &str = name.as_ref();
    if text.is_empty() || text.contains([',', ':', '/', ' ']) {
        let message = format!("invalid name `{text}`");
        return Err(source.error(
            name.span(),
            &message,
            "a name is not empty and has no `,`, `:`, `/` or space",
        ));
    }
    Ok(())
}

/// The file being parsed, for error messages.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn error(&self, span: std::ops::Range<usize>, message: &str, hint: &str) -> Error {
        let file = self.path.display().to_string();
        let found = Diagnostic::new(Severity::Error, &file, self.text, span, message)
            .with_hint(hint)
            .render(self.text, false);
        Error::usage(format!("{file} is invalid\n{}", found.trim_end()))
    }

    fn value<T>(&self, value: &Spanned<String>, hint: &str) -> Result<T, Error>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text: &str = value.as_ref();
        text.parse().map_err(|error: T::Err| self.error(value.span(), &error.to_string(), hint))
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
    fn all_keys_are_parsed() {
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
    fn errors_show_their_place() {
        let cases = [
            ("[host.a]\naddress = 7\n", ":2:11", "string"),
            ("[host.a]\naddress = \"a:b\"\n", ":2:11", "port"),
            ("[host.a]\nkey = \"x\"\naddress = \"a\"", ":2:7", "fingerprint"),
            ("[host.a]\nadress = \"a\"\n", ":2:1", "adress"),
            ("[host.\"a,b\"]\naddress = \"a\"\n", ":1:7", "invalid name"),
            ("[host.a]\naddress = \"a\"\n[group]\na = []\n", ":4:1", "the name of a host"),
            (
                "[host.a]\naddress = \"a\"\n[group]\nb = [\"a\", \"c\"]\n",
                ":4:11",
                "unknown host `c`",
            ),
            (
                "[host.edge-1]\naddress = \"a\"\n[group]\nb = [\"egde-1\"]\n",
                ":4:6",
                "did you mean `edge-1`",
            ),
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
