//! A certificate authority of one test, its certificates in files, and clients that trust it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion};
use tungstenite::WebSocket;
use tungstenite::protocol::WebSocketConfig;

use super::{Server, command, connect};

pub type TlsStream = StreamOwned<ClientConnection, TcpStream>;

/// Certificates in a folder that is removed on drop.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: PathBuf,
}

impl Authority {
    pub fn new(test: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut about = CertificateParams::new(Vec::new()).expect("no names");
        about.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        about.distinguished_name.push(rcgen::DnType::CommonName, "the authority of the tests");
        let pem = about.self_signed(&key).expect("a certificate").pem();
        let folder = std::env::temp_dir().join(format!("corecast-{}-{test}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        Self { issuer: Issuer::new(about, key), pem, folder }
    }

    /// A file of this text in the folder.
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, text).expect("the folder takes files");
        path.to_str().expect("a path of text").to_owned()
    }

    /// Certificate and key for these names.
    pub fn pair(&self, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        (self.signed(names, &key), key.serialize_pem())
    }

    /// A certificate for a key.
    pub fn signed(&self, names: &[&str], key: &KeyPair) -> String {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let about = CertificateParams::new(names).expect("names");
        about.signed_by(key, &self.issuer).expect("a certificate").pem()
    }

    /// A file with both.
    pub fn bundle(&self, file: &str, names: &[&str]) -> String {
        let (certificate, key) = self.pair(names);
        self.file(file, &format!("{certificate}{key}"))
    }

    /// The authority's own certificate, in a file.
    pub fn own(&self) -> String {
        self.file("authority.pem", &self.pem)
    }

    /// A client that trusts this authority.
    pub fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.begin(versions).with_no_client_auth()
    }

    /// The same with a certificate of its own.
    pub fn client_with(&self, (certificate, key): &(String, String)) -> ClientConfig {
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        self.begin(rustls::ALL_VERSIONS).with_client_auth_cert(chain, key).expect("they fit")
    }

    fn begin(
        &self,
        versions: &[&'static SupportedProtocolVersion],
    ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("a certificate")).expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        builder.expect("versions").with_root_certificates(roots)
    }

    /// A server on two shards whose first listener speaks TLS as "localhost".
    pub fn serve(&self, settings: &[(&str, &str)]) -> Server {
        let bundle = self.bundle("server.pem", &["localhost"]);
        let settings: Vec<_> =
            [("tls.cert_pem_file", bundle.as_str())].into_iter().chain(settings.iter().copied()).collect();
        serve(&settings)
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A server on two shards whose first listener speaks TLS.
pub fn serve(settings: &[(&str, &str)]) -> Server {
    let listen = ["--listen", "tls:127.0.0.1:0,127.0.0.1:0", "--admin", "127.0.0.1:0", "--shards", "2"];
    let mut command = command(&listen);
    command.env("CORECAST_OVERSUBSCRIBE", "true");
    Server::spawn(command, settings)
}

/// Completes the handshake; the error says why it failed.
pub fn handshake(at: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Result<TlsStream, std::io::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name).expect("a session");
    let mut stream = StreamOwned::new(session, connect(at));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// An open WebSocket over TLS.
pub fn wss(server: &Server, config: &Arc<ClientConfig>, path: &str) -> WebSocket<TlsStream> {
    let stream = handshake(server.client, config, "localhost").expect("a handshake");
    upgrade(stream, path)
}

pub fn upgrade<S: Read + Write>(stream: S, path: &str) -> WebSocket<S> {
    let limits = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let url = format!("wss://localhost{path}");
    let (ws, _) = tungstenite::client::client_with_config(url, stream, Some(limits)).expect("an upgrade");
    ws
}

/// Connects, and reads the bytes after the handshake, which contain the session tickets.
pub fn kind(server: &Server, config: &Arc<ClientConfig>) -> HandshakeKind {
    let mut ws = wss(server, config, "/echo");
    ws.send(tungstenite::Message::text("x")).expect("the write succeeds");
    ws.read().expect("an echo");
    ws.get_ref().conn.handshake_kind().expect("the handshake is complete")
}
