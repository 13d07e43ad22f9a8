//! Commands with a single answer.

use super::fake::{FakeHost, Reply, Seen, json};
use super::home::{Home, code, err, out};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

fn units() -> Value {
    json!([
        {"name": "db", "state": "running", "since_ms": 1_000, "desired": "up", "by": "boot",
         "restarts": 2, "cpu_usec": 310_000, "memory": 5 << 20, "address": "10.88.0.3",
         "ports": ["5432:5432"], "health": {"state": "healthy"}, "new_field": true,
         "weakenings": ["root inside is the host's root"]},
        {"name": "web", "state": "failed", "since_ms": 9_000, "restarts": 0,
         "last_exit": {"cause": "code", "detail": 3}},
    ])
}

fn host() -> Value {
    json!({"version": "0.1.0", "hostname": "edge", "uptime_ms": 193_000})
}

/// A healthy host.
fn healthy(seen: &Seen) -> Reply {
    match seen.line.as_str() {
        "GET /v1/units" => json(200, &units()),
        "GET /v1/host" => json(200, &host()),
        "GET /v1/whoami" => json(200, &json!({"name": "me", "key": "SHA256:x", "role": "admin"})),
        "POST /v1/units/web/restart?wait=5" => json(200, &json!({"did": "web restarted"})),
        "POST /v1/units/db/restart?wait=5" => {
            let details = ["db waits for the disk"];
            let error =
                json!({"code": "not_ready", "message": "db is not ready", "details": details});
            json(409, &json!({"error": error}))
        }
        _ => {
            let error = json!({"code": "not_found", "message": format!("no {}", seen.line)});
            json(404, &json!({"error": error}))
        }
    }
}

#[test]
fn ps_prints_a_table_and_json_is_the_host_s_answer() {
    let host = FakeHost::start(healthy);
    let home = Home::knowing(&[&host]);
    let table = home.on(&host, &["ps"]);
    assert_eq!(
        out(&table),
        "NAME   STATE                  RESTARTS   UPTIME   CPU     MEMORY   ADDRESS     PORTS\n\
         db     running (healthy)      2          3m 12s   0.31s   5.0M     10.88.0.3   5432:5432\n\
         web    failed (exit code 3)   0          -        -       -        -           -\n"
    );
    assert_eq!(code(&table), 0, "{}", err(&table));
    let wide = out(&home.on(&host, &["ps", "-o", "wide"]));
    let cells = |line: usize| wide.lines().nth(line).unwrap().rsplit("   ").next().unwrap().trim();
    assert_eq!([0, 1, 2].map(cells), ["RELAXED", "root inside is the host's root", "no"]);
    let raw = home.on(&host, &["ps", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&out(&raw)).unwrap(), units());
}

#[test]
fn several_hosts_share_a_table_with_a_row_for_an_unreachable_one() {
    let (one, two) = (FakeHost::start(healthy), FakeHost::start(healthy));
    let home = Home::knowing(&[&one, &two]);
    let text = format!(
        "default = \"all\"\n\
         [host.one]\naddress = \"{}\"\nkey = \"{}\"\n\
         [host.two]\naddress = \"{}\"\n\
         [host.dead]\naddress = \"{}\"\nkey = \"{}\"\n\
         [group]\nall = [\"one\", \"dead\", \"two\"]\n",
        one.address,
        one.key,
        two.address,
        closed_port(),
        one.key
    );
    std::fs::write(home.config("hosts.toml"), text).unwrap();
    let table = home.keel(&["ps"]);
    let text = out(&table);
    let first: Vec<&str> = text.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(first, ["HOST", "one", "one", "dead", "two", "two"], "{text}");
    assert!(text.contains("error: cannot reach 127.0.0.1:"), "{text}");
    assert_eq!(code(&table), 3);
    let raw: Value =
        serde_json::from_str(&out(&home.keel(&["--host", "dead,two", "ps", "--json"]))).unwrap();
    assert_eq!(raw["dead"]["error"]["code"], "unreachable");
    assert_eq!(raw["two"], units());
    // $KEEL_HOST overrides the default, and --host overrides $KEEL_HOST.
    let mut command = home.command(&["ps"]);
    assert_eq!(out(&command.env("KEEL_HOST", "two").output().unwrap()).lines().count(), 3);
}

/// An address without a listener.
fn closed_port() -> std::net::SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn an_unknown_host_key_is_shown_and_rejected() {
    let host = FakeHost::start(healthy);
    let home = Home::knowing(&[]);
    let refused = home.on(&host, &["ps"]);
    assert_eq!(code(&refused), 5);
    assert!(err(&refused).contains(&host.key), "{}", err(&refused));
    assert!(err(&refused).contains(&format!("keel trust {}", host.address)), "{}", err(&refused));
    // No request was sent to an unknown host.
    assert_eq!(host.lines(), [""; 0]);
}

#[test]
fn trust_replaces_a_changed_key_only_with_repin() {
    let host = FakeHost::start(healthy);
    let home = Home::knowing(&[]);
    let address = host.address.to_string();
    // Standard input is not a terminal, so there is no confirmation.
    assert_eq!(code(&home.keel(&["trust", &address])), 2);
    let pinned = home.keel(&["trust", &address, "--yes"]);
    assert_eq!(code(&pinned), 0, "{}", err(&pinned));
    assert!(out(&pinned).contains(&host.key));
    assert_eq!(code(&home.keel(&["trust", &address])), 0);
    assert_eq!(code(&home.on(&host, &["ps"])), 0);

    let other = FakeHost::start(healthy);
    let line = format!("# mine\n{} {}\n", other.address, host.key);
    std::fs::write(home.config("known_hosts"), line).unwrap();
    let changed = home.on(&other, &["ps"]);
    assert_eq!(code(&changed), 5);
    for part in ["HAS CHANGED", &host.key, &other.key, "keel trust --repin"] {
        assert!(err(&changed).contains(part), "{part}: {}", err(&changed));
    }
    assert_eq!(other.lines(), [""; 0]);
    let address = other.address.to_string();
    assert_eq!(code(&home.keel(&["trust", &address, "--yes"])), 5);
    assert_eq!(code(&home.keel(&["trust", &address, "--yes", "--repin"])), 0);
    let known = std::fs::read_to_string(home.config("known_hosts")).unwrap();
    assert_eq!(known, format!("# mine\n{address} {}\n", other.key));
}

#[test]
fn concurrent_changes_of_known_hosts_are_all_kept() {
    let hosts: Vec<FakeHost> = (0..12).map(|_| FakeHost::start(healthy)).collect();
    let home = Home::empty();
    let children: Vec<_> = hosts
        .iter()
        .map(|host| home.command(&["trust", &host.address.to_string(), "--yes"]))
        .map(|mut command| command.stdout(std::process::Stdio::null()).spawn().unwrap())
        .collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let known = std::fs::read_to_string(home.config("known_hosts")).unwrap();
    for host in &hosts {
        assert!(known.contains(&format!("{} {}\n", host.address, host.key)), "{known}");
    }
}

#[test]
fn a_host_of_keel_run_is_pinned_at_the_first_connection() {
    let host = FakeHost::start(healthy);
    let home = Home::empty();
    let pem = home.dir.join("run.pem");
    assert_eq!(code(&home.keel(&["keygen", "--output", pem.to_str().unwrap()])), 0);
    let file = home
        .dir
        .join("cache/keel/run-hosts/x.json")
        .with_file_name(format!("{}.json", host.address.to_string().replace(':', "_")));
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let entry = json!({"address": host.address.to_string(), "folder": "/x", "identity": pem});
    std::fs::write(&file, entry.to_string()).unwrap();
    // The only running host needs no name.
    let first = home.keel(&["ps"]);
    assert_eq!(code(&first), 0, "{}", err(&first));
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(kept["key"], host.key);
    let mut other = kept.clone();
    other["key"] = json!("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
    std::fs::write(&file, other.to_string()).unwrap();
    assert_eq!(code(&home.keel(&["ps"])), 5);
}

#[test]
fn a_rejected_client_is_shown_its_own_fingerprint() {
    let closed = FakeHost::closed();
    let polite = FakeHost::start(|_| {
        json(403, &json!({"error": {"code": "forbidden", "message": "a reader may not"}}))
    });
    let home = Home::knowing(&[&closed, &polite]);
    let refused = home.on(&closed, &["ps"]);
    assert_eq!(code(&refused), 4, "{}", err(&refused));
    assert!(err(&refused).contains("our key is SHA256:"), "{}", err(&refused));
    let refused = home.on(&polite, &["reboot", "--yes"]);
    assert_eq!(code(&refused), 4);
    assert!(err(&refused).starts_with("keel: a reader may not\n"), "{}", err(&refused));
}

#[test]
fn exit_codes() {
    let host = FakeHost::start(healthy);
    let malformed = FakeHost::start(|_| Reply::Last(b"HTTP/1.1 200 OK\r\n\r\nhello".to_vec()));
    let silent = FakeHost::start(|_| Reply::Last(Vec::new()));
    let home = Home::knowing(&[&host, &malformed, &silent]);
    assert_eq!(code(&home.on(&host, &["explain", "nope"])), 1);
    assert_eq!(code(&home.on(&host, &["nonsense"])), 2);
    assert_eq!(code(&home.keel(&["ps"])), 2);
    assert_eq!(code(&home.on(&malformed, &["ps"])), 1);
    assert_eq!(code(&home.on(&silent, &["ps"])), 3);
    assert_eq!(code(&home.on(&host, &["reboot"])), 2);
    std::fs::write(home.config("hosts.toml"), "[host.a]\nadress = \"x\"\n").unwrap();
    let mistake = home.on(&host, &["ps"]);
    assert_eq!(code(&mistake), 2);
    assert!(err(&mistake).contains("hosts.toml:2:1"), "{}", err(&mistake));
    std::fs::remove_file(home.config("identity.pem")).unwrap();
    std::fs::remove_file(home.config("hosts.toml")).unwrap();
    let keyless = home.on(&host, &["ps"]);
    assert_eq!(code(&keyless), 2);
    assert!(err(&keyless).contains("keel keygen"), "{}", err(&keyless));
}

#[test]
fn restart_continues_with_other_units_after_an_error() {
    let host = FakeHost::start(healthy);
    let home = Home::knowing(&[&host]);
    let done = home.on(&host, &["restart", "--wait=5", "db", "web"]);
    assert_eq!(out(&done), "web restarted\n");
    assert_eq!(err(&done), "keel: db is not ready\n  db waits for the disk\n");
    assert_eq!(code(&done), 1);
    let raw = home.on(&host, &["restart", "--wait=5", "db", "web", "--json"]);
    let raw: Value = serde_json::from_str(&out(&raw)).unwrap();
    assert_eq!(raw[0]["error"]["code"], "not_ready");
    assert_eq!(raw[1]["did"], "web restarted");
}

#[test]
fn names_of_units_cannot_change_the_path() {
    let host = FakeHost::start(healthy);
    let home = Home::knowing(&[&host]);
    home.on(&host, &["kill", "-s", "HUP", "../host/reboot?x"]);
    assert_eq!(host.lines(), ["POST /v1/units/..%2Fhost%2Freboot%3Fx/signal"]);
    assert_eq!(host.seen()[0].body, br#"{"signal":"HUP"}"#);
}

#[test]
fn text_of_a_host_cannot_control_the_terminal() {
    let host = FakeHost::start(|seen| match seen.line.as_str() {
        "GET /v1/host" => json(200, &host()),
        _ => json(200, &json!([{"name": "a\u{1b}[2J", "state": "running"}])),
    });
    let home = Home::knowing(&[&host]);
    assert!(!out(&home.on(&host, &["ps"])).contains('\u{1b}'));
}

#[test]
fn keygen_keeps_an_existing_key() {
    let home = Home::empty();
    let first = home.keel(&["keygen"]);
    assert_eq!(code(&first), 0);
    let text = out(&first);
    let key = text.lines().nth(1).unwrap();
    assert!(text.contains(&format!("key  = \"{key}\"")), "{text}");
    let path = home.config("identity.pem");
    let pem = std::fs::read(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let second = home.keel(&["keygen"]);
    assert_eq!(code(&second), 2);
    assert!(err(&second).contains("--force"));
    assert_eq!(std::fs::read(&path).unwrap(), pem);
    assert_eq!(code(&home.keel(&["keygen", "--force"])), 0);
    assert_ne!(std::fs::read(&path).unwrap(), pem);
}

#[test]
fn completions_and_manual_pages_need_no_host() {
    let home = Home::empty();
    for shell in ["bash", "zsh", "fish"] {
        assert!(out(&home.keel(&["completions", shell])).contains("explain"));
    }
    assert!(out(&home.keel(&["man"])).contains("Exit codes"));
    assert_eq!(code(&home.keel(&["man", "pages"])), 0);
    assert!(home.dir.join("pages/keel-restart.1").exists());
}
