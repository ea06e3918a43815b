//! Conditions about objects: every way to change an object is decided on the object, the guard changes nothing to find out,
//! and what was decided on is what happens, whoever else writes at the same time.

use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::http::Reply;
use serde_json::{Value, json};

use crate::agent::{APPLY, Agent, JSON, MERGE, OPERATIONS, STRATEGIC};

/// Objects stay small, and sealed ones as they are.
const SIZES: &str = "\
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: sizes}
spec:
  subjects: {agents: ['*']}
  rules:
    - name: small
      effect: allow
      verbs: [create, update, patch, delete]
      apiGroups: ['', apps]
      resources: [configmaps, deployments, deployments/scale]
      namespaces: ['*']
      conditions:
        - name: small
          expression: \"object == null || (has(object.data) ? object.data.size == 'small' : object.spec.replicas <= 3)\"
    - name: sealed
      effect: deny
      verbs: ['*']
      apiGroups: ['', apps]
      resources: [configmaps, deployments, deployments/scale]
      conditions:
        - name: sealed
          expression: \"oldObject != null && has(oldObject.metadata.labels) && 'sealed' in oldObject.metadata.labels\"
";

/// How an agent changes the data of the ConfigMap, and leaves it with this size.
fn changes(path: &str, size: &str) -> [(String, &'static str, String); 5] {
    let data = json!({"data": {"size": size}});
    let object =
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "it"}, "data": {"size": size}});
    let operations = json!([{"op": "add", "path": "/data/size", "value": size}]);
    [
        (format!("PUT {path}"), JSON, object.to_string()),
        (format!("PATCH {path}"), MERGE, data.to_string()),
        (format!("PATCH {path}"), STRATEGIC, data.to_string()),
        (format!("PATCH {path}"), OPERATIONS, operations.to_string()),
        (
            format!("PATCH {path}?fieldManager=agent&force=true"),
            APPLY,
            object.to_string(),
        ),
    ]
}

fn config_map(data: &Value, labels: &Value) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "it", "labels": labels}, "data": data})
}

#[test]
fn conditions_are_about_the_object_as_it_is_and_as_it_becomes() -> Result<()> {
    let cluster = shared()?;
    let agent = Agent::start(cluster, "looks", SIZES)?;
    let collection = "/api/v1/namespaces/looks/configmaps";
    let path = format!("{collection}/it");
    let mark = cluster.audit().mark()?;
    // Applied where there is none, it is created or refused on what it says.
    for (size, code) in [("large", 403), ("small", 201)] {
        let (line, content_type, body) = &changes(&path, size)[4];
        let reply = agent.send(line, content_type, body)?;
        ensure!(reply.status == code, "{size}: {reply:?}");
    }
    // What is only merged has the rest from the object.
    let rest = r#"{"data":{"more":"x"}}"#;
    ensure!(agent.send(&format!("PATCH {path}"), MERGE, rest)?.status == 200);
    for (labels, size, code) in [
        (json!({}), "large", 403),
        (json!({}), "small", 200),
        (json!({"sealed": "yes"}), "small", 403),
    ] {
        cluster
            .admin()
            .merge(&path, &json!({"metadata": {"labels": labels}}))?;
        for (line, content_type, body) in changes(&path, size) {
            let before = cluster.admin().get(&path)?;
            let reply = agent.send(&line, content_type, &body)?;
            ensure!(reply.status == code, "{size} {labels} {line}: {reply:?}");
            let after = cluster.admin().get(&path)?;
            ensure!(code == 200 || before == after, "{line}: {before} {after}");
        }
    }
    ensure!(agent.send(&format!("DELETE {path}"), JSON, "")?.status == 403);
    cluster
        .admin()
        .merge(&path, &json!({"metadata": {"labels": null}}))?;
    ensure!(agent.send(&format!("DELETE {path}"), JSON, "")?.status == 200);
    // Nothing to change, nothing to remove.
    for line in [format!("DELETE {path}"), format!("PATCH {path}")] {
        let reply = agent.send(&line, MERGE, if line.starts_with('P') { rest } else { "" })?;
        ensure!(reply.status == 404 && reason(&reply)? == "NotFound", "{reply:?}");
    }
    agent.changed_only(mark, 8)
}

/// The reason of a Status.
fn reason(reply: &Reply) -> Result<String> {
    let status: Value = serde_json::from_slice(&reply.body)?;
    Ok(status["reason"].as_str().unwrap_or_default().to_owned())
}

#[test]
fn a_part_is_decided_on_with_its_object() -> Result<()> {
    let cluster = shared()?;
    let agent = Agent::start(cluster, "parts", SIZES)?;
    let path = "/apis/apps/v1/namespaces/parts/deployments";
    cluster.admin().create(
        path,
        &json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web"}, "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
    )?;
    let scale = |replicas: u32| {
        let body = format!(r#"{{"spec":{{"replicas":{replicas}}}}}"#);
        agent.send(&format!("PATCH {path}/web/scale"), MERGE, &body)
    };
    let mark = cluster.audit().mark()?;
    ensure!(scale(9)?.status == 403);
    let reply = scale(2)?;
    ensure!(
        reply.status == 200 && reply.json()?["kind"] == "Scale",
        "{reply:?}"
    );
    cluster.admin().merge(
        &format!("{path}/web"),
        &json!({"metadata": {"labels": {"sealed": "yes"}}}),
    )?;
    ensure!(scale(1)?.status == 403, "the Deployment is sealed");
    agent.changed_only(mark, 1)?;
    let replicas = &cluster.admin().get(&format!("{path}/web"))?["spec"]["replicas"];
    ensure!(*replicas == 2, "{replicas}");
    Ok(())
}

#[test]
fn ordinary_errors_stay_what_they_are() -> Result<()> {
    let cluster = shared()?;
    let agent = Agent::start(cluster, "ordinary", SIZES)?;
    let collection = "/api/v1/namespaces/ordinary/configmaps";
    let path = format!("{collection}/it");
    cluster
        .admin()
        .create(collection, &config_map(&json!({"size": "small"}), &json!({})))?;
    // A change that the API server would not make.
    let reply = agent.send(
        &format!("PATCH {path}"),
        MERGE,
        r#"{"metadata":{"labels":{"not a label!":"x"}}}"#,
    )?;
    ensure!(reply.status == 422 && reason(&reply)? == "Invalid", "{reply:?}");
    // A version that is not the stored one.
    let reply = agent.send(
        &format!("PATCH {path}"),
        MERGE,
        r#"{"metadata":{"resourceVersion":"2"},"data":{"a":"b"}}"#,
    )?;
    ensure!(reply.status == 409 && reason(&reply)? == "Conflict", "{reply:?}");
    // A field that somebody else manages.
    let object = config_map(&json!({"size": "tiny"}), &json!({}));
    let reply = agent.send(
        &format!("PATCH {path}?fieldManager=agent"),
        APPLY,
        &object.to_string(),
    )?;
    let message = String::from_utf8_lossy(&reply.body);
    ensure!(reply.status == 409 && message.contains(".data.size"), "{reply:?}");
    Ok(())
}

/// An agent may touch only what is open, and never leaves anything broken.
const OPEN_ONLY: &str = "\
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: open-only}
spec:
  subjects: {agents: ['*']}
  rules:
    - name: open
      effect: allow
      verbs: [update, patch, delete]
      apiGroups: ['']
      resources: [configmaps]
      namespaces: ['*']
      resourceNames: [it]
      conditions:
        - {name: open, expression: \"oldObject.data.door == 'open'\"}
        - {name: whole, expression: \"object == null || !(object.data.left == 'x' && object.data.right == 'x')\"}
    - name: new
      effect: allow
      verbs: [create, patch]
      apiGroups: ['']
      resources: [configmaps]
      namespaces: ['*']
      resourceNames: [fresh]
      conditions:
        - {name: new, expression: oldObject == null}
    - name: apply
      effect: allow
      verbs: [create]
      apiGroups: ['']
      resources: [configmaps]
      namespaces: ['*']
      resourceNames: [it]
";

/// Tries of the agent in a race.
const ROUNDS: usize = 30;
/// Time after which a race is over: the API server remembers what happened for 75 s.
const RACE: Duration = Duration::from_secs(40);

/// Acts while somebody else writes: a few writes beside each request, however fast the machine is.
fn beside<T>(
    write: impl Fn(usize) -> Result<()> + Sync,
    act: impl FnOnce(&dyn Fn()) -> Result<T>,
) -> Result<T> {
    let (request_tx, requests) = sync_channel(1);
    thread::scope(|scope| {
        let writer = scope.spawn(|| -> Result<()> {
            for (count, ()) in requests.into_iter().enumerate() {
                write(count)?;
            }
            Ok(())
        });
        // A writer that is still busy is beside this request as well.
        let acted = act(&|| {
            request_tx.try_send(()).ok();
        });
        drop(request_tx);
        let written = writer
            .join()
            .map_err(|_| anyhow::anyhow!("the writer panicked"))?;
        written.and(acted)
    })
}

#[test]
fn what_was_decided_on_is_what_happens_whoever_else_writes() -> Result<()> {
    let cluster = shared()?;
    let agent = Agent::start(cluster, "race", OPEN_ONLY)?;
    let collection = "/api/v1/namespaces/race/configmaps";
    let path = format!("{collection}/it");
    let shut = json!({"door": "shut", "left": "x", "right": "o"});
    let before = cluster.admin().get(collection)?["metadata"]["resourceVersion"].clone();
    cluster
        .admin()
        .create(collection, &config_map(&shut, &json!({})))?;
    // What the agent may touch at one moment it may not at the next.
    let write = |count: usize| -> Result<()> {
        for step in [2 * count, 2 * count + 1] {
            let data = match step % 3 {
                0 => json!({"door": "open", "left": "o"}),
                1 => json!({"left": "x"}),
                _ => json!({"door": "shut", "right": "o"}),
            };
            let body = json!({"data": data}).to_string();
            let headers = [("Content-Type", MERGE)];
            let reply = cluster
                .admin()
                .request("PATCH", &path, &headers, body.as_bytes())?;
            if reply.status == 404 {
                cluster
                    .admin()
                    .create(collection, &config_map(&shut, &json!({})))?;
            }
        }
        Ok(())
    };
    let taken = beside(write, |tell| race(&agent, &path, tell))?;
    ensure!(taken.len() > 3, "{} taken", taken.len());
    let history = history(cluster, before.as_str().unwrap_or_default())?;
    for version in &taken {
        let is_it = |event: &Value| event["object"]["metadata"]["resourceVersion"] == **version;
        let at = history.iter().position(is_it);
        let at = at.with_context(|| format!("version {version} was never stored"))?;
        let [before, after] = [at - 1, at].map(|at| &history[at]["object"]["data"]);
        ensure!(
            before["door"] == "open",
            "{version}: it was shut: {before} {after}"
        );
        ensure!(
            !(after["left"] == "x" && after["right"] == "x"),
            "{version}: it is broken: {before} {after}"
        );
    }
    // Nobody else removes it.
    let removed = history.iter().filter(|event| event["type"] == "DELETED");
    for event in removed {
        ensure!(event["object"]["data"]["door"] == "open", "it was shut: {event}");
    }
    Ok(())
}

/// What the agent tries, and the version of each object that it stored.
fn race(agent: &Agent<'_>, path: &str, tell: &dyn Fn()) -> Result<Vec<String>> {
    let half = json!({"data": {"right": "x"}}).to_string();
    let operations = json!([{"op": "replace", "path": "/data/right", "value": "x"}]).to_string();
    let whole = json!({"door": "open", "left": "o", "right": "x"});
    let whole = config_map(&whole, &json!({})).to_string();
    let applied = config_map(&json!({"right": "x"}), &json!({})).to_string();
    let (mut taken, began) = (Vec::new(), Instant::now());
    for round in (0..ROUNDS).take_while(|_| began.elapsed() < RACE) {
        for (line, content_type, body) in [
            (format!("PATCH {path}"), MERGE, &half),
            (format!("PATCH {path}"), STRATEGIC, &half),
            (format!("PATCH {path}"), OPERATIONS, &operations),
            (format!("PUT {path}"), JSON, &whole),
            (
                format!("PATCH {path}?fieldManager=agent&force=true"),
                APPLY,
                &applied,
            ),
        ] {
            tell();
            let reply = agent.send(&line, content_type, body)?;
            ensure!([200, 403, 404, 409].contains(&reply.status), "{line}: {reply:?}");
            if reply.status == 200 {
                let version = reply.json()?["metadata"]["resourceVersion"].clone();
                taken.push(version.as_str().unwrap_or_default().to_owned());
            }
        }
        if round % 5 == 0 {
            tell();
            let reply = agent.send(&format!("DELETE {path}"), JSON, "")?;
            ensure!([200, 403, 404, 409].contains(&reply.status), "{reply:?}");
        }
    }
    Ok(taken)
}

/// Everything that has happened to the object, as the API server remembers it.
fn history(cluster: &Cluster, since: &str) -> Result<Vec<Value>> {
    let collection = "/api/v1/namespaces/race/configmaps";
    let watch = format!(
        "{collection}?watch=true&timeoutSeconds=5&resourceVersion={since}&fieldSelector=metadata.name%3Dit"
    );
    let reply = cluster.admin().request("GET", &watch, &[("Accept", JSON)], b"")?;
    let lines = String::from_utf8(reply.body)?;
    let events: Vec<Value> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<serde_json::Result<_>>()?;
    let error = events.iter().find(|event| event["type"] == "ERROR");
    ensure!(error.is_none(), "the history is not whole: {error:?}");
    Ok(events)
}

#[test]
fn what_may_only_be_created_is_never_changed() -> Result<()> {
    let cluster = shared()?;
    let agent = Agent::start(cluster, "creation", OPEN_ONLY)?;
    let collection = "/api/v1/namespaces/creation/configmaps";
    let path = format!("{collection}/fresh");
    let mut theirs = config_map(&json!({"whose": "theirs"}), &json!({}));
    theirs["metadata"]["name"] = json!("fresh");
    let ours = json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "fresh"}, "data": {"ours": "x"}});
    let write = |_| -> Result<()> {
        let headers = [("Content-Type", JSON)];
        let theirs = theirs.to_string();
        cluster
            .admin()
            .request("POST", collection, &headers, theirs.as_bytes())?;
        cluster.admin().request("DELETE", &path, &[], b"")?;
        Ok(())
    };
    let created = beside(write, |tell| {
        let line = format!("PATCH {path}?fieldManager=agent&force=true");
        let tries = (0..3 * ROUNDS).map(|_| {
            tell();
            let reply = agent.send(&line, APPLY, &ours.to_string())?;
            match reply.status {
                201 => Ok(1),
                403 | 409 => Ok(0),
                _ => anyhow::bail!("{reply:?}"),
            }
        });
        tries.sum::<Result<usize>>()
    })?;
    ensure!(created > 0, "nothing was created");
    Ok(())
}
