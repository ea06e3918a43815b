//! The demo: the main job of eks-guard on real parts, told as a story in which every sentence is checked.
//! `story` says what is done and promised, `stage` does it, `narrator` prints it.

mod narrator;
mod stage;
mod story;

use anyhow::Result;

use crate::cluster::{Cluster, ClusterOptions};
use crate::demo::narrator::Narrator;
use crate::demo::stage::Stage;

/// Plays the story against a fresh cluster; returns whether everything happened as promised.
/// `leave` is called at the end with everything still running.
///
/// # Errors
/// A part does not start, or breaks.
pub fn play(leave: impl FnOnce(&Cluster) -> Result<()>) -> Result<bool> {
    let narrator = Narrator::new();
    narrator.chapter("A real API server");
    let cluster = Cluster::start(ClusterOptions::default())?;
    narrator.say(&format!(
        "etcd, kube-apiserver and kube-controller-manager listen on {} after {:.1} s, with RBAC and an audit log.",
        cluster.server(),
        cluster.started_in().as_secs_f64()
    ));
    story::furnish(&cluster)?;
    let stolen = cluster.service_account_token(story::NAMESPACE, "stolen", "cluster-admin")?;

    narrator.chapter("An agent behind the guard");
    narrator.say(
        "The operator's kubeconfig may do everything. The agent is started with `eks-guard run` under this policy:",
    );
    narrator.text(story::POLICY);
    let mut stage = Stage::open(&cluster, &stolen)?;
    narrator
        .say("eks-guard has put the agent's shell into a cgroup of its own; from here on the agent types.");

    let mut outcomes = Vec::new();
    for step in story::steps(&cluster) {
        let outcome = stage.play(&step)?;
        narrator.step(&step, &outcome);
        outcomes.push((step, outcome));
    }
    let record = stage.close()?;
    narrator.chapter("The record");
    narrator.say("What the operator finds afterwards, with `eks-guard sessions show latest`:");
    narrator.text(&record.shown);
    outcomes.push(record.check());

    narrator.chapter("Promised and happened");
    narrator.table(&outcomes);
    leave(&cluster)?;
    Ok(outcomes.iter().all(|(_, outcome)| outcome.kept()))
}
