//! host.toml and unit files. `--- NAME` begins a file.
#![no_main]

use fuzz::folder::documents;
use libfuzzer_sys::fuzz_target;
use std::collections::BTreeMap;
use units::scalar::{format_duration, format_size, parse_duration, parse_size};
use units::schema::{HOST_TABLES, UNIT_TABLES};
use units::settings::settings;
use units::{SourceFile, entry, load};

fuzz_target!(|data: &[u8]| {
    let (mut host, mut sources, mut texts) = (None, Vec::new(), BTreeMap::new());
    for (name, content) in documents(data) {
        let text = String::from_utf8_lossy(&content).into_owned();
        let tables: &[_] = if name == "host.toml" { &HOST_TABLES } else { &UNIT_TABLES };
        let file = SourceFile { path: name.clone(), text: text.clone() };
        for setting in settings(&file, tables) {
            assert!(setting.line.is_none_or(|line| line <= text.lines().count().max(1)));
        }
        values(&text);
        // Diagnostics refer to a file by name, so names must be unique.
        if texts.insert(name.clone(), text).is_some() {
            return;
        }
        if name == "host.toml" { host = Some(file) } else { sources.push(file) }
    }
    let loaded = load(host, sources);
    for found in &loaded.diagnostics {
        let text = texts.get(&found.file).map_or("", String::as_str);
        assert!(found.span.start <= found.span.end && found.span.end <= text.len(), "{found:?}");
        assert!(text.is_char_boundary(found.span.start), "{found:?}");
        assert!(text.is_char_boundary(found.span.end), "{found:?}");
        let shown = found.render(text, false);
        assert!(!shown.contains('\u{1b}') && shown.ends_with('\n'), "{shown}");
    }
    for name in &loaded.left_out {
        assert!(!loaded.config.units.contains_key(name) && loaded.has_errors());
    }
    assert_eq!(loaded.order.0.iter().flatten().count(), loaded.config.units.len());
    for unit in loaded.config.units.values() {
        let _ = units::relaxed_settings(unit);
    }
});

/// Parsers of single values.
fn values(text: &str) {
    for word in text.split(['"', '\n']) {
        let _ = (entry::parse_port(word), entry::parse_volume(word), entry::parse_tmpfs(word));
        let _ = (entry::parse_device(word), units::process::parse_http_probe(word));
        let _ = (units::address::parse_subnet(word), units::process::check_user(word));
        if let Ok(duration) = parse_duration(word) {
            assert_eq!(parse_duration(&format_duration(duration)).ok(), Some(duration), "{word}");
        }
        if let Ok(size) = parse_size(word) {
            assert_eq!(parse_size(&format_size(size)).ok(), Some(size), "{word}");
        }
    }
}
