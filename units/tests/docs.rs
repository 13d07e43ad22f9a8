//! `docs/units.md` is generated from the schema, and its examples are valid.
//!
//! After a change of the schema or of the template next to this file,
//! `KEEL_BLESS=1 cargo test -p units` regenerates the page.

// Helpers of tests may panic as tests may; clippy's own exemption ends at `#[test]`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use units::foreign::FOREIGN;
use units::schema::{HOST_TABLES, Table, UNIT_TABLES};
use units::{SourceFile, load};

const TEMPLATE: &str = include_str!("units.md.template");

/// Text as the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn tables(tables: &[&Table]) -> String {
    let mut out = String::new();
    for table in tables {
        if !table.path.is_empty() {
            write!(out, "\n### `[{}]`\n", table.path).unwrap();
        }
        write!(
            out,
            "\n{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n",
            table.meaning
        )
        .unwrap();
        for key in table.keys {
            let (name, kind) = (key.name, cell(key.kind));
            let (default, meaning) = (cell(key.default), cell(key.meaning));
            writeln!(out, "| `{name}` | {kind} | {default} | {meaning} |").unwrap();
        }
    }
    out
}

fn page() -> String {
    let mut foreign = String::new();
    for entry in FOREIGN {
        let key = if entry.key.is_empty() { "–".to_owned() } else { format!("`{}`", entry.key) };
        writeln!(foreign, "| `{}` | {} | {key} | {} |", entry.name, entry.system, cell(entry.note))
            .unwrap();
    }
    let note = "<!-- Generated from units/src/schema.rs and units/tests/units.md.template by \
                `KEEL_BLESS=1 cargo test -p units`. Edit those instead. -->\n";
    let page = TEMPLATE
        .replace("{{UNIT}}", &tables(&UNIT_TABLES))
        .replace("{{HOST}}", &tables(&HOST_TABLES))
        .replace("{{FOREIGN}}", &foreign);
    format!("{note}{page}")
}

#[test]
fn the_page_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/units.md");
    if std::env::var_os("KEEL_BLESS").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/units.md is out of date: run KEEL_BLESS=1 cargo test -p units"
    );
}

#[test]
fn the_examples_of_the_page_are_valid() {
    let (mut host, mut units) = (None, Vec::new());
    for block in TEMPLATE.split("```toml\n# ").skip(1) {
        let (path, rest) = block.split_once('\n').unwrap();
        let text = rest.split("```").next().unwrap().to_owned();
        let file = SourceFile { path: path.to_owned(), text };
        if path == "host.toml" { host = Some(file) } else { units.push(file) }
    }
    assert_eq!((host.is_some(), units.len()), (true, 4));
    assert_eq!(load(host, units).diagnostics, []);
}

/// The defaults in the schema are text; this compares them with those of the parser.
#[test]
fn the_documented_defaults_are_the_real_ones() {
    let unit = |text: &str| {
        let text = format!("{text}\n[container]\nimage = './w'\n");
        let file = SourceFile { path: "web.toml".to_owned(), text };
        load(None, vec![file]).config.units["web"].clone()
    };
    let bare = unit("healthcheck.tcp = ':80'");
    for table in UNIT_TABLES {
        for key in table.keys {
            // Plain values only; others, such as "the image's", are descriptions.
            let default = key.default.split(';').next().unwrap_or_default();
            let Some(value) = default.strip_prefix('`').and_then(|v| v.strip_suffix('`')) else {
                continue;
            };
            let name = match table.path {
                "" => key.name.to_owned(),
                "container" => continue,
                path => format!("{path}.{}", key.name),
            };
            let explicit = unit(&format!("{name} = {value}\nhealthcheck.tcp = ':80'"));
            assert_eq!(explicit, bare, "{name} = {value} is not the default");
        }
    }
    let container = UNIT_TABLES.iter().find(|table| table.path == "container").unwrap();
    let mut text = "[container]\nimage = './w'\n".to_owned();
    for key in container.keys {
        if let Some(value) = key.default.strip_prefix('`').and_then(|v| v.strip_suffix('`')) {
            writeln!(text, "{} = {value}", key.name).unwrap();
        }
    }
    let loaded = load(None, vec![SourceFile { path: "web.toml".to_owned(), text }]);
    assert_eq!(loaded.config.units["web"].container, bare.container);
}
