//! One truth everywhere: the record's id in the API server's audit log, the same answers over both protocols.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use rig::guarded::Guarded;
use rig::probe::H1;
use rig::probe::http1::{self, replies};
use serde_json::Value;

use crate::arena::{Arena, Ask, BOTH, Protocol, events, plain};

/// Line, headers, body.
type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [u8]);

#[test]
fn the_audit_id_is_the_record_id_of_every_forwarded_request() -> Result<()> {
    let arena = Arena::open("ids")?;
    arena.cluster.create_namespace("ids")?;
    let maps = "/api/v1/namespaces/ids/configmaps";
    let create = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"},"data":{"a":"b"}}"#;
    let merge: &[(&str, &str)] = &[("Content-Type", "application/merge-patch+json")];
    for protocol in BOTH {
        let lines: [Row<'_>; 9] = [
            ("GET /version", &[], b""),
            ("GET /api", &[], b""),
            ("GET /no/such/path", &[], b""),
            (
                "GET /api/v1/namespaces/ids/configmaps?limit=5&pretty=false",
                &[],
                b"",
            ),
            ("POST /api/v1/namespaces/ids/configmaps", &[], create),
            ("POST /api/v1/namespaces/ids/configmaps", &[], create),
            (
                "PATCH /api/v1/namespaces/ids/configmaps/a",
                merge,
                br#"{"data":{"c":"d"}}"#,
            ),
            ("GET /api/v1/namespaces/ids/configmaps/missing", &[], b""),
            ("DELETE /api/v1/namespaces/ids/configmaps/a", &[], b""),
        ];
        for (line, headers, body) in lines {
            let reply = arena.ask(protocol, &Ask { line, headers, body })?;
            ensure!(reply.status < 500, "{line}: {reply:?}");
        }
        arena.ask(protocol, &plain("GET /api/v1/namespaces/ids/secrets"))?;
        // A watch that ends when its reader goes away.
        let mut wire = arena.probe.connect(H1)?;
        let watch = format!("GET {maps}?watch=true");
        wire.send(&http1::request(arena.probe.server(), &watch, &[], b""))?;
        wire.receive_until(|received| received.windows(4).any(|four| four == b"\r\n\r\n"))?;
        ensure!(wire.received.starts_with(b"HTTP/1.1 200"), "{}", wire.shown());
    }
    let upstream = arena.upstream()?;
    ensure!(upstream.len() == 18, "{upstream:#?}");
    let arrived: BTreeSet<&str> = upstream.iter().map(|event| event.audit_id.as_str()).collect();
    ensure!(arrived.len() == upstream.len(), "an id stands for two requests");
    // The watches' outcomes are written when the guard notices that nobody reads.
    arena.wait_for_event(|_| forwarded(&arena.guarded).is_ok_and(|ids| ids.len() == arrived.len()))?;
    let recorded = forwarded(&arena.guarded)?;
    ensure!(
        arrived.iter().all(|id| recorded.contains(*id)),
        "the log has {arrived:#?}\nthe record {recorded:#?}"
    );
    for event in &upstream {
        arena.expect_upstream(&event.request_uri);
    }
    arena.close()
}

/// Ids of the requests that were forwarded and are over.
fn forwarded(guarded: &Guarded<'_>) -> Result<BTreeSet<String>> {
    let events = events(guarded)?;
    let forwarded = events
        .iter()
        .filter(|event| event["stage"] == "outcome" && event["decision"] == "allow");
    Ok(forwarded
        .filter_map(|event| event["id"].as_str().map(str::to_owned))
        .collect())
}

#[test]
fn both_protocols_give_the_same_answers() -> Result<()> {
    let arena = Arena::open("same")?;
    let table: &[(&str, &str)] = &[(
        "Accept",
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )];
    let asks: [Row<'_>; 8] = [
        ("GET /version", &[], b""),
        ("GET /api/v1", &[], b""),
        ("GET /api/v1/namespaces/kube-public", &[], b""),
        ("GET /api/v1/namespaces/kube-public", table, b""),
        ("GET /api/v1/namespaces/default/services/kubernetes", &[], b""),
        ("GET /api/v1/namespaces/default/configmaps/missing", &[], b""),
        (
            "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
            &[],
            br#"{"kind":"SelfSubjectReview","apiVersion":"authentication.k8s.io/v1"}"#,
        ),
        (
            "PUT /api/v1/namespaces/default/configmaps/missing",
            &[],
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"other"}}"#,
        ),
    ];
    for (line, headers, body) in asks {
        let ask = Ask { line, headers, body };
        let answers = BOTH.map(|protocol| arena.ask(protocol, &ask));
        let [Ok(one), Ok(two)] = answers else {
            anyhow::bail!("{line}: {answers:?}")
        };
        ensure!(
            one.status == two.status && comparable(&one.body)? == comparable(&two.body)?,
            "{line}: {one:?}\n{two:?}"
        );
    }
    for event in arena.upstream()? {
        arena.expect_upstream(&event.request_uri);
    }
    arena.close()
}

/// An answer without what differs from one request to the next.
fn comparable(body: &[u8]) -> Result<Value> {
    let mut value: Value = serde_json::from_slice(body).context("the answer is not JSON")?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("creationTimestamp");
    }
    if let Some(causes) = value.pointer_mut("/details/causes").and_then(Value::as_array_mut) {
        causes.retain(|cause| cause["field"] != "record");
    }
    Ok(value)
}

#[test]
fn an_answer_does_not_depend_on_the_connection_it_came_on() -> Result<()> {
    let arena = Arena::open("reuse")?;
    let lines = ["GET /version", "GET /api/v1/secrets", "GET /api/v1/nodes"];
    let mut wire = arena.probe.connect(H1)?;
    for line in lines.repeat(3) {
        wire.received.clear();
        wire.send(&http1::request(arena.probe.server(), line, &[], b""))?;
        wire.receive_until(|received| !replies(received).is_empty())?;
        let alone = arena.ask(Protocol::H2, &plain(line))?;
        let shared = replies(&wire.received)
            .into_iter()
            .next()
            .with_context(|| wire.shown())?;
        ensure!(shared.status == alone.status, "{line}: {shared:?}\n{alone:?}");
    }
    for event in arena.upstream()? {
        arena.expect_upstream(&event.request_uri);
    }
    arena.close()
}
