//! The container runtime waits: a pod's first instruction finds it classified, and its listener there.

use std::path::Path;

use anyhow::{Result, ensure};
use rig::command::{self, Output};
use rig::node::{API_PORT, API_SERVICE, Families, Layout, Pod, Profile, shared};
use rig::nri::{Dialect, PodSandbox, Runtime};
use serde_json::json;

use crate::guard::{Guard, row};
use crate::reach::{direct_packets, spec};

fn sandbox(pod: &Pod<'_>) -> PodSandbox {
    let spec = pod.spec();
    PodSandbox {
        id: format!("sandbox-of-{}", pod.uid()),
        name: spec.name.clone(),
        uid: pod.uid().to_owned(),
        namespace: spec.namespace.clone(),
        labels: spec.labels.clone().into_iter().collect(),
    }
}

/// A process of the pod whose first deed is a connection; no certificate is looked at, because the pod has no files yet.
fn connect(pod: &Pod<'_>) -> Result<Output> {
    let server = API_SERVICE.sockets(Families::V4, API_PORT)[0];
    let url = format!("https://{server}/version");
    let mut curl = pod.command(Profile::Restricted, Path::new("/usr/bin/curl"))?;
    curl.args(["--silent", "--insecure", "--show-error", "--max-time", "60", &url]);
    command::run(curl)
}

#[test]
fn the_first_instruction_of_a_pod_is_redirected() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[0], "beginnings");
    rig.cluster().create_namespace(namespace)?;
    let socket = tempfile::tempdir_in(rig.cluster().folder())?;
    let socket = socket.path().join("nri.sock");
    let runtime = Runtime::listen(&socket)?;
    let more = format!("  nri: {{mode: required, socket: {}}}\n", socket.display());
    let mut guard = Guard::start_with(rig, layout, |_| more.clone())?;
    let mut session = runtime.accept()?;
    guard.wait_until("the runtime is connected", |status| {
        status["nriConnected"] == true
    })?;
    for (number, dialect) in [Dialect::RunPodSandbox, Dialect::StateChange]
        .into_iter()
        .cycle()
        .take(6)
        .enumerate()
    {
        let agent = rig.run_pod(&spec(rig, layout, namespace, &format!("agent-{number}"), true))?;
        let ordinary = rig.run_pod(&spec(
            rig,
            layout,
            namespace,
            &format!("ordinary-{number}"),
            false,
        ))?;
        let before = direct_packets(rig, &agent.addresses())?;
        for pod in [&agent, &ordinary] {
            session.run_pod_sandbox(&sandbox(pod), dialect)?;
            session.create_container(&sandbox(pod))?;
            let answer = connect(pod)?;
            ensure!(
                answer.code == 0 && answer.stdout.contains("gitVersion"),
                "{dialect:?}: {answer:?}"
            );
        }
        ensure!(
            direct_packets(rig, &agent.addresses())? == before,
            "a packet arrived"
        );
        let status = guard.status()?;
        let wires = row(&status, agent.uid()).and_then(|row| row["interfaces"].as_array());
        ensure!(
            wires.is_some_and(|wires| wires.len() == 1),
            "the agent's cable is open: {status:#}"
        );
    }

    // An agent that nobody has told of is held back, and then refused; a pod without the label begins, and reaches nothing.
    let stranger = |labels| PodSandbox {
        id: "sandbox".to_owned(),
        name: "stranger".to_owned(),
        uid: "0f2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b".to_owned(),
        namespace: namespace.to_owned(),
        labels,
    };
    let label = ("eks-guard.dev/agent".to_owned(), "shop".to_owned());
    let refused = session.run_pod_sandbox(&stranger([label].into()), Dialect::RunPodSandbox);
    let refused = refused.expect_err("an unknown agent began").to_string();
    ensure!(
        refused.contains("does not serve the agent beginnings/stranger yet"),
        "{refused}"
    );
    session.run_pod_sandbox(&stranger([].into()), Dialect::StateChange)?;

    // The runtime goes away and comes back; meanwhile the status says what that means.
    drop(session);
    guard.wait_until("the loss is said", |status| {
        status["nriConnected"] == false
            && status["problems"].as_array().is_some_and(|problems| {
                problems
                    .iter()
                    .any(|problem| problem.as_str().is_some_and(|text| text.contains("runtime")))
            })
    })?;
    let _again = runtime.accept()?;
    guard.wait_until("the runtime is connected again", |status| {
        status["nriConnected"] == true && status["problems"] == json!([])
    })?;
    Ok(())
}
