//! Files that change under a running daemon: its configuration, of which the last good one stays in force, and the policies.

use std::path::PathBuf;

use crate::node::config::NodeConfig;
use crate::node::policies::{Policies, PoliciesError};
use crate::telemetry::chain;

/// The configuration file and what is wrong with it and with the policies.
pub(crate) struct Reload {
    file: PathBuf,
    node_name: Option<String>,
    in_force: NodeConfig,
    config_problem: Option<String>,
    policy_problem: Option<String>,
}

impl Reload {
    pub(crate) fn of(file: PathBuf, node_name: Option<String>, in_force: NodeConfig) -> Self {
        Self {
            file,
            node_name,
            in_force,
            config_problem: None,
            policy_problem: None,
        }
    }

    /// Takes in what has changed of the policies.
    pub(super) fn look_at_policies(&mut self, policies: &mut Policies) {
        match policies.reload() {
            Ok(true) => self.policy_problem = None,
            // Unread changes are what they were: a mistake stays one until the file changes.
            Ok(false) => {}
            Err(error) => {
                let consequence = match &error {
                    PoliciesError::Mistakes(_) => "agents that they are about are refused everything",
                    PoliciesError::Read { .. } | PoliciesError::TooMany => "the policies in force are older",
                };
                note(&mut self.policy_problem, consequence, &error);
            }
        }
    }

    /// Looks at the configuration; one that is to be put in force comes back.
    pub(super) fn look_at_config(&mut self) -> Option<NodeConfig> {
        match NodeConfig::load(&self.file, self.node_name.as_deref()) {
            Ok(config) if config == self.in_force => {
                self.config_problem = None;
                None
            }
            Ok(config) if config.needs_restart(&self.in_force) => {
                let text = "the configuration changes what is opened at the start; restart eks-guard node";
                self.config_problem = Some(text.to_owned());
                None
            }
            Ok(config) => {
                self.config_problem = None;
                self.in_force = config.clone();
                Some(config)
            }
            Err(error) => {
                note(
                    &mut self.config_problem,
                    "the configuration in force is older",
                    &error,
                );
                None
            }
        }
    }

    pub(super) fn problems(&self) -> impl Iterator<Item = String> {
        self.config_problem.iter().chain(&self.policy_problem).cloned()
    }
}

/// Says a mistake once.
fn note(problem: &mut Option<String>, consequence: &str, error: &dyn std::error::Error) {
    let text = format!("{consequence}: {}", chain(error));
    if problem.as_ref() != Some(&text) {
        tracing::error!("{text}");
        *problem = Some(text);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::node::config::PolicySource;

    const CONFIG: &str = "apiVersion: eks-guard.dev/v1alpha1\nkind: NodeConfig\nspec:\n  nodeName: node-a\n  upstream: {kubeconfig: /k}\n";

    #[test]
    fn the_last_good_files_stay_in_force_and_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("node.yaml");
        fs::write(&file, CONFIG).unwrap();
        let config = NodeConfig::load(&file, None).unwrap();
        let policies_of = |folder: &Path| Policies::of(&PolicySource::Folder(folder.to_owned()), folder);
        let mut policies = policies_of(folder.path());
        let mut reload = Reload::of(file.clone(), None, config);
        let problems = |reload: &Reload| reload.problems().collect::<Vec<_>>();

        // The configuration is no policy, and that folder is the policies' own.
        reload.look_at_policies(&mut policies);
        assert!(problems(&reload)[0].contains("are refused everything: policies have mistakes: "));
        let policy_folder = tempfile::tempdir().unwrap();
        let mut policies = policies_of(policy_folder.path());
        reload.look_at_policies(&mut policies);
        assert_eq!(problems(&reload), [""; 0]);

        fs::write(&file, "kind: [").unwrap();
        assert_eq!(reload.look_at_config(), None);
        assert!(
            problems(&reload)[0].contains("node.yaml:"),
            "{:?}",
            problems(&reload)
        );
        fs::write(&file, CONFIG.replace("node-a", "node-b")).unwrap();
        assert_eq!(reload.look_at_config(), None);
        assert!(problems(&reload)[0].contains("restart"));
        fs::write(&file, format!("{CONFIG}  agentLabel: a/b\n")).unwrap();
        assert_eq!(reload.look_at_config().unwrap().agent_label, "a/b");
        assert_eq!((reload.look_at_config(), problems(&reload).len()), (None, 0));
    }
}
