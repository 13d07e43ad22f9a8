//! TLS 1.3 with pinned keys.
//!
//! This is the only verifier of host certificates outside of api/tests, which has a client of
//! its own on purpose: it must not share bugs with this one.

use crate::address::Address;
use crate::error::Error;
use crate::fingerprint::Fingerprint;
use crate::identity::Identity;
use nix::sys::socket::{setsockopt, sockopt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    PeerIncompatible, SignatureScheme, StreamOwned,
};
use std::fmt::Display;
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// A TLS connection.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// Timeout of connect(2) for one address of a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of reads and writes, unless a request sets another one.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Compares the host's key with the pinned one and ignores the rest of the certificate: hosts sign their
/// own certificates, without names, and their clock may never have been set.
#[derive(Debug)]
struct HostKeyVerifier {
    /// `None` accepts any key.
    pinned: Option<Fingerprint>,
    seen: OnceLock<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for HostKeyVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Fingerprint::of(certificate)?;
        // There is one certificate in a handshake, so it is not set yet.
        let _ = self.seen.set(shown);
        match self.pinned {
            Some(pinned) if pinned != shown => {
                Err(CertificateError::ApplicationVerificationFailure.into())
            }
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Why no connection was made.
#[derive(Debug)]
pub enum NoConnection {
    /// The host has this key, not the pinned one.
    OtherKey(Fingerprint),
    /// Any other error.
    Other(Error),
}

/// Connects and verifies that the host holds the private key of its certificate and, if `pinned` is given,
/// that this is the pinned one. Returns the connection and the host's key. Without an `identity` a host
/// closes the connection after the handshake.
///
/// # Errors
/// The host has another key, cannot be reached, or rejects ours; or our key cannot be used.
pub fn connect(
    address: &Address,
    pinned: Option<Fingerprint>,
    identity: Option<&Identity>,
) -> Result<(Tls, Fingerprint), NoConnection> {
    let unreachable = |why: &dyn Display| NoConnection::Other(Error::unreachable(address, why));
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(HostKeyVerifier {
        pinned,
        seen: OnceLock::new(),
        provider: Arc::clone(&provider),
    });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unreachable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .map_err(|error| {
                NoConnection::Other(Error::usage(format!("our key cannot be used: {error}")))
            })?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Hosts do not use it, and the name may not be valid in TLS.
    config.enable_sni = false;
    let name = ServerName::try_from(address.name.clone())
        .or_else(|_| ServerName::try_from("keelhost"))
        .map_err(|error| unreachable(&error))?;
    let mut conn =
        ClientConnection::new(Arc::new(config), name).map_err(|error| unreachable(&error))?;
    let mut sock = dial(address).map_err(|error| unreachable(&describe(&error)))?;
    while conn.is_handshaking() {
        if let Err(error) = conn.complete_io(&mut sock) {
            return Err(match verifier.seen.get() {
                Some(&seen) if pinned.is_some_and(|pinned| pinned != seen) => {
                    NoConnection::OtherKey(seen)
                }
                _ => NoConnection::Other(connection_error(address, &error)),
            });
        }
    }
    match verifier.seen.get() {
        Some(&seen) => Ok((StreamOwned::new(conn, sock), seen)),
        None => Err(unreachable(&"the host has sent no certificate")),
    }
}

/// Connects to a host with any key. Returns the connection and the key.
///
/// # Errors
/// The host cannot be reached or rejects our key, or our key cannot be used.
pub fn connect_unpinned(
    address: &Address,
    identity: Option<&Identity>,
) -> Result<(Tls, Fingerprint), Error> {
    connect(address, None, identity).map_err(|error| match error {
        NoConnection::Other(error) => error,
        // Cannot happen without a pinned key.
        NoConnection::OtherKey(key) => Error::host_key(format!("unexpected host key {key}")),
    })
}

/// A TCP connection to the first address of the name that accepts one.
fn dial(address: &Address) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for at in (address.name.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, CONNECT_TIMEOUT) {
            Ok(sock) => {
                sock.set_nodelay(true)?;
                sock.set_read_timeout(Some(TIMEOUT))?;
                sock.set_write_timeout(Some(TIMEOUT))?;
                keep_alive(&sock)?;
                return Ok(sock);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A shell in a container may be idle for hours; a host that has disappeared must still be noticed.
fn keep_alive(sock: &TcpStream) -> io::Result<()> {
    setsockopt(sock, sockopt::KeepAlive, &true)?;
    setsockopt(sock, sockopt::TcpKeepIdle, &20)?;
    setsockopt(sock, sockopt::TcpKeepInterval, &10)?;
    setsockopt(sock, sockopt::TcpKeepCount, &3)?;
    Ok(())
}

/// The error for a connection that failed. With TLS 1.3 a host rejects our key after our side of the
/// handshake, so that the alert comes with the first read.
pub fn connection_error(address: &Address, error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::AlertReceived(
            AlertDescription::AccessDenied
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateRequired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked,
        )) => Error::refused(format!("{address} rejects our key")),
        Some(error) => {
            Error::unreachable(address, &format!("{error} (is this port the API of a Keelhost?)"))
        }
        None => Error::unreachable(address, &describe(error)),
    }
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timed out".to_owned(),
        io::ErrorKind::UnexpectedEof => "connection closed by the host".to_owned(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        _ => error.to_string(),
    }
}
