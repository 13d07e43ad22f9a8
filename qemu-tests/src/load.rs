//! Many connections to an API at once.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

/// Believes every host: these connections only stay.
#[derive(Debug)]
struct AnyHost(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyHost {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Connections that have asked for the events, and never read any.
pub struct Connections(Vec<(ClientConnection, TcpStream)>);

impl Connections {
    /// Opens `count` of them, one after the other, with the key and certificate in the PEM file
    /// `identity`.
    ///
    /// # Errors
    /// The first that is refused.
    pub fn open(address: &str, identity: &Path, count: usize) -> Result<Connections, Error> {
        let bad =
            |error: &dyn std::fmt::Display| Error::new(ErrorKind::InvalidData, error.to_string());
        let certificate = CertificateDer::from_pem_file(identity).map_err(|error| bad(&error))?;
        let key = PrivateKeyDer::from_pem_file(identity).map_err(|error| bad(&error))?;
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| bad(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyHost(provider)))
            .with_client_auth_cert(vec![certificate], key)
            .map_err(|error| bad(&error))?;
        let config = Arc::new(config);
        let mut open = Vec::new();
        for _ in 0..count {
            let name = ServerName::try_from("keelhost").map_err(|error| bad(&error))?;
            let mut connection =
                ClientConnection::new(Arc::clone(&config), name).map_err(|error| bad(&error))?;
            let mut stream = TcpStream::connect(address)?;
            while connection.is_handshaking() || connection.wants_write() {
                connection.complete_io(&mut stream)?;
            }
            // A stream of events that nobody reads: one that said nothing would be closed soon.
            connection.writer().write_all(b"GET /v1/events HTTP/1.1\r\nHost: keelhost\r\n\r\n")?;
            while connection.wants_write() {
                connection.write_tls(&mut stream)?;
            }
            open.push((connection, stream));
        }
        Ok(Connections(open))
    }

    /// How many the host has not closed.
    pub fn alive(&self) -> usize {
        let lives = |stream: &TcpStream| {
            let mut unread = vec![0u8; 256 * 1024];
            let _ = stream.set_nonblocking(true);
            let mut stream = stream;
            loop {
                match stream.read(&mut unread) {
                    Ok(0) => return false,
                    Ok(_) => {}
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
        };
        self.0.iter().filter(|(_, stream)| lives(stream)).count()
    }
}
