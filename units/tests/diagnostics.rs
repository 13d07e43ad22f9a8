//! Every class of mistake, as a person is told of it.
//!
//! The cases lie in `tests/diagnostics/*.txt`. After a change of wording, `KEEL_BLESS=1 cargo test -p
//! units` writes what is found now into them; read the difference before committing it.

// Helpers of tests may panic as tests may; clippy's own exemption ends at `#[test]`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;
use units::{SourceFile, load};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

/// What is found in a fragment of the given kind: for each diagnostic the source bytes it points
/// at, then its one-line form from the line number on.
///
/// - `unit`: the top of the file of a unit `web` beside a unit `db`, which is right otherwise;
/// - `container`: its `[container]`, with an image unless the fragment has one;
/// - `syntax`: its whole text;
/// - `host`: the text of `host.toml`.
fn findings(kind: &str, fragment: &str) -> Vec<String> {
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
        // Rendering is part of every case: it must hold for each place that can be named.
        assert!(found.render(&text, true).contains('^'), "{fragment}");
        let shown = found.to_string();
        let shown = shown.split_once(".toml:").map_or("", |(_, rest)| rest);
        format!("`{}` at {shown}", text.get(found.span.clone()).unwrap_or("?"))
    });
    findings.collect()
}

/// Runs the cases of one file: fragments behind `> `, each followed by its findings.
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
            for finding in findings(kind, &whole) {
                writeln!(now, "{finding}").unwrap();
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
    assert!(written == now, "{path:?} says otherwise (KEEL_BLESS=1 rewrites it):\n{first:#?}");
}

#[test]
fn in_a_unit() {
    run("unit");
}

#[test]
fn in_a_container() {
    run("container");
}

#[test]
fn in_a_host() {
    run("host");
}

#[test]
fn in_the_syntax() {
    run("syntax");
}

#[test]
fn file_names_that_are_no_unit_names() {
    for (path, message) in [
        ("units/Web.toml", "`Web` cannot be a unit's name"),
        ("units/-.toml", "`-` cannot be a unit's name"),
        ("units/.toml", "`` cannot be a unit's name"),
        ("units/a.b.toml", "`a.b` cannot be a unit's name"),
        ("units/localhost.toml", "`localhost` cannot be a unit's name"),
        ("units/web.yaml", "a unit's file ends in `.toml`"),
    ] {
        let loaded = load(None, vec![file(path, "[container]\nimage = './w'\n")]);
        assert_eq!(loaded.diagnostics[1].message, message);
        assert_eq!(loaded.diagnostics[1].file, path);
        assert!(loaded.config.units.is_empty());
    }
}

#[test]
fn the_content_of_a_badly_named_file_is_read_all_the_same() {
    let loaded = load(None, vec![file("units/Web.toml", "restrat = 1")]);
    assert!(loaded.diagnostics.iter().any(|found| found.message.contains("restrat")));
}

/// A date-time is right nowhere, so every key of the schema must object to one: a key that the
/// parser forgets to read would let it pass.
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

/// Every foreign name leads to its own hint, wherever it is written, and names a key that exists.
#[test]
fn every_foreign_name_has_its_hint() {
    let tables = units::schema::UNIT_TABLES;
    for foreign in units::foreign::FOREIGN {
        if !foreign.here.is_empty() {
            let (path, name) = foreign.here.rsplit_once('.').unwrap_or(("", foreign.here));
            let known = tables.iter().any(|table| table.path == path && table.has(name));
            assert!(known, "`{}` leads to `{}`, which is not there", foreign.name, foreign.here);
        }
        let text = format!("{} = 1\n[container]\nimage = './w'\n", foreign.name);
        let loaded = load(None, vec![file("web.toml", &text)]);
        let hint = loaded.diagnostics[1].hint.clone().unwrap();
        assert_eq!(hint, foreign.hint(), "{}", foreign.name);
    }
}
