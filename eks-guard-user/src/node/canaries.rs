//! The agents of this node, tried again and again: a few rows of the catalogue each, one for every layer. What they come to is in
//! the status, the metrics and the node's condition.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use uuid::Uuid;

use crate::node::config::NodeConfig;
use crate::node::status::Status;
use crate::node::trial::{Surroundings, Target, TrialError, open_probe, targets, try_canaries};
use crate::telemetry::chain;

/// Pods that are tried at the same time: most of a trial is waiting.
const AT_ONCE: usize = 8;
/// Pause before what could not be tried yet is tried again.
const NOT_YET: Duration = Duration::from_secs(2);

/// What the last trial of a pod came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// When it ended.
    pub time: Timestamp,
    /// What speaks against the boundary, one sentence each; none: it holds.
    pub problems: Vec<String>,
}

/// The last trial of each pod, by UID.
pub type Trials = BTreeMap<String, Trial>;

/// What a round needs.
pub(crate) struct Canaries {
    /// The configuration: other clusters are tried too.
    pub(crate) config: NodeConfig,
    /// Root of the pods' cgroups.
    pub(crate) root: PathBuf,
    /// Where the probe is.
    pub(crate) probe: PathBuf,
    /// From the end of a round to the next.
    pub(crate) interval: Duration,
}

impl Canaries {
    /// Goes on until nobody wants to know any more.
    pub(crate) async fn run(self, status: watch::Receiver<Status>, trials: watch::Sender<Trials>) {
        let canaries = Arc::new(self);
        loop {
            let known = status.borrow().clone();
            // With a layer lost it is worth knowing what the others hold.
            let is_ready = known.synced && (known.attached || !known.lost.is_empty());
            if is_ready {
                let (round, canaries) = (known.clone(), Arc::clone(&canaries));
                let before = trials.borrow().clone();
                let found = spawn_blocking(move || canaries.round(&round, &before)).await;
                if trials.send(found.unwrap_or_default()).is_err() {
                    return;
                }
            }
            let has_agents = known.pods.iter().any(|pod| pod.agent.is_some());
            sleep(if is_ready && has_agents {
                canaries.jittered()
            } else {
                NOT_YET
            })
            .await;
        }
    }

    /// Nodes that were started together do not stay so: up to a quarter is added.
    fn jittered(&self) -> Duration {
        let [.., random] = *Uuid::now_v7().as_bytes();
        self.interval + self.interval * u32::from(random) / (4 * u32::from(u8::MAX))
    }

    fn round(&self, status: &Status, before: &Trials) -> Trials {
        let everybody = |problem: &TrialError| {
            let agents = status.pods.iter().filter(|pod| pod.agent.is_some());
            let trial = Trial {
                time: Timestamp::now(),
                problems: vec![chain(problem)],
            };
            agents.map(|pod| (pod.uid.clone(), trial.clone())).collect()
        };
        let prepared = open_probe(&self.probe).and_then(|probe| {
            let around = Surroundings::of(status, &self.config)?;
            Ok((probe, around, targets(status, &self.root)?))
        });
        let (probe, around, targets) = match prepared {
            Ok(prepared) => prepared,
            Err(problem) => return everybody(&problem),
        };
        let mut trials = Trials::new();
        for some in targets.chunks(AT_ONCE) {
            trials.extend(try_all(some, &around, &probe));
        }
        // A pod that was in between is not forgotten for that.
        for (uid, trial) in before {
            let is_there = status.pods.iter().any(|pod| pod.uid == *uid);
            if is_there && !trials.contains_key(uid) {
                trials.insert(uid.clone(), trial.clone());
            }
        }
        trials
    }
}

fn try_all(targets: &[Target], around: &Surroundings, probe: &File) -> Trials {
    thread::scope(|scope| {
        let started: Vec<_> = targets
            .iter()
            .map(|target| (target, scope.spawn(|| try_canaries(target, around, probe))))
            .collect();
        let ended = started.into_iter().map(|(target, thread)| {
            let problems = match thread.join() {
                Ok(Ok(problems)) => problems,
                Ok(Err(error)) => vec![chain(&error)],
                Err(_) => vec!["the thread of the trial panicked".to_owned()],
            };
            let time = Timestamp::now();
            (target.uid.clone(), Trial { time, problems })
        });
        ended.collect()
    })
}

/// `eks-guard-probe` beside this program.
pub(crate) fn default_probe() -> PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    own.with_file_name(Path::new("eks-guard-probe"))
}
