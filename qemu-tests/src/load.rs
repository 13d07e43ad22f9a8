//! Many connections to an API at once.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
use std::fmt::Display;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

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

/// Connections that have asked for a stream.
pub struct Connections {
    open: Vec<(ClientConnection, TcpStream)>,
    config: Arc<ClientConfig>,
    address: String,
}

impl Connections {
    /// None yet, to the API at `address`, with the key and certificate in the PEM file `identity`.
    ///
    /// # Errors
    /// The file is not what it should be.
    pub fn new(address: &str, identity: &Path) -> Result<Connections, Error> {
        let certificate = CertificateDer::from_pem_file(identity).map_err(bad)?;
        let key = PrivateKeyDer::from_pem_file(identity).map_err(bad)?;
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(bad)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyHost(provider)))
            .with_client_auth_cert(vec![certificate], key)
            .map_err(bad)?;
        Ok(Connections { open: Vec::new(), config: Arc::new(config), address: address.to_owned() })
    }

    /// Opens one more, which asks for the stream at `path`: one that asked for nothing would be
    /// closed soon.
    ///
    /// # Errors
    /// It is refused.
    pub fn open(&mut self, path: &str) -> Result<(), Error> {
        let name = ServerName::try_from("keelhost").map_err(bad)?;
        let mut connection = ClientConnection::new(Arc::clone(&self.config), name).map_err(bad)?;
        let mut stream = TcpStream::connect(&self.address)?;
        while connection.is_handshaking() || connection.wants_write() {
            connection.complete_io(&mut stream)?;
        }
        let request = format!("GET {path} HTTP/1.1\r\nHost: keelhost\r\n\r\n");
        connection.writer().write_all(request.as_bytes())?;
        while connection.wants_write() {
            connection.write_tls(&mut stream)?;
        }
        self.open.push((connection, stream));
        Ok(())
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
        self.open.iter().filter(|(_, stream)| lives(stream)).count()
    }

    /// Reads whatever comes, on a thread of its own.
    ///
    /// # Errors
    /// fcntl(2)'s.
    pub fn follow(self) -> Result<Followers, Error> {
        for (_, stream) in &self.open {
            stream.set_nonblocking(true)?;
        }
        let heard: Arc<Vec<AtomicU64>> =
            Arc::new(self.open.iter().map(|_| AtomicU64::default()).collect());
        let (counters, stop) = (Arc::clone(&heard), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || read_all(self.open, &counters, &stopped));
        Ok(Followers { heard, stop, thread: Some(thread) })
    }
}

/// Connections that are being read. They end with this.
pub struct Followers {
    heard: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Followers {
    /// Bytes of HTTP that each has heard so far.
    pub fn heard(&self) -> Vec<u64> {
        self.heard.iter().map(|bytes| bytes.load(Ordering::Relaxed)).collect()
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_all(mut open: Vec<(ClientConnection, TcpStream)>, heard: &[AtomicU64], stop: &AtomicBool) {
    let mut plain = vec![0u8; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        for ((connection, stream), heard) in open.iter_mut().zip(heard) {
            // Broken connections stay silent, which whoever waits for them will notice.
            if connection.read_tls(stream).is_ok() && connection.process_new_packets().is_ok() {
                while let Ok(some @ 1..) = connection.reader().read(&mut plain) {
                    heard.fetch_add(some as u64, Ordering::Relaxed);
                }
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn bad(error: impl Display) -> Error {
    Error::new(ErrorKind::InvalidData, error.to_string())
}
