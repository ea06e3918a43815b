//! The boundary of a node's agents: whom the daemon names, tried from inside their pods.

use std::path::PathBuf;

use eks_guard_core::catalogue::report::{Facts, ProfileReport, Report};
use jiff::Timestamp;
use serde_json::json;

use crate::config::Surroundings as Machine;
use crate::ebpf::loader;
use crate::ebpf::node::has_tcx;
use crate::node::NODE_NAME;
use crate::node::config::NodeConfig;
use crate::node::daemon::kubepods_root;
use crate::node::status::{Status, ask};
use crate::node::trial::{Compare, Surroundings, Target, open_probe, targets, try_pod};
use crate::probe::profile::Profile;
use crate::telemetry::say;
use crate::verify::args::VerifyArgs;
use crate::verify::error::VerifyError;
use crate::verify::facts::hex;

/// What this kernel cannot close to agents, whatever the guard does.
fn not_closed(status: &Status) -> Vec<String> {
    const NO_TCX: &str = "raw frames of agents are stopped for closed addresses only and not held to allow lists: this \
                          kernel is older than 6.6";
    const NO_FILTER: &str = "what the node rewrites is not looked at again, so every agent is held to its allow list: the \
                             packet filter is missing";
    let missing = [(has_tcx(), NO_TCX), (status.forwarding_closed, NO_FILTER)];
    let missing = missing.into_iter().filter(|(is_there, _)| !is_there);
    missing.map(|(_, text)| text.to_owned()).collect()
}

impl VerifyArgs {
    /// Tries every agent of this node, or those that were named. The folder of the daemon's state comes with it.
    pub(crate) fn verify_node(
        &self,
        around: &Machine,
        now: Timestamp,
    ) -> Result<(Report, PathBuf), VerifyError> {
        let probe = open_probe(&self.probe()?)?;
        let config = self.node_config(around)?;
        let status = ask(&config.state)?;
        let root = kubepods_root(&config).map_err(VerifyError::Node)?;
        let targets = self.chosen(targets(&status, &root)?)?;
        let mut surroundings = Surroundings::of(&status, &config)?;
        surroundings.aliases.clone_from(&self.aliases);
        surroundings.relays.clone_from(&self.relays);
        let profiles = if self.profiles.is_empty() {
            Profile::ALL.to_vec()
        } else {
            self.profiles.clone()
        };
        let mut found: Vec<ProfileReport> = Vec::new();
        for target in &targets {
            say(&format!("trying every route from inside pod {}", target.pod));
            found.extend(try_pod(
                target,
                &profiles,
                &surroundings,
                &probe,
                Compare::WithTheNode,
            )?);
        }
        let asked = json!({
            "node": status.node, "api": status.api, "policyGeneration": status.policy_generation,
            "config": format!("{config:?}"),
        });
        let facts = Facts {
            kernel: around.kernel.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boundary: "node".to_owned(),
            program_tags: loader::program_tags(loader::Programs::OfANode)?,
            config_digest: hex(asked.to_string().as_bytes()),
            time: now.to_string(),
            not_closed: not_closed(&status),
            lost: status.lost.clone(),
        };
        let report = Report {
            facts,
            profiles: found,
        };
        Ok((report, config.state))
    }

    /// The configuration of the daemon.
    pub(crate) fn node_config(&self, around: &Machine) -> Result<NodeConfig, VerifyError> {
        let node_name = around.variable(NODE_NAME);
        let node_name = node_name.map(|name| name.to_string_lossy().into_owned());
        Ok(NodeConfig::load(&self.config, node_name.as_deref())?)
    }

    /// Those that were named; all when none was.
    fn chosen(&self, mut targets: Vec<Target>) -> Result<Vec<Target>, VerifyError> {
        for name in &self.pods {
            if !targets.iter().any(|target| target.pod == *name) {
                let known: Vec<&str> = targets.iter().map(|target| target.pod.as_str()).collect();
                return Err(VerifyError::NoPod(format!(
                    "no agent {name} with a process runs on this node; those that do: {}",
                    known.join(", ")
                )));
            }
        }
        targets.retain(|target| self.pods.is_empty() || self.pods.contains(&target.pod));
        if targets.is_empty() {
            return Err(VerifyError::NoPod(
                "no agent with a process runs on this node: start one, and see `eks-guard node status`"
                    .to_owned(),
            ));
        }
        Ok(targets)
    }
}
