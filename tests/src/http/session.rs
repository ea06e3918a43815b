//! A connection that is kept: raw requests, one whole reply after the other.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::http::Reply;

/// Where a reply is slower than this, something is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

/// How much of a reply is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// The head; the connection is closed then, as whoever follows a stream does at the end.
    Head,
}

/// One client of one server; connects when it has to.
pub struct Session {
    server: SocketAddr,
    tls: Arc<ClientConfig>,
    stream: Option<Stream>,
}

type Stream = BufReader<StreamOwned<ClientConnection, TcpStream>>;

impl Session {
    /// A client that is not connected yet.
    #[must_use]
    pub fn new(server: SocketAddr, tls: Arc<ClientConfig>) -> Self {
        Self {
            server,
            tls,
            stream: None,
        }
    }

    /// Sends one request as it is, and reads the reply.
    ///
    /// # Errors
    /// The server cannot be reached, or breaks off before the reply ends.
    pub fn exchange(&mut self, request: &[u8], wanted: Wanted) -> Result<Reply> {
        if let Some(mut kept) = self.stream.take()
            && let Some(head) = begin(&mut kept, request)?
        {
            return self.finish(kept, head, wanted);
        }
        // Nothing was kept, or the server had closed it before the request came.
        let mut fresh = self.connect()?;
        let head = begin(&mut fresh, request)?.context("the server closed the connection without a reply")?;
        self.finish(fresh, head, wanted)
    }

    fn connect(&self) -> Result<Stream> {
        let socket = TcpStream::connect(self.server).context("connecting")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let connection = ClientConnection::new(self.tls.clone(), ServerName::from(self.server.ip()))?;
        Ok(BufReader::new(StreamOwned::new(connection, socket)))
    }

    fn finish(&mut self, mut stream: Stream, head: Head, wanted: Wanted) -> Result<Reply> {
        if wanted == Wanted::Head {
            return Ok(head.with_body(Vec::new()));
        }
        let body = head.read_body(&mut stream)?;
        if head.keeps_alive() {
            self.stream = Some(stream);
        }
        Ok(head.with_body(body))
    }
}

/// Sends, and reads the head of the reply; none when the connection was at its end.
fn begin(stream: &mut Stream, request: &[u8]) -> Result<Option<Head>> {
    let sent = stream
        .get_mut()
        .write_all(request)
        .and_then(|()| stream.get_mut().flush());
    // A server may refuse, and close, while it is still being written to: what it said counts.
    match Head::read(stream) {
        Ok(head) => Ok(head),
        Err(error) if sent.is_err() || is_gone(&error) => Ok(None),
        Err(error) => Err(error).context("reading the head of a reply"),
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionAborted
    )
}

struct Head {
    status: u16,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(stream: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(first) = line(stream)? else {
            return Ok(None);
        };
        let bad = || io::Error::new(ErrorKind::InvalidData, format!("no status line: {first:?}"));
        let status = first.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(bad)?;
        let mut headers = Vec::new();
        while let Some(text) = line(stream)?.filter(|text| !text.is_empty()) {
            if let Some((name, value)) = text.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        Ok(Some(Self { status, headers }))
    }

    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn keeps_alive(&self) -> bool {
        let framed = self.is_chunked() || self.header("content-length").is_some() || self.is_empty();
        framed
            && !self
                .header("connection")
                .is_some_and(|value| value.contains("close"))
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding") == Some("chunked")
    }

    fn is_empty(&self) -> bool {
        matches!(self.status, 204 | 304)
    }

    fn read_body(&self, stream: &mut impl BufRead) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        if self.is_empty() {
            return Ok(body);
        }
        if self.is_chunked() {
            loop {
                let size = line(stream)?.context("the reply ends in a chunk's head")?;
                let size = u64::from_str_radix(size.trim(), 16).context("reading a chunk's size")?;
                take(stream, size, &mut body)?;
                line(stream)?;
                if size == 0 {
                    return Ok(body);
                }
            }
        }
        match self.header("content-length") {
            Some(length) => take(stream, length.parse()?, &mut body)?,
            None => {
                let read = stream.read_to_end(&mut body);
                read.or_else(|error| if is_gone(&error) { Ok(0) } else { Err(error) })?;
            }
        }
        Ok(body)
    }

    fn with_body(self, body: Vec<u8>) -> Reply {
        Reply {
            status: self.status,
            headers: self.headers,
            body,
        }
    }
}

fn take(stream: &mut impl BufRead, size: u64, body: &mut Vec<u8>) -> Result<()> {
    let taken = stream.take(size).read_to_end(body)?;
    if taken as u64 != size {
        bail!("the reply was cut");
    }
    Ok(())
}

/// One line without its end; none at the end of the stream.
fn line(stream: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if stream.read_until(b'\n', &mut bytes)? == 0 {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&bytes);
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_on_one_connection_end_where_they_say() {
        let mut stream: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
            HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno";
        for (status, body) in [(200, &b"abc"[..]), (404, b"no")] {
            let head = Head::read(&mut stream).unwrap().unwrap();
            assert_eq!(
                (head.status, head.read_body(&mut stream).unwrap().as_slice()),
                (status, body)
            );
            assert!(head.keeps_alive());
        }
        assert!(Head::read(&mut stream).unwrap().is_none());
    }
}
