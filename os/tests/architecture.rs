//! The crate table of docs/architecture.md against the manifests.
//!
//! The table lists each member of the workspace with the members that it depends on, and a crate
//! stands below everything that it uses. The test therefore also shows that no dependency points
//! upwards.

// Helpers of tests may panic; clippy's exemption covers only `#[test]` functions.
#![allow(clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// A row of the table, or what the manifests say it should be: crate and dependencies.
type Row = (String, Vec<String>);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifest(dir: &Path) -> Table {
    let path = dir.join("Cargo.toml");
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The members by name, each with the names in its `[dependencies]`.
fn members() -> BTreeMap<String, Vec<String>> {
    let workspace = manifest(&root());
    let members = workspace["workspace"]["members"].as_array().expect("an array of members");
    let names = members.iter().filter_map(Value::as_str).map(|member| {
        let manifest = manifest(&root().join(member));
        let name = manifest["package"]["name"].as_str().expect("a name").to_owned();
        let used = manifest.get("dependencies").and_then(Value::as_table);
        (name, used.into_iter().flat_map(Table::keys).cloned().collect())
    });
    names.collect()
}

/// The rows under the heading `| crate |`.
fn table() -> Vec<Row> {
    let page = fs::read_to_string(root().join("docs/architecture.md")).expect("the page");
    let lines = page.lines().skip_while(|line| !line.starts_with("| crate |")).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, _, uses] = cells[..] else { panic!("a row without three cells: {line}") };
        let uses = uses.split(',').map(str::trim).filter(|uses| *uses != "-");
        (name.trim_matches('`').to_owned(), uses.map(str::to_owned).collect())
    });
    rows.collect()
}

#[test]
fn the_crate_table_lists_each_member_with_its_dependencies() {
    let members = members();
    let expected: BTreeMap<String, Vec<String>> = members
        .iter()
        .map(|(name, uses)| {
            let mut uses: Vec<String> =
                uses.iter().filter(|uses| members.contains_key(*uses)).cloned().collect();
            uses.sort();
            (name.clone(), uses)
        })
        .collect();
    let rows = table();
    assert_eq!(rows.len(), expected.len(), "rows of the table and members of the workspace");
    for (name, uses) in rows {
        assert_eq!(expected.get(&name), Some(&uses), "dependencies of `{name}`");
    }
}

#[test]
fn no_crate_depends_on_one_that_stands_below_it_in_the_table() {
    let mut above: Vec<String> = Vec::new();
    for (name, uses) in table() {
        for dependency in uses {
            assert!(
                above.contains(&dependency),
                "`{name}` depends on `{dependency}`, which is not above it"
            );
        }
        above.push(name);
    }
}

/// `policy` is pure: it depends on no crate with side effects.
#[test]
fn the_policy_depends_on_nothing_that_reaches_the_kernel() {
    let allowed = ["api-types", "serde", "serde_json", "thiserror", "units"];
    for name in &members()["policy"] {
        assert!(allowed.contains(&name.as_str()), "policy depends on {name}");
    }
}
