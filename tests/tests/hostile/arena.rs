//! One guard with a raw client behind it, its record, and what the API server saw of it.

use std::fs;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use rig::audit::{AuditEvent, Mark};
use rig::cluster::{Cluster, shared};
use rig::guarded::Guarded;
use rig::http::Reply;
use rig::policies::EVERYTHING;
use rig::probe::http2::{self, Answer};
use rig::probe::{H1, H2, Probe, Wire};
use rig::wait;
use serde_json::Value;

use crate::connections;

/// Over what a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    H1,
    H2,
}

/// Both of them.
pub(crate) const BOTH: [Protocol; 2] = [Protocol::H1, Protocol::H2];

/// What is to become of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// Refused with this code and this reason; nothing reaches the API server.
    Refused(u16, &'static str),
    /// Answered by the API server with this code, asked for this path and query.
    Reaches(u16, &'static str),
}

/// A request as both protocols can say it.
#[derive(Clone, Debug)]
pub(crate) struct Ask<'a> {
    /// `METHOD target`
    pub(crate) line: &'a str,
    /// Headers beside those every request has.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    /// Body.
    pub(crate) body: &'a [u8],
}

/// A request without headers of its own, and without a body.
pub(crate) fn plain(line: &str) -> Ask<'_> {
    Ask {
        line,
        headers: &[],
        body: b"",
    }
}

/// What is always allowed and always there.
pub(crate) const HARMLESS: &str = "/api/v1/namespaces/default/configmaps/kube-root-ca.crt";

/// A guard that allows everything the guard can allow, so that no refusal is the policy's.
pub(crate) struct Arena {
    pub(crate) cluster: &'static Cluster,
    pub(crate) guarded: Guarded<'static>,
    pub(crate) probe: Probe,
    mark: Mark,
    expected: Mutex<Vec<String>>,
    /// What the guard held at first, in KiB.
    settled: u64,
}

/// KiB by which the guard may have grown at any moment of a test: twice what bodies of one agent may hold, and what 1,024
/// connections take.
const MAY_GROW: u64 = 128 << 10;

impl Arena {
    pub(crate) fn open(agent: &str) -> Result<Self> {
        let cluster = shared()?;
        let guarded = Guarded::new(cluster, agent, EVERYTHING)?;
        let probe = Probe::start(&guarded, cluster.server())?;
        // From the first connection on, whatever arrives is the client's.
        drop(probe.connect(H1)?);
        let mark = cluster.audit().mark()?;
        let settled = connections::memory(probe.guard_pid(), "VmRSS")?;
        Ok(Self {
            cluster,
            guarded,
            probe,
            mark,
            expected: Mutex::default(),
            settled,
        })
    }

    /// Says that one more request with this path and query is to reach the API server.
    pub(crate) fn expect_upstream(&self, uri: &str) {
        let mut expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        expected.push(uri.to_owned());
    }

    /// Sends a request on a connection of its own and returns the answer, which must be one.
    pub(crate) fn ask(&self, protocol: Protocol, ask: &Ask<'_>) -> Result<Reply> {
        match protocol {
            Protocol::H1 => self.probe.ask(ask.line, ask.headers, ask.body),
            Protocol::H2 => {
                let mut wire = self.probe.connect(H2)?;
                wire.send(&http2::opening())?;
                wire.send(&http2::request(
                    self.probe.server(),
                    1,
                    ask.line,
                    ask.headers,
                    ask.body,
                ))?;
                match answer(&mut wire, 1)? {
                    Answer::Reply(reply) => Ok(reply),
                    other @ (Answer::Reset(_) | Answer::GoAway(_)) => bail!("no answer but {other:?}"),
                }
            }
        }
    }

    /// Sends a request and holds the answer, and the record, against what is expected.
    pub(crate) fn check(&self, protocol: Protocol, ask: &Ask<'_>, expect: Expect) -> Result<()> {
        let what = || {
            format!(
                "{protocol:?} {:.200?} {:?}, expecting {expect:?}",
                ask.line, ask.headers
            )
        };
        match expect {
            Expect::Refused(code, reason) => {
                let reply = self.ask(protocol, ask).with_context(what)?;
                if ask.line.starts_with("HEAD") {
                    ensure!(
                        reply.status == code && reply.body.is_empty(),
                        "{}: {reply:?}",
                        what()
                    );
                    return Ok(());
                }
                self.refused(&reply, code, reason).with_context(what)
            }
            Expect::Reaches(code, uri) => {
                self.expect_upstream(uri);
                let reply = self.ask(protocol, ask).with_context(what)?;
                ensure!(reply.status == code, "{}: {}", what(), text(&reply));
                Ok(())
            }
        }
    }

    /// The reply is a Status with this code and reason, and the record says the same.
    pub(crate) fn refused(&self, reply: &Reply, code: u16, reason: &str) -> Result<()> {
        ensure!(reply.status == code, "{}", text(reply));
        let status: Value = serde_json::from_slice(&reply.body)
            .with_context(|| format!("the body is no Status: {}", text(reply)))?;
        ensure!(
            status["kind"] == "Status"
                && status["apiVersion"] == "v1"
                && status["status"] == "Failure"
                && status["code"] == code
                && status["reason"] == status_reason(code),
            "{status}"
        );
        let causes = status["details"]["causes"].as_array().context("no causes")?;
        ensure!(causes[0]["reason"] == reason, "{status}");
        let record = causes.iter().find(|cause| cause["field"] == "record");
        let id = record
            .and_then(|cause| cause["message"].as_str())
            .context("no record id")?;
        let event = self.wait_for_event(|event| event["id"] == id)?;
        ensure!(
            event["decision"] == "refuse" && event["reason"] == reason && event["status"] == code,
            "the record says {event}"
        );
        Ok(())
    }

    /// Waits until the record holds an event like this.
    pub(crate) fn wait_for_event(&self, like: impl Fn(&Value) -> bool) -> Result<Value> {
        self.wait_for_record(|events| events.iter().find(|event| like(event)).cloned())
    }

    /// Waits until something can be found in the record.
    pub(crate) fn wait_for_record<T>(&self, find: impl Fn(&[Value]) -> Option<T>) -> Result<T> {
        wait::found("in the record", || Ok(find(&events(&self.guarded)?)))
    }

    /// A connection of somebody who did nothing wrong works.
    pub(crate) fn others_are_fine(&self) -> Result<()> {
        for protocol in BOTH {
            self.check(
                protocol,
                &plain(&format!("GET {HARMLESS}")),
                Expect::Reaches(200, HARMLESS),
            )?;
        }
        Ok(())
    }

    /// Everything that reached the API server through this guard.
    pub(crate) fn upstream(&self) -> Result<Vec<AuditEvent>> {
        self.cluster
            .audit()
            .since_by(self.mark, self.guarded.upstream_user())
    }

    /// The API server got what it was to get, under the operator's name and nobody else's; the guard
    /// never held much memory, is well, and ends.
    pub(crate) fn close(self) -> Result<()> {
        self.others_are_fine()?;
        let events = self.upstream()?;
        let mut arrived: Vec<&str> = events.iter().map(|event| event.request_uri.as_str()).collect();
        let mut expected = self
            .expected
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        arrived.sort_unstable();
        expected.sort_unstable();
        ensure!(
            arrived == expected,
            "reached the API server: {arrived:#?}\nexpected: {expected:#?}"
        );
        let grown = connections::memory(self.probe.guard_pid(), "VmHWM")?.saturating_sub(self.settled);
        ensure!(grown < MAY_GROW, "the guard grew by {grown} KiB");
        let acted = events.iter().find(|event| event.impersonated_user.is_some());
        ensure!(acted.is_none(), "impersonated: {acted:?}");
        self.probe.finish()
    }
}

/// Waits until the fate of a stream is known.
pub(crate) fn answer(wire: &mut Wire, stream: u32) -> Result<Answer> {
    wire.receive_until(|received| http2::answer(received, stream).is_some())?;
    http2::answer(&wire.received, stream).with_context(|| format!("no answer but {}", wire.shown()))
}

fn text(reply: &Reply) -> String {
    format!("HTTP {}: {}", reply.status, String::from_utf8_lossy(&reply.body))
}

/// What client-go branches on.
fn status_reason(code: u16) -> &'static str {
    match code {
        400 => "BadRequest",
        403 => "Forbidden",
        405 => "MethodNotAllowed",
        406 => "NotAcceptable",
        408 => "Timeout",
        413 | 431 => "RequestEntityTooLarge",
        415 => "UnsupportedMediaType",
        429 => "TooManyRequests",
        503 => "ServiceUnavailable",
        _ => "InternalError",
    }
}

/// Every whole line of the record so far.
pub(crate) fn events(guarded: &Guarded<'_>) -> Result<Vec<Value>> {
    let mut events = Vec::new();
    for file in fs::read_dir(guarded.records()).context("reading the records")? {
        let text = fs::read_to_string(file?.path())?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        for line in whole.lines() {
            events.push(serde_json::from_str(line).with_context(|| format!("reading the record's {line}"))?);
        }
    }
    Ok(events)
}
