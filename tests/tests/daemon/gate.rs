//! The container runtime waits: a pod's first instruction finds it classified, and its listener there.

use std::path::Path;

use anyhow::{Result, ensure};
use rig::command::{self, Output};
use rig::daemon::{Guard, row};
use rig::node::{API_PORT, API_SERVICE, Families, Layout, NodeRig, Pod, Profile, shared};
use rig::nri::{Dialect, PodSandbox, Runtime, Session};
use serde_json::json;
use tempfile::TempDir;

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

/// A runtime, and a daemon that is its plugin.
struct Held<'a> {
    guard: Guard<'a>,
    session: Session,
    runtime: Runtime,
    _folder: TempDir,
}

impl<'a> Held<'a> {
    fn start(rig: &'a NodeRig, layout: Layout) -> Result<Self> {
        let folder = tempfile::tempdir_in(rig.cluster().folder())?;
        let socket = folder.path().join("nri.sock");
        let runtime = Runtime::listen(&socket)?;
        let more = format!("  nri: {{mode: required, socket: {}}}\n", socket.display());
        let mut guard = Guard::start_with(rig, layout, &more)?;
        let session = runtime.accept()?;
        guard.wait_until("the runtime is connected", |status| {
            status["nriConnected"] == true
        })?;
        Ok(Self {
            guard,
            session,
            runtime,
            _folder: folder,
        })
    }
}

#[test]
fn the_first_instruction_of_a_pod_is_redirected() -> Result<()> {
    let (rig, layout, namespace) = (shared()?, Layout::ALL[0], "beginnings");
    rig.cluster().create_namespace(namespace)?;
    let Held {
        guard,
        mut session,
        runtime: _runtime,
        _folder,
    } = Held::start(rig, layout)?;
    let dialects = [Dialect::RunPodSandbox, Dialect::StateChange];
    for (number, dialect) in dialects.into_iter().cycle().take(6).enumerate() {
        let run = |name: &str, is_agent| {
            rig.run_pod(&spec(
                rig,
                layout,
                namespace,
                &format!("{name}-{number}"),
                is_agent,
            ))
        };
        let (agent, ordinary) = (run("agent", true)?, run("ordinary", false)?);
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
    Ok(())
}

#[test]
fn an_agent_that_is_not_served_does_not_begin_and_a_lost_runtime_is_said() -> Result<()> {
    let rig = shared()?;
    let Held {
        mut guard,
        mut session,
        runtime,
        _folder,
    } = Held::start(rig, Layout::ALL[1])?;
    // Nobody has told of it. One without the label begins, and reaches nothing.
    let stranger = |labels| PodSandbox {
        id: "sandbox".to_owned(),
        name: "stranger".to_owned(),
        uid: "0f2a9c4e-1b7d-4e8a-9c3f-5d6e7f809a1b".to_owned(),
        namespace: "nowhere".to_owned(),
        labels,
    };
    let label = ("eks-guard.dev/agent".to_owned(), "shop".to_owned());
    let refused = session.run_pod_sandbox(&stranger([label].into()), Dialect::RunPodSandbox);
    let refused = refused.expect_err("an unknown agent began").to_string();
    ensure!(
        refused.contains("does not serve the agent nowhere/stranger yet"),
        "{refused}"
    );
    session.run_pod_sandbox(&stranger([].into()), Dialect::StateChange)?;

    drop(session);
    guard.wait_until("the loss is said", |status| {
        let problems = status["problems"].as_array();
        let mut texts = problems
            .into_iter()
            .flatten()
            .filter_map(serde_json::Value::as_str);
        status["nriConnected"] == false && texts.any(|text| text.contains("container runtime"))
    })?;
    let _again = runtime.accept()?;
    guard.wait_until("the runtime is connected again", |status| {
        status["nriConnected"] == true && status["problems"] == json!([])
    })?;
    Ok(())
}
