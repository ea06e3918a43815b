//! Policies as objects of the cluster: they decide as they come, change and go; what is known decides while the API server is
//! away. And the labels of namespaces, by which rules select.

use std::fs;

use anyhow::{Context, Result, ensure};
use rig::node::{API_PORT, Layout, NodeRig, Pod, shared};
use rig::{policies, wait};
use serde_json::{Value, json};

use crate::guard::Guard;
use crate::reach::{spec, works};

/// What takes the place of the folder of policies.
const CLUSTER: &str = "  policySource: cluster\n";

/// An agent of this name in a namespace of the same name.
fn agent<'rig>(rig: &'rig NodeRig, layout: Layout, name: &str) -> Result<Pod<'rig>> {
    rig.cluster().create_namespace(name)?;
    let mut spec = spec(rig, layout, name, "agent", true);
    spec.labels
        .insert("eks-guard.dev/agent".to_owned(), name.to_owned());
    rig.run_pod(&spec)
}

/// A policy that lets the agent read these resources of its namespace.
fn policy(agent: &str, resources: &[&str]) -> Value {
    policies::reading(agent, &["get", "list"], resources)
}

/// The path of a policy.
fn path(name: &str) -> String {
    format!("{}/{name}", policies::PATH)
}

/// Waits until a generation of a policy decides; `None`: until there is no such policy.
fn in_force(guard: &mut Guard<'_>, name: &str, generation: Option<u64>) -> Result<Value> {
    guard.wait_until(&format!("policy {name} is {generation:?}"), |status| {
        status["policies"][name].as_u64() == generation
    })
}

/// The agent asks for its ConfigMaps, is refused with these words, and nothing of it arrives.
fn refused(rig: &NodeRig, agent: &Pod<'_>, words: &str) -> Result<()> {
    let namespace = &agent.spec().namespace;
    let mark = rig.cluster().audit().mark()?;
    // Without discovery before, which may be refused as well.
    let place = format!("/api/v1/namespaces/{namespace}/configmaps");
    let answer = agent.kubectl(&["get", "--raw", &place])?;
    ensure!(answer.code != 0 && answer.stderr.contains(words), "{answer:?}");
    let arrived = rig.cluster().audit().since(mark)?;
    // The controllers of the cluster ask for ConfigMaps, too; kubectl is the agent.
    let its = arrived
        .iter()
        .find(|event| event.request_uri.contains(&place) && event.user_agent.starts_with("kubectl"));
    ensure!(its.is_none(), "a refused call arrived: {its:?}");
    Ok(())
}

fn allowed(agent: &Pod<'_>) -> Result<()> {
    let namespace = &agent.spec().namespace;
    agent.kubectl(&["get", "configmaps", "-n", namespace])?.ok()?;
    Ok(())
}

#[test]
fn policies_of_the_cluster_decide_as_they_come_change_and_go() -> Result<()> {
    let (rig, layout, name) = (shared()?, Layout::ALL[0], "objects");
    policies::install(rig.cluster())?;
    let admin = rig.cluster().admin();
    let agent = agent(rig, layout, name)?;
    let mut guard = Guard::start_with(rig, layout, CLUSTER)?;
    guard.serve(&agent)?;
    refused(rig, &agent, "no policy selects")?;

    let created = policy(name, &["pods"]);
    rig.cluster().apply(name, &created.to_string())?;
    in_force(&mut guard, name, Some(1))?;
    works(&agent)?;
    refused(rig, &agent, "no rule allows it")?;

    let more = policy(name, &["pods", "configmaps"]);
    admin.merge(&path(name), &json!({"spec": more["spec"]}))?;
    in_force(&mut guard, name, Some(2))?;
    allowed(&agent)?;

    // What a schema cannot see: whom the policy is about is refused everything.
    let mut broken = more.clone();
    broken["spec"]["rules"][0]["conditions"] = json!([{"name": "half", "expression": "object.spec."}]);
    admin.merge(&path(name), &json!({"spec": broken["spec"]}))?;
    let status = in_force(&mut guard, name, Some(3))?;
    refused(rig, &agent, "cannot be used")?;
    ensure!(
        status["problems"].to_string().contains("agentpolicies/objects:"),
        "{status:#}"
    );
    guard.recorded("the reason", |event| event["reason"] == "PolicyInvalid")?;

    admin.merge(&path(name), &json!({"spec": more["spec"]}))?;
    in_force(&mut guard, name, Some(4))?;
    allowed(&agent)?;

    let deleted = admin.request("DELETE", &path(name), &[], b"")?;
    ensure!(deleted.status == 200, "{deleted:?}");
    in_force(&mut guard, name, None)?;
    refused(rig, &agent, "no policy selects")
}

#[test]
fn the_last_known_policies_decide_while_the_api_server_is_away() -> Result<()> {
    let (rig, layout, name) = (shared()?, Layout::ALL[1], "remembered");
    policies::install(rig.cluster())?;
    let agent = agent(rig, layout, name)?;
    let mut guard = Guard::start_with(rig, layout, CLUSTER)?;
    let mut kept = policy(name, &["pods"]);
    let paths =
        json!({"name": "paths", "effect": "allow", "verbs": ["get"], "nonResourceURLs": ["/metrics"]});
    kept["spec"]["rules"].as_array_mut().context("rules")?.push(paths);
    rig.cluster().apply(name, &kept.to_string())?;
    in_force(&mut guard, name, Some(1))?;
    guard.serve(&agent)?;
    works(&agent)?;

    let config = guard.file("node.yaml");
    let good = fs::read_to_string(&config)?;
    let kubeconfig = guard.file("unreachable.kubeconfig");
    let admin = rig.cluster().admin_kubeconfig();
    // Nobody listens on that port.
    let away = fs::read_to_string(admin)?.replace(&format!(":{API_PORT}"), ":9");
    fs::write(&kubeconfig, away)?;
    fs::write(
        &config,
        good.replace(&admin.display().to_string(), &kubeconfig.display().to_string()),
    )?;
    guard.kill()?;
    guard.restart()?;
    guard.serve(&agent)?;
    let status = in_force(&mut guard, name, Some(1))?;
    let problems = status["problems"].to_string();
    ensure!(problems.contains("known last are in force"), "{status:#}");
    let answer = agent.kubectl(&["get", "--raw", "/logs/"])?;
    ensure!(answer.stderr.contains("no rule allows it"), "{answer:?}");
    // What they allow is decided, and then there is nobody to ask.
    let answer = agent.kubectl(&["get", "--raw", "/metrics"])?;
    ensure!(
        answer.code != 0 && !answer.stderr.contains("may not"),
        "{answer:?}"
    );

    // Without what was kept nothing is known, and nothing allowed.
    guard.kill()?;
    fs::remove_file(guard.file("state/policies.json")).context("removing what was kept")?;
    guard.restart()?;
    guard.serve(&agent)?;
    let answer = agent.kubectl(&["get", "--raw", "/metrics"])?;
    ensure!(
        answer.code != 0 && answer.stderr.contains("no policy selects"),
        "{answer:?}"
    );

    // The API server is back, and knows better.
    guard.kill()?;
    fs::write(&config, good)?;
    guard.restart()?;
    guard.serve(&agent)?;
    in_force(&mut guard, name, Some(1))?;
    works(&agent)
}

#[test]
fn labels_of_namespaces_decide_as_they_change() -> Result<()> {
    let (rig, layout, name) = (shared()?, Layout::ALL[2], "labelled");
    let agent = agent(rig, layout, name)?;
    let mut guard = Guard::prepare(rig, layout)?;
    let mut selected = policy(name, &["configmaps"]);
    let rule = selected["spec"]["rules"][0].as_object_mut().context("a rule")?;
    rule.remove("namespaces");
    rule.insert(
        "namespaceSelector".to_owned(),
        json!({"matchLabels": {"env": "dev"}}),
    );
    fs::write(guard.file("policies/selected.yaml"), selected.to_string())?;
    guard.restart()?;
    guard.wait_until("everything is known", |status| status["synced"] == true)?;
    guard.serve(&agent)?;
    refused(rig, &agent, "no rule allows it")?;

    let label = |value: Value| {
        let labels = json!({"metadata": {"labels": {"env": value}}});
        rig.cluster()
            .admin()
            .merge(&format!("/api/v1/namespaces/{name}"), &labels)
    };
    label(json!("dev"))?;
    wait::until("the label lets the agent in", || Ok(allowed(&agent).is_ok()))?;
    label(json!("prod"))?;
    wait::until("the label keeps the agent out", || Ok(allowed(&agent).is_err()))?;
    refused(rig, &agent, "no rule allows it")?;
    label(json!("dev"))?;
    wait::until("the label lets the agent in", || Ok(allowed(&agent).is_ok()))?;
    label(Value::Null)?;
    wait::until("no label keeps the agent out", || Ok(allowed(&agent).is_err()))?;
    refused(rig, &agent, "no rule allows it")
}
