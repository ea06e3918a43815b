//! One node against a server in this process: when it writes, and what it does when that fails.

use std::time::{Duration, Instant};

use http::Method;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::watch;

use crate::fleet::election::Election;
use crate::fleet::nodes::{Leases, Nodes};
use crate::fleet::writer::{WATCH, Writer};
use crate::fleet::{
    Candidate, FleetError, Knowledge, Mistake, Mistakes, Policy, Verdict, jittered, while_elected,
};
use crate::testing::{Answer, Arrived, FakeApiServer, Protocol, eventually, json, status};

const HOUR: Duration = Duration::from_secs(3_600);

/// Stores every Lease, and answers everything else with a status.
fn stores_leases(request: &Arrived, code: u16) -> Answer {
    let is_lease = request.target.contains("/leases");
    match request.method {
        Method::GET if is_lease => status(404, "application/json", "{}"),
        _ if is_lease => json(r#"{"metadata":{"name":"policy-status","resourceVersion":"7"}}"#),
        _ => status(code, "application/json", "{}"),
    }
}

fn policy(version: &str, status: Value) -> Policy {
    Policy {
        name: "shop".to_owned(),
        uid: "0123456789".to_owned(),
        generation: 2,
        version: version.to_owned(),
        status,
        verdict: Verdict::Accepted,
    }
}

fn no_nodes() -> Nodes {
    let mut nodes = Nodes::default();
    nodes.take(Leases::default(), Instant::now(), Timestamp::UNIX_EPOCH);
    nodes
}

/// What was written into statuses.
fn writes(api: &FakeApiServer) -> Vec<Value> {
    let all = api.arrived().into_iter();
    let written = all.filter(|request| request.target.contains("/agentpolicies/"));
    written
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect()
}

#[tokio::test]
async fn a_status_is_written_once_upon_the_version_that_is_known() {
    let api = FakeApiServer::start(Protocol::H2, |_| json("{}")).await;
    let (mut writer, nodes) = (Writer::of(&api.upstream()), no_nodes());
    let mut write = async |policy: Policy| writer.write(|_| Some(HOUR), &[policy], &nodes).await;
    write(policy("7", Value::Null)).await.unwrap();
    let written = writes(&api);
    assert_eq!(written[0]["metadata"]["resourceVersion"], "7");
    let status = written[0]["status"].clone();
    assert_eq!(status["nodes"], "0/0");
    write(policy("7", Value::Null)).await.unwrap();
    assert_eq!(writes(&api).len(), 1, "the watch has not told of it yet");
    write(policy("8", status)).await.unwrap();
    assert_eq!(writes(&api).len(), 1, "it is as it should be");
    write(policy("9", json_of(r#"{"nodes":"7/7"}"#))).await.unwrap();
    assert_eq!(writes(&api).len(), 2, "somebody else has written it");
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[tokio::test]
async fn what_was_written_is_not_relied_on_when_another_may_have_written() {
    let api = FakeApiServer::start(Protocol::H2, |_| json("{}")).await;
    let (mut writer, nodes) = (Writer::of(&api.upstream()), no_nodes());
    for count in [1, 2] {
        let policies = [policy("7", Value::Null)];
        writer.write(|_| Some(HOUR), &policies, &nodes).await.unwrap();
        assert_eq!(writes(&api).len(), count);
        writer.forget();
    }
}

#[tokio::test]
async fn nothing_is_written_when_another_may_be_elected() {
    let api = FakeApiServer::start(Protocol::H2, |_| json("{}")).await;
    let (mut writer, nodes) = (Writer::of(&api.upstream()), no_nodes());
    let policies = [policy("7", Value::Null)];
    let error = writer.write(|_| None, &policies, &nodes).await.unwrap_err();
    assert!(matches!(error, FleetError::Late), "{error}");
    assert_eq!(api.arrived().len(), 0);
}

#[tokio::test]
async fn an_old_version_is_no_error_unless_the_watch_stays_behind() {
    let api = FakeApiServer::start(Protocol::H2, |_| status(409, "application/json", "{}")).await;
    let (mut writer, nodes) = (Writer::of(&api.upstream()), no_nodes());
    let old = policy("7", Value::Null);
    for _ in 0..2 {
        let policies = [old.clone()];
        writer.write(|_| Some(HOUR), &policies, &nodes).await.unwrap();
    }
    assert_eq!(writes(&api).len(), 2, "it is tried again");
    let later = Instant::now() + WATCH + Duration::from_secs(1);
    let error = writer.refused(&old, later).err();
    assert!(
        matches!(error, Some(FleetError::Behind(name)) if name == "shop"),
        "one that is hours behind"
    );
    assert!(
        writer.refused(&policy("8", Value::Null), later).is_ok(),
        "it was told"
    );
}

#[tokio::test]
async fn the_lease_is_renewed_while_the_nodes_are_listed() {
    let api = FakeApiServer::start(Protocol::H2, |request| stores_leases(request, 500)).await;
    let mut election = Election::of(&api.upstream(), "a");
    assert!(election.stand().await.unwrap());
    let pause = Duration::from_millis(1);
    // As long as it takes until the Lease was renewed three times.
    let listing = api.wait_for(5);
    let listed = while_elected(&mut election, pause, listing).await.unwrap();
    assert!(listed.is_some());
}

#[tokio::test]
async fn whoever_loses_the_lease_while_it_lists_does_not_write() {
    let api = FakeApiServer::start(Protocol::H2, |request| match request.method {
        Method::PUT => status(409, "application/json", "{}"),
        _ => stores_leases(request, 500),
    })
    .await;
    let mut election = Election::of(&api.upstream(), "a");
    assert!(election.stand().await.unwrap());
    let pause = Duration::from_millis(1);
    let listed = while_elected(&mut election, pause, std::future::pending::<()>());
    assert_eq!(eventually("an end", listed).await.unwrap(), None);
}

#[tokio::test]
async fn a_candidate_ends_with_what_it_knows_by() {
    let lease = r#"{"metadata":{"resourceVersion":"7"},"spec":{"holderIdentity":"b_1"}}"#;
    let api = FakeApiServer::start(Protocol::H2, move |_| json(lease)).await;
    let upstream = api.upstream();
    let (known_tx, known) = watch::channel(Some(std::sync::Arc::new(Knowledge::default())));
    let candidate = Candidate {
        election: Election::of(&upstream, "a"),
        nodes: Nodes::default(),
        writer: Writer::of(&upstream),
        upstream,
        known,
        problem: watch::channel(None).0,
    };
    let standing = candidate.stand_until(tokio_util::sync::CancellationToken::new());
    let watched = async {
        api.wait_for(1).await;
        drop(known_tx);
    };
    eventually("an end", async { tokio::join!(standing, watched) }).await;
}

#[test]
fn nodes_that_began_together_drift_apart() {
    let pause = Duration::from_secs(15);
    let pauses: std::collections::BTreeSet<Duration> = (0..100).map(|_| jittered(pause)).collect();
    assert!(pauses.len() > 1);
    assert!(
        pauses
            .iter()
            .all(|jittered| (pause..=pause * 5 / 4).contains(jittered))
    );
}

#[test]
fn the_first_mistake_of_each_rule_is_told_and_all_are_counted() {
    let mistake = |rule: Option<&str>| Mistake {
        rule: rule.map(str::to_owned),
        message: "wrong".to_owned(),
    };
    let long = "r".repeat(64);
    let rules = [
        Some("a"),
        Some("a"),
        None,
        None,
        Some(""),
        Some(long.as_str()),
        Some("b"),
    ];
    let mistakes = Mistakes::of(rules.map(mistake));
    let told: Vec<Option<&str>> = mistakes.told.iter().map(|told| told.rule.as_deref()).collect();
    assert_eq!(told, [Some("a"), None, None, None, None, Some("b")]);
    assert_eq!(mistakes.count, 7);
    let many = Mistakes::of((0..1_000).map(|number| mistake(Some(&number.to_string()))));
    assert_eq!((many.told.len(), many.count), (super::MAX_TOLD, 1_000));
}
