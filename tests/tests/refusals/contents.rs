//! What no policy lets an agent write, row by row: as a new object and as a change of one that is there, by every way to make
//! it. Beside each refusal stands the harmless neighbour, which passes.

use anyhow::{Context, Result, ensure};
use rig::cluster::{Cluster, shared};
use rig::guarded::Guarded;
use rig::policies::EVERYTHING;
use rig::records;
use serde_json::{Value, json};

use crate::agent::{APPLY, Agent, JSON, MERGE, OPERATIONS, STRATEGIC};

const LABELS: &str = "builtin:agent-labels";
const NODE: &str = "builtin:no-node-access";
const GRANT: &str = "builtin:no-escalation";
const INTERCEPTION: &str = "builtin:no-interception";
const IDENTITY: &str = "builtin:no-identity-mapping";

/// An object, and a change that makes it one that no agent may write.
struct Row {
    collection: &'static str,
    harmless: Value,
    /// As a merge patch.
    harm: Value,
    rule: &'static str,
}

fn row(collection: &'static str, harmless: Value, harm: Value, rule: &'static str) -> Row {
    Row {
        collection,
        harmless,
        harm,
        rule,
    }
}

fn deployment(name: &str) -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": name}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "a"}}, "template": {
            "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}})
}

fn cron_job() -> Value {
    json!({"kind": "CronJob", "apiVersion": "batch/v1", "metadata": {"name": "clock"}, "spec": {
        "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}}}})
}

fn definition() -> Value {
    json!({"kind": "CustomResourceDefinition", "apiVersion": "apiextensions.k8s.io/v1",
        "metadata": {"name": "gadgets.contents.test"}, "spec": {
            "group": "contents.test", "scope": "Namespaced", "names": {"plural": "gadgets", "kind": "Gadget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}})
}

fn plain(kind: &str, version: &str, name: &str) -> Value {
    json!({"kind": kind, "apiVersion": version, "metadata": {"name": name}})
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/contents/deployments";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

/// Labels and annotations of the guard.
fn labels() -> Vec<Row> {
    let agent = json!({"eks-guard.dev/agent": "other"});
    vec![
        row(
            "/api/v1/namespaces/contents/pods",
            json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "plain"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}),
            json!({"metadata": {"labels": agent}}),
            LABELS,
        ),
        row(
            "/api/v1/namespaces",
            plain("Namespace", "v1", "contents-made"),
            json!({"metadata": {"labels": agent}}),
            LABELS,
        ),
        row(
            "/api/v1/namespaces/contents/serviceaccounts",
            plain("ServiceAccount", "v1", "worker"),
            json!({"metadata": {"annotations": {"eks-guard.dev/tier": "x"}}}),
            LABELS,
        ),
        row(
            DEPLOYMENTS,
            deployment("labelled"),
            json!({"spec": {"template": {"metadata": {"labels": agent}}}}),
            LABELS,
        ),
    ]
}

/// Pods that reach their node.
fn pods() -> Vec<Row> {
    let containers = |context: Value| json!([{"name": "c", "image": "i", "securityContext": context}]);
    let template = |spec: Value| json!({"spec": {"template": {"spec": spec}}});
    vec![
        row(
            DEPLOYMENTS,
            deployment("net"),
            template(json!({"hostNetwork": true})),
            NODE,
        ),
        row(
            DEPLOYMENTS,
            deployment("capable"),
            template(json!({"containers": containers(json!({"capabilities": {"add": ["SYS_ADMIN"]}}))})),
            NODE,
        ),
        row(
            DEPLOYMENTS,
            deployment("disk"),
            template(json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]})),
            NODE,
        ),
        row(
            "/apis/batch/v1/namespaces/contents/cronjobs",
            cron_job(),
            json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"hostPID": true}}}}}}),
            NODE,
        ),
    ]
}

/// More rights, and a place between the API server and its callers.
fn rights() -> Vec<Row> {
    let rules = |rule: Value| json!({"rules": [rule]});
    vec![
        row(
            ROLES,
            plain("ClusterRole", RBAC, "contents-role"),
            rules(json!({"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]})),
            GRANT,
        ),
        row(
            ROLES,
            plain("ClusterRole", RBAC, "contents-all"),
            rules(json!({"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]})),
            GRANT,
        ),
        row(
            ROLES,
            plain("ClusterRole", RBAC, "contents-edit"),
            json!({"metadata": {"labels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}}),
            GRANT,
        ),
        row(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            definition(),
            json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {
                "conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1/"}}}}}),
            INTERCEPTION,
        ),
    ]
}

/// A JSON merge patch, as RFC 7396 has it.
fn merge(object: &Value, patch: &Value) -> Value {
    let Value::Object(members) = patch else {
        return patch.clone();
    };
    let mut merged = if object.is_object() {
        object.clone()
    } else {
        json!({})
    };
    for (key, value) in members {
        merged[key] = merge(&object[key], value);
    }
    merged
}

fn refused(agent: &Agent<'_>, line: &str, content_type: &str, body: &Value, rule: &str) -> Result<()> {
    let reply = agent.send(line, content_type, &body.to_string())?;
    let status: Value = serde_json::from_slice(&reply.body)?;
    let causes = &status["details"]["causes"];
    let is_rule = |cause: &Value| cause["field"] == "rule" && cause["message"] == rule;
    ensure!(
        reply.status == 403 && causes.as_array().is_some_and(|causes| causes.iter().any(is_rule)),
        "{line} {content_type} is not refused by {rule}: {reply:?}"
    );
    Ok(())
}

/// The same as a JSON patch: members that are harmful, replaced as a whole.
fn operations(whole: &Value, harm: &Value) -> Value {
    let operation = |path: String, value: &Value| json!({"op": "add", "path": path, "value": value});
    let members = harm.as_object().into_iter().flatten();
    let operations: Vec<Value> = members
        .flat_map(|(key, inner)| match (key.as_str(), inner.as_object()) {
            ("metadata", Some(inner)) => inner
                .keys()
                .map(|part| operation(format!("/metadata/{part}"), &whole["metadata"][part]))
                .collect(),
            (_, _) => vec![operation(format!("/{key}"), &whole[key])],
        })
        .collect();
    json!(operations)
}

/// Every way to make the object what it may not be is refused, and a change of something else is not.
fn refused_in_every_form(agent: &Agent<'_>, row: &Row) -> Result<()> {
    let Row {
        collection,
        harmless,
        harm,
        rule,
    } = row;
    let cluster = agent.cluster;
    let name = harmless["metadata"]["name"].as_str().unwrap_or_default();
    let path = format!("{collection}/{name}");
    let mark = cluster.audit().mark()?;
    let harmful = merge(harmless, harm);
    let apply = format!("PATCH {path}?fieldManager=agent&force=true");
    refused(agent, &format!("POST {collection}"), JSON, &harmful, rule)?;
    refused(agent, &apply, APPLY, &harmful, rule)?;
    let created = agent.send(&format!("POST {collection}"), JSON, &harmless.to_string())?;
    ensure!(created.status == 201, "{path}: {created:?}");
    let is_custom = collection.contains("apiextensions");
    let mut ways = vec![
        (format!("PATCH {path}"), MERGE, harm.clone()),
        (apply, APPLY, harmful),
    ];
    if !is_custom {
        ways.push((format!("PATCH {path}"), STRATEGIC, harm.clone()));
    }
    for (line, content_type, body) in &ways {
        refused(agent, line, content_type, body, rule)?;
    }
    // Controllers write too: of whatever version it is.
    let any_version = json!({"metadata": {"resourceVersion": ""}});
    let whole = merge(&merge(&cluster.admin().get(&path)?, harm), &any_version);
    refused(agent, &format!("PUT {path}"), JSON, &whole, rule)?;
    let operations = operations(&whole, harm);
    refused(agent, &format!("PATCH {path}"), OPERATIONS, &operations, rule)?;
    let neighbour = json!({"metadata": {"annotations": {"team": "fruit"}}}).to_string();
    let changed = agent.send(&format!("PATCH {path}"), MERGE, &neighbour)?;
    ensure!(changed.status == 200, "{path}: {changed:?}");
    agent
        .changed_only(mark, 2)
        .with_context(|| format!("{path}: a create and a patch"))?;
    cluster.admin().request("DELETE", &path, &[], b"")?;
    Ok(())
}

#[test]
fn what_no_policy_lets_an_agent_write_is_refused_in_every_form() -> Result<()> {
    let agent = Agent::start(shared()?, "contents", EVERYTHING)?;
    [labels(), pods(), rights()]
        .iter()
        .flatten()
        .try_for_each(|row| refused_in_every_form(&agent, row))
}

/// What is refused when it is made, since it cannot become so later: collection, object, rule.
type Beginning = (&'static str, Value, &'static str);

fn pods_and_volumes() -> Vec<Beginning> {
    let image = json!([{"name": "c", "image": "i"}]);
    let unmasked = json!([{"name": "c", "image": "i", "securityContext": {"procMount": "Unmasked"}}]);
    let privileged = json!([{"name": "c", "image": "i", "securityContext": {"privileged": true}}]);
    let specs = [
        json!({"containers": privileged}),
        json!({"hostNetwork": true, "containers": image}),
        json!({"hostPID": true, "containers": image}),
        json!({"hostIPC": true, "containers": image}),
        json!({"containers": image, "volumes": [{"name": "v", "hostPath": {"path": "/"}}]}),
        json!({"containers": unmasked}),
    ];
    let pod = |spec| {
        let object = json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "p"}, "spec": spec});
        ("/api/v1/namespaces/beginnings/pods", object, NODE)
    };
    let mut volume = plain("PersistentVolume", "v1", "beginnings");
    volume["spec"] =
        json!({"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"}});
    let volume = ("/api/v1/persistentvolumes", volume, NODE);
    specs.into_iter().map(pod).chain([volume]).collect()
}

fn powers() -> Vec<Beginning> {
    let mut binding = plain("ClusterRoleBinding", RBAC, "beginnings");
    binding["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    binding["subjects"] = json!([{"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": "me"}]);
    let admission = "admissionregistration.k8s.io/v1";
    let mut webhook = plain("ValidatingWebhookConfiguration", admission, "beginnings");
    webhook["webhooks"] = json!([]);
    let mut service = plain("APIService", "apiregistration.k8s.io/v1", "v1.beginnings.test");
    service["spec"] = json!({"group": "beginnings.test", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
        "service": {"name": "s", "namespace": "default"}});
    vec![
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
            binding,
            GRANT,
        ),
        (
            "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            webhook,
            INTERCEPTION,
        ),
        (
            "/apis/apiregistration.k8s.io/v1/apiservices",
            service,
            INTERCEPTION,
        ),
        (
            "/api/v1/namespaces/kube-system/configmaps",
            plain("ConfigMap", "v1", "aws-auth"),
            IDENTITY,
        ),
    ]
}

#[test]
fn what_is_forbidden_from_the_start_is_never_made() -> Result<()> {
    let cluster = shared()?;
    let agent = Agent::start(cluster, "beginnings", EVERYTHING)?;
    let mark = cluster.audit().mark()?;
    for (collection, object, rule) in pods_and_volumes().into_iter().chain(powers()) {
        refused(&agent, &format!("POST {collection}"), JSON, &object, rule)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        // What the API server itself would not make is known before the rule is asked.
        let apply = format!("PATCH {collection}/{name}?fieldManager=agent&force=true");
        if agent.send(&apply, APPLY, &object.to_string())?.status != 422 {
            refused(&agent, &apply, APPLY, &object, rule)?;
        }
    }
    agent.changed_only(mark, 0)
}

#[test]
fn what_is_there_and_stays_is_nobodys_doing() -> Result<()> {
    let cluster = shared()?;
    let agent = Agent::start(cluster, "older", EVERYTHING)?;
    let collection = "/apis/apps/v1/namespaces/older/deployments";
    let path = format!("{collection}/net");
    let harm = json!({"spec": {"template": {"metadata": {"labels": {"eks-guard.dev/agent": "x"}}, "spec": {"hostNetwork": true}}}});
    cluster
        .admin()
        .create(collection, &merge(&deployment("net"), &harm))?;
    let mark = cluster.audit().mark()?;
    // Another image in it would be the agent's; the label's absence too.
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "mine"}]}}}});
    refused(&agent, &format!("PATCH {path}"), STRATEGIC, &image, NODE)?;
    let whole = merge(
        &deployment("net"),
        &json!({"spec": {"template": {"spec": {"hostNetwork": true}}}}),
    );
    refused(&agent, &format!("PUT {path}"), JSON, &whole, LABELS)?;
    let unlabelled = json!({"spec": {"template": {"metadata": {"labels": {"eks-guard.dev/agent": null}}}}});
    refused(&agent, &format!("PATCH {path}"), MERGE, &unlabelled, LABELS)?;
    let mut stored = cluster.admin().get(&path)?;
    stored["spec"]["paused"] = json!(true);
    stored["metadata"]["resourceVersion"] = json!("");
    for (line, content_type, body) in [
        (format!("PUT {path}"), JSON, stored),
        (format!("PATCH {path}"), MERGE, json!({"spec": {"paused": null}})),
        (
            format!("PATCH {path}"),
            STRATEGIC,
            json!({"spec": {"template": {"spec": {"hostNetwork": false}}}}),
        ),
    ] {
        let reply = agent.send(&line, content_type, &body.to_string())?;
        ensure!(reply.status == 200, "{line}: {reply:?}");
    }
    agent.changed_only(mark, 3)
}

const MANIFEST: &str = "\
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, labels: {app: web}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 0
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {serviceAccountName: web, containers: [{name: web, image: 'registry.test/web:1'}]}
";

#[test]
fn ordinary_work_goes_on() -> Result<()> {
    let cluster: &Cluster = shared()?;
    cluster.create_namespace("work")?;
    let guarded = Guarded::new(cluster, "work", EVERYTHING)?;
    std::fs::write(guarded.home().join("web.yaml"), MANIFEST)?;
    std::fs::write(
        guarded.home().join("next.yaml"),
        MANIFEST.replace("web:1", "web:2"),
    )?;
    let script = "set -e; k() { kubectl -n work \"$@\"; }
        k apply -f web.yaml; k apply -f next.yaml; k set image deployment/web web=registry.test/web:3
        k rollout restart deployment/web; k scale deployment/web --replicas=1; k scale deployment/web --replicas=0
        k label deployment/web tier=front; k label serviceaccount/web tier=front; k annotate serviceaccount/web note=x
        k label namespace work tier=front; k set env deployment/web A=b; k set resources deployment/web --limits=cpu=1
        k apply --server-side --force-conflicts -f web.yaml; k apply --server-side --force-conflicts -f next.yaml
        k replace -f web.yaml; k rollout undo deployment/web; k patch deployment web -p '{\"spec\":{\"paused\":true}}'
        k delete -f web.yaml; k delete namespace work --wait=false";
    guarded.shell(script)?.ok()?;
    let events = records::read(&guarded.records())?;
    let refused = events.iter().find(|event| {
        records::text(event, "stage") == "outcome" && records::text(event, "decision") == "refuse"
    });
    ensure!(refused.is_none(), "{refused:#?}");
    Ok(())
}
