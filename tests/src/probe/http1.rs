//! HTTP/1.1 as text: requests are written by hand, answers are read strictly.

use std::net::SocketAddr;

use crate::http::Reply;

/// A request with a Host and, when it has a body, a length.
#[must_use]
pub fn request(server: SocketAddr, line: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut text = format!("{line} HTTP/1.1\r\nHost: {server}\r\n");
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let mut bytes = text.into_bytes();
    bytes.extend(body);
    bytes
}

/// The first whole answer in `received`, and the bytes behind it. An answer to HEAD has no body.
#[must_use]
pub fn take_reply(received: &[u8], to_head: Head) -> Option<(Reply, &[u8])> {
    let end = received.windows(4).position(|four| four == b"\r\n\r\n")?;
    let text = String::from_utf8_lossy(&received[..end]);
    let mut lines = text.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()?;
    let headers = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply {
        status,
        headers,
        body: Vec::new(),
    };
    let rest = &received[end + 4..];
    if to_head == Head::Yes || status < 200 {
        return Some((reply, rest));
    }
    if reply.header("transfer-encoding") == Some("chunked") {
        let (body, rest) = unchunk(rest)?;
        reply.body = body;
        return Some((reply, rest));
    }
    let length: usize = reply
        .header("content-length")
        .map_or(Some(0), |length| length.parse().ok())?;
    reply.body = rest.get(..length)?.to_vec();
    Some((reply, &rest[length..]))
}

/// Whether the request was a HEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// It was.
    Yes,
    /// It was something else.
    No,
}

/// Every whole answer in `received`.
#[must_use]
pub fn replies(mut received: &[u8]) -> Vec<Reply> {
    let mut replies = Vec::new();
    while let Some((reply, rest)) = take_reply(received, Head::No) {
        replies.push(reply);
        received = rest;
    }
    replies
}

fn unchunk(mut raw: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    loop {
        let end = raw.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).ok()?, 16).ok()?;
        body.extend_from_slice(raw.get(end + 2..end + 2 + size)?);
        raw = raw.get(end + 4 + size..)?;
        if size == 0 {
            return Some((body, raw));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_one_answer_after_the_other() {
        let two = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nHTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 4";
        let replies = replies(two);
        let seen: Vec<_> = replies
            .iter()
            .map(|reply| (reply.status, reply.body.as_slice()))
            .collect();
        assert_eq!(seen, [(200, b"a".as_slice()), (400, b"{}".as_slice())]);
    }
}
