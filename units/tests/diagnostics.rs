//! Every class of error, with its diagnostics.
//!
//! The cases are in `tests/diagnostics/*.txt`. After a change of wording, `KEEL_BLESS=1 cargo test -p
//! units` writes the current diagnostics into them; review the difference before committing it.

// Helpers of tests may panic as tests may; clippy's own exemption ends at `#[test]`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use units::{SourceFile, load};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

/// The diagnostics of a fragment of the given kind: for each one the source bytes it points at, then
/// its one-line form from the line number on.
///
/// - `unit`: the top of the file of a unit `web`, which is valid otherwise, next to a unit `db`;
/// - `container`: its `[container]`, with an image unless the fragment has one;
/// - `syntax`: its whole text;
/// - `host`: the text of `host.toml`.
fn diagnostics_of(kind: &str, fragment: &str) -> Vec<String> {
    const IMAGE: &str = "image = './w'";
    let text = match kind {
        "unit" => format!("{fragment}\n[container]\n{IMAGE}\n"),
        "container" if fragment.starts_with("image") => format!("[container]\n{fragment}\n"),
        "container" => format!("[container]\n{fragment}\n{IMAGE}\n"),
        _ => fragment.to_owned(),
    };
    let db = file("db.toml", &format!("[container]\n{IMAGE}\n"));
    let loaded = match kind {
        "host" => load(Some(file("host.toml", &text)), vec![db]),
        _ => load(Some(file("host.toml", "")), vec![db, file("web.toml", &text)]),
    };
    let errors = loaded.diagnostics.iter().any(units::Diagnostic::is_error);
    assert_eq!(loaded.left_out.contains("web"), errors && kind != "host", "{fragment}");
    assert!(loaded.config.units.contains_key("db"), "{fragment}");
    let findings = loaded.diagnostics.iter().map(|found| {
        // Rendering is part of every case: it must work for each possible span.
        assert!(found.render(&text, true).contains('^'), "{fragment}");
        let shown = found.to_string();
        let shown = shown.split_once(".toml:").map_or("", |(_, rest)| rest);
        format!("`{}` at {shown}", text.get(found.span.clone()).unwrap_or("?"))
    });
    findings.collect()
}

/// Runs the cases of one file: fragments after `> `, each followed by its diagnostics.
fn run(kind: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/diagnostics/{kind}.txt"));
    let written = std::fs::read_to_string(&path).unwrap();
    let mut now = String::new();
    let mut fragment: Option<String> = None;
    let mut cases = 0;
    for line in written.lines().chain([""]) {
        if let Some(line) = line.strip_prefix("> ").or(line.strip_prefix(">")) {
            match &mut fragment {
                Some(fragment) => write!(fragment, "\n{line}").unwrap(),
                None => fragment = Some(line.to_owned()),
            }
            writeln!(now, "> {line}").unwrap();
        } else if let Some(whole) = fragment.take() {
            cases += 1;
            for line in diagnostics_of(kind, &whole) {
                writeln!(now, "{line}").unwrap();
            }
        }
        if line.is_empty() || line.starts_with('#') {
            writeln!(now, "{line}").unwrap();
        }
    }
    let now = format!("{}\n", now.trim_end());
    assert!(cases > 5, "{path:?} has no cases");
    if std::env::var_os("KEEL_BLESS").is_some() {
        std::fs::write(&path, now).unwrap();
        return;
    }
    let first = written.lines().zip(now.lines()).find(|(a, b)| a != b);
    assert!(written == now, "{path:?} differs (KEEL_BLESS=1 updates it):\n{first:#?}");
}

#[test]
fn unit_files() {
    run("unit");
}

#[test]
fn container_tables() {
    run("container");
}

#[test]
fn host_files() {
    run("host");
}

#[test]
fn toml_syntax() {
    run("syntax");
}

#[test]
fn invalid_unit_file_names() {
    for (path, message) in [
        ("units/Web.toml", "invalid unit name `Web`"),
        ("units/-.toml", "invalid unit name `-`"),
        ("units/.toml", "invalid unit name ``"),
        ("units/a.b.toml", "invalid unit name `a.b`"),
        ("units/localhost.toml", "invalid unit name `localhost`"),
        ("units/web.yaml", "a unit file name must end in `.toml`"),
    ] {
        let loaded = load(None, vec![file(path, "[container]\nimage = './w'\n")]);
        assert_eq!(loaded.diagnostics[1].message, message);
        assert_eq!(loaded.diagnostics[1].file, path);
        assert!(loaded.config.units.is_empty());
    }
}

#[test]
fn the_content_of_a_file_with_an_invalid_name_is_still_checked() {
    let loaded = load(None, vec![file("units/Web.toml", "restrat = 1")]);
    assert!(loaded.diagnostics.iter().any(|found| found.message.contains("restrat")));
}

/// No key accepts a date-time, so every key of the schema must report one: a key that the parser does
/// not read would accept it.
#[test]
fn every_key_of_the_schema_is_read() {
    let date = "1979-05-27";
    let check = |host: bool, table: &units::schema::Table| {
        for key in table.keys {
            let header = match table.path {
                "" => String::new(),
                path => format!("[{}]\n", path.replace("NAME", "eth0")),
            };
            let text = format!("{header}{} = {date}\n", key.name);
            let loaded = if host {
                load(Some(file("host.toml", &text)), vec![])
            } else {
                load(None, vec![file("web.toml", &text)])
            };
            let at_it = loaded
                .diagnostics
                .iter()
                .any(|found| found.is_error() && text.get(found.span.clone()) == Some(date));
            assert!(at_it, "[{}] {} is not read: {:?}", table.path, key.name, loaded.diagnostics);
        }
    };
    units::schema::UNIT_TABLES.iter().for_each(|table| check(false, table));
    units::schema::HOST_TABLES.iter().for_each(|table| check(true, table));
}

/// Every foreign name produces its own hint, and refers to a key that exists.
#[test]
fn every_foreign_name_has_its_hint() {
    let tables = units::schema::UNIT_TABLES;
    for foreign in units::foreign::FOREIGN {
        if !foreign.key.is_empty() {
            let (path, name) = foreign.key.rsplit_once('.').unwrap_or(("", foreign.key));
            let known = tables.iter().any(|table| table.path == path && table.has(name));
            assert!(known, "`{}` refers to `{}`, which does not exist", foreign.name, foreign.key);
        }
        let text = format!("{} = 1\n[container]\nimage = './w'\n", foreign.name);
        let loaded = load(None, vec![file("web.toml", &text)]);
        let hint = loaded.diagnostics[1].hint.clone().unwrap();
        assert_eq!(hint, foreign.hint(), "{}", foreign.name);
    }
}
