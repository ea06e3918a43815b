//! A small HTTP/1.1 client over TLS, one connection a request: enough to ask an API server, and to send it bytes as they are.

pub mod session;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Once};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use crate::netns::Netns;
use crate::pki::Identity;

/// Talks to one server as one identity.
#[derive(Clone)]
pub struct Client {
    server: SocketAddr,
    tls: Arc<ClientConfig>,
    bearer: Option<String>,
    netns: Option<Arc<Netns>>,
}

/// A request whose end is never sent.
pub struct Unfinished {
    _stream: StreamOwned<ClientConnection, TcpStream>,
}

/// A whole reply.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Body, without its transfer coding.
    pub body: Vec<u8>,
}

impl Client {
    /// A client that trusts `ca` and shows `identity` when there is one.
    pub fn new(server: SocketAddr, ca: &str, identity: Option<&Identity>) -> Result<Self> {
        install_crypto();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).context("reading the CA")?)?;
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes())?];
                config
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?)?
            }
        };
        Ok(Self {
            server,
            tls: Arc::new(config),
            bearer: None,
            netns: None,
        })
    }

    /// The same client with a bearer token.
    #[must_use]
    pub fn with_bearer(mut self, token: &str) -> Self {
        self.bearer = Some(token.to_owned());
        self
    }

    /// The same client with its connections from inside a network namespace; none: from where this thread is.
    #[must_use]
    pub fn from_netns(mut self, netns: Option<Arc<Netns>>) -> Self {
        self.netns = netns;
        self
    }

    /// How it speaks TLS: for connections that are kept.
    #[must_use]
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.tls.clone()
    }

    /// One request, sent as given, and its whole reply.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Reply> {
        let mut stream = self.connect()?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.server
        );
        if let Some(token) = &self.bearer {
            head.push_str(&format!("Authorization: Bearer {token}\r\n"));
        }
        if !body.is_empty() {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        stream.flush()?;
        let mut received = Vec::new();
        // Go closes the TCP connection without a TLS goodbye; the framing tells a cut reply from a whole one.
        let goodbye_missing = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
        stream.read_to_end(&mut received).or_else(|error| {
            if goodbye_missing(&error) {
                Ok(0)
            } else {
                Err(error)
            }
        })?;
        Reply::parse(&received)
    }

    /// Sends the beginning of a request and leaves it at that, until what is returned is dropped.
    pub fn begin(&self, beginning: &str) -> Result<Unfinished> {
        let mut stream = self.connect()?;
        stream.write_all(beginning.as_bytes())?;
        stream.flush()?;
        Ok(Unfinished { _stream: stream })
    }

    /// GET that must succeed, as JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, &[("Accept", "application/json")], b"")?
            .json()
            .with_context(|| format!("GET {path}"))
    }

    /// POST that must succeed.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.send("POST", path, "application/json", object)
    }

    /// PATCH (merge) that must succeed.
    pub fn merge(&self, path: &str, patch: &Value) -> Result<Value> {
        self.send("PATCH", path, "application/merge-patch+json", patch)
    }

    fn send(&self, method: &str, path: &str, content_type: &str, object: &Value) -> Result<Value> {
        let headers = [("Content-Type", content_type), ("Accept", "application/json")];
        let reply = self.request(method, path, &headers, object.to_string().as_bytes())?;
        reply.json().with_context(|| format!("{method} {path}"))
    }

    fn connect(&self) -> Result<StreamOwned<ClientConnection, TcpStream>> {
        let patience = Duration::from_secs(5);
        let socket = match &self.netns {
            Some(netns) => netns.connect(self.server, patience)?,
            None => TcpStream::connect_timeout(&self.server, patience)?,
        };
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(60)))?;
        let name = ServerName::from(self.server.ip());
        Ok(StreamOwned::new(
            ClientConnection::new(self.tls.clone(), name)?,
            socket,
        ))
    }
}

impl Reply {
    /// First value of a header; the name in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The body of a success as JSON.
    pub fn json(&self) -> Result<Value> {
        if !(200..300).contains(&self.status) {
            bail!("HTTP {}: {}", self.status, String::from_utf8_lossy(&self.body));
        }
        serde_json::from_slice(&self.body).context("reading the reply")
    }

    fn parse(received: &[u8]) -> Result<Self> {
        let end = received
            .windows(4)
            .position(|four| four == b"\r\n\r\n")
            .context("the connection ended in the head")?;
        let head = std::str::from_utf8(&received[..end]).context("the head is not text")?;
        let mut lines = head.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let status = status_line
            .split(' ')
            .nth(1)
            .context("no status")?
            .parse()
            .context("reading the status")?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Self {
            status,
            headers,
            body: Vec::new(),
        };
        reply.body = reply.decode(&received[end + 4..])?;
        Ok(reply)
    }

    fn decode(&self, raw: &[u8]) -> Result<Vec<u8>> {
        if self.header("transfer-encoding") == Some("chunked") {
            return unchunk(raw);
        }
        match self.header("content-length") {
            Some(length) if raw.len() < length.parse()? => bail!("the body was cut"),
            Some(_) | None => Ok(raw.to_vec()),
        }
    }
}

fn unchunk(mut raw: &[u8]) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = raw
            .windows(2)
            .position(|two| two == b"\r\n")
            .context("the body was cut in a chunk's head")?;
        let size =
            usize::from_str_radix(std::str::from_utf8(&raw[..end])?, 16).context("reading a chunk's size")?;
        let chunk = raw
            .get(end + 2..end + 2 + size)
            .context("the body was cut in a chunk")?;
        if size == 0 {
            return Ok(body);
        }
        body.extend_from_slice(chunk);
        raw = raw
            .get(end + 4 + size..)
            .context("the body was cut after a chunk")?;
    }
}

/// rustls wants one process-wide crypto provider; the second call finds it installed.
pub(crate) fn install_crypto() {
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        rustls::crypto::aws_lc_rs::default_provider()
            .install_default()
            .ok();
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_chunked_reply() {
        let reply = Reply::parse(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
        );
        assert_eq!(reply.unwrap().body, b"abcd");
    }

    #[test]
    fn tells_a_cut_reply_from_a_whole_one() {
        assert!(Reply::parse(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab").is_err());
        assert!(Reply::parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab").is_err());
    }
}
