//! The effective settings of a file of the host folder, written or default: for `keel config`.

use crate::load::SourceFile;
use crate::schema::Table;
use std::collections::BTreeSet;
use toml::de::{DeTable, DeValue};

/// One setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The dotted key, such as `container.image`.
    pub key: String,
    /// The value as TOML.
    pub value: String,
    /// The line of the file, starting at 1; `None`: a default.
    pub line: Option<usize>,
}

/// The settings of a file in the order of their lines, followed by the defaults of the keys of `tables`
/// that the file does not set. Empty for a file that is not valid TOML.
pub fn settings(file: &SourceFile, tables: &[&Table]) -> Vec<Setting> {
    let Ok(root) = DeTable::parse(&file.text) else { return Vec::new() };
    let mut found = Vec::new();
    collect(&file.text, root.get_ref(), "", 0, &mut found);
    found.sort_by_key(|setting: &Setting| setting.line);
    let written: BTreeSet<String> = found.iter().map(|setting| setting.key.clone()).collect();
    for table in tables.iter().filter(|table| !table.path.contains("NAME")) {
        for key in table.keys {
            let name = joined(table.path, key.name);
            // A default that is a value is in backquotes; others are descriptions.
            let value = key.default.strip_prefix('`').and_then(|rest| rest.strip_suffix('`'));
            if let Some(value) =
                value.filter(|value| !value.contains('`') && !written.contains(&name))
            {
                found.push(Setting { key: name, value: value.to_owned(), line: None });
            }
        }
    }
    found
}

fn joined(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Limit of nesting; the format has three levels.
const MAX_DEPTH: usize = 8;

fn collect(text: &str, table: &DeTable<'_>, path: &str, depth: usize, found: &mut Vec<Setting>) {
    for (key, value) in table {
        let name = joined(path, key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if depth < MAX_DEPTH => {
                collect(text, inner, &name, depth + 1, found);
            }
            _ => {
                let before = text.get(..key.span().start).unwrap_or_default();
                let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
                let value = text.get(value.span()).unwrap_or_default().to_owned();
                found.push(Setting { key: name, value, line: Some(line) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn written_settings_have_a_line_and_others_are_defaults() {
        let text = "hostname = \"edge\"\n\n[network.interface.eth0]\ndhcp = true\n[storage]\n";
        let file = SourceFile { path: "host.toml".to_owned(), text: text.to_owned() };
        let all = settings(&file, &schema::HOST_TABLES);
        let of = |key: &str| {
            let setting = all.iter().find(|setting| setting.key == key);
            setting.map(|setting| (setting.value.as_str(), setting.line))
        };
        assert_eq!(of("hostname"), Some(("\"edge\"", Some(1))));
        assert_eq!(of("network.interface.eth0.dhcp"), Some(("true", Some(4))));
        assert_eq!(of("storage.data"), Some(("\"auto\"", None)));
        assert_eq!(of("network.interface.NAME.dhcp"), None);
    }
}
