//! What the shipped profiles withhold, row by row, over the real parts: a Status with the reason, and nothing upstream.

use anyhow::{Context, Result, ensure};
use eks_guard_core::policy::KnownResource;
use eks_guard_core::reason::Reason;
use rig::cluster::shared;
use rig::guarded::Guarded;
use rig::probe::http1::{self, Head};
use rig::probe::{H1, Probe};
use rig::profiles::{Ask, PROFILES, Profile, rows};

/// What every profile allows: the sign that the audit log would have shown the others.
const ALLOWED: &str = "/readyz";

#[test]
fn what_profiles_withhold_never_reaches_the_api_server() -> Result<()> {
    let cluster = shared()?;
    for (position, profile) in PROFILES.iter().enumerate() {
        let guarded = Guarded::new(cluster, profile.name, profile.document)?;
        let probe = Probe::start(&guarded, cluster.server())?;
        drop(probe.connect(H1)?);
        let mark = cluster.audit().mark()?;
        let mut refused = 0;
        for row in rows() {
            for ask in &row.asks {
                if let Err(reason) = ask.expect[position] {
                    let what = || format!("{} {}: {} {}", profile.name, row.id, ask.line, ask.body);
                    is_refused(&probe, ask, reason).with_context(what)?;
                    refused += 1;
                }
            }
        }
        ensure!(refused > 80, "{}: only {refused} requests", profile.name);
        reaches(&probe, profile)?;
        let events = cluster.audit().since_by(mark, guarded.upstream_user())?;
        let arrived: Vec<&str> = events.iter().map(|event| event.request_uri.as_str()).collect();
        ensure!(
            arrived == [ALLOWED],
            "{}: reached the API server: {arrived:#?}",
            profile.name
        );
        probe.finish()?;
    }
    Ok(())
}

/// What the API server does not serve is refused before any policy.
fn expected(ask: &Ask, reason: Reason) -> Result<Reason> {
    let request = ask
        .request()
        .map_err(|refusal| anyhow::anyhow!("outside the grammar: {refusal}"))?;
    let served = request
        .info()
        .resource()
        .is_none_or(|it| KnownResource::owns_group(it.group));
    Ok(if served { reason } else { Reason::ResourceUnknown })
}

fn is_refused(probe: &Probe, ask: &Ask, reason: Reason) -> Result<()> {
    let reason = expected(ask, reason)?;
    let (code, body) = exchange(probe, &ask.line, ask.content_type, ask.body.as_bytes())?;
    let status: serde_json::Value = serde_json::from_slice(&body)
        .with_context(|| format!("HTTP {code}, no Status: {}", String::from_utf8_lossy(&body)))?;
    ensure!(
        status["kind"] == "Status"
            && status["status"] == "Failure"
            && status["details"]["causes"][0]["reason"] == reason.as_str(),
        "HTTP {code}, not {reason:?}: {status}"
    );
    Ok(())
}

fn reaches(probe: &Probe, profile: &Profile) -> Result<()> {
    let (code, body) = exchange(probe, &format!("GET {ALLOWED}"), "", b"")?;
    ensure!(
        code == 200,
        "{}: HTTP {code}: {}",
        profile.name,
        String::from_utf8_lossy(&body)
    );
    Ok(())
}

/// One request on a connection of its own.
fn exchange(probe: &Probe, line: &str, content_type: &str, body: &[u8]) -> Result<(u16, Vec<u8>)> {
    let mut wire = probe.connect(H1)?;
    let headers = [("Content-Type", content_type)];
    let headers = if content_type.is_empty() {
        &[][..]
    } else {
        &headers[..]
    };
    wire.send(&http1::request(probe.server(), line, headers, body))?;
    wire.receive_until(|received| http1::take_reply(received, Head::No).is_some())?;
    let (reply, _) = http1::take_reply(&wire.received, Head::No).context("no answer")?;
    Ok((reply.status, reply.body))
}
