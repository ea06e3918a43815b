//! The nodes of a cluster together: what became of a policy stands in the policy, written by one of them. Each test has two
//! daemons with what `deploy/rbac.yaml` gives them and nothing more. Needs root.

use std::fs;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use rig::audit::AuditEvent;
use rig::command::{self, Output};
use rig::daemon::Guard;
use rig::kubeconfig::Credential;
use rig::node::{Layout, NODE_NAME, NodeRig, shared};
use rig::place::Place;
use rig::{leash, policies, programs, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/eks-guard/leases";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
/// The name of each node, and the ServiceAccount of its daemon: the audit log shows who wrote.
const NODES: [&str; 2] = [NODE_NAME, "node-b"];
const ACCOUNTS: [&str; 2] = ["node", "node-b"];

/// Two daemons.
struct Fleet<'rig> {
    rig: &'rig NodeRig,
    guards: [Guard<'rig>; 2],
}

impl<'rig> Fleet<'rig> {
    fn start(rig: &'rig NodeRig) -> Result<Self> {
        let prepare = |layout| Guard::prepare_with(rig, layout, "  policySource: cluster\n");
        // In this order in every test: those that follow wait here.
        let mut guards = [prepare(Layout::ALL[0])?, prepare(Layout::ALL[1])?];
        install(rig)?;
        for (number, guard) in guards.iter_mut().enumerate() {
            let config = guard.file("node.yaml");
            let token = rig.cluster().token("eks-guard", ACCOUNTS[number], &json!({}))?;
            let kubeconfig = guard.file("node.kubeconfig");
            fs::write(
                &kubeconfig,
                rig.cluster().kubeconfig(Credential::Token(token)).render(),
            )?;
            let admin = rig.cluster().admin_kubeconfig().display().to_string();
            let text = fs::read_to_string(&config)?
                .replace(&admin, &kubeconfig.display().to_string())
                .replace(
                    &format!("nodeName: {NODE_NAME}"),
                    &format!("nodeName: {}", NODES[number]),
                );
            fs::write(&config, text)?;
            guard.restart()?;
        }
        for guard in &mut guards {
            guard.wait_until("everything is known", |status| status["synced"] == true)?;
        }
        Ok(Self { rig, guards })
    }

    fn get(&self, path: &str) -> Result<Value> {
        self.rig.cluster().admin().get(path)
    }

    /// Waits until the status of a policy is so.
    fn told(&self, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut last = Value::Null;
        let found = wait::found(&format!("{name}: {what}"), || {
            last = self.get(&format!("{}/{name}", policies::PATH))?["status"].clone();
            Ok(is_so(&last).then(|| last.clone()))
        });
        found.with_context(|| format!("{last:#}"))
    }

    fn settled(&self, name: &str, generation: u64) -> Result<Value> {
        self.told(name, "every node decides by it", |status| {
            let [accepted, programmed] = [condition(status, "Accepted"), condition(status, "Programmed")];
            accepted["status"] == "True"
                && programmed["status"] == "True"
                && programmed["observedGeneration"] == generation
                && status["nodes"] == "2/2"
        })
    }

    /// Which of the two is elected; none: none yet.
    fn writer(&self) -> Result<Option<usize>> {
        let lease = self.get(&format!("{LEASES}/policy-status"))?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let is_holder = |node: &&str| holder.rsplit_once('_').is_some_and(|(name, _)| name == *node);
        Ok(NODES.iter().position(is_holder))
    }

    fn elected(&self, is_it: impl Fn(usize) -> bool) -> Result<usize> {
        wait::found("a node is elected", || {
            Ok(self.writer()?.filter(|node| is_it(*node)))
        })
    }

    /// `eks-guard policy status …` as a person.
    fn ask(&self, words: &[&str]) -> Result<Output> {
        let place = Place {
            netns: Some(self.rig.network().node.path()),
            ..Place::default()
        };
        let mut asked = leash::hold_in(&place, &programs::eks_guard()?)?;
        asked.args(["policy", "status", "--kubeconfig"]);
        asked.arg(self.rig.cluster().admin_kubeconfig()).args(words);
        command::run(asked)
    }

    /// What kubectl shows of a policy: ACCEPTED, REASON, PROGRAMMED and NODES.
    fn shown(&self, name: &str) -> Result<String> {
        let row = self
            .rig
            .cluster()
            .kubectl(&["get", "agentpolicies", "--no-headers", name])?;
        let row = row.ok()?;
        let cells: Vec<&str> = row.split_whitespace().collect();
        Ok(cells.get(3..7).with_context(|| row.clone())?.join(" "))
    }
}

/// What a cluster with nodes has, and nothing that another test has left.
fn install(rig: &NodeRig) -> Result<()> {
    let cluster = rig.cluster();
    policies::install(cluster)?;
    let file = programs::workspace().join("deploy/rbac.yaml");
    let file = file.display().to_string();
    cluster.kubectl(&["apply", "--server-side", "-f", &file])?.ok()?;
    cluster
        .kubectl(&["delete", "leases", "--all", "-n", "eks-guard"])?
        .ok()?;
    cluster.kubectl(&["delete", "agentpolicies", "--all"])?.ok()?;
    let [_, second] = ACCOUNTS;
    let subject = json!({"kind": "ServiceAccount", "name": second, "namespace": "eks-guard"});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": second, "namespace": "eks-guard"}});
    cluster.apply("second-account", &account.to_string())?;
    for (kind, namespace) in [("ClusterRole", None), ("Role", Some("eks-guard"))] {
        let mut binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": format!("{kind}Binding"),
            "metadata": {"name": second},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "eks-guard:node"},
            "subjects": [subject],
        });
        if let Some(namespace) = namespace {
            binding["metadata"]["namespace"] = json!(namespace);
        }
        cluster.apply(&format!("second-{kind}"), &binding.to_string())?;
    }
    cluster.wait_for(&format!("{RBAC}/namespaces/eks-guard/rolebindings/{second}"))
}

/// A policy with a rule of these verbs.
fn policy(name: &str, verbs: &[&str]) -> Value {
    policies::reading(name, verbs, &["pods"])
}

/// The same with a mistake that no schema sees.
fn broken(name: &str) -> Value {
    let mut policy = policy(name, &["get"]);
    policy["spec"]["rules"][0]["conditions"] = json!([{"name": "half", "expression": "object.spec."}]);
    policy
}

fn condition<'s>(status: &'s Value, kind: &str) -> &'s Value {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions
        .find(|condition| condition["type"] == kind)
        .unwrap_or(&Value::Null)
}

/// A node's Lease, written by nobody who is a node.
fn lease(node: &str, renewed: &str, said: &str) -> Value {
    json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": format!("node-{node}"), "labels": {"eks-guard.dev/lease": "node"},
            "annotations": {"eks-guard.dev/policies": said},
        },
        "spec": {"holderIdentity": node, "renewTime": renewed},
    })
}

#[test]
fn what_became_of_a_policy_is_written_once_by_one_node() -> Result<()> {
    let rig = shared()?;
    let fleet = Fleet::start(rig)?;
    let audit = rig.cluster().audit();
    let mark = audit.mark()?;
    rig.cluster()
        .apply("good", &policy("good", &["get"]).to_string())?;
    fleet.settled("good", 1)?;
    ensure!(
        fleet.shown("good")? == "True Valid True 2/2",
        "{}",
        fleet.shown("good")?
    );
    let asked = fleet.ask(&["-o", "json"])?;
    let said: Value = serde_json::from_str(&asked.stdout).with_context(|| format!("{asked:?}"))?;
    let nodes = said["policies"][0]["nodes"].as_array().context("nodes")?;
    ensure!(
        asked.code == 0 && said["policies"][0]["ready"] == true && nodes.len() == 2,
        "{asked:?}"
    );
    ensure!(
        nodes
            .iter()
            .all(|node| node["state"] == "Current" && node["generation"] == 1),
        "{asked:?}"
    );
    a_policy_that_cannot_be_used(&fleet)?;

    let writer = fleet.elected(|_| true)?;
    let writes = writes(&audit.since(mark)?);
    let wanted = format!("system:serviceaccount:eks-guard:{}", ACCOUNTS[writer]);
    ensure!(
        !writes.is_empty() && writes.iter().all(|write| write.user == wanted),
        "{writes:#?}"
    );
    nothing_changes_any_more(&fleet)?;
    for guard in &fleet.guards {
        let problems = guard.status()?["problems"].to_string();
        ensure!(!problems.contains("must be allowed"), "{problems}");
    }
    Ok(())
}

fn a_policy_that_cannot_be_used(fleet: &Fleet<'_>) -> Result<()> {
    fleet.rig.cluster().apply("bad", &broken("bad").to_string())?;
    let status = fleet.told("bad", "it cannot be used", |status| status["nodes"] == "2/2")?;
    ensure!(
        fleet.shown("bad")? == "False Invalid True 2/2",
        "{}",
        fleet.shown("bad")?
    );
    let rule = &status["rules"][0];
    ensure!(
        rule["name"] == "read" && rule["message"].as_str().is_some_and(|text| !text.is_empty()),
        "{status:#}"
    );
    let asked = fleet.ask(&["bad"])?;
    ensure!(
        asked.code == 1 && asked.stdout.contains("rule read: ") && asked.stdout.contains("next: correct it"),
        "{asked:?}"
    );
    let asked = fleet.ask(&["no-such-policy"])?;
    ensure!(
        asked.code == 2 && asked.stderr.contains("no policy no-such-policy"),
        "{asked:?}"
    );
    Ok(())
}

/// The Leases go on being renewed, and nothing else is written.
fn nothing_changes_any_more(fleet: &Fleet<'_>) -> Result<()> {
    let audit = fleet.rig.cluster().audit();
    let mark = audit.mark()?;
    for name in ["policy-status", "node-node-a", "node-node-b"] {
        let path = format!("{LEASES}/{name}");
        let renewed = fleet.get(&path)?["spec"]["renewTime"].clone();
        wait::until(&format!("{name} is renewed"), || {
            Ok(fleet.get(&path)?["spec"]["renewTime"] != renewed)
        })?;
    }
    let writes = writes(&audit.since(mark)?);
    ensure!(writes.is_empty(), "{writes:#?}");
    Ok(())
}

/// What was written into the status of policies.
fn writes(events: &[AuditEvent]) -> Vec<AuditEvent> {
    let is_write = |event: &&AuditEvent| {
        let object = event.object.as_ref();
        let object = object.map(|object| (object.resource.as_str(), object.subresource.as_str()));
        object == Some(("agentpolicies", "status")) && event.verb != "get"
    };
    events.iter().filter(is_write).cloned().collect()
}

#[test]
fn a_node_that_is_silent_or_lies_is_named_and_misleads_nobody() -> Result<()> {
    let rig = shared()?;
    let fleet = Fleet::start(rig)?;
    let admin = rig.cluster().admin();
    rig.cluster()
        .apply("spoken", &policy("spoken", &["get"]).to_string())?;
    fleet.settled("spoken", 1)?;
    let uid = fleet.get(&format!("{}/spoken", policies::PATH))?["metadata"]["uid"].clone();
    let uid = uid
        .as_str()
        .and_then(|uid| uid.get(..8))
        .context("a UID")?
        .to_owned();

    // It says the right thing, and said it long ago.
    let ghost = lease("ghost", "2020-01-01T00:00:00.000000Z", &format!("{uid}:1"));
    admin.create(LEASES, &ghost)?;
    let silent = |status: &Value| condition(status, "Programmed")["reason"] == "NodesSilent";
    let status = fleet.told("spoken", "a node is silent", silent)?;
    let programmed = condition(&status, "Programmed");
    ensure!(
        programmed["status"] == "Unknown" && programmed["message"].to_string().contains("silent: ghost"),
        "{status:#}"
    );
    ensure!(status["nodes"] == "2/3", "{status:#}");
    let asked = fleet.ask(&[])?;
    ensure!(
        asked.code == 1
            && asked
                .stdout
                .contains("kubectl delete lease -n eks-guard node-ghost"),
        "{asked:?}"
    );

    // As long as a Lease may be, and full of what no node says: it says nothing, however lively it is.
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let liar = lease("liar", &now, &format!("{uid}:1 ").repeat(20_000));
    admin.create(LEASES, &liar)?;
    let behind = |status: &Value| condition(status, "Programmed")["reason"] == "NodesBehind";
    let status = fleet.told("spoken", "a node says nothing of it", behind)?;
    ensure!(
        status["nodes"] == "2/4"
            && condition(&status, "Programmed")["message"]
                .to_string()
                .contains("not yet: liar"),
        "{status:#}"
    );
    for node in ["ghost", "liar"] {
        let deleted = admin.request("DELETE", &format!("{LEASES}/node-{node}"), &[], b"")?;
        ensure!(deleted.status == 200, "{deleted:?}");
    }
    fleet.settled("spoken", 1)?;

    // What somebody else writes into a status does not stay.
    let lie = json!({"status": {"nodes": "7/7"}});
    admin.merge(&format!("{}/spoken/status", policies::PATH), &lie)?;
    fleet.settled("spoken", 1)?;
    Ok(())
}

#[test]
fn the_next_node_writes_when_the_writer_is_killed() -> Result<()> {
    let rig = shared()?;
    let mut fleet = Fleet::start(rig)?;
    rig.cluster()
        .apply("inherited", &policy("inherited", &["get"]).to_string())?;
    fleet.settled("inherited", 1)?;
    let first = fleet.elected(|_| true)?;
    fleet.guards[first].kill()?;
    let more = policy("inherited", &["get", "list"]);
    rig.cluster().apply("inherited", &more.to_string())?;
    let second = fleet.elected(|node| node != first)?;
    let behind = |status: &Value| {
        condition(status, "Programmed")["observedGeneration"] == 2 && status["nodes"] == "1/2"
    };
    let status = fleet.told("inherited", "the other node decides by it", behind)?;
    let message = condition(&status, "Programmed")["message"].to_string();
    ensure!(message.contains(NODES[first]), "{status:#}");
    let silent = |status: &Value| condition(status, "Programmed")["reason"] == "NodesSilent";
    let status = fleet.told("inherited", "the dead node is silent", silent)?;
    ensure!(
        condition(&status, "Programmed")["message"]
            .to_string()
            .contains(&format!("silent: {}", NODES[first])),
        "{status:#}"
    );

    fleet.guards[first].restart()?;
    fleet.settled("inherited", 2)?;
    // One that is asked to end has given the Lease back when it has ended: nobody need wait until it is over.
    fleet.guards[second].signal(Signal::TERM)?;
    fleet.guards[second].ended()?;
    ensure!(fleet.writer()? != Some(second), "the Lease is kept");
    fleet.elected(|node| node == first)?;
    Ok(())
}
