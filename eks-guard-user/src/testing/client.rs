//! An agent: TLS to the listener with the run's CA, then HTTP/2, HTTP/1.1 or raw bytes.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::TaskTracker;

use crate::tls::provider;

/// The HTTP versions that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1
    H1,
    /// HTTP/2
    H2,
}

impl Protocol {
    /// Its ALPN name.
    #[must_use]
    pub fn alpn(self) -> &'static [u8] {
        match self {
            Self::H1 => b"http/1.1",
            Self::H2 => b"h2",
        }
    }
}

/// One connection of an agent.
pub struct Client {
    sender: Sender,
    _tasks: TaskTracker,
}

enum Sender {
    H1(http1::SendRequest<Full<Bytes>>),
    H2(http2::SendRequest<Full<Bytes>>),
}

impl Client {
    /// A TLS stream to the listener.
    ///
    /// # Errors
    /// The listener closed, or refused the handshake.
    pub async fn tls(port: u16, ca_pem: &str, alpn: &[u8]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(ca_pem.as_bytes()).map_err(std::io::Error::other)?;
        roots.add(root).map_err(std::io::Error::other)?;
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.to_vec()];
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("kubernetes.default.svc").map_err(std::io::Error::other)?;
        TlsConnector::from(Arc::new(config)).connect(name, tcp).await
    }

    /// A connection that speaks HTTP.
    ///
    /// # Panics
    /// The listener does not answer.
    pub async fn connect(port: u16, ca_pem: &str, protocol: Protocol) -> Self {
        let stream = Self::tls(port, ca_pem, protocol.alpn())
            .await
            .expect("the listener takes the handshake");
        let (io, tasks) = (TokioIo::new(stream), TaskTracker::new());
        let sender = match protocol {
            Protocol::H1 => {
                let (sender, connection) = http1::handshake(io).await.expect("HTTP/1.1 starts");
                tasks.spawn(connection);
                Sender::H1(sender)
            }
            Protocol::H2 => {
                let started = http2::handshake(TokioExecutor::new(), io).await;
                let (sender, connection) = started.expect("HTTP/2 starts");
                tasks.spawn(connection);
                Sender::H2(sender)
            }
        };
        Self {
            sender,
            _tasks: tasks,
        }
    }

    /// Sends a request and returns the response as it begins. `Host` or `:authority` is added where it is missing.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send(&mut self, mut request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match &mut self.sender {
            Sender::H1(sender) => {
                if !request.headers().contains_key("host") {
                    request
                        .headers_mut()
                        .insert("host", http::HeaderValue::from_static("kubernetes.default.svc"));
                }
                sender.ready().await?;
                sender.send_request(request).await
            }
            Sender::H2(sender) => {
                if request.uri().authority().is_none() {
                    let target = format!("https://kubernetes.default.svc{}", request.uri());
                    *request.uri_mut() = target.parse().expect("the test's path is a path");
                }
                sender.send_request(request).await
            }
        }
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Panics
    /// The connection broke.
    pub async fn call(&mut self, request: Request<Full<Bytes>>) -> Response<Bytes> {
        let (head, body) = self.send(request).await.expect("the guard answers").into_parts();
        let body = body.collect().await.expect("the response is whole").to_bytes();
        Response::from_parts(head, body)
    }
}
