//! The API as curl and OpenSSL see it, which share no code with Rust's TLS and HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use api_types::ErrorBody;
use api_types::{Client, Role};
use common::{Host, write};
use std::path::PathBuf;
use std::process::{Command, Output};

/// An answer as curl reports it.
struct Answer {
    status: u16,
    kind: String,
    version: String,
    body: Vec<u8>,
}

impl Answer {
    fn error(&self) -> ErrorBody {
        assert_eq!(self.kind, "application/json");
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Status and code.
    fn code(&self) -> (u16, String) {
        let code = serde_json::to_value(self.error().error.code).unwrap();
        (self.status, code.as_str().unwrap().to_owned())
    }
}

fn run(program: &str, arguments: &[&str], directory: &std::path::Path) -> Output {
    Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; `make packages-test` installs it"))
}

/// Runs OpenSSL and returns its output; a failure is an error in the test.
fn openssl(host: &Host, arguments: &[&str]) -> Vec<u8> {
    let output = run("openssl", arguments, &host.directory.0);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments:?}: {errors}");
    output.stdout
}

/// Runs curl. Returns the answer, or its exit code and its message.
fn curl(host: &Host, path: &str, arguments: &[&str]) -> Result<Answer, (i32, String)> {
    let pin = host.fingerprint.replace("SHA256:", "sha256//") + "=";
    let url = format!("https://{}{path}", host.address);
    let mut all = vec!["--silent", "--show-error", "--insecure", "--pinnedpubkey", &pin];
    all.extend(["--max-time", "20", "--output", "body"]);
    all.extend(["--write-out", "%{http_code} %{http_version} %{content_type}"]);
    all.extend(arguments);
    all.push(&url);
    let _ = std::fs::remove_file(host.directory.path("body"));
    let output = run("curl", &all, &host.directory.0);
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err((output.status.code().unwrap(), errors));
    }
    let words = String::from_utf8(output.stdout).unwrap();
    let mut words = words.splitn(3, ' ');
    let mut word = || words.next().unwrap().to_owned();
    Ok(Answer {
        status: word().parse().unwrap(),
        version: word(),
        kind: word(),
        body: std::fs::read(host.directory.path("body")).unwrap_or_default(),
    })
}

/// A host whose admin's identity is in the file `admin.pem`.
fn host() -> Host {
    let host = Host::new();
    write(&host.directory.path("admin.pem"), host.admin.pem().as_bytes());
    host
}

/// Runs curl as the admin.
fn ask(host: &Host, path: &str, arguments: &[&str]) -> Answer {
    let identity = [&["--cert", "admin.pem"], arguments].concat();
    curl(host, path, &identity).unwrap_or_else(|error| panic!("{path} {arguments:?}: {error:?}"))
}

/// A key made by OpenSSL with a certificate of these dates, as a file; and its fingerprint.
fn identity(
    host: &Host,
    name: &str,
    algorithm: &[&str],
    from: &str,
    to: &str,
) -> (PathBuf, String) {
    let key = format!("{name}.key");
    openssl(host, &[&["genpkey", "-out", &key, "-algorithm"], algorithm].concat());
    // Only `ca` can make certificates of any date in all versions of OpenSSL.
    let config = "[ca]\ndefault_ca = c\n[c]\ndatabase = index\nserial = serial\nnew_certs_dir = .\n\
        default_md = default\npolicy = p\nx509_extensions = e\n\
        [p]\ncommonName = supplied\n[e]\nbasicConstraints = CA:false\n";
    for (file, content) in [("ca.conf", config), ("index", ""), ("serial", "01\n")] {
        write(&host.directory.path(file), content.as_bytes());
    }
    openssl(host, &["req", "-new", "-key", &key, "-subj", "/CN=me", "-out", "request"]);
    let dates = ["-startdate", from, "-enddate", to];
    let files = ["-config", "ca.conf", "-keyfile", &key, "-in", "request", "-out", "certificate"];
    openssl(host, &[&["ca", "-batch", "-notext", "-selfsign"], &files[..], &dates[..]].concat());
    let public = openssl(host, &["pkey", "-in", &key, "-pubout", "-outform", "DER"]);
    let path = host.directory.path(&format!("{name}.pem"));
    let read = |file: &str| std::fs::read(host.directory.path(file)).unwrap();
    write(&path, &[read("certificate"), read(&key)].concat());
    (path, api::key::fingerprint(&public))
}

const LONG_AGO: &str = "19900101000000Z";
const FAR_AWAY: &str = "20491231000000Z";

#[test]
fn a_known_key_gets_answers() {
    let host = host();
    for arguments in
        [&["--tlsv1.3"][..], &["--http2"], &["--compressed"], &["--http1.0", "--no-alpn"]]
    {
        let units = ask(&host, "/v1/units", arguments);
        assert_eq!((units.status, units.kind.as_str()), (200, "application/json"));
        assert!(units.version.starts_with('1'), "{arguments:?}: HTTP {}", units.version);
        let units: Vec<api_types::Unit> = serde_json::from_slice(&units.body).unwrap();
        assert_eq!(units[0].name, "web");
    }
    let metrics = ask(&host, "/metrics", &[]);
    assert_eq!(metrics.status, 200);
    assert!(metrics.kind.starts_with("application/openmetrics-text"));
    assert!(metrics.body.ends_with(b"# EOF\n"));
    // As docs/cli.md says.
    ask(&host, "/v1/host/bundle", &[]);
    let listed = run("tar", &["tzf", "body"], &host.directory.0).stdout;
    assert!(String::from_utf8(listed).unwrap().contains("keel-bundle/host.json\n"));
}

#[test]
fn any_kind_of_key_works_and_dates_do_not_matter() {
    let host = host();
    let p256 = &["EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
    let rows: &[(&str, &[&str], &str, &str)] = &[
        ("expired", p256, LONG_AGO, "19910101000000Z"),
        ("future", p256, "20481231000000Z", FAR_AWAY),
        ("ed25519", &["ED25519"], LONG_AGO, FAR_AWAY),
        ("p384", &["EC", "-pkeyopt", "ec_paramgen_curve:P-384"], LONG_AGO, FAR_AWAY),
        ("rsa", &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"], LONG_AGO, FAR_AWAY),
    ];
    for (name, algorithm, from, to) in rows {
        let (file, key) = identity(&host, name, algorithm, from, to);
        let get = || curl(&host, "/v1/whoami", &["--cert", file.to_str().unwrap()]).unwrap();
        let unknown = get();
        assert_eq!(unknown.code(), (403, "unknown_key".to_owned()), "{name}");
        assert!(unknown.error().error.message.contains(&key), "{name}");
        let client = Client { name: (*name).to_owned(), key: key.clone(), role: Role::Reader };
        host.supervisor.set_clients(vec![client]);
        let whoami = common::until(|| Some(get()).filter(|answer| answer.status == 200));
        let whoami: Client = serde_json::from_slice(&whoami.body).unwrap();
        assert_eq!((whoami.name.as_str(), whoami.key), (*name, key));
    }
}

#[test]
fn what_is_not_tls_13_with_a_key_is_refused() {
    let host = host();
    let code = |arguments: &[&str]| curl(&host, "/v1/units", arguments).err().map(|error| error.0);
    // 35: the handshake failed; 56: the first read failed, which completes the handshake; 90: another
    // key.
    assert_eq!(code(&["--cert", "admin.pem", "--tls-max", "1.2"]), Some(35));
    assert_eq!(code(&[]), Some(56));
    let pin = "sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(code(&["--cert", "admin.pem", "--pinnedpubkey", pin]), Some(90));
    // A certificate with another key: curl itself reports it.
    let (_, _) = identity(&host, "other", &["ED25519"], LONG_AGO, FAR_AWAY);
    assert_eq!(code(&["--cert", "admin.pem", "--key", "other.key"]), Some(58));
    assert_eq!(ask(&host, "/v1/units", &[]).status, 200);
    assert!(host.supervisor.state().asks.iter().all(|(key, _)| *key == host.admin.fingerprint()));
}

#[test]
fn invalid_requests_of_curl_are_answered_in_json() {
    let host = host();
    write(&host.directory.path("big"), &vec![b'x'; 3_000_000]);
    let long = format!("X-Long: {}", "y".repeat(20_000));
    let rows: &[(&str, &[&str], u16, &str)] = &[
        ("/v1/units/..%2f..%2fetc", &["--path-as-is"], 400, "invalid"),
        ("/v1/units/../../etc/passwd", &["--path-as-is"], 404, "not_found"),
        ("/v1/units/web/../../host", &["--path-as-is"], 404, "not_found"),
        ("/v1/units/%00", &[], 400, "invalid"),
        ("/v1/units?%zz", &[], 400, "invalid"),
        ("/v1/units", &["--request", "DELETE"], 405, "method_not_allowed"),
        ("/v1/units", &["--upload-file", "big"], 405, "method_not_allowed"),
        ("/v1/units", &["--upload-file", "big", "-H", "Expect:"], 405, "method_not_allowed"),
        ("/v1/units/web/signal", &["-X", "POST", "-T", "big"], 413, "too_large"),
        ("/v1/units/web/signal", &["-X", "POST", "-T", "big", "-H", "Expect:"], 413, "too_large"),
        ("/v1/units/web/signal", &["--data", "signal=HUP"], 400, "invalid"),
        ("/v1/units", &["--header", &long], 431, "head_too_large"),
        ("/v1/units", &["--header", "Bad Name: x"], 400, "invalid"),
        ("/v1/units", &["--request", "BAD METHOD"], 400, "invalid"),
        ("/v1/units", &["--request-target", "http:///"], 400, "invalid"),
        ("/v1/units/web/exec", &["-X", "POST", "-H", "Upgrade: websocket"], 400, "invalid"),
    ];
    for (path, arguments, status, code) in rows {
        let answer = ask(&host, path, arguments);
        assert_eq!(answer.code(), (*status, (*code).to_owned()), "{path} {arguments:?}");
    }
    // Large uploads are accepted.
    let put = ask(&host, "/v1/units/web/files?path=/copy", &["--upload-file", "big"]);
    assert_eq!(put.status, 200);
    assert_eq!(std::fs::metadata(host.directory.path("copy")).unwrap().len(), 3_000_000);
}
