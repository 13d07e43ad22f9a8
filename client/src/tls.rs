//! TLS 1.3 with a host whose key is pinned.

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
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// An encrypted connection.
pub type Tls = StreamOwned<ClientConnection, TcpStream>;

/// How long one address of a host may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// How long a host may take to say the next thing, unless the request says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Looks at the host's key and at nothing else in its certificate. Certificates of hosts are signed by
/// nobody, name nobody, and are dated by a clock that may never have been set.
#[derive(Debug)]
struct HostKey {
    /// `None`: any key will do, we want to know which.
    pinned: Option<Fingerprint>,
    seen: OnceLock<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for HostKey {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Fingerprint::of(certificate)?;
        // One handshake, one certificate: nobody has set it before.
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

/// Why there is no connection.
#[derive(Debug)]
pub enum NoConnection {
    /// The host shows this key, not the pinned one.
    OtherKey(Fingerprint),
    /// Everything else.
    Other(Error),
}

/// Connects, checks that the host holds the private half of the key it shows, and that it is the pinned
/// one, if one is. Gives the connection and the host's key.
pub fn connect(
    address: &Address,
    pinned: Option<Fingerprint>,
    identity: Option<&Identity>,
) -> Result<(Tls, Fingerprint), NoConnection> {
    let unreachable =
        |why: String| NoConnection::Other(Error::Unreachable { at: address.to_string(), why });
    let provider = Arc::new(ring::default_provider());
    let verifier =
        Arc::new(HostKey { pinned, seen: OnceLock::new(), provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unreachable(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<dyn ServerCertVerifier>);
    let mut config = match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.key.clone_key())
            .map_err(|error| {
                NoConnection::Other(Error::Usage(format!("our key cannot be used: {error}")))
            })?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Of no use to the host, and perhaps no name that TLS allows.
    config.enable_sni = false;
    let name = ServerName::try_from(address.name.clone())
        .or_else(|_| ServerName::try_from("keelhost"))
        .map_err(|error| unreachable(error.to_string()))?;
    let mut conn = ClientConnection::new(Arc::new(config), name)
        .map_err(|error| unreachable(error.to_string()))?;
    let mut sock = dial(address).map_err(|error| unreachable(plain(&error)))?;
    while conn.is_handshaking() {
        if let Err(error) = conn.complete_io(&mut sock) {
            return Err(match verifier.seen.get() {
                Some(&seen) if pinned.is_some_and(|pinned| pinned != seen) => {
                    NoConnection::OtherKey(seen)
                }
                _ => NoConnection::Other(broken(address, &error)),
            });
        }
    }
    match verifier.seen.get() {
        Some(&seen) => Ok((StreamOwned::new(conn, sock), seen)),
        None => Err(unreachable("the host has shown no key".to_owned())),
    }
}

/// A TCP connection to the first address of the name that accepts one.
fn dial(address: &Address) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for at in (address.name.as_str(), address.port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&at, CONNECT) {
            Ok(sock) => {
                sock.set_nodelay(true)?;
                sock.set_read_timeout(Some(PATIENCE))?;
                sock.set_write_timeout(Some(PATIENCE))?;
                keep_alive(&sock)?;
                return Ok(sock);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A shell in a container may say nothing for hours; a host that has vanished must not look the same.
fn keep_alive(sock: &TcpStream) -> io::Result<()> {
    setsockopt(sock, sockopt::KeepAlive, &true)?;
    setsockopt(sock, sockopt::TcpKeepIdle, &20)?;
    setsockopt(sock, sockopt::TcpKeepInterval, &10)?;
    setsockopt(sock, sockopt::TcpKeepCount, &3)?;
    Ok(())
}

/// What an error of a connection means. With TLS 1.3 a host's refusal of our key comes after the
/// handshake, with the first bytes that we read.
pub fn broken(address: &Address, error: &io::Error) -> Error {
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
        )) => Error::Refused {
            message: format!("{address} does not know this key"),
            details: Vec::new(),
        },
        Some(error) => Error::Unreachable {
            at: address.to_string(),
            why: format!("{error} (is it a Keelhost that listens there?)"),
        },
        None => Error::Unreachable { at: address.to_string(), why: plain(error) },
    }
}

fn plain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "no answer in time".to_owned(),
        io::ErrorKind::UnexpectedEof => "it has closed the connection".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody listens there (connection refused)".to_owned(),
        _ => error.to_string(),
    }
}
