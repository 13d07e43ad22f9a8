//! The list of attacks; each must have a test.

use qemu_tests::root;
use std::fs;
use std::path::Path;

/// Each needs a test whose name begins with it, such as `cve_2019_5736`.
const ATTACKS: &[&str] = &[
    "CVE-2014-9356",
    "CVE-2016-3697",
    "CVE-2016-9962",
    "CVE-2017-5226",
    "CVE-2019-16884",
    "CVE-2019-19921",
    "CVE-2019-5736",
    "CVE-2020-15257",
    "CVE-2021-29136",
    "CVE-2021-30465",
    "CVE-2021-32760",
    "CVE-2021-41103",
    "CVE-2021-41190",
    "CVE-2022-0492",
    "CVE-2022-0811",
    "CVE-2022-23648",
    "CVE-2022-24769",
    "CVE-2022-27649",
    "CVE-2022-29162",
    "CVE-2022-2989",
    "CVE-2022-36109",
    "CVE-2023-25153",
    "CVE-2023-25173",
    "CVE-2023-25809",
    "CVE-2023-27561",
    "CVE-2023-28642",
    "CVE-2024-21626",
    "CVE-2024-25621",
    "CVE-2024-3727",
    "CVE-2024-40635",
    "CVE-2024-45310",
    "CVE-2025-31133",
    "CVE-2025-52565",
    "CVE-2025-52881",
    "CVE-2025-62518",
    "CVE-2026-33055",
    "CVE-2026-33056",
    "CVE-2026-41567",
    "CVE-2026-41579",
    "CVE-2026-42306",
    "CVE-2026-46680",
    "CVE-2026-47262",
    "CVE-2026-47766",
    "CVE-2026-53488",
    "CVE-2026-55686",
];

/// Tests of the engine, and tests of the image builder.
const WHERE: [&str; 2] = ["qemu-tests/tests/attacks", "image/tests"];

fn sources(dir: &Path, text: &mut String) {
    for entry in fs::read_dir(dir).expect("a folder of tests") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("a source file"));
        }
    }
}

/// Whether the text has a function with this beginning of its name that is run: a test, or one that is named a
/// second time, as in a list of judges.
fn has_function(text: &str, name: &str) -> bool {
    text.match_indices(&format!("fn {name}_")).any(|(at, _)| {
        let rest = text.get(at + 3..).unwrap_or_default();
        let whole: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_test = text.get(..at).is_some_and(|before| before.ends_with("#[test]\n"));
        is_test || text.matches(&whole).count() > 1
    })
}

#[test]
fn every_listed_attack_has_a_test() {
    let mut text = String::new();
    for dir in WHERE {
        sources(&root().join(dir), &mut text);
    }
    let missing: Vec<&str> = ATTACKS
        .iter()
        .copied()
        .filter(|attack| !has_function(&text, &attack.to_lowercase().replace('-', "_")))
        .collect();
    assert!(missing.is_empty(), "no test for {}", missing.join(", "));
}
