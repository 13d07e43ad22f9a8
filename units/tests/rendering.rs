//! How diagnostics are rendered.

// Helpers of tests may panic as tests may; clippy's own exemption ends at `#[test]`.
#![allow(clippy::unwrap_used)]

use units::{Diagnostic, Severity, SourceFile, load};

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), text: text.to_owned() }
}

/// All diagnostics of some units, rendered one after another without colour.
fn rendered(units: &[(&str, &str)]) -> String {
    let files: Vec<SourceFile> = units.iter().map(|(path, text)| file(path, text)).collect();
    let loaded = load(Some(file("host.toml", "")), files.clone());
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| &file.text);
    let shown = loaded.diagnostics.iter();
    shown.map(|found| found.render(text(&found.file).unwrap(), false)).collect()
}

fn at(text: &str, needle: &str) -> Diagnostic {
    let start = text.find(needle).unwrap();
    Diagnostic::new(Severity::Error, "f", text, start..start + needle.len(), "wrong")
}

#[test]
fn several_errors_in_one_file() {
    let text =
        "restrat = \"always\"\n\n[container]\nimage = './w'\nports = [\"8080:80\", \"80:http\"]\n";
    assert_eq!(
        rendered(&[("units/web.toml", text)]),
        r#"error: unknown key `restrat`
 --> units/web.toml:1:1
  |
1 | restrat = "always"
  | ^^^^^^^
  |
  = help: did you mean `restart`?
error: invalid port number `http`
 --> units/web.toml:5:25
  |
5 | ports = ["8080:80", "80:http"]
  |                         ^^^^
  |
  = help: the range is 1 to 65535
"#
    );
}

#[test]
fn a_cycle_names_each_of_its_edges() {
    let unit = |links: &str| format!("{links}\n[container]\nimage = './w'\n");
    let (a, b, c) = (unit("after = ['b']"), unit("requires = ['x', 'c']"), unit("after = ['a']"));
    let x = unit("");
    assert_eq!(
        rendered(&[("a.toml", &a), ("b.toml", &b), ("c.toml", &c), ("x.toml", &x)]),
        r#"error: dependency cycle: a → b → c → a
 --> a.toml:1:10
  |
1 | after = ['b']
  |          ^^^
  |
  = a.toml:1:10: `a` has `b` in `after`
  = b.toml:1:18: `b` has `c` in `requires`
  = c.toml:1:10: `c` has `a` in `after`
  = help: none of these units can start; remove one of the entries
"#
    );
}

#[test]
fn two_cycles_through_one_unit_are_both_reported() {
    let unit = |links: &str| format!("{links}\n[container]\nimage = './w'\n");
    let (a, b, c) = (unit("after = ['b', 'c']"), unit("after = ['a']"), unit("after = ['a']"));
    let shown = rendered(&[("a.toml", &a), ("b.toml", &b), ("c.toml", &c)]);
    assert!(shown.contains("a → b → a"), "{shown}");
    assert!(shown.contains("c → a → c"), "{shown}");
    assert_eq!(shown.matches("error").count(), 2);
}

#[test]
fn tabs_and_wide_characters_do_not_shift_the_caret() {
    let text = "a\t= \"日本語 e\u{301}\"\tx";
    assert_eq!(
        at(text, "x").render(text, false),
        "error: wrong\n --> f:1:14\n  |\n1 | a   = \"日本語 e\u{301}\"    x\n  |                     ^\n"
    );
    assert_eq!(
        at(text, "\"日本語 e\u{301}\"").render(text, false),
        "error: wrong\n --> f:1:5\n  |\n1 | a   = \"日本語 e\u{301}\"    x\n  |       ^^^^^^^^^^\n"
    );
}

#[test]
fn a_long_line_is_cut_around_the_caret() {
    let text = format!("{}WRONG{}", "x".repeat(500), "y".repeat(500));
    let shown = at(&text, "WRONG").render(&text, false);
    let lines: Vec<&str> = shown.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() < 160), "{shown}");
    assert_eq!(lines[3].chars().position(|c| c == 'W'), lines[4].chars().position(|c| c == '^'));
    assert!(lines[3].contains("…xxx") && lines[3].ends_with("yyy…"), "{shown}");
}

#[test]
fn crlf_line_ends_and_spans_over_several_lines() {
    let text = "a = 1\r\nb = '''x\r\ny'''\r\n";
    assert_eq!(
        at(text, "'''x\r\ny'''").render(text, false),
        "error: wrong\n --> f:2:5\n  |\n2 | b = '''x\n  |     ^^^^\n"
    );
}

#[test]
fn the_end_of_the_file_has_a_caret() {
    let text = "a = [1";
    let found = Diagnostic::new(Severity::Error, "f", text, 6..6, "unclosed");
    assert_eq!(
        found.render(text, false),
        "error: unclosed\n --> f:1:7\n  |\n1 | a = [1\n  |       ^\n"
    );
}

#[test]
fn diagnostics_about_a_whole_or_missing_file() {
    let found = Diagnostic::whole_file(Severity::Note, "host.toml", "not found").with_hint("h");
    assert_eq!(found.render("", false), "note: not found\n --> host.toml\n  = help: h\n");
    assert_eq!(found.to_string(), "host.toml: note: not found (h)");
}

#[test]
fn a_unit_file_cannot_control_the_terminal() {
    let text = "a = \"\u{1b}]0;owned\u{7}\" \u{202e}x";
    let mut found = at(text, "x");
    found.message = text.to_owned();
    found.file = text.to_owned();
    found.hint = Some(text.to_owned());
    for shown in [found.render(text, false), found.to_string()] {
        assert!(!shown.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{shown:?}");
    }
}

#[test]
fn colour_changes_nothing_but_colour() {
    let text = "restrat = 1";
    let found = at(text, "restrat").with_hint("did you mean `restart`?");
    let mut plain = found.render(text, true);
    for code in ["\x1b[1;31m", "\x1b[1;34m", "\x1b[1m", "\x1b[0m"] {
        plain = plain.replace(code, "");
    }
    assert_eq!(plain, found.render(text, false));
}
