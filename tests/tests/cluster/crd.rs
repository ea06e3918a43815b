//! The CustomResourceDefinition on a real API server: it is taken, takes every document that the project shows, refuses
//! mistakes, and shows policies to people.

use std::fs;

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::documents::{blocks, document, pages};
use rig::http::Reply;
use rig::policies::{self, EVERYTHING};
use rig::{programs, wait};
use serde_json::{Value, json};

const GOOD: &str = r#"
apiVersion: eks-guard.dev/v1alpha1
kind: AgentPolicy
metadata: {name: good}
spec:
  subjects: {agents: [shop]}
  rules:
    - {name: read, effect: allow, verbs: [get], apiGroups: [""], resources: [pods], namespaces: [shop]}
"#;

/// What is replaced in the good document, by what, and what the API server says to it.
const MISTAKES: &[(&str, &str, &str)] = &[
    ("effect: allow", "effect: permit", "Unsupported value: \"permit\""),
    ("effect: allow, ", "", "spec.rules[0].effect: Required value"),
    ("[get]", "[read]", "Unsupported value: \"read\""),
    ("[get]", "[post]", "verbs of resources are get, list"),
    ("[get]", "[get, \"*\"]", "* already is all of them"),
    ("[get]", "[]", "should have at least 1 items"),
    ("[shop]}\n  rules", "[a b]}\n  rules", "spec.subjects.agents[0]"),
    ("{agents: [shop]}", "{}", "should have at least 1 properties"),
    ("{agents: [shop]}", "{podSelector: {}}", "the selector is empty"),
    (
        "{agents: [shop]}",
        "{podSelector: {matchExpressions: [{key: a, operator: In}]}}",
        "In and NotIn take values",
    ),
    (
        "  subjects",
        "  mode: Maybe\n  subjects",
        "Unsupported value: \"Maybe\"",
    ),
    (
        "  subjects",
        "  modus: Enforce\n  subjects",
        "unknown field \"spec.modus\"",
    ),
    (
        "resources: [pods]",
        "resources: [Pods]",
        "spec.rules[0].resources[0]",
    ),
    (
        "resources: [pods], ",
        "",
        "a rule has either resources or nonResourceURLs",
    ),
    (
        "resources: [pods]",
        "resources: [pods], nonResourceURLs: [/metrics]",
        "a rule has either resources or nonResourceURLs",
    ),
    (
        "resources: [pods]",
        "nonResourceURLs: [/metrics]",
        "a rule on nonResourceURLs has no apiGroups",
    ),
    (
        "apiGroups: [\"\"], ",
        "",
        "a rule on resources names their apiGroups",
    ),
    (
        "namespaces: [shop]}",
        "namespaces: [shop], namespaceSelector: {matchLabels: {a: b}}}",
        "a rule has either namespaces or namespaceSelector",
    ),
    (
        "effect: allow",
        "effect: deny, masking: None",
        "masking belongs to rules with effect allow",
    ),
    ("name: read", "name: Read it", "spec.rules[0].name"),
    (
        "    - {name: read",
        "    - {name: read, effect: deny, verbs: [get], nonResourceURLs: [/metrics]}\n    - {name: read",
        "Duplicate value",
    ),
];

/// Asks the API server whether it would take a document.
fn try_out(cluster: &Cluster, text: &str) -> Result<Reply> {
    let path = format!("{}?dryRun=All&fieldValidation=Strict", policies::PATH);
    let headers = [("Content-Type", "application/yaml")];
    cluster.admin().request("POST", &path, &headers, text.as_bytes())
}

/// Every policy in the pages, and in the files that are installed.
fn shown() -> Result<Vec<(String, String)>> {
    let mut found = vec![("the rig's own".to_owned(), EVERYTHING.to_owned())];
    for page in pages()? {
        let blocks = blocks(&document(&page)?, "yaml");
        found.extend(blocks.into_iter().map(|block| (page.clone(), block)));
    }
    let mut folders = vec![programs::workspace().join("deploy")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "yaml") {
                found.push((path.display().to_string(), fs::read_to_string(&path)?));
            }
        }
    }
    let parts = found.into_iter().flat_map(|(name, text)| {
        let parts: Vec<String> = text.split("\n---\n").map(str::to_owned).collect();
        parts.into_iter().map(move |part| (name.clone(), part))
    });
    Ok(parts
        .filter(|(_, text)| text.lines().any(|line| line == "kind: AgentPolicy"))
        .collect())
}

#[test]
fn every_policy_that_the_project_shows_is_taken() -> Result<()> {
    let cluster = shared()?;
    policies::install(cluster)?;
    let shown = shown()?;
    ensure!(shown.len() > 5, "only {} policies are shown", shown.len());
    for (place, text) in shown {
        let reply = try_out(cluster, &text)?;
        let answer = String::from_utf8_lossy(&reply.body);
        ensure!(reply.status == 201, "{place}: {answer}\n{text}");
    }
    Ok(())
}

#[test]
fn mistakes_are_refused_at_admission() -> Result<()> {
    let cluster = shared()?;
    policies::install(cluster)?;
    ensure!(
        try_out(cluster, GOOD)?.status == 201,
        "the document without a mistake"
    );
    for (from, to, said) in MISTAKES {
        let text = GOOD.replacen(from, to, 1);
        ensure!(text != GOOD, "{from:?} is not in the document");
        let reply = try_out(cluster, &text)?;
        let answer: Value = serde_json::from_slice(&reply.body)?;
        let answer = answer["message"].as_str().unwrap_or_default();
        ensure!(
            [400, 422].contains(&reply.status) && answer.contains(said),
            "{to:?} gave HTTP {}: {answer}",
            reply.status
        );
    }
    Ok(())
}

#[test]
fn policies_are_shown_in_columns_and_explained() -> Result<()> {
    let cluster = shared()?;
    policies::install(cluster)?;
    let name = "in-columns";
    cluster.apply(name, &GOOD.replace("{name: good}", &format!("{{name: {name}}}")))?;
    let path = format!("{}/{name}", policies::PATH);
    let stored = cluster.admin().get(&path)?;
    ensure!(
        stored["spec"]["mode"] == "Enforce" && stored["spec"]["justInTime"] == "Never",
        "{stored:#}"
    );
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({
            "type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let status = json!({"status": {
        "observedGeneration": 1, "nodes": "1/2",
        "conditions": [condition("Accepted", "True", "Valid"), condition("Programmed", "False", "NodesBehind")],
    }});
    cluster.admin().merge(&format!("{path}/status"), &status)?;
    ensure!(
        cluster.admin().get(&path)?["metadata"]["generation"] == 1,
        "a status is no new generation"
    );
    let row = cluster.kubectl(&["get", "agentpol", name])?.ok()?;
    let lines: Vec<Vec<&str>> = row
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let [head, cells] = lines.as_slice() else {
        anyhow::bail!("{row}");
    };
    let columns = [
        "NAME",
        "SUBJECTS",
        "MODE",
        "ACCEPTED",
        "REASON",
        "PROGRAMMED",
        "NODES",
        "AGE",
    ];
    ensure!(*head == columns, "{row}");
    let subjects = r#"{"agents":["shop"]}"#;
    ensure!(
        cells.starts_with(&[name, subjects, "Enforce", "True", "Valid", "False", "1/2"]),
        "{row}"
    );
    let all = cluster.kubectl(&["get", "eks-guard", "-o", "name"])?.ok()?;
    ensure!(
        all.contains(&format!("agentpolicy.eks-guard.dev/{name}")),
        "{all}"
    );
    // The schema is published a moment after the kind is.
    let explained = wait::found("the fields are explained", || {
        let explained = cluster.kubectl(&["explain", "agentpolicies.spec.rules.effect"])?;
        Ok(explained.ok().ok())
    })?;
    ensure!(
        explained.contains("What becomes of the requests it matches.")
            && explained.contains("requireApproval"),
        "{explained}"
    );
    let deleted = cluster.admin().request("DELETE", &path, &[], b"")?;
    let deleted: Value = deleted.json().context("deleting the policy")?;
    ensure!(deleted["status"] == "Success", "{deleted:#}");
    Ok(())
}
