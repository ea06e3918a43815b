//! Within the boundary: does what it is ordered to, and says what came of it.

use std::collections::HashMap;
use std::io;
use std::io::{BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long anything may take before it counts as never.
const PATIENCE: Duration = Duration::from_secs(20);
/// Chunks that wait to be asked for; a client that does not ask stops reading.
const CHUNKS: usize = 64;

/// What the client is to do.
#[derive(Debug, Serialize, Deserialize)]
pub enum Order {
    /// Open connection `id`, with TLS when there are protocols to offer.
    Dial {
        /// Name of the connection from now on.
        id: u64,
        /// Where to.
        to: SocketAddr,
        /// ALPN; none: no TLS.
        alpn: Option<Vec<String>>,
    },
    /// Send these bytes (base64).
    Send {
        /// On which connection.
        id: u64,
        /// What.
        bytes: String,
    },
    /// Close the sending side only.
    HalfClose {
        /// Of which connection.
        id: u64,
    },
    /// Wait for something to come in.
    Receive {
        /// On which connection.
        id: u64,
    },
    /// Close it.
    Drop {
        /// Which connection.
        id: u64,
    },
    /// Close everything and end.
    Quit,
}

/// What came of an order.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is done.
    Done,
    /// It did not work, and why.
    Failed(String),
    /// Something came in.
    Received {
        /// Bytes (base64).
        bytes: String,
        /// Whether that was the last.
        end: Option<End>,
    },
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The peer said goodbye.
    Closed,
    /// It broke off.
    Cut(String),
}

/// Obeys the orders on standard input until it ends.
///
/// # Errors
/// Standard input or output break, or hold what is no order.
pub fn run() -> Result<()> {
    // One more thread than this one: what comes in is read while no order is under way.
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let mut wires = HashMap::new();
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let order = serde_json::from_str(&line?).context("reading an order")?;
        let is_last = matches!(order, Order::Quit);
        let outcome = runtime.block_on(obey(&mut wires, order))?;
        serde_json::to_writer(&mut output, &outcome)?;
        output.write_all(b"\n")?;
        output.flush()?;
        if is_last {
            break;
        }
    }
    Ok(())
}

async fn obey(wires: &mut HashMap<u64, Wire>, order: Order) -> Result<Outcome> {
    let failed = |error: io::Error| Outcome::Failed(error.to_string());
    let never = || io::Error::from(io::ErrorKind::TimedOut);
    Ok(match order {
        Order::Dial { id, to, alpn } => match timeout(PATIENCE, dial(to, alpn))
            .await
            .unwrap_or_else(|_| Err(never()))
        {
            Ok(wire) => {
                wires.insert(id, wire);
                Outcome::Done
            }
            Err(error) => failed(error),
        },
        Order::Send { id, bytes } => {
            let bytes = STANDARD.decode(bytes)?;
            let writer = &mut wires.get_mut(&id).context("no such connection")?.writer;
            let sending = async {
                writer.write_all(&bytes).await?;
                writer.flush().await
            };
            match timeout(PATIENCE, sending).await.unwrap_or_else(|_| Err(never())) {
                Ok(()) => Outcome::Done,
                Err(error) => failed(error),
            }
        }
        Order::HalfClose { id } => {
            let writer = &mut wires.get_mut(&id).context("no such connection")?.writer;
            writer.shutdown().await.map_or_else(failed, |()| Outcome::Done)
        }
        Order::Receive { id } => wires.get_mut(&id).context("no such connection")?.receive().await,
        Order::Drop { id } => {
            wires.remove(&id);
            Outcome::Done
        }
        Order::Quit => Outcome::Done,
    })
}

struct Wire {
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    chunks: mpsc::Receiver<io::Result<Vec<u8>>>,
    _reader: JoinSet<()>,
}

impl Wire {
    fn on(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let (chunk_tx, chunks) = mpsc::channel(CHUNKS);
        let mut task = JoinSet::new();
        task.spawn(read_all(reader, chunk_tx));
        Self {
            writer: Box::new(writer),
            chunks,
            _reader: task,
        }
    }

    async fn receive(&mut self) -> Outcome {
        let Ok(first) = timeout(PATIENCE, self.chunks.recv()).await else {
            return Outcome::Failed(format!("nothing came in {} s", PATIENCE.as_secs()));
        };
        let (mut bytes, mut next) = (Vec::new(), first);
        let end = loop {
            match next {
                Some(Ok(chunk)) => bytes.extend(chunk),
                Some(Err(error)) => break Some(End::Cut(error.to_string())),
                None => break Some(End::Closed),
            }
            match self.chunks.try_recv() {
                Ok(chunk) => next = Some(chunk),
                Err(mpsc::error::TryRecvError::Empty) => break None,
                Err(mpsc::error::TryRecvError::Disconnected) => next = None,
            }
        };
        Outcome::Received {
            bytes: STANDARD.encode(bytes),
            end,
        }
    }
}

async fn read_all(mut reader: impl AsyncRead + Unpin, chunk_tx: mpsc::Sender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let chunk = match reader.read(&mut buffer).await {
            Ok(0) => return,
            Ok(length) => Ok(buffer[..length].to_vec()),
            Err(error) => Err(error),
        };
        let is_last = chunk.is_err();
        if chunk_tx.send(chunk).await.is_err() || is_last {
            return;
        }
    }
}

async fn dial(to: SocketAddr, alpn: Option<Vec<String>>) -> io::Result<Wire> {
    let stream = TcpStream::connect(to).await?;
    stream.set_nodelay(true)?;
    let Some(alpn) = alpn else {
        return Ok(Wire::on(stream));
    };
    let mut config = unverified_tls().map_err(io::Error::other)?;
    config.alpn_protocols = alpn.into_iter().map(String::into_bytes).collect();
    let connector = TlsConnector::from(Arc::new(config));
    Ok(Wire::on(
        connector.connect(ServerName::from(to.ip()), stream).await?,
    ))
}

/// TLS without a look at the certificate.
pub(crate) fn unverified_tls() -> Result<ClientConfig, rustls::Error> {
    Ok(ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth())
}

/// Takes everybody for the API server: these connections carry nothing worth protecting.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
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
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
