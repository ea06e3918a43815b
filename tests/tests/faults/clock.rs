//! The wall clock of the daemon is set, forth and back: of both its processes, and of nobody else.

use anyhow::{Context, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use rig::clock::WallClock;
use rig::node::{API, Layout, NodeRig};
use rig::wait;
use serde_json::Value;

use crate::guard::row;
use crate::siege::Siege;

const HOUR: i64 = 60 * 60;
const YEAR: i64 = 365 * 24 * HOUR;
/// Longer than the memory of addresses; further than any session; before the daemon began.
const JUMPS: [(&str, i64); 3] = [
    ("half a day ahead", 13 * HOUR),
    ("ten years ahead", 10 * YEAR),
    ("two days back", -48 * HOUR),
];
/// Where a machine begins whose clock has no battery: before any certificate of the API server.
const EPOCH: Timestamp = Timestamp::UNIX_EPOCH;

/// The clocks of loader and proxy.
struct Clocks([WallClock; 2]);

impl Clocks {
    fn of(status: &Value) -> Result<Self> {
        let of = |which: &str| {
            let pid = status[which].as_u64().with_context(|| format!("no {which}"))?;
            WallClock::of(pid.try_into()?)
        };
        Ok(Self([of("loader")?, of("proxy")?]))
    }

    fn shift(&self, seconds: i64) -> Result<()> {
        self.0.iter().try_for_each(|clock| clock.shift(seconds))
    }
}

/// A Service in front of the API server. Its address.
fn add_alias(rig: &NodeRig, namespace: &str, name: &str) -> Result<String> {
    rig.cluster().apply(
        &format!("{namespace}-{name}"),
        &format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{ports: [{{port: 443}}]}}\n---\n\
             apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  \
             labels: {{kubernetes.io/service-name: {name}}}\naddressType: IPv4\nports: [{{port: 443, protocol: TCP}}]\n\
             endpoints: [{{addresses: [\"{}\"]}}]\n",
            API.v4
        ),
    )?;
    let path = "jsonpath={.spec.clusterIP}";
    rig.cluster()
        .kubectl(&["get", "service", name, "-n", namespace, "-o", path])?
        .ok()
}

/// Whether an address is closed to agents as the API server's.
fn is_closed(status: &Value, address: &str) -> bool {
    let closed = status["api"].as_array().into_iter().flatten();
    closed
        .filter_map(Value::as_str)
        .any(|api| api == format!("{address}:443"))
}

/// Both processes write records by the clock that was set: the proxy of a request, the loader of a frame.
fn tell_the_time(siege: &Siege<'_>, seconds: i64) -> Result<()> {
    let shift = SignedDuration::from_secs(seconds);
    let is_told = |event: &Value| {
        let time = event["time"]
            .as_str()
            .and_then(|text| text.parse::<Timestamp>().ok());
        time.is_some_and(|time| {
            (time.duration_since(Timestamp::now()) - shift).abs() < SignedDuration::from_hours(6)
        })
    };
    let pod = siege.agent.uid();
    siege.guard.recorded("a request at that time", |event| {
        event["stage"] == "outcome" && event["pod"]["uid"] == pod && is_told(event)
    })?;
    siege.guard.recorded("a frame at that time", |event| {
        event["reason"] == "BypassAttempted" && is_told(event)
    })?;
    Ok(())
}

#[test]
fn a_wall_clock_that_jumps_opens_nothing_and_forgets_nothing() -> Result<()> {
    let namespace = "clocks";
    let mut siege = Siege::lay(Layout::ALL[0], namespace)?;
    let gone = add_alias(siege.rig, namespace, "gone")?;
    siege
        .guard
        .wait_until("the alias is closed", |status| is_closed(status, &gone))?;
    let cluster = siege.rig.cluster();
    cluster
        .kubectl(&["delete", "service,endpointslice", "gone", "-n", namespace])?
        .ok()?;
    let (before, records) = (siege.guard.status()?, siege.guard.records_by_file()?);
    let clocks = Clocks::of(&before)?;

    for (number, (what, seconds)) in JUMPS.into_iter().enumerate() {
        clocks.shift(seconds)?;
        siege.works().context(what)?;
        siege.holds(what)?;
        tell_the_time(&siege, seconds).context(what)?;
        // Another one is learned at that time, and the one that nobody names any more is remembered as long as before.
        let alias = add_alias(siege.rig, namespace, &format!("alias-{number}"))?;
        siege
            .guard
            .wait_until("another alias is closed", |status| is_closed(status, &alias))?;
        ensure!(
            is_closed(&siege.guard.status()?, &gone),
            "{what}: an address is forgotten"
        );
        siege.works().context(what)?;
        siege.holds(what)?;
    }

    // Before the API server's certificate is valid: whatever becomes of requests, nothing else opens.
    clocks.shift(EPOCH.duration_since(Timestamp::now()).as_secs())?;
    siege.works().ok();
    siege.holds("a clock that begins anew")?;

    // To and fro, faster than anything is done.
    for _ in 0..20 {
        for (_, seconds) in JUMPS {
            clocks.shift(seconds)?;
        }
    }
    siege.holds("a clock that goes to and fro")?;

    clocks.shift(0)?;
    siege.holds("a clock that is right again")?;
    wait::until("agents are served as before", || Ok(siege.works().is_ok()))?;
    let pod = siege.agent.uid().to_owned();
    let is_well = |status: &Value| {
        status["attached"] == true && status["problems"].as_array().is_some_and(Vec::is_empty)
    };
    let after = siege.guard.wait_until("nothing is wrong", is_well)?;
    for same in ["loader", "proxy", "proxyRestarts", "repairs"] {
        ensure!(after[same] == before[same], "{same}: {after:#}");
    }
    let port = |status: &Value| row(status, &pod).map(|row| row["port"].clone());
    ensure!(port(&after) == port(&before), "another listener: {after:#}");
    let known = before["api"].as_array().into_iter().flatten();
    for address in known.filter_map(Value::as_str) {
        ensure!(
            after["api"].to_string().contains(address),
            "{address} is forgotten: {after:#}"
        );
    }
    goes_on(&records, &siege.guard.records_by_file()?)
}

/// Lines were added to records and to nothing else done; none is missing.
fn goes_on(before: &[(String, String)], after: &[(String, String)]) -> Result<()> {
    for (name, text) in before {
        let now = after.iter().find(|(other, _)| other == name).map(|(_, now)| now);
        let now = now.with_context(|| format!("the record {name} is gone"))?;
        ensure!(now.starts_with(text.as_str()), "the record {name} was changed");
        ensure!(
            !now[text.len()..].contains("\"stage\":\"gap\""),
            "{name} has a gap"
        );
    }
    Ok(())
}
