//! A client with a real TLS library and a minimal HTTP parser.

use super::TIMEOUT;
use api_types::{Client, Role};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair, PublicKeyData};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
    SupportedProtocolVersion,
};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

pub struct Key {
    pair: KeyPair,
    certificate: CertificateDer<'static>,
}

impl Key {
    pub fn new() -> Key {
        Key::with(|_| {})
    }

    /// A key whose certificate has been changed by `change`.
    pub fn with(change: impl FnOnce(&mut CertificateParams)) -> Key {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        change(&mut params);
        let certificate = params.self_signed(&pair).unwrap().der().clone();
        Key { pair, certificate }
    }

    pub fn fingerprint(&self) -> String {
        api::key::fingerprint(&self.pair.subject_public_key_info())
    }

    /// For programs: the certificate and its key.
    pub fn pem(&self) -> String {
        let certificate = STANDARD.encode(&self.certificate);
        let lines: Vec<_> =
            certificate.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
        let body = lines.join("\n");
        let certificate =
            format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        certificate + &self.pair.serialize_pem()
    }

    pub fn client(&self, name: &str, role: Role) -> Client {
        Client { name: name.to_owned(), key: self.fingerprint(), role }
    }
}

pub struct Connection {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
    held: Vec<u8>,
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        assert!(self.headers["content-type"].starts_with("application/json"), "{self:?}");
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The code of an error; its status must match.
    pub fn error(&self) -> String {
        let error: api_types::ErrorBody = serde_json::from_value(self.json()).unwrap();
        assert_eq!(self.status, error.error.code.status());
        assert!(!error.error.message.is_empty());
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

impl Connection {
    pub fn open(address: SocketAddr, key: Option<&Key>, host: &str) -> io::Result<Connection> {
        Connection::with(address, key, host, &[&rustls::version::TLS13])
    }

    /// Connects and completes the TLS handshake.
    pub fn with(
        address: SocketAddr,
        key: Option<&Key>,
        host: &str,
        versions: &[&'static SupportedProtocolVersion],
    ) -> io::Result<Connection> {
        let provider = Arc::new(ring::default_provider());
        let pinned = Pinned { provider: provider.clone(), key: host.to_owned() };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(pinned));
        let config = match key {
            None => config.with_no_client_auth(),
            Some(key) => {
                let der = PrivatePkcs8KeyDer::from(key.pair.serialize_der());
                let chain = vec![key.certificate.clone()];
                config.with_client_auth_cert(chain, PrivateKeyDer::Pkcs8(der)).unwrap()
            }
        };
        let name = ServerName::try_from("keelhost").unwrap();
        let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        tcp.set_write_timeout(Some(TIMEOUT))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Connection { stream: StreamOwned::new(tls, tcp), held: Vec::new() })
    }

    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    pub fn request(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: keelhost\r\n");
        for header in headers {
            head += &format!("{header}\r\n");
        }
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        self.send(format!("{head}\r\n").as_bytes()).unwrap();
        self.send(body).unwrap();
    }

    pub fn ask(&mut self, method: &str, path: &str, headers: &[&str], body: &[u8]) -> Response {
        self.request(method, path, headers, body);
        self.response().unwrap()
    }

    /// Reads more bytes; 0 at the end.
    fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let len = match self.stream.read(&mut buffer) {
            // Not every connection is closed with a TLS close notification.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            result => result?,
        };
        self.held.extend_from_slice(&buffer[..len]);
        Ok(len)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> io::Result<Vec<u8>> {
        while self.held.len() < len {
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.held.drain(..len).collect())
    }

    /// Everything up to and including the delimiter.
    pub fn take_until(&mut self, delimiter: &[u8]) -> io::Result<Vec<u8>> {
        loop {
            let found = self.held.windows(delimiter.len()).position(|part| part == delimiter);
            if let Some(at) = found {
                return self.take(at + delimiter.len());
            }
            if self.more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads and discards the rest; whether the other side has then closed the connection.
    pub fn ended(&mut self) -> bool {
        loop {
            match self.more() {
                Ok(0) => return true,
                Ok(_) => {}
                // Sent data that was not read turns the end into a reset.
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }

    pub fn head(&mut self) -> io::Result<Response> {
        let head = String::from_utf8(self.take_until(b"\r\n\r\n")?).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        Ok(Response { status, headers, body: Vec::new() })
    }

    pub fn response(&mut self) -> io::Result<Response> {
        let mut response = self.head()?;
        if let Some(length) = response.headers.get("content-length") {
            response.body = self.take(length.parse().unwrap())?;
        } else if response.headers.contains_key("transfer-encoding") {
            while let Some(mut chunk) = self.chunk()? {
                response.body.append(&mut chunk);
            }
        }
        Ok(response)
    }

    /// The next chunk of a body; `None` at its end.
    pub fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let length = String::from_utf8(self.take_until(b"\r\n")?).unwrap();
        let length = usize::from_str_radix(length.trim(), 16).unwrap();
        let mut chunk = self.take(length + 2)?;
        chunk.truncate(length);
        Ok(Some(chunk).filter(|chunk| !chunk.is_empty()))
    }

    /// The next server-sent event as (id, event, data); a comment is an event without a name.
    pub fn event(&mut self) -> io::Result<(String, String, String)> {
        // The lines of the chunks themselves are skipped: no field looks like them.
        let text = String::from_utf8(self.take_until(b"\n\n")?).unwrap();
        let field = |name: &str| {
            let prefix = format!("{name}: ");
            let mut lines = text.lines();
            lines.find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
        };
        Ok((field("id"), field("event"), field("data")))
    }
}

/// Accepts one key and nothing else.
#[derive(Debug)]
struct Pinned {
    provider: Arc<CryptoProvider>,
    key: String,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        assert_eq!(api::tls::key_of(end_entity)?, self.key);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
