//! Kernel modules without modprobe: an index made at build time, finit_module(2), no shell.
//!
//! `/keel/modules/index` is text, one statement a line:
//!
//! ```text
//! m NAME FILE [DEPENDENCY…]   a module, its file in this directory, the modules it depends on
//! b NAME                      load it at boot, in this order; see [`crate::devices::insert`] for the files
//! a PATTERN NAME              this hardware or kernel alias needs that module
//! ```
//!
//! Names have `_` for `-`, as in the kernel. Patterns are those of modules.alias: `*`, `?`, `[…]`.

use crate::devices::insert;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;

/// The index, borrowed from its text.
#[derive(Debug, Default)]
pub struct Index<'a> {
    modules: BTreeMap<&'a str, Module<'a>>,
    boot: Vec<&'a str>,
    aliases: Vec<(&'a str, &'a str)>,
}

#[derive(Debug)]
struct Module<'a> {
    file: &'a str,
    depends: Vec<&'a str>,
}

/// A module that could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// The module is not in the index.
    #[error("module {0} is not in the image")]
    Unknown(String),
    /// Its file cannot be opened.
    #[error("module {name}: {file}: {source}")]
    Open {
        /// The module.
        name: String,
        /// Its file.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused it.
    #[error("module {name}: finit_module: {errno}")]
    Load {
        /// The module.
        name: String,
        /// The kernel's error.
        errno: Errno,
    },
}

impl<'a> Index<'a> {
    /// Reads an index. Invalid lines are skipped: a partial index still boots more machines than
    /// none.
    pub fn parse(text: &'a str) -> Index<'a> {
        let mut index = Index::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("m"), Some(name), Some(file)) => {
                    index.modules.insert(name, Module { file, depends: words.collect() });
                }
                (Some("b"), Some(name), None) => index.boot.push(name),
                (Some("a"), Some(pattern), Some(name)) => index.aliases.push((pattern, name)),
                _ => {}
            }
        }
        index
    }

    /// The modules to load at boot, in order.
    pub fn boot(&self) -> &[&'a str] {
        &self.boot
    }

    /// The modules for a modalias or a module's own name.
    pub fn wanted(&self, alias: &str) -> Vec<&'a str> {
        let name = alias.replace('-', "_");
        if let Some((name, _)) = self.modules.get_key_value(name.as_str()) {
            return vec![name];
        }
        self.aliases
            .iter()
            .filter(|(pattern, _)| matches(pattern.as_bytes(), alias.as_bytes()))
            .map(|(_, m)| *m)
            .collect()
    }

    /// A module with all that it depends on, each once, dependencies first.
    ///
    /// # Errors
    /// The module is not in the index.
    pub fn load_order(&self, name: &str) -> Result<Vec<&'a str>, ModuleError> {
        let mut order = Vec::new();
        self.visit(name, &mut BTreeSet::new(), &mut order)?;
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a str>,
    ) -> Result<(), ModuleError> {
        let Some((name, module)) = self.modules.get_key_value(name) else {
            return Err(ModuleError::Unknown(name.to_owned()));
        };
        // A name seen before is done, or part of a cycle, which depmod rules out and which must not hang us.
        if !seen.insert(name) {
            return Ok(());
        }
        for dependency in &module.depends {
            self.visit(dependency, seen, order)?;
        }
        order.push(name);
        Ok(())
    }
}

/// The subset of fnmatch(3) that modules.alias uses.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    // The last `*` seen and the position in the text then: the only place to backtrack to.
    let (mut p, mut t, mut star) = (0, 0, None);
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(b'[') => text
                .get(t)
                .and_then(|byte| class(pattern.get(p + 1..)?, *byte))
                .map(|length| p + 1 + length),
            Some(b'?') => text.get(t).map(|_| p + 1),
            Some(byte) => (text.get(t) == Some(byte)).then_some(p + 1),
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                t += 1;
            }
            (None, Some((after, at))) if at < text.len() => {
                star = Some((after, at + 1));
                p = after;
                t = at + 1;
            }
            _ => return false,
        }
    }
}

/// Matches one byte against the inside of `[…]`; returns the length up to and including the `]`.
fn class(inside: &[u8], byte: u8) -> Option<usize> {
    let end = inside.iter().position(|c| *c == b']')?;
    let mut members = inside.get(..end)?;
    let mut found = false;
    while let Some((&first, rest)) = members.split_first() {
        if let [b'-', last, after @ ..] = rest {
            found |= (first..=*last).contains(&byte);
            members = after;
        } else {
            found |= first == byte;
            members = rest;
        }
    }
    found.then_some(end + 1)
}

/// Loads modules from one directory, each at most once.
pub struct Loader<'a> {
    index: Index<'a>,
    dir: &'a Path,
    done: BTreeSet<&'a str>,
}

impl<'a> Loader<'a> {
    /// A loader on an index and the directory of its files.
    pub fn new(index: Index<'a>, dir: &'a Path) -> Loader<'a> {
        Loader { index, dir, done: BTreeSet::new() }
    }

    /// Its index.
    pub fn index(&self) -> &Index<'a> {
        &self.index
    }

    /// Loads a module and its dependencies, except those that are loaded already. Returns how many
    /// were new.
    ///
    /// # Errors
    /// The first one that could not be loaded.
    pub fn load(&mut self, name: &str) -> Result<usize, ModuleError> {
        let mut new = 0;
        for name in self.index.load_order(name)? {
            if self.done.contains(name) {
                continue;
            }
            let Some(module) = self.index.modules.get(name) else { continue };
            let before = crate::clock::monotonic_ns();
            new += usize::from(insert::insert(name, &self.dir.join(module.file))?);
            let took = crate::clock::monotonic_ns().saturating_sub(before) / 1000;
            log::debug!("module {name}: {took} us");
            self.done.insert(name);
        }
        Ok(new)
    }

    /// Loads all modules for a modalias. Errors are logged: one device without a driver must not stop
    /// the others.
    pub fn load_alias(&mut self, alias: &str) {
        for name in self.index.wanted(alias) {
            if let Err(error) = self.load(name) {
                log::warn!("{error} (for {alias})");
            }
        }
    }
}

/// The modprobe applet; see [`crate::modprobe`].
pub fn modprobe(args: impl Iterator<Item = OsString>) -> u8 {
    let names: Vec<String> =
        args.filter_map(|arg| arg.into_string().ok()).filter(|arg| !arg.starts_with('-')).collect();
    let Ok(text) = std::fs::read_to_string(format!("{}/index", layout::paths::MODULES)) else {
        return 1;
    };
    let mut loader = Loader::new(Index::parse(&text), Path::new(layout::paths::MODULES));
    let mut code = 0;
    for alias in names {
        let wanted = loader.index().wanted(&alias);
        if wanted.is_empty() {
            // The kernel requests many optional modules: not worth a line in the log.
            code = 1;
        }
        for name in wanted {
            if let Err(error) = loader.load(name) {
                log::warn!("{error} (requested as {alias})");
                code = 1;
            }
        }
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INDEX: &str = "\
m erofs erofs.ko netfs
m netfs netfs.ko
m virtio_net virtio_net.ko.xz net_failover failover
m net_failover net_failover.ko.xz failover
m failover failover.ko.xz
b erofs
a virtio:d00000001v* virtio_net
a pci:v00008086d0000[0-9A]00Fsv* erofs
";

    #[test]
    fn dependencies_come_first_and_once() {
        let index = Index::parse(INDEX);
        assert_eq!(
            index.load_order("virtio_net").unwrap(),
            ["failover", "net_failover", "virtio_net"]
        );
        assert_eq!(index.boot(), ["erofs"]);
        assert_eq!(index.wanted("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(index.wanted("virtio-net"), ["virtio_net"]);
        assert_eq!(index.wanted("pci:v00008086d0000A00Fsv00"), ["erofs"]);
        assert!(index.wanted("pci:v00008086d0000B00Fsv00").is_empty());
        assert!(index.load_order("nothing").is_err());
    }

    #[test]
    fn a_dependency_cycle_does_not_hang() {
        let index = Index::parse("m a a.ko b\nm b b.ko a\n");
        assert_eq!(index.load_order("a").unwrap(), ["b", "a"]);
    }

    /// The obvious, slow definition.
    fn slow(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| slow(rest, &text[skip..])),
            Some((b'?', rest)) => !text.is_empty() && slow(rest, &text[1..]),
            Some((byte, rest)) => text.first() == Some(byte) && slow(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn patterns_match_as_defined(pattern in "[ab*?]{0,8}", text in "[ab]{0,8}") {
            prop_assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), slow(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_index_and_pattern_end(text in "([mba] [ab*?\\[\\]-]{0,6} [ab]{0,3}( [ab])?\n|\\PC{0,20}\n){0,20}", alias in "[ab\\[-]{0,8}") {
            let index = Index::parse(&text);
            for name in index.wanted(&alias) {
                let _ = index.load_order(name);
            }
        }
    }
}
