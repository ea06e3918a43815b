//! An API server that has no place for a request says so (API Priority and Fairness), and the guard says what it said.

use anyhow::{Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::guarded::Guarded;
use rig::http::{Client, Reply};
use rig::policies::EVERYTHING;
use rig::probe::Probe;
use rig::wait;
use serde_json::json;

const NAMESPACE: &str = "overload";
const MAPS: &str = "/api/v1/namespaces/overload/configmaps";
const FAIRNESS: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";
const SAID: [&str; 3] = [
    "content-type",
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
];

/// One user's requests for ConfigMaps of one namespace get a priority level without a seat: one at a time is served.
fn narrow_the_door(cluster: &Cluster, user: &str) -> Result<()> {
    cluster.admin().create(
        &format!("{FAIRNESS}/prioritylevelconfigurations"),
        &json!({"metadata": {"name": NAMESPACE}, "spec": {"type": "Limited", "limited": {
            "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
            "limitResponse": {"type": "Reject"}}}}),
    )?;
    cluster.admin().create(
        &format!("{FAIRNESS}/flowschemas"),
        &json!({"metadata": {"name": NAMESPACE}, "spec": {"matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": NAMESPACE},
            "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}],
                "resourceRules": [{"verbs": ["*"], "apiGroups": [""], "resources": ["configmaps"],
                    "namespaces": [NAMESPACE]}]}]}}),
    )?;
    Ok(())
}

#[test]
fn too_many_requests_looks_and_counts_as_without_the_guard() -> Result<()> {
    let cluster = shared()?;
    cluster.create_namespace(NAMESPACE)?;
    let replica = cluster.start_replica(&["--request-timeout=30m"])?;
    let guarded = Guarded::new(cluster, NAMESPACE, EVERYTHING)?.by_way_of(replica.address())?;
    let user = guarded.upstream_user();
    narrow_the_door(cluster, user)?;
    let identity = cluster.upstream_identity(user)?;
    let direct = Client::new(replica.address(), &cluster.authority().pem(), Some(&identity))?;
    // The one that is served waits for the rest of its body as long as it may: the others get no place.
    let half = format!(
        "POST {MAPS} HTTP/1.1\r\nHost: kubernetes\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{{"
    );
    let _served = wait::found("one request takes the only place", || {
        let served = direct.begin(&half)?;
        let next = direct.request("GET", MAPS, &[], b"")?;
        Ok((next.status == 429).then_some(served))
    })?;

    let map = br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"a"}}"#;
    let probe = Probe::start(&guarded, replica.address())?;
    for (method, target, body) in [
        ("GET", MAPS.to_owned(), &b""[..]),
        ("GET", format!("{MAPS}?watch=true"), b""),
        ("POST", MAPS.to_owned(), map),
    ] {
        let json = [("Content-Type", "application/json")];
        let without = direct.request(method, &target, &json, body)?;
        let mark = cluster.audit().mark()?;
        let through = probe.ask(&format!("{method} {target}"), &[], body)?;
        ensure!(
            seen(&without) == seen(&through) && through.status == 429,
            "{without:?}\nthrough the guard: {through:?}"
        );
        // How long to wait, the API server says anew each time, by how many it has turned away.
        ensure!(
            [&without, &through]
                .iter()
                .all(|reply| reply.header("retry-after").is_some()),
            "{without:?}\nthrough the guard: {through:?}"
        );
        let tries = cluster.audit().since_by(mark, user)?;
        ensure!(tries.len() == 1, "tried again: {tries:#?}");
    }
    probe.finish()?;

    // kubectl waits as it was told, and tries again; so often as it does without the guard.
    for line in [
        &["get", "configmaps"][..],
        &["create", "configmap", "a", "--validate=false"],
    ] {
        let line = [&["-n", NAMESPACE], line].concat();
        let mark = cluster.audit().mark()?;
        let without = cluster.kubectl_in(guarded.kubeconfig(), guarded.variables(), &line)?;
        let tries_without = tries(cluster, mark, user)?;
        let mark = cluster.audit().mark()?;
        let through = guarded.kubectl(&line)?;
        let tries_through = tries(cluster, mark, user)?;
        ensure!(
            through == without && through.code != 0,
            "{without:?}\nthrough the guard: {through:?}"
        );
        ensure!(
            tries_through == tries_without && tries_through > 1,
            "{tries_without} tries, through the guard {tries_through}"
        );
    }
    Ok(())
}

/// Requests for ConfigMaps that got no place.
fn tries(cluster: &Cluster, mark: rig::audit::Mark, user: &str) -> Result<usize> {
    let events = cluster.audit().since_by(mark, user)?;
    let turned_away = events.iter().filter(|event| event.response_code == Some(429));
    Ok(turned_away.count())
}

fn seen(reply: &Reply) -> (u16, Vec<Option<&str>>, &[u8]) {
    let headers = SAID.map(|name| reply.header(name)).to_vec();
    (reply.status, headers, &reply.body)
}
