//! A host that says what a test wants it to say: TLS 1.3 on loopback, one thread for each connection.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, ServerConfig, ServerConnection,
    SignatureScheme, StreamOwned,
};
use sha2::{Digest, Sha256};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A connection of the fake host.
pub type Wire = StreamOwned<ServerConnection, TcpStream>;

/// A request that has come.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method, path and query.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// Without its encoding.
    pub body: Vec<u8>,
}

impl Seen {
    /// The header of this name.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// What to answer.
pub enum Reply {
    /// As it goes over the wire; the connection stays.
    Bytes(Vec<u8>),
    /// The same, and the end of the connection.
    Last(Vec<u8>),
    /// The test speaks for itself.
    Speak(Box<dyn FnOnce(&mut Wire) + Send>),
}

/// An answer in JSON.
pub fn json(status: u16, value: &serde_json::Value) -> Reply {
    let body = value.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Reply::Bytes((head + &body).into_bytes())
}

/// Pieces in chunked encoding.
pub fn chunked(headers: &str, pieces: &[&str]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n");
    for piece in pieces {
        out.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    (out + "0\r\n\r\n").into_bytes()
}

/// The host.
pub struct FakeHost {
    /// Where it listens.
    pub address: SocketAddr,
    /// Fingerprint of its key.
    pub key: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FakeHost {
    /// With a new key. `answer` is asked for each request.
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> FakeHost {
        FakeHost::start_at("127.0.0.1:0", true, answer)
    }

    /// One that lets no key in.
    pub fn closed() -> FakeHost {
        FakeHost::start_at("127.0.0.1:0", false, |_| json(200, &serde_json::json!([])))
    }

    /// At this address.
    pub fn start_at(
        address: &str,
        open: bool,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> FakeHost {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let certificate = CertificateParams::default().self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(Arc::new(Door { open }))
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind(address).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let host = FakeHost {
            address: listener.local_addr().unwrap(),
            key: fingerprint(&key.subject_public_key_info()),
            seen: Arc::clone(&seen),
        };
        let answer = Arc::new(answer);
        // The threads end with the test process.
        std::thread::spawn(move || {
            for sock in listener.incoming().flatten() {
                let (config, seen, answer) =
                    (Arc::clone(&config), Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let conn = ServerConnection::new(config).unwrap();
                    serve(&mut StreamOwned::new(conn, sock), &seen, &*answer);
                });
            }
        });
        host
    }

    /// The requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Their first lines.
    pub fn lines(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.line).collect()
    }
}

fn serve(wire: &mut Wire, seen: &Mutex<Vec<Seen>>, answer: &(impl Fn(&Seen) -> Reply + ?Sized)) {
    while let Some(request) = read_request(wire) {
        seen.lock().unwrap().push(request.clone());
        let (bytes, last) = match answer(&request) {
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Last(bytes) => (bytes, true),
            Reply::Speak(speak) => {
                speak(wire);
                (Vec::new(), true)
            }
        };
        let _ = wire.write_all(&bytes).and_then(|()| wire.flush());
        if last {
            wire.conn.send_close_notify();
            let _ = wire.flush();
            return;
        }
    }
}

fn read_request(wire: &mut Wire) -> Option<Seen> {
    let mut bytes = Vec::new();
    let byte = |wire: &mut Wire| {
        let mut one = [0];
        wire.read_exact(&mut one).ok().map(|()| one[0])
    };
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(byte(wire)?);
    }
    let head = String::from_utf8(bytes).unwrap();
    let mut lines = head.lines();
    let line = lines.next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut seen = Seen { line, headers, body: Vec::new() };
    if seen.header("transfer-encoding") == "chunked" {
        loop {
            let mut size = Vec::new();
            while !size.ends_with(b"\r\n") {
                size.push(byte(wire)?);
            }
            let size = usize::from_str_radix(String::from_utf8(size).unwrap().trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            wire.read_exact(&mut chunk).ok()?;
            seen.body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                break;
            }
        }
    } else if let Ok(length) = seen.header("content-length").parse() {
        seen.body = vec![0; length];
        wire.read_exact(&mut seen.body).ok()?;
    }
    Some(seen)
}

fn fingerprint(key: &[u8]) -> String {
    use base64::Engine;
    let digest = Sha256::digest(key);
    format!("SHA256:{}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(digest))
}

/// Lets every key in, or none; but somebody must show one, as with a real host.
#[derive(Debug)]
struct Door {
    open: bool,
}

impl ClientCertVerifier for Door {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if self.open {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        panic!("TLS 1.2")
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let provider = rustls::crypto::ring::default_provider();
        provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A person's home, with nothing in it yet.
pub struct Home {
    /// The folder.
    pub dir: PathBuf,
}

impl Home {
    /// Empty.
    pub fn empty() -> Home {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("remote-{}-{number}", std::process::id());
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Home { dir }
    }

    /// With a key, and the keys of these hosts pinned.
    pub fn knowing(hosts: &[&FakeHost]) -> Home {
        let home = Home::empty();
        assert!(home.keel(&["keygen"]).status.success());
        let lines: Vec<String> =
            hosts.iter().map(|host| format!("{} {}\n", host.address, host.key)).collect();
        std::fs::write(home.config("known_hosts"), lines.concat()).unwrap();
        home
    }

    /// A file of the configuration.
    pub fn config(&self, name: &str) -> PathBuf {
        self.dir.join("config/keel").join(name)
    }

    /// The command, with this home.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keel"));
        command
            .args(args)
            .current_dir(&self.dir)
            .env("HOME", &self.dir)
            .env("XDG_CONFIG_HOME", self.dir.join("config"))
            .env("XDG_CACHE_HOME", self.dir.join("cache"))
            .env_remove("KEEL_HOST");
        command
    }

    /// Runs it, with nothing to read.
    pub fn keel(&self, args: &[&str]) -> Output {
        self.command(args).stdin(std::process::Stdio::null()).output().unwrap()
    }

    /// Runs it for this host.
    pub fn on(&self, host: &FakeHost, args: &[&str]) -> Output {
        let address = host.address.to_string();
        let mut all = vec!["--host", &address];
        all.extend(args);
        self.keel(&all)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// Standard output as text.
pub fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Standard error as text.
pub fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// The exit code.
pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}
