//! A TLS client on a non-blocking socket, cheap where it can be: it checks no certificate, and never resumes a session.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

use crate::poll::would_block;

/// Accepts any certificate: the benchmark measures the server.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
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
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// TLS 1.3 alone, ALPN `http/1.1`, full handshakes.
pub(crate) fn config() -> io::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone)).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// A TLS connection. With one outstanding message, the socket's buffer never fills.
pub(crate) struct Tls {
    pub(crate) stream: TcpStream,
    session: ClientConnection,
}

impl Tls {
    /// Over a socket that may still be connecting.
    pub(crate) fn new(stream: TcpStream, config: &Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        Ok(Self { stream, session })
    }

    /// Connected and shaken hands; blocking still.
    pub(crate) fn open(target: SocketAddr, config: &Arc<ClientConfig>, host: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        let mut tls = Self::new(stream, config, host)?;
        tls.session.complete_io(&mut tls.stream)?;
        Ok(tls)
    }

    /// Sends pending handshake data.
    pub(crate) fn push(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(&mut self.stream)?;
        }
        Ok(())
    }

    /// Reads input; whether the handshake is complete on both sides. In TLS 1.3 the server's tickets say that the
    /// client's last message has reached it.
    pub(crate) fn shake(&mut self) -> io::Result<bool> {
        loop {
            let before = self.session.is_handshaking();
            match would_block(self.session.read_tls(&mut self.stream))? {
                None => return Ok(false),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => {}
            }
            self.session.process_new_packets().map_err(io::Error::other)?;
            self.push()?;
            if !before {
                return Ok(true);
            }
        }
    }

    /// Sends a message.
    pub(crate) fn send(&mut self, message: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(message)?;
        self.push()
    }

    /// Plain bytes that have come; `None` when there are none yet.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match would_block(self.session.reader().read(buffer))? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(n) => return Ok(Some(n)),
                None => {}
            }
            match would_block(self.session.read_tls(&mut self.stream))? {
                None => return Ok(None),
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(_) => {}
            }
            self.session.process_new_packets().map_err(io::Error::other)?;
        }
    }
}
