//! TOML syntax: one diagnostic for the first syntax error.

use crate::diagnostic::Severity;
use crate::reader::Source;
use toml::Spanned;
use toml::de::DeTable;

/// Parses the text of a file as TOML. Returns `None` after a syntax error, which is reported to
/// `source`.
pub(crate) fn parse<'a>(source: &Source<'a>) -> Option<Spanned<DeTable<'a>>> {
    match DeTable::parse(source.text) {
        Ok(table) => Some(table),
        Err(error) => {
            let at = error.span().unwrap_or(0..0);
            let line = line_around(source.text, at.start);
            source.report(Severity::Error, &at, error.message(), hint(error.message(), line));
            None
        }
    }
}

fn line_around(text: &str, offset: usize) -> &str {
    let offset = offset.min(text.len());
    let start =
        text.as_bytes().iter().take(offset).rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
    text.get(start..).and_then(|rest| rest.split('\n').next()).unwrap_or_default().trim()
}

/// A hint for a line in the syntax of another format.
fn hint(message: &str, line: &str) -> Option<String> {
    let word = |text: &str| {
        let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        !text.is_empty() && text.chars().all(bare)
    };
    if message.contains("duplicate key") {
        return Some("write each key and each table once".to_owned());
    }
    if let Some((key, value)) = line.split_once('=') {
        let (key, value) = (key.trim(), value.trim());
        let plain = !value.is_empty() && !value.contains(['"', '\'', '[', '{', '#']);
        if word(key) && plain {
            return Some(format!("put text in quotes: `{key} = \"{value}\"`"));
        }
        return None;
    }
    if let Some((key, value)) = line.split_once(':') {
        let key = key.trim().trim_start_matches("- ");
        let value = value.trim().trim_matches(['"', '\'']);
        if word(key) && value.is_empty() {
            return Some(format!("this looks like YAML; in TOML a table begins with `[{key}]`"));
        }
        if word(key) {
            return Some(format!("this looks like YAML; in TOML it is `{key} = \"{value}\"`"));
        }
    }
    None
}
