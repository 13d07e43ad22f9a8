//! A fake host whose answers a test determines: TLS 1.3 on loopback, one thread per connection.

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
use std::sync::{Arc, Mutex};

/// A connection, as the fake host has it.
pub type Wire = StreamOwned<ServerConnection, TcpStream>;

/// A received request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Method, path and query.
    pub line: String,
    /// Headers; names in lower case.
    pub headers: Vec<(String, String)>,
    /// The decoded body.
    pub body: Vec<u8>,
}

impl Seen {
    /// The value of a header; empty if missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }
}

/// How to answer a request.
pub enum Reply {
    /// Send these bytes and keep the connection.
    Bytes(Vec<u8>),
    /// Send these bytes and close the connection.
    Last(Vec<u8>),
    /// Let the test use the connection.
    Custom(Box<dyn FnOnce(&mut Wire) + Send>),
}

/// A JSON response.
pub fn json(status: u16, value: &serde_json::Value) -> Reply {
    let body = value.to_string();
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    Reply::Bytes((head + &body).into_bytes())
}

/// A response in chunked coding.
pub fn chunked(headers: &str, pieces: &[&str]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n");
    for piece in pieces {
        out.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    (out + "0\r\n\r\n").into_bytes()
}

/// The fake host.
pub struct FakeHost {
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The fingerprint of its key.
    pub key: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl FakeHost {
    /// Starts a host with a new key; `answer` determines the answer to each request.
    pub fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> FakeHost {
        FakeHost::start_at("127.0.0.1:0", true, answer)
    }

    /// Starts a host that rejects all keys.
    pub fn closed() -> FakeHost {
        FakeHost::start_at("127.0.0.1:0", false, |_| json(200, &serde_json::json!([])))
    }

    /// Starts a host at this address; it rejects all keys unless `open`.
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
            .with_client_cert_verifier(Arc::new(ClientKeys { open }))
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

    /// The requests received so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Method, path and query of the requests received so far.
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
            Reply::Custom(answer) => {
                answer(wire);
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

/// Accepts all client keys, or none. As with a real host, a client must have one.
#[derive(Debug)]
struct ClientKeys {
    open: bool,
}

impl ClientCertVerifier for ClientKeys {
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
