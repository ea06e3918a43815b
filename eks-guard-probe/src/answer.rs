//! Who answers on a connection: told by the certificate, which TLS 1.2 sends in clear. Guard and API server answer plain HTTP with
//! the same words, so nothing less tells them apart. Only the guard's own authority counts as the guard.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;

use eks_guard_core::catalogue::probe::Plan;

use crate::found::{Attempt, Found};

/// Most that is read: certificates of a long chain fit.
const MOST: usize = 64 * 1024;
const HANDSHAKE: u8 = 22;
const CERTIFICATE: u8 = 11;

/// Who is at the other end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answerer {
    /// A certificate of the guard's authority.
    Guard,
    /// Anybody else: the text says what they sent.
    Other(&'static str),
    /// Closed without a byte.
    Nobody,
    /// Neither a byte nor an end in time.
    Silence,
}

/// Asks on a connected socket and judges the answer.
pub(crate) fn judge(socket: OwnedFd, plan: &Plan) -> Attempt {
    let mut stream = TcpStream::from(socket);
    stream.write_all(&hello())?;
    judge_asked(stream, plan)
}

/// Judges the answer of a socket on which the question has been sent.
pub(crate) fn judge_asked(mut stream: TcpStream, plan: &Plan) -> Attempt {
    let peer = stream.peer_addr().map(|peer| peer.to_string()).ok();
    let mut found = match answerer(&mut stream, &plan.guard)? {
        Answerer::Guard => Found::redirected("the guard answered"),
        Answerer::Other(what) => Found::reached(what),
        Answerer::Nobody => Found::blocked("closed without an answer"),
        Answerer::Silence => Found::not_run("connected, and nobody answered in time"),
    };
    found.evidence.peer = peer;
    Ok(found)
}

/// Reads until it is clear who answers.
pub(crate) fn answerer(stream: &mut TcpStream, guard: &str) -> io::Result<Answerer> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) if bytes.is_empty() => return Ok(Answerer::Nobody),
            Ok(0) => return Ok(Answerer::Other("somebody answered, without a certificate")),
            Ok(count) => bytes.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && bytes.is_empty() => {
                return Ok(Answerer::Silence);
            }
            Err(error) if bytes.is_empty() => return Err(error),
            Err(_) => return Ok(Answerer::Other("somebody answered, without a certificate")),
        }
        if let Some(certificate) = certificate(&bytes) {
            let is_guard = certificate
                .windows(guard.len())
                .any(|part| part == guard.as_bytes());
            return Ok(if is_guard && !guard.is_empty() {
                Answerer::Guard
            } else {
                Answerer::Other("a certificate that is not the guard's")
            });
        }
        if bytes.len() > MOST {
            return Ok(Answerer::Other(
                "somebody answered at length, without a certificate",
            ));
        }
    }
}

/// The first certificate of a server's first flight (RFC 5246, 7.4.2), once it is there as a whole.
fn certificate(mut records: &[u8]) -> Option<&[u8]> {
    // Both servers put the certificate into one record, alone or behind their hello.
    while let Some((&[kind, _, _, high, low], rest)) = records.split_first_chunk() {
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
        if kind == HANDSHAKE
            && let Some(found) = certificate_in(record)
        {
            return Some(found);
        }
        records = rest;
    }
    None
}

fn certificate_in(mut messages: &[u8]) -> Option<&[u8]> {
    while let Some((&[kind, a, b, c], rest)) = messages.split_first_chunk() {
        let (message, rest) = rest.split_at_checked(length([a, b, c]))?;
        if kind == CERTIFICATE {
            let (&[_, _, _, a, b, c], certificates) = message.split_first_chunk()?;
            return certificates.get(..length([a, b, c]));
        }
        messages = rest;
    }
    None
}

fn length([a, b, c]: [u8; 3]) -> usize {
    usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)
}

/// A TLS 1.2 ClientHello (RFC 5246, 7.4.1.2) with what both servers want: ECDHE with AEAD, and no secret of ours.
pub(crate) fn hello() -> Vec<u8> {
    const SUITES: [u16; 6] = [0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8];
    const EXTENSIONS: [u8; 47] = [
        0x00, 0x0a, 0, 8, 0, 6, 0x00, 0x1d, 0x00, 0x17, 0x00, 0x18, // groups
        0x00, 0x0b, 0, 2, 1, 0, // point formats
        0x00, 0x0d, 0, 16, 0, 14, 4, 3, 5, 3, 8, 4, 8, 5, 8, 6, 4, 1, 5, 1, // signatures
        0x00, 0x17, 0, 0, // extended master secret
        0xff, 0x01, 0, 1, 0, // renegotiation: none before
    ];
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.extend([0, 0, 12]);
    body.extend(SUITES.iter().flat_map(|suite| suite.to_be_bytes()));
    body.extend([1, 0, 0, 47]);
    body.extend(EXTENSIONS);
    let mut message = vec![1, 0, 0];
    message.push(u8::try_from(body.len()).unwrap_or_default());
    message.extend(body);
    let mut record = vec![HANDSHAKE, 3, 1, 0];
    record.push(u8::try_from(message.len()).unwrap_or_default());
    record.extend(message);
    record
}

#[cfg(test)]
mod tests {
    use crate::answer::{certificate, hello};

    #[test]
    fn the_certificate_is_found_once_it_is_whole() {
        // A hello of two bytes, then a certificate message with one certificate of three.
        let flight = [2, 0, 0, 2, 9, 9, 11, 0, 0, 9, 0, 0, 6, 0, 0, 3, 7, 8, 9];
        let mut bytes = vec![22, 3, 3, 0, 19];
        bytes.extend(flight);
        assert_eq!(certificate(&bytes), Some(&[7, 8, 9][..]));
        for cut in 0..bytes.len() {
            assert_eq!(certificate(&bytes[..cut]), None, "{cut}");
        }
        assert_eq!(certificate(&[21, 3, 3, 0, 2, 2, 40]), None, "an alert");
    }

    #[test]
    fn the_lengths_of_the_hello_agree() {
        let hello = hello();
        assert_eq!(usize::from(hello[4]) + 5, hello.len());
        assert_eq!(usize::from(hello[8]) + 9, hello.len());
    }
}
