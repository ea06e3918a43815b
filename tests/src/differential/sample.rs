//! One generated request: its bytes, what may be done with it, and how to send it by hand.

use std::fmt::Write;
use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::http::session::Wanted;

/// A request, as it will stand on the wire.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Which one of the run.
    pub number: u64,
    /// Method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Headers beside those that every request has.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Where it may be sent.
    pub routes: Routes,
    /// Which cell of the coverage it is meant for.
    pub cell: Option<super::coverage::Cell>,
}

/// Where a request may be sent beside the account without rights, which may try everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routes {
    /// Nowhere: it could change what the run stands on.
    #[default]
    DirectOnly,
    /// Through the guard, too.
    Guarded,
    /// Through the guard, and as it is by a caller with the same rights: it changes nothing, and the replies must be equal.
    Compared,
}

impl Sample {
    /// The whole request.
    #[must_use]
    pub fn wire(&self, server: SocketAddr, user_agent: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {server}\r\n", self.method, self.target);
        head.push_str(&format!("User-Agent: {user_agent}/{}\r\n", self.number));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !self.body.is_empty() || !matches!(self.method.as_str(), "GET" | "DELETE" | "HEAD") {
            head.push_str(&format!("Content-Length: {}\r\n", self.body.len()));
        }
        head.push_str("\r\n");
        [head.as_bytes(), &self.body].concat()
    }

    /// The same with a reply that can be compared: the guard's replies are JSON, whatever was asked for.
    #[must_use]
    pub fn answered_in_json(&self) -> Self {
        let mut sample = self.clone();
        sample.headers.retain(|(name, _)| name != "Accept");
        sample
            .headers
            .push(("Accept".to_owned(), "application/json".to_owned()));
        sample
    }

    /// A stream has no end, and the reply to HEAD no body.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        let streams = ["watch", "follow"].iter().any(|word| self.target.contains(word));
        if streams || self.method == "HEAD" {
            Wanted::Head
        } else {
            Wanted::Whole
        }
    }

    /// Whether it is a request of HTTP at all; others are answered, and recorded, as broken connections are.
    #[must_use]
    pub fn is_http(&self) -> bool {
        let is_target = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>`".contains(&byte);
        self.target.bytes().all(is_target) && self.target.parse::<http::Uri>().is_ok()
    }

    /// The path as it stands in the request line.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The query as it stands in the request line.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target.split_once('?').map(|(_, query)| query)
    }

    /// A header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// A command line that sends it; `$SERVER`, `$CERT`, `$KEY` and `$CA` are the reader's.
    #[must_use]
    pub fn curl(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
        let mut line = String::new();
        let mut source = "";
        if !self.body.is_empty() {
            source = " --data-binary @-";
            match std::str::from_utf8(&self.body) {
                Ok(text) if !text.contains(char::is_control) => {
                    write!(line, "printf %s {} | ", quoted(text)).ok();
                }
                Ok(_) | Err(_) => {
                    write!(line, "echo {} | base64 -d | ", STANDARD.encode(&self.body)).ok();
                }
            }
        }
        write!(
            line,
            "curl --path-as-is --cert $CERT --key $KEY --cacert $CA -X {} \"https://$SERVER\"{}",
            quoted(&self.method),
            quoted(&self.target)
        )
        .ok();
        for (name, value) in &self.headers {
            write!(line, " -H {}", quoted(&format!("{name}: {value}"))).ok();
        }
        line + source
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn can_be_sent_by_hand() {
        let sample = Sample {
            method: "POST".to_owned(),
            target: "/api/v1/it's?a=b".to_owned(),
            headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
            body: b"{}".to_vec(),
            ..Sample::default()
        };
        assert_eq!(
            sample.curl(),
            "printf %s '{}' | curl --path-as-is --cert $CERT --key $KEY --cacert $CA -X 'POST' \
             \"https://$SERVER\"'/api/v1/it'\\''s?a=b' -H 'Content-Type: application/json' --data-binary @-"
        );
    }
}
