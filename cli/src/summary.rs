//! The summary of a host folder: start order, volumes, and units with relaxed isolation.

use std::path::Path;
use units::Loaded;
use units::model::{DataDisk, HostConfig, Kind, Unit};

/// Lines of a terminal of the usual size, less one for the prompt.
const SCREEN_LINES: usize = 23;
/// Columns of a terminal of the usual size.
const SCREEN_COLUMNS: usize = 80;
/// Stages of the start order in a short summary.
const SHORT_STAGES: usize = 5;
/// Volumes, and units with relaxed isolation, in a short summary.
const SHORT_ENTRIES: usize = 3;

/// A summary of a folder without errors. It lists everything if that fits on one screen or if
/// `verbose` is set; otherwise it shows counts and the first entries of each section.
pub fn summary(dir: &Path, loaded: &Loaded, warnings: usize, verbose: bool) -> String {
    let config = &loaded.config;
    let found = if warnings == 0 { "no errors".to_owned() } else { count(warnings, "warning") };
    let head = format!(
        "{}: host {}, {}, {found}",
        dir.display(),
        config.host.hostname,
        count(config.units.len(), "unit")
    );
    let (volumes, relaxed) = (volumes(config), relaxed(config));
    let mut lines = vec![head.clone()];
    section(&mut lines, "start order", start_order(loaded));
    let storage = storage(config.host.storage.data);
    if !volumes.is_empty() {
        let all = volumes.iter().map(|(name, users)| entry(name, &used_by(users, users.len())));
        section(&mut lines, "volumes", all.chain([format!("  {storage}")]).collect());
    }
    section(&mut lines, "relaxed isolation", relaxed.clone());
    if !verbose && lines.len() > SCREEN_LINES {
        lines = vec![head];
        section(&mut lines, "start order", short_start_order(loaded));
        if !volumes.is_empty() {
            let all = volumes.iter().map(|(name, users)| entry(name, &used_by(users, 2))).collect();
            let mut short = shortened(all, SHORT_ENTRIES, "volume");
            short.push(format!("  {storage}"));
            section(&mut lines, "volumes", short);
        }
        section(&mut lines, "relaxed isolation", shortened(relaxed, SHORT_ENTRIES, "unit"));
        lines.push("(`keel check --verbose` lists everything)".to_owned());
    }
    lines.push(String::new());
    lines.join("\n")
}

/// `1 unit`, `2 units`.
pub fn count(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// `… and 3 more units`.
fn more(number: usize, what: &str) -> String {
    format!("  … and {number} more {what}{}", if number == 1 { "" } else { "s" })
}

fn section(lines: &mut Vec<String>, title: &str, content: Vec<String>) {
    if !content.is_empty() {
        lines.extend([String::new(), title.to_owned()]);
        lines.extend(content);
    }
}

fn entry(name: &str, text: &str) -> String {
    format!("  {name:<16} {text}").trim_end().to_owned()
}

/// One line for each unit, with the number of its stage.
fn start_order(loaded: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    for (index, stage) in loaded.order.0.iter().enumerate() {
        let units = stage.iter().filter_map(|name| loaded.config.units.get(name));
        let line = |unit: &Unit| format!("  {}{}", index + 1, entry(&unit.name, &describe(unit)));
        lines.extend(units.map(line));
    }
    lines
}

/// One line for each of the first stages: the number of its units and the first names.
fn short_start_order(loaded: &Loaded) -> Vec<String> {
    let stages = &loaded.order.0;
    let mut lines: Vec<String> = Vec::new();
    for (index, stage) in stages.iter().take(SHORT_STAGES).enumerate() {
        let head = format!("  {}  {}: ", index + 1, count(stage.len(), "unit"));
        lines.push(with_names(&head, stage, SCREEN_COLUMNS));
    }
    let rest = stages.get(SHORT_STAGES..).unwrap_or_default();
    if !rest.is_empty() {
        let units = count(rest.iter().map(Vec::len).sum(), "unit");
        lines.push(format!("{} with {units}", more(rest.len(), "stage")));
    }
    lines
}

/// `head` followed by as many names as fit into `columns`, and the number of the others.
fn with_names(head: &str, names: &[String], columns: usize) -> String {
    let whole = format!("{head}{}", names.join(", "));
    if whole.chars().count() <= columns {
        return whole;
    }
    let line = |shown: usize| {
        let first = names.get(..shown).unwrap_or_default().join(", ");
        format!("{head}{first} … and {} more", names.len() - shown)
    };
    let fitting = (1..names.len()).take_while(|shown| line(*shown).chars().count() <= columns);
    cut(&line(fitting.last().unwrap_or(1).min(names.len())))
}

/// The first lines, each cut to the width of the screen, and the number of the others.
fn shortened(lines: Vec<String>, most: usize, what: &str) -> Vec<String> {
    let others = lines.len().saturating_sub(most);
    let mut shown: Vec<String> = lines.iter().take(most).map(|line| cut(line)).collect();
    if others > 0 {
        shown.push(more(others, what));
    }
    shown
}

fn cut(line: &str) -> String {
    match line.char_indices().nth(SCREEN_COLUMNS - 1) {
        Some((end, _)) if line.chars().count() > SCREEN_COLUMNS => {
            format!("{}…", line.get(..end).unwrap_or_default())
        }
        _ => line.to_owned(),
    }
}

/// Dependencies, type and published ports of a unit.
fn describe(unit: &Unit) -> String {
    let mut parts = Vec::new();
    if !unit.requires.is_empty() {
        parts.push(format!("requires {}", unit.requires.join(", ")));
    }
    let after: Vec<&str> = unit
        .after
        .iter()
        .filter(|name| !unit.requires.contains(name))
        .map(String::as_str)
        .collect();
    if !after.is_empty() {
        parts.push(format!("after {}", after.join(", ")));
    }
    if unit.kind == Kind::Oneshot {
        parts.push("runs once".to_owned());
    }
    if !unit.enabled {
        parts.push("not started at boot".to_owned());
    }
    for port in &unit.container.ports {
        parts.push(format!("port {}", port.host));
    }
    parts.join("; ")
}

/// The named volumes, each with the units that use it.
fn volumes(config: &HostConfig) -> Vec<(String, Vec<String>)> {
    units::named_volumes(config).into_iter().collect()
}

fn used_by(users: &[String], most: usize) -> String {
    let shown = users.get(..most.min(users.len())).unwrap_or_default().join(", ");
    match users.len().saturating_sub(most) {
        0 => format!("used by {shown}"),
        others => format!("used by {shown} … and {others} more"),
    }
}

/// The units with relaxed isolation, each with the settings that relax it.
fn relaxed(config: &HostConfig) -> Vec<String> {
    let settings = config.units.iter().map(|(name, unit)| (name, units::relaxed_settings(unit)));
    settings
        .filter(|(_, settings)| !settings.is_empty())
        .map(|(name, settings)| entry(name, &settings.join(", ")))
        .collect()
}

/// Where named volumes are stored.
fn storage(policy: DataDisk) -> &'static str {
    match policy {
        DataDisk::Memory => "kept in memory until the next boot (storage.data = \"memory\")",
        DataDisk::Auto => {
            "kept on the disk labelled KEEL-DATA, or in memory if there is no such disk"
        }
        DataDisk::Required => "kept on the disk labelled KEEL-DATA; their users wait for it",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use units::SourceFile;

    fn loaded(units: impl Iterator<Item = (String, String)>) -> Loaded {
        let file = |(name, keys): (String, String)| SourceFile {
            path: format!("units/{name}.toml"),
            text: keys,
        };
        let loaded = units::load(None, units.map(file).collect());
        assert!(!loaded.has_errors(), "{:?}", loaded.diagnostics.first());
        loaded
    }

    fn assert_one_screen(text: &str) {
        assert!(text.lines().count() <= SCREEN_LINES, "{text}");
        for line in text.lines() {
            assert!(line.chars().count() <= SCREEN_COLUMNS, "{line}");
        }
    }

    #[test]
    fn a_small_folder_is_listed_completely() {
        let db = "[container]\nimage = './db'\nvolumes = ['data:/data']\n";
        let web = "requires = ['db']\n[container]\nimage = './w'\nports = ['80:80']\ncap_add = ['NET_RAW']\n";
        let units =
            [("db", db), ("web", web)].map(|(name, text)| (name.to_owned(), text.to_owned()));
        let text = summary(Path::new("myhost"), &loaded(units.into_iter()), 0, false);
        let expected = "\
myhost: host keel, 2 units, no errors

start order
  1  db
  2  web              requires db; port 80

volumes
  data             used by db
  kept on the disk labelled KEEL-DATA, or in memory if there is no such disk

relaxed isolation
  web              has added capabilities: NET_RAW
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_thousand_units_fit_on_one_screen() {
        // All in one stage, with shared and own volumes, long names and relaxed isolation.
        let flat = (0..1000).map(|n| {
            let name = format!("service-with-a-rather-long-name-{n:04}");
            let mut text = "[container]\nimage = './w'\nnetwork = 'host'\n".to_owned();
            writeln!(text, "cap_add = ['NET_RAW', 'SYS_ADMIN', 'SYS_TIME', 'SYS_PTRACE']").unwrap();
            writeln!(text, "volumes = ['shared:/a', 'own-{n}:/b', '/srv/{n}:/c']").unwrap();
            (name, text)
        });
        let loaded_flat = loaded(flat);
        let text = summary(Path::new("myhost"), &loaded_flat, 3, false);
        assert_one_screen(&text);
        assert!(text.starts_with("myhost: host keel, 1000 units, 3 warnings\n"), "{text}");
        assert!(
            text.contains(
                "\n  1  1000 units: service-with-a-rather-long-name-0000 … and 999 more\n"
            ),
            "{text}"
        );
        assert!(
            text.contains("\n  … and 998 more volumes\n")
                && text.contains("\n  … and 997 more units\n"),
            "{text}"
        );
        let all = summary(Path::new("myhost"), &loaded_flat, 3, true);
        assert!(
            (0..1000).all(|n| all.contains(&format!("own-{n} "))),
            "--verbose lists every volume"
        );
        assert!(!all.contains('…'));

        // A chain: each unit in a stage of its own.
        let chain = (0..1000).map(|n: u32| {
            let before =
                n.checked_sub(1).map(|n| format!("after = ['u{n}']\n")).unwrap_or_default();
            (format!("u{n}"), format!("{before}[container]\nimage = './w'\nnetwork = 'none'\n"))
        });
        let text = summary(Path::new("myhost"), &loaded(chain), 0, false);
        assert_one_screen(&text);
        assert!(text.contains("\n  … and 995 more stages with 995 units\n"), "{text}");
    }
}
