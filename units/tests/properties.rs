//! Properties of every text: no panic, values round-trip, and spans are valid.

// Helpers of tests may panic as tests may; clippy's own exemption ends at `#[test]`.
#![allow(clippy::unwrap_used)]

mod generate;

use generate::{any_unit, write_unit};
use proptest::prelude::*;
use std::ops::Range;
use std::time::Duration;
use units::scalar::{format_duration, format_size, parse_duration, parse_size};
use units::{Diagnostic, Severity, SourceFile, entry, load, names, process};

/// A file with every kind of value, for mutation.
const SEED: &str = r#"description = "front end"
after = ["db"]
requires = ["db"]
wait_for = ["net.addr", "volume:data"]
wait_timeout = "1m30s"
type = "service"
ready = "healthy"
restart = { policy = "on-failure", delay = "1s", max_attempts = 5, window = "10m" }
stop_signal = "SIGQUIT"
[container]
image = "./images/web"
command = ["--port", "80"]
environment = { LEVEL = "info" }
user = "1000:1000"
volumes = ["data:/var/lib/web", "/etc/ssl:/etc/ssl:ro"]
tmpfs = ["/tmp:size=64M,mode=1777"]
ports = ["127.0.0.1:8080:80/udp"]
cap_add = ["NET_ADMIN"]
devices = ["/dev/ttyS0"]
[healthcheck]
http = ":80/healthz"
[limits]
memory = "256M"
cpus = 0.5
[network.interface.eth0]
address = ["10.0.0.2/24"]
"#;

/// Loads a text as a unit and as `host.toml`, and checks the invariants of every diagnostic.
fn check_invariants(text: &str) {
    let file = |path: &str| SourceFile { path: path.to_owned(), text: text.to_owned() };
    let db = SourceFile { path: "db.toml".to_owned(), text: "container.image = './db'".to_owned() };
    let loaded = load(Some(file("host.toml")), vec![file("web.toml"), db]);
    for found in &loaded.diagnostics {
        assert!(found.span.start <= found.span.end && found.span.end <= text.len(), "{found:?}");
        assert!(text.is_char_boundary(found.span.start), "{found:?}");
        assert!(text.is_char_boundary(found.span.end), "{found:?}");
        let shown = found.render(text, false);
        assert!(!shown.contains('\u{1b}') && shown.ends_with('\n'), "{shown}");
    }
    let has_errors = loaded.diagnostics.iter().any(|f| f.is_error() && f.file == "web.toml");
    assert_eq!(loaded.config.units.contains_key("web"), !has_errors);
    assert!(loaded.config.units.contains_key("db"));
    assert_eq!(loaded.order.0.iter().flatten().count(), loaded.config.units.len());
}

/// `text` with some bytes replaced by others, kept as valid UTF-8.
fn spliced(text: &str, cuts: &[(prop::sample::Index, usize, String)]) -> String {
    let mut text = text.to_owned();
    for (at, length, insert) in cuts {
        let floor = |mut at: usize| {
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(at.index(text.len() + 1));
        let end = floor((start + length).min(text.len())).max(start);
        text.replace_range(start..end, insert);
    }
    text
}

fn insert() -> impl Strategy<Value = String> {
    let pieces = [
        "",
        "\"",
        "'",
        "[",
        "]",
        "{",
        "}",
        "=",
        "\n",
        "\n[",
        ".",
        ",",
        "#",
        "\\",
        "\0",
        "\r",
        "\t",
        ":",
        "/",
        "-1",
        "99999999999999999999",
        "1e400",
        "nan",
        "true",
        "日本",
        "\u{301}",
        "🦀",
        "\u{feff}",
        "a",
        "0",
        "1979-05-27",
        "[[container]]\n",
        "after = ['web']\n",
        "'''",
    ];
    prop_oneof![prop::sample::select(pieces.to_vec()).prop_map(str::to_owned), any::<String>()]
}

proptest! {
    #[test]
    fn any_text_is_handled(text in any::<String>()) {
        check_invariants(&text);
    }

    #[test]
    fn any_mutation_of_a_valid_file_is_handled(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0usize..20, insert()), 1..6),
    ) {
        check_invariants(&spliced(SEED, &cuts));
    }

    #[test]
    fn any_value_of_any_key_is_handled(
        table in prop::sample::select(
            ["", "restart", "container", "healthcheck", "limits", "log", "network",
             "network.interface.eth0", "storage", "api", "api.client.anna"].to_vec()),
        key in prop::sample::select(
            units::schema::UNIT_TABLES.iter().chain(&units::schema::HOST_TABLES)
                .flat_map(|table| table.keys).map(|key| key.name).collect::<Vec<_>>()),
        value in prop_oneof![
            any::<String>().prop_map(|text| format!("{text:?}")),
            any::<i64>().prop_map(|number| number.to_string()),
            any::<f64>().prop_map(|number| format!("{number:?}")),
            "'[0-9./:a-zA-Z_=,+-]{0,24}'",
            "\\['[0-9./:a-zA-Z_=,+-]{0,24}', '[0-9./:a-z=,-]{0,24}'\\]",
        ],
    ) {
        let header = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
        check_invariants(&format!("{header}{key} = {value}\n"));
    }

    #[test]
    fn any_span_can_be_rendered(
        text in prop_oneof![any::<String>(), Just(SEED.to_owned())],
        start in 0usize..3000,
        length in 0usize..3000,
        reversed in any::<bool>(),
        other in any::<String>(),
    ) {
        let start = start % (text.len() + 10);
        let span = if reversed { Range { start, end: 0 } } else { start..start + length };
        let found = Diagnostic::new(Severity::Error, "f", &text, span, "m").with_hint(&other);
        let shown = found.render(&text, true);
        prop_assert!(shown.contains('^'));
        // A changed or missing source must not cause a panic.
        found.render(&other, false);
        found.render("", false);
    }

    #[test]
    fn the_caret_is_below_the_first_character(
        before in "[a-z\t日🦀 ]{0,30}", marked in "[A-Z]{1,10}", after in "[a-z 日]{0,30}",
    ) {
        let text = format!("{before}{marked}{after}");
        let span = before.len()..before.len() + marked.len();
        let shown = Diagnostic::new(Severity::Error, "f", &text, span, "m").render(&text, false);
        let lines: Vec<&str> = shown.lines().collect();
        let columns = |text: &str| text.chars().map(|c| if c > '\u{7f}' { 2 } else { 1 }).sum::<usize>();
        let source = lines[3];
        prop_assert_eq!(columns(&source[..source.find(&marked).unwrap()]), lines[4].find('^').unwrap());
        prop_assert_eq!(lines[4].matches('^').count(), marked.len());
    }

    #[test]
    fn durations_round_trip(millis in 0u64..=315_360_000_000) {
        let duration = Duration::from_millis(millis);
        prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
    }

    #[test]
    fn durations_have_the_value_of_their_parts(h in 0u64..100, m in 0u64..100, s in 0u64..1000, ms in 0u64..10_000) {
        let expected = Duration::from_millis(((h * 60 + m) * 60 + s) * 1000 + ms);
        prop_assert_eq!(parse_duration(&format!("{h}h{m}m{s}s{ms}ms")), Ok(expected));
        let reversed = format!("{ms}ms{s}s");
        prop_assert!(parse_duration(&reversed).is_err());
    }

    #[test]
    fn sizes_round_trip(bytes in 0u64..=i64::MAX as u64, shift in 0u32..63) {
        for bytes in [bytes, bytes >> shift, (bytes >> shift) << (shift / 2)] {
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn fractions_of_sizes_are_exact(whole in 0u64..1000, quarters in 0u64..4) {
        let text = format!("{whole}.{:02}G", quarters * 25);
        prop_assert_eq!(parse_size(&text), Ok((whole << 30) + (quarters << 28)));
        prop_assert_eq!(parse_size(&text.to_lowercase()), parse_size(&text));
    }

    #[test]
    fn scalar_parsers_handle_any_text(text in prop_oneof![any::<String>(), "[0-9a-zA-Z./:=,+_-]{0,40}"]) {
        let check = |at: Range<usize>| {
            assert!(at.start <= at.end && text.get(at.clone()).is_some(), "{at:?} of {text:?}");
        };
        macro_rules! all { ($($parse:expr),*) => { $(
            if let Err(error) = $parse(&text) { check(error.at); }
        )* } }
        all!(
            parse_duration, parse_size, entry::parse_port, entry::parse_volume, entry::parse_tmpfs,
            entry::parse_device, process::parse_signal, process::parse_capability,
            process::check_user, process::parse_http_probe, process::parse_tcp_probe,
            names::check_unit_name, names::check_volume_name, names::check_hostname,
            names::check_link_name, names::parse_condition, units::paths::absolute_path,
            units::paths::mount_target, units::paths::check_image, units::address::parse_bridge,
            units::address::parse_link_address, units::address::parse_address
        );
    }

    #[test]
    fn normalized_paths_are_absolute(text in "/[a./]{0,20}") {
        if let Ok(path) = units::paths::absolute_path(&text) {
            prop_assert!(path.starts_with('/') && !path.contains("//"));
            prop_assert!(!path.split('/').any(|part| part == ".." || part == "."));
            prop_assert!(path == "/" || !path.ends_with('/'));
        }
    }

    #[test]
    fn a_written_unit_parses_back_to_itself(unit in any_unit()) {
        let mut files = vec![SourceFile {
            path: format!("units/{}.toml", unit.name),
            text: write_unit(&unit),
        }];
        for other in ["dep-a", "dep-b"] {
            files.push(SourceFile {
                path: format!("units/{other}.toml"),
                text: "container.image = './x'".to_owned(),
            });
        }
        let text = files[0].text.clone();
        let loaded = load(None, files);
        let shown: String = loaded.diagnostics.iter().map(|found| found.render(&text, false)).collect();
        prop_assert!(!loaded.has_errors(), "{}\n{}", shown, text);
        prop_assert_eq!(&loaded.config.units[&unit.name], &unit);
    }

    /// For any dependencies: every unit outside a cycle is kept, and starts after all units that it
    /// waits for.
    #[test]
    fn the_start_order_respects_every_edge(
        edges in prop::collection::vec((0usize..8, 0usize..8), 0..16),
    ) {
        let files: Vec<SourceFile> = (0..8).map(|unit| {
            let to: Vec<String> =
                edges.iter().filter(|(from, _)| *from == unit).map(|(_, to)| format!("'u{to}'")).collect();
            SourceFile {
                path: format!("u{unit}.toml"),
                text: format!("after = [{}]\ncontainer.image = './x'\n", to.join(", ")),
            }
        }).collect();
        let loaded = load(None, files);
        // The transitive closure, to determine which units are in a cycle.
        let mut reach = [[false; 8]; 8];
        for (from, to) in &edges { reach[*from][*to] = true; }
        for via in 0..8 { for from in 0..8 { for to in 0..8 {
            reach[from][to] |= reach[from][via] && reach[via][to];
        } } }
        for (unit, reaches) in reach.iter().enumerate() {
            prop_assert_eq!(loaded.left_out.contains(&format!("u{unit}")), reaches[unit]);
        }
        let stage = |unit: usize| {
            loaded.order.0.iter().position(|stage| stage.contains(&format!("u{unit}")))
        };
        for (from, to) in edges {
            if let (Some(from), Some(to)) = (stage(from), stage(to)) {
                prop_assert!(to < from);
            }
        }
    }
}
