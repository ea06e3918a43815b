//! Pods that are nobody's agents: whatever a process can try, it reaches with the guard what it reaches without.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::Stdio;
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use eks_guard_core::catalogue::Boundary;
use eks_guard_core::catalogue::probe::{Answer, Place, Plan};
use rig::node::{
    API, API_PORT, API_SERVICE, Layout, NodeRig, OTHER_CLUSTER, Pod, PodSpec, Profile, Relay, shared,
};
use rig::{cgroups, leash, programs};

use crate::guard::{Guard, row};
use crate::reach::{direct_packets, spec};

/// With few rights and with many: most routes need some.
const PROFILES: [Profile; 2] = [Profile::Restricted, Profile::NetAdmin];
/// Routes that a guard closes, and that are open to everybody else: they show that the probes reach at all.
const OPEN: [&str; 5] = ["N01", "N02", "N03", "N06", "N10"];

/// Common name of the guard's authority.
const GUARD: &str = "eks-guard run CA";

/// What became of every route, by its id.
type Verdicts = BTreeMap<String, String>;

#[test]
fn ordinary_and_system_pods_reach_what_they_reach_without_a_guard() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[3], "others");
    rig.cluster().create_namespace(namespace)?;
    rig.cluster()
        .create_service_account(namespace, "node-agent", "view")?;
    let ordinary = rig.run_pod(&spec(rig, layout, namespace, "ordinary", false))?;
    let system = rig.run_pod(&PodSpec {
        service_account: "node-agent".to_owned(),
        ..spec(rig, layout, namespace, "system", false)
    })?;
    let agent = rig.run_pod(&spec(rig, layout, namespace, "agent", true))?;
    let relay = rig.run_relay(&PodSpec::new(rig, namespace, "relay"))?;
    let plan = plan(rig, &relay)?;
    let pods = [&ordinary, &system];
    let without = try_all(&plan, &pods)?;

    let mut guard = Guard::prepare(rig, layout)?;
    let mut config = OpenOptions::new().append(true).open(guard.file("node.yaml"))?;
    writeln!(
        config,
        "  systemPods: [{{namespace: {namespace}, serviceAccount: node-agent}}]"
    )?;
    guard.restart()?;
    guard.wait_until("every pod is classified", |status| {
        let is = |pod: &Pod<'_>, class| row(status, pod.uid()).is_some_and(|row| row["class"] == class);
        is(&ordinary, "ordinary") && is(&system, "system") && is(&agent, "agent")
    })?;
    let with = try_all(&plan, &pods)?;

    for ((pod, without), with) in pods.iter().zip(&without).zip(&with) {
        for ((profile, without), with) in PROFILES.iter().zip(without).zip(with) {
            println!("{}, {profile:?}: {with:?}", pod.spec().name);
            ensure!(without == with, "{profile:?}: {}", differences(without, with));
            for id in OPEN {
                ensure!(
                    with.get(id).is_some_and(|word| word == "REACHED"),
                    "{id}: {with:?}"
                );
            }
        }
    }
    // The same programs on the same node stop an agent. Whether a frame written by hand was dropped on the node, its process
    // cannot see; the API server can.
    let before = direct_packets(rig, &agent.addresses())?;
    let stopped = verdicts(&plan, &agent, Profile::NetAdmin)?;
    for id in OPEN {
        ensure!(
            stopped.get(id).is_some_and(|word| word != "REACHED"),
            "{id}: {stopped:?}"
        );
    }
    let arrived = direct_packets(rig, &agent.addresses())? - before;
    ensure!(
        arrived == 0,
        "{arrived} packets of the agent came to the API server"
    );
    Ok(())
}

/// By pod and by profile; the pods at the same time.
fn try_all(plan: &Plan, pods: &[&Pod<'_>]) -> Result<Vec<Vec<Verdicts>>> {
    let of_pod = |pod: &Pod<'_>| -> Result<Vec<Verdicts>> {
        PROFILES
            .iter()
            .map(|profile| verdicts(plan, pod, *profile))
            .collect()
    };
    thread::scope(|scope| {
        let running: Vec<_> = pods.iter().map(|pod| scope.spawn(|| of_pod(pod))).collect();
        let ended = running.into_iter().map(|pod| pod.join());
        ended
            .map(|pod| pod.unwrap_or_else(|_| bail!("a thread panicked")))
            .collect()
    })
}

fn verdicts(plan: &Plan, pod: &Pod<'_>, profile: Profile) -> Result<Verdicts> {
    let mut probe = pod.command(profile, &programs::probe()?)?;
    probe.arg("suite").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut probe = leash::spawn(probe)?;
    let mut orders = probe.stdin.take().context("piped")?;
    serde_json::to_writer(&mut orders, plan)?;
    writeln!(orders)?;
    drop(orders);
    let output = probe.wait_with_output()?;
    let lines = output.stdout.split(|byte| *byte == b'\n');
    let mut verdicts = Verdicts::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let answer: Answer = serde_json::from_slice(line)?;
        verdicts.insert(answer.id, answer.result.word().to_owned());
    }
    ensure!(
        !verdicts.is_empty(),
        "the probe said nothing: {:?}",
        output.status
    );
    Ok(verdicts)
}

/// Nobody stands outside a boundary here, so nothing is handed in from there.
fn plan(rig: &NodeRig, relay: &Relay<'_>) -> Result<Plan> {
    let families = rig.families();
    Ok(Plan {
        boundary: Boundary::Pod,
        api: API.sockets(families, API_PORT),
        place: Place::Elsewhere,
        guard: GUARD.to_owned(),
        aliases: API_SERVICE.sockets(families, API_PORT),
        relays: relay.sockets().to_vec(),
        kubelets: rig.fixtures().kubelet.sockets().to_vec(),
        other_clusters: OTHER_CLUSTER.sockets(families, API_PORT),
        witness: None,
        abstract_socket: None,
        unconnected_fd: None,
        connected_fd: None,
        older: false,
        credentials: Vec::new(),
        cgroup2: Some(cgroups::mount()?),
        patience_ms: 1_000,
    })
}

fn differences(without: &Verdicts, with: &Verdicts) -> String {
    let differing = without.iter().filter(|(id, word)| with.get(*id) != Some(word));
    let lines = differing.map(|(id, word)| format!("{id}: {word} without a guard, {:?} with", with.get(id)));
    lines.collect::<Vec<_>>().join("; ")
}
